"""What leaves the studio: pictures as a zip with their settings, or pixels alone, and presets.

Written to `exports/` in the data folder under names that nobody can guess, and removed after a day. Names inside are
made from keys, never from what a person typed. Knows no page.
"""

from __future__ import annotations

import json
import secrets
import time
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from app.storage import Marks, Picture, Storage, StoreError
from glmimage import metadata
from glmimage.files import write_whole
from glmimage.metadata import Settings

KEPT = 86_400.0
"""Seconds."""
SETTINGS = "pictures.json"
MARGIN = "#8a867c"
"""Around a picture that is compared with one of another shape."""


def pack(
    storage: Storage, pictures: Sequence[Picture], read: Callable[[Picture], Settings | None], *, strip: bool
) -> Path:
    """A zip of the pictures, newest first, and unless `strip` of all that is known of them. Raises StoreError."""
    if not pictures:
        raise StoreError("There is no picture to pack; choose some first.")
    path = _free(storage, f"atelier-{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(8)}.zip")

    def write(file: IO[bytes]) -> None:
        # PNGs do not shrink further.
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for picture in pictures:
                _pack_one(archive, picture, strip)
            if not strip:
                known = [_about(picture, read(picture), storage.read_marks(picture.key)) for picture in pictures]
                archive.writestr(SETTINGS, json.dumps(known, ensure_ascii=False, indent=1))

    return _written(path, write)


def bare(storage: Storage, picture: Picture) -> Path:
    """A copy of the picture that says nothing of how, when and by what it was made. Raises StoreError, PictureError."""
    path = _free(storage, f"{secrets.token_hex(8)}.png")
    return _written(path, lambda file: metadata.strip(picture.path, file))


def text(storage: Storage, content: str) -> Path:
    """A file of presets. Raises StoreError."""
    path = _free(storage, f"presets-{secrets.token_hex(8)}.json")
    return _written(path, lambda file: file.write(content.encode()))


def pair(storage: Storage, one: Picture, other: Picture) -> tuple[Path, Path]:
    """Files of equal size that show two pictures, for laying one over the other; those of another shape get a margin.

    Raises StoreError, PictureError.
    """
    sizes = [metadata.read_size(picture.path) for picture in (one, other)]
    if sizes[0] == sizes[1]:
        return one.path, other.path
    width, height = (max(sides) for sides in zip(*sizes, strict=True))
    left, right = (_framed(storage, picture, width, height) for picture in (one, other))
    return left, right


def _framed(storage: Storage, picture: Picture, width: int, height: int) -> Path:
    from PIL import Image, ImageOps

    with Image.open(picture.path) as image:
        framed = ImageOps.pad(image.convert("RGB"), (width, height), color=MARGIN)
    return _written(_free(storage, f"{secrets.token_hex(8)}.png"), lambda file: framed.save(file, "PNG"))


def file_name(key: str) -> str:
    """A key as the name of a file."""
    return key.replace("/", "-")


def _pack_one(archive: zipfile.ZipFile, picture: Picture, strip: bool) -> None:
    if not strip:
        archive.write(picture.path, file_name(picture.key))
        return
    with archive.open(f"{len(archive.namelist()) + 1:04d}.png", "w") as file:
        metadata.strip(picture.path, file)


def _about(picture: Picture, settings: Settings | None, marks: Marks) -> dict[str, Any]:
    return {
        "file": file_name(picture.key),
        "star": marks.star,
        "tags": list(marks.tags),
        "settings": settings and settings.to_json(),
    }


def _free(storage: Storage, name: str) -> Path:
    """A place in the folder, from which old exports are gone."""
    storage.exports.mkdir(parents=True, exist_ok=True)
    for old in storage.exports.iterdir():
        with suppress(OSError):
            if old.stat().st_mtime < time.time() - KEPT:
                old.unlink()
    return storage.exports / name


def _written(path: Path, write: Callable[[IO[bytes]], object]) -> Path:
    try:
        write_whole(path, write)
    except OSError as error:
        raise StoreError(f"The file {path} cannot be written ({error.strerror or error}); make room there.") from error
    return path
