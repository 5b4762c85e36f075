"""The pictures that were made, as files in the data folder: `pictures/YYYY-MM-DD/HHMMSS-mmm-seed-xxxx.png`.

The files are the truth. Each carries its settings, and nothing else is needed to list them; stars and tags stand beside
them (`storage`), and the index that is searched is made from both (`index`). A picture appears under its name only when
it is complete. Knows neither the page nor the engine; importing it costs milliseconds.
"""

from __future__ import annotations

import logging
import secrets
import unicodedata
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from app import adoption, caches, export, lineage
from app.adoption import Adopted
from app.index import Index
from app.lineage import Lineage, Relative
from app.query import Counts, Entry, Found, Query
from app.storage import Marks, Picture, Storage, StoreError
from glmimage import metadata
from glmimage.errors import GLMImageError
from glmimage.files import move, sweep, write_whole

if TYPE_CHECKING:
    from PIL.Image import Image

    from glmimage.events import Result

__all__ = ["Adopted", "Counts", "Entry", "Found", "History", "Lineage", "Picture", "Query", "Relative", "StoreError"]

log = logging.getLogger(__name__)

THUMBNAIL_SIDE = 320
FAMILY_PATIENCE = 5.0
"""Seconds that a lineage waits for new files to be read; a missing child would be a wrong answer."""
LONGEST_TAG = 40
MOST_TAGS = 30


