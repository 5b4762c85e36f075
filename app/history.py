"""The pictures that were made, as files in the data folder: `pictures/YYYY-MM-DD/HHMMSS-mmm-seed-xxxx.png`.

The files are the truth. Each carries its settings, and nothing else is needed to list them, so an index can be built
from them at any time. A picture appears under its name only when it is complete: it is written beside it first and then
renamed. Knows neither the page nor the engine; importing it costs milliseconds.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from glmimage import metadata
from glmimage.errors import GLMImageError

if TYPE_CHECKING:
    from glmimage.events import Result

THUMBNAIL_SIDE = 320
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_NAME = re.compile(r"\d{6}-\d{3}-\d+-[0-9a-f]{4}\.png")
_UNFINISHED = ".part"
_ABANDONED = 3600.0
"""Seconds after which an unfinished file belongs to nobody."""


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


class History:
    """The pictures below one data folder. Safe to read from several threads while one writes."""

    def __init__(self, data_dir: Path, *, now: Callable[[], datetime] = datetime.now) -> None:
        self.folder = data_dir / "pictures"
        self.thumbnails = data_dir / "thumbnails"
        self._now = now
        self.folder.mkdir(parents=True, exist_ok=True)
        self._sweep()

    def add(self, result: Result) -> Picture:
        """Stores a result; when this returns, the file is complete and on the disk. Raises PictureError."""
        moment = self._now()
        day = self.folder / f"{moment:%Y-%m-%d}"
        day.mkdir(exist_ok=True)
        name = f"{moment:%H%M%S}-{moment.microsecond // 1000:03d}-{result.paint_seed}-{secrets.token_hex(2)}.png"
        path = day / name
        metadata.write(result, path)
        return Picture(f"{day.name}/{name}", path)

    def newest(self, limit: int) -> list[Picture]:
        """At most `limit` pictures, newest first."""
        return list(islice(self._walk(), limit))

    def find(self, key: str) -> Picture | None:
        """The picture under a key that came from outside; None for anything that is not one of ours."""
        day, _, name = key.partition("/")
        if not (_DAY.fullmatch(day) and _NAME.fullmatch(name)):
            return None
        path = self.folder / day / name
        return Picture(key, path) if path.is_file() else None

    def settings(self, picture: Picture) -> metadata.Settings | None:
        """How the picture was made, as stored in it; None where it cannot be read."""
        return _settings(picture.path)

    def thumbnail(self, picture: Picture) -> Path:
        """A small copy for lists, made when it is first asked for; the picture itself where none can be made."""
        small = self.thumbnails / Path(picture.key).with_suffix(".webp")
        if small.is_file():
            return small
        from PIL import Image

        try:
            small.parent.mkdir(parents=True, exist_ok=True)
            unfinished = small.with_name(f".{small.name}-{secrets.token_hex(4)}{_UNFINISHED}")
            with Image.open(picture.path) as image:
                image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
                image.convert("RGB").save(unfinished, "WEBP", quality=82)
            unfinished.replace(small)
        except OSError:
            return picture.path
        return small

    def _walk(self) -> Iterator[Picture]:
        """Every picture, newest first: the names sort by time."""
        for day in sorted(
            (entry.name for entry in os.scandir(self.folder) if _DAY.fullmatch(entry.name)), reverse=True
        ):
            names = (entry.name for entry in os.scandir(self.folder / day) if _NAME.fullmatch(entry.name))
            for name in sorted(names, reverse=True):
                yield Picture(f"{day}/{name}", self.folder / day / name)

    def _sweep(self) -> None:
        """Removes what an earlier run was writing when it was ended; recent files may be another run's."""
        for part in self.folder.glob(f"*/.*{_UNFINISHED}"):
            with suppress(OSError):
                if part.stat().st_mtime < time.time() - _ABANDONED:
                    part.unlink()


@lru_cache(maxsize=512)
def _settings(path: Path) -> metadata.Settings | None:
    """Cached: a stored picture never changes."""
    try:
        return metadata.read(path)
    except GLMImageError:
        return None
