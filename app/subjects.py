"""The subject library: pictures with names ("Mia", "the red robot") that scenes can be made with again.

    subjects/ID.png       the picture, checked on its way in
    subjects/ID.json      its name and notes; what makes it a subject, written last
    trash/subjects/       where the JSON of a deleted one lies; the picture waits until the trash is emptied

Knows no models and no page.
"""

from __future__ import annotations

import json
import re
import secrets
import time
import unicodedata
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any

from app import uploads
from app.storage import Storage, StoreError
from glmimage.errors import GLMImageError, PictureError
from glmimage.files import move, write_whole
from glmimage.pictures import read_file

LONGEST_NAME = 60
LONGEST_NOTES = 2000
_ID = re.compile(r"[0-9a-f]{16}")


class SubjectError(GLMImageError):
    """The subject library cannot do that."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """One of the library."""

    id: str
    name: str
    picture: Path
    notes: str = ""
    made: float = 0.0
    """Seconds since 1970."""


class Subjects:
    """The library in one data folder."""

    def __init__(self, data_dir: Path) -> None:
        self._storage = Storage(data_dir)
        self.folder = self._storage.subjects
        self._trash = data_dir / "trash" / "subjects"

    def all(self) -> list[Subject]:
        """By name, upper and lower case alike. Files that are no subjects are left out."""
        return self._read(self.folder)

    def deleted(self) -> list[Subject]:
        """Those that `restore` brings back."""
        return self._read(self._trash)

    def find(self, number: str) -> Subject | None:
        """The subject under an id that came from outside."""
        return self._one(self.folder, number)

    def named(self, name: str) -> Subject | None:
        """The subject that is called so, upper and lower case alike."""
        wanted = clean_name(name).casefold()
        return next((subject for subject in self.all() if subject.name.casefold() == wanted), None)

    def add(self, name: str, picture: Path, notes: str = "") -> Subject:
        """Keeps an untrusted picture under a name. Raises SubjectError for the name, PictureError for the picture."""
        name = self._free(name)
        data = read_file(uploads.take(picture, self._storage.root))
        number = secrets.token_hex(8)
        subject = Subject(
            id=number, name=name, picture=self._picture(number), notes=_cut(notes), made=round(time.time(), 3)
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            write_whole(subject.picture, lambda file: file.write(data))
        except OSError as error:
            raise PictureError(f"The subject's picture cannot be kept ({error.strerror or error}).") from error
        return self._write(subject)

    def rename(self, number: str, name: str) -> Subject:
        """Raises SubjectError."""
        subject = self._known(number)
        return self._write(replace(subject, name=self._free(name, subject)))

    def describe(self, number: str, notes: str) -> Subject:
        """Replaces the notes. Raises SubjectError."""
        return self._write(replace(self._known(number), notes=_cut(notes)))

    def delete(self, number: str) -> None:
        """Can be undone with `restore`. Raises SubjectError."""
        self._move(self._known(number), self.folder, self._trash)

    def restore(self, number: str) -> Subject:
        """Brings a deleted subject back; under another name where its own was given away. Raises SubjectError."""
        subject = self._one(self._trash, number)
        if subject is None:
            raise SubjectError("This subject is not in the trash; it may be back already.")
        name, count = subject.name, 2
        while self.named(name) is not None:
            name, count = f"{subject.name[: LONGEST_NAME - 6]} ({count})", count + 1
        self._move(subject, self._trash, self.folder)
        return subject if name == subject.name else self._write(replace(subject, name=name))

    def empty_trash(self) -> int:
        """Deletes for good what was deleted; returns how many."""
        gone = self.deleted()
        for subject in gone:
            for path in (subject.picture, self._trash / f"{subject.id}.json"):
                with suppress(OSError):
                    path.unlink(missing_ok=True)
        return len(gone)

    def _free(self, name: str, own: Subject | None = None) -> str:
        """The name as it is kept, if nobody else has it."""
        name = clean_name(name)
        if not name:
            raise SubjectError("The subject has no name; give it one, as it shall be called in prompts.")
        if len(name) > LONGEST_NAME:
            raise SubjectError(f"The name has {len(name)} letters; {LONGEST_NAME} are allowed.")
        taken = self.named(name)
        if taken is not None and (own is None or taken.id != own.id):
            raise SubjectError(f"There is a subject called “{taken.name}” already; choose another name.")
        return name

    def _known(self, number: str) -> Subject:
        subject = self.find(number)
        if subject is None:
            raise SubjectError("This subject is no longer in the library; choose another.")
        return subject

    def _read(self, folder: Path) -> list[Subject]:
        found = [self._one(folder, path.stem) for path in folder.glob("*.json")]
        return sorted(
            (subject for subject in found if subject), key=lambda subject: (subject.name.casefold(), subject.id)
        )

    def _one(self, folder: Path, number: str) -> Subject | None:
        if not _ID.fullmatch(number) or not self._picture(number).is_file():
            return None
        try:
            data: Any = json.loads((folder / f"{number}.json").read_text(encoding="utf-8"))
            name, made = clean_name(str(data["name"]))[:LONGEST_NAME], float(data.get("made", 0))
            notes = _cut(str(data.get("notes", "")))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return Subject(id=number, name=name, picture=self._picture(number), notes=notes, made=made) if name else None

    def _write(self, subject: Subject) -> Subject:
        about = {name: value for name, value in asdict(subject).items() if name in ("name", "notes", "made")}
        text = json.dumps(about, ensure_ascii=False)

        def write(file: IO[bytes]) -> None:
            file.write(text.encode())

        try:
            write_whole(self.folder / f"{subject.id}.json", write)
        except OSError as error:
            raise StoreError(f"The subject cannot be kept in {self.folder} ({error.strerror or error}).") from error
        return subject

    def _move(self, subject: Subject, source: Path, target: Path) -> None:
        name = f"{subject.id}.json"
        try:
            move(source / name, target / name)
        except OSError as error:
            raise StoreError(f"The subject cannot be moved to {target} ({error.strerror or error}).") from error

    def _picture(self, number: str) -> Path:
        return self.folder / f"{number}.png"


def clean_name(text: str) -> str:
    """A name as it stands in a prompt: one line, single spaces, no quotation marks, which would make it lettering."""
    plain = unicodedata.normalize("NFC", text).encode("utf-8", "ignore").decode()
    letters = (letter if letter.isprintable() and letter not in '"“”„«»「」『』' else " " for letter in plain)
    return " ".join("".join(letters).split())


def _cut(notes: str) -> str:
    return notes.encode("utf-8", "ignore").decode().replace("\0", "")[:LONGEST_NOTES].strip()