class History:
    """The pictures below one data folder, for several threads and processes at once."""

    def __init__(self, data_dir: Path, *, now: Callable[[], datetime] = datetime.now) -> None:
        self.storage = Storage(data_dir)
        self.folder = self.storage.pictures
        self.thumbnails = self.storage.thumbnails
        self._index = Index(self.storage)
        self._now = now
        self.folder.mkdir(parents=True, exist_ok=True)
        sweep((self.folder, self.storage.marks, self.thumbnails, self.storage.inputs, self.storage.exports))
        caches.sweep(self.storage)

    def close(self) -> None:
        """Lets go of the index."""
        self._index.close()

    def add(self, result: Result) -> Picture:
        """Stores a result; when this returns, the file is complete and on the disk. Raises PictureError."""
        result = replace(result, request=self.storage.naming(result.request))
        picture = self._place(result.paint_seed)
        parents = (reference.path for reference in result.request.references)
        origins = lineage.ancestry(parents, self._stored)
        settings = replace(metadata.Settings.of(result), key=picture.key, ancestry=origins)
        picture.path.parent.mkdir(exist_ok=True)
        metadata.write(result, picture.path, settings)
        self._note(picture.key)
        # While the pixels are at hand; whoever opens the gallery later does not wait for it.
        with suppress(OSError):
            image = result.image.copy()
            image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
            self._keep_thumbnail(self._thumbnail(picture.key), image)
        return picture

    def newest(self, limit: int) -> list[Picture]:
        """At most `limit` pictures, newest first; from the files alone."""
        return list(islice(self.storage.walk(), limit))

    def find(self, key: str) -> Picture | None:
        """The picture under a key that came from outside; None for anything that is not one of ours."""
        return self.storage.find(key)

    def find_trashed(self, key: str) -> Picture | None:
        """As `find`, in the trash."""
        return self.storage.find(key, trashed=True)

    def settings(self, picture: Picture) -> metadata.Settings | None:
        """How the picture was made, as stored in it; None where it cannot be read."""
        return self._found(_settings(picture.path))

    def thumbnail(self, picture: Picture) -> Path:
        """A small copy for lists, made when it is first asked for; the picture itself where none can be made."""
        small = self._thumbnail(picture.key)
        # An empty one is what a lost power supply left.
        if small.is_file() and small.stat().st_size:
            return small
        from PIL import Image

        try:
            with Image.open(picture.path) as image:
                image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
                self._keep_thumbnail(small, image)
        except OSError:
            return picture.path
        return small

    def search(self, query: Query) -> Found:
        """One page of pictures, newest first. Raises StoreError where the data folder cannot be used."""
        return self._index.search(query)

    def entry(self, key: str) -> Entry | None:
        """What the index knows of one picture, the trash included."""
        return self._index.entry(key)

    def counts(self) -> Counts:
        """How many pictures there are of what."""
        return self._index.counts()

    def catch_up(self) -> None:
        """Waits until the index knows every file."""
        self._index.catch_up()

    def star(self, *keys: str, on: bool = True) -> tuple[str, ...]:
        """Stars pictures, or takes their stars; returns the keys that there are. Raises StoreError."""
        return self._mark(keys, lambda marks: replace(marks, star=on))

    def tag(self, *keys: str, add: Iterable[str] = (), remove: Iterable[str] = ()) -> tuple[str, ...]:
        """Adds and removes tags; upper and lower case are one tag. Raises StoreError, also for too many."""
        added = [name for tag in add if (name := clean_tag(tag))]
        removed = {name.casefold() for tag in remove if (name := clean_tag(tag))}

        def change(marks: Marks) -> Marks:
            kept: dict[str, str] = {}
            for tag in (*marks.tags, *added):
                # The first spelling stays.
                kept.setdefault(tag.casefold(), tag)
            tags = tuple(tag for folded, tag in kept.items() if folded not in removed)
            if len(tags) > MOST_TAGS:
                raise StoreError(f"A picture carries at most {MOST_TAGS} tags; remove some first.")
            return replace(marks, tags=tags)

        return self._mark(keys, change)

    def trash(self, *keys: str) -> tuple[str, ...]:
        """Moves pictures to the trash, from where `restore` brings them back; returns the keys that there were."""
        return self._move(keys, self.storage.pictures, self.storage.trash)

    def restore(self, *keys: str) -> tuple[str, ...]:
        """Brings pictures back from the trash with all that was said of them."""
        return self._move(keys, self.storage.trash, self.storage.pictures)

    def empty_trash(self, *keys: str) -> int:
        """Deletes for good what lies in the trash, or only `keys` of it; returns how many. Raises StoreError."""
        wanted = keys or tuple(key for day in self.storage.days() for key in self.storage.keys(day))
        gone = [picture for key in wanted if (picture := self.find_trashed(key))]
        with self._index.writing() as db:
            for picture in gone:
                try:
                    picture.path.unlink(missing_ok=True)
                except OSError as error:
                    raise _failed(picture, error) from error
                self.storage.write_marks(picture.key, Marks())
                self._index.note(db, picture.key)
        for picture in gone:
            with suppress(OSError):
                self._thumbnail(picture.key).unlink(missing_ok=True)
        return len(gone)

    def lineage(self, key: str) -> Lineage:
        """What the picture was made from, and what was made from it, over any number of steps."""
        self._index.catch_up(FAMILY_PATIENCE)
        return lineage.trace(self._index, self.storage, key)

    def zip(self, keys: Iterable[str], strip: bool = False) -> Path:
        """A zip of pictures with all that is known of them, or if `strip` of pixels alone. Raises StoreError."""
        chosen = [picture for key in sorted(set(keys), reverse=True) if (picture := self.find(key))]
        return export.pack(self.storage, chosen, lambda picture: _settings(picture.path), strip=strip)

    def bare(self, key: str) -> Path:
        """A copy of one picture that says nothing of how it was made. Raises StoreError, PictureError."""
        picture = self.storage.locate(key)
        if picture is None:
            raise StoreError("This picture is no longer there; choose another.")
        return export.bare(self.storage, picture)

    def pair(self, one: Picture, other: Picture) -> tuple[Path, Path]:
        """Files of equal size that show two pictures; the pictures' own where they are. Raises StoreError."""
        return export.pair(self.storage, one, other)

    def adopt(self, path: Path) -> Adopted:
        """Takes in a picture from outside, with what it says of itself. Raises PictureError with a sentence."""
        adopted = adoption.adopt(self.storage, path, self._place)
        picture = adopted.picture
        if self.restore(picture.key):
            picture = Picture(picture.key, self.folder / picture.key)
        self._note(picture.key)
        return replace(adopted, picture=picture, settings=self._found(adopted.settings))

    def _place(self, seed: int) -> Picture:
        """A key for a picture made now."""
        moment = self._now()
        name = f"{moment:%H%M%S}-{moment.microsecond // 1000:03d}-{seed}-{secrets.token_hex(2)}.png"
        key = f"{moment:%Y-%m-%d}/{name}"
        return Picture(key, self.folder / key)

    def _note(self, key: str) -> None:
        """The picture is stored; an index that fails now reads it later."""
        try:
            self._index.refresh(key)
        except StoreError as error:
            log.warning("%s", error)

    def _mark(self, keys: Iterable[str], change: Callable[[Marks], Marks]) -> tuple[str, ...]:
        known = tuple(key for key in dict.fromkeys(keys) if self.storage.locate(key))
        with self._index.writing() as db:
            for key in known:
                try:
                    self.storage.write_marks(key, change(self.storage.read_marks(key)))
                except OSError as error:
                    raise _failed(Picture(key, self.storage.marks / key), error) from error
                self._index.note(db, key)
        return known

    def _move(self, keys: Iterable[str], source: Path, target: Path) -> tuple[str, ...]:
        moved = []
        with self._index.writing() as db:
            for key in dict.fromkeys(keys):
                if not self.storage.is_key(key) or not (source / key).is_file():
                    continue
                try:
                    move(source / key, target / key)
                except OSError as error:
                    raise _failed(Picture(key, source / key), error) from error
                self._index.note(db, key)
                moved.append(key)
        return tuple(moved)

    def _found(self, settings: metadata.Settings | None) -> metadata.Settings | None:
        """Stored settings with files where they lie now."""
        return settings and replace(settings, request=self.storage.finding(settings.request))

    def _stored(self, key: str) -> metadata.Settings | None:
        """The settings of a picture with files by name."""
        picture = self.storage.locate(key)
        return _settings(picture.path) if picture else None

    def _keep_thumbnail(self, path: Path, image: Image) -> None:
        """Raises OSError."""
        path.parent.mkdir(parents=True, exist_ok=True)
        copy = image.convert("RGB")
        write_whole(path, lambda file: copy.save(file, "WEBP", quality=82), lasting=False)

    def _thumbnail(self, key: str) -> Path:
        return self.thumbnails / Path(key).with_suffix(".webp")


def clean_tag(text: str) -> str:
    """A tag as it is kept: one line, single spaces, not endless; "" for nothing."""
    plain = unicodedata.normalize("NFC", text).encode("utf-8", "ignore").decode()
    return " ".join("".join(letter if letter.isprintable() else " " for letter in plain).split())[:LONGEST_TAG].strip()


def _failed(picture: Picture, error: OSError) -> StoreError:
    return StoreError(f"The file {picture.path} cannot be changed ({error.strerror or error}); check its folder.")


@lru_cache(maxsize=512)
def _settings(path: Path) -> metadata.Settings | None:
    """Cached: a stored picture never changes."""
    try:
        return metadata.read(path, whole=False)
    except GLMImageError:
        return None
