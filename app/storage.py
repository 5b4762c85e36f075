"""Where the data folder keeps what, and what is a name in it.

    pictures/DAY/NAME.png     the pictures, each with its settings inside; never changed once they are there
    marks/DAY/NAME.json       a picture's star and tags; none: neither
    trash/pictures/DAY/NAME.png      what was thrown away; its marks stay where they are
    inputs/SHA256.png         pictures that a person brought, by their content
    subjects/ID.png           pictures of the subject library
    arriving/                 uploads that nobody has looked at yet; swept at the next start
    thumbnails/  exports/     made anew at any time
    encoded/                  what the models made of pictures that were worked from (`glmimage.shelf`); the same

Stars and tags stand beside the picture, not in it: a picture's bytes are then what was reported as done, for ever (so
its hash is a name, browsers may keep it, and no star can damage it), and a star costs 40 bytes instead of megabytes.
Throwing away and bringing back are one rename each. Other files name a picture by where it lies below the data folder,
so that the folder can be moved and a picture that is given away tells nothing of this machine.
Knows no index and no page.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

from glmimage.errors import GLMImageError
from glmimage.files import write_whole
from glmimage.request import Reference, Request

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_NAME = re.compile(r"\d{6}-\d{3}-\d+-[0-9a-f]{4}\.png")
_GIVEN = re.compile(r"inputs/[0-9a-f]{64}\.png|subjects/[0-9a-f]{16}\.png")
PICTURES = "pictures/"


class StoreError(GLMImageError):
    """The data folder cannot be read or written as asked."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One stored picture. `key` is its place below the pictures folder ("2026-01-31/093000-120-7-1f2e.png")."""

    key: str
    path: Path

    @property
    def title(self) -> str:
        """When it was made and from which seed, read from its name."""
        day, _, name = self.key.partition("/")
        return f"Picture of {day}, {name[:2]}:{name[2:4]}, seed {name.split('-')[2]}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Marks:
    """What a person said of a picture."""

    star: bool = False
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Trace:
    """What the disk says of a picture without opening it."""

    trashed: bool
    file: str
    """Changes with the picture's file."""
    marks: int
    """Changes with its marks; 0 without."""


class Storage:
    """The folders below one data folder; made when they are first needed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.pictures = root / "pictures"
        self.marks = root / "marks"
        self.trash = root / "trash" / "pictures"
        self.inputs = root / "inputs"
        self.subjects = root / "subjects"
        self.arriving = root / "arriving"
        self.thumbnails = root / "thumbnails"
        self.exports = root / "exports"
        self.encoded = root / "encoded"
        self.index = root / "index.sqlite"

    @property
    def shown(self) -> list[str]:
        """The folders whose files the page shows."""
        folders = (self.pictures, self.thumbnails, self.trash, self.inputs, self.exports, self.subjects)
        return [str(folder) for folder in folders]

    @staticmethod
    def is_key(key: str) -> bool:
        """Whether text from outside is a key of our making."""
        day, _, name = key.partition("/")
        return bool(_DAY.fullmatch(day) and _NAME.fullmatch(name))

    def find(self, key: str, *, trashed: bool = False) -> Picture | None:
        """The picture under a key that came from outside; None for anything that is not one of ours."""
        if not self.is_key(key):
            return None
        path = (self.trash if trashed else self.pictures) / key
        return Picture(key, path) if path.is_file() else None

    def locate(self, key: str) -> Picture | None:
        """The picture wherever it lies, the trash included."""
        return self.find(key) or self.find(key, trashed=True)

    def trace(self, key: str) -> Trace | None:
        """What is on the disk under `key` now."""
        for folder, trashed in ((self.pictures, False), (self.trash, True)):
            try:
                about = (folder / key).stat()
            except FileNotFoundError:
                continue
            return Trace(trashed=trashed, file=_stamp(about), marks=self._marks_stamp(key))
        return None

    def walk(self) -> Iterator[Picture]:
        """Every picture that is not in the trash, newest first: the names sort by time."""
        for day in sorted(_days(self.pictures), reverse=True):
            for name in sorted(_names(self.pictures / day), reverse=True):
                yield Picture(f"{day}/{name}", self.pictures / day / name)

    def days(self) -> dict[str, tuple[int, ...]]:
        """Each day that has pictures, with what changes when something is put there or taken away."""
        trees = (self.pictures, self.trash, self.marks)
        return {day: tuple(_changed(tree / day) for tree in trees) for tree in trees[:2] for day in _days(tree)}

    def keys(self, day: str) -> set[str]:
        """All of one day, the trash included."""
        return {f"{day}/{name}" for tree in (self.pictures, self.trash) for name in _names(tree / day)}

    def read_marks(self, key: str) -> Marks:
        """Never fails: marks that cannot be read are none."""
        try:
            data = json.loads(self._marks_file(key).read_text(encoding="utf-8"))
            return Marks(star=data.get("star") is True, tags=tuple(str(tag) for tag in data.get("tags", ())))
        except (OSError, ValueError, TypeError, AttributeError):
            return Marks()

    def write_marks(self, key: str, marks: Marks) -> None:
        """Raises OSError."""
        path = self._marks_file(key)
        if marks == Marks():
            path.unlink(missing_ok=True)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"star": marks.star, "tags": list(marks.tags)}, ensure_ascii=False)
        write_whole(path, lambda file: file.write(text.encode()))

    def name(self, path: str | Path) -> str:
        """What files call the picture at `path`: its place below the data folder; the path itself elsewhere."""
        try:
            place = Path(path).resolve().relative_to(self.root.resolve()).as_posix()
        except ValueError:
            return str(path)
        # A picture keeps its name while it lies in the trash.
        return place.removeprefix("trash/")

    def path(self, name: str) -> Path | None:
        """Where the picture of that name would lie; None for what is no name of ours."""
        if name.startswith(PICTURES) and self.is_key(key := name.removeprefix(PICTURES)):
            found = self.locate(key)
            return found.path if found else self.pictures / key
        return self.root / name if _GIVEN.fullmatch(name) else None

    def naming(self, request: Request) -> Request:
        """The request with its files by name, as it is stored."""
        return _with_files(request, self.name)

    def finding(self, request: Request) -> Request:
        """The stored request with its files where they lie now."""
        return _with_files(request, lambda name: str(self.path(name) or name))

    def _marks_file(self, key: str) -> Path:
        return (self.marks / key).with_suffix(".json")

    def _marks_stamp(self, key: str) -> int:
        try:
            return self._marks_file(key).stat().st_mtime_ns
        except OSError:
            return 0


def day_of(key: str) -> date | None:
    """The day that a key names; None for one that no calendar has."""
    try:
        return date.fromisoformat(key.partition("/")[0])
    except ValueError:
        return None


def _with_files(request: Request, change: Callable[[str], str]) -> Request:
    """The request with the paths of its references and its mask changed."""
    references = tuple(_moved(reference, change(reference.path)) for reference in request.references)
    mask = request.mask and change(request.mask)
    if (references, mask) == (request.references, request.mask):
        return request
    return replace(request, references=references, mask=mask)


def _moved(reference: Reference, path: str) -> Reference:
    return reference if reference.path == path else replace(reference, path=path)


def _days(tree: Path) -> list[str]:
    try:
        with os.scandir(tree) as entries:
            return [entry.name for entry in entries if _DAY.fullmatch(entry.name)]
    except FileNotFoundError:
        return []


def _names(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries if _NAME.fullmatch(entry.name)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _changed(folder: Path) -> int:
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return 0


def _stamp(about: os.stat_result) -> str:
    return f"{about.st_mtime_ns}-{about.st_size}"
