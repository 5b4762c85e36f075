"""Pictures that a person brings: an untrusted file becomes `inputs/SHA256.png` in the data folder, or one sentence.

What is kept is a copy of the pixels alone: upright, RGB, without the file's name, its place or anything else that it
carried. Its name is the hash of the file that came in, so the same file is kept once, and a picture of this studio that
is brought back is known again. Knows no page; Pillow is imported only where a file is at hand.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING

from app.storage import Storage
from glmimage.errors import PictureError
from glmimage.files import write_whole
from glmimage.pictures import read_file, read_picture

if TYPE_CHECKING:
    from PIL.Image import Image

LARGEST_SIDE = 4096
"""Pixels; larger pictures are kept smaller. The models look at no more than 2048."""


def take(path: Path, data_dir: Path) -> Path:
    """Checks the file at `path` and keeps a copy of it; returns the copy.

    Raises PictureError with a sentence for what is no usable picture, for links, folders and devices, and where the
    copy cannot be written.
    """
    storage = Storage(data_dir)
    data = read_file(path, follow=False)
    kept = storage.inputs / f"{hashlib.sha256(data).hexdigest()}.png"
    if kept.is_file():
        return kept
    picture = read_picture(data, path.name)
    picture.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
    _write(kept, lambda file: picture.save(file, "PNG"))
    return kept


def keep(picture: Image, data_dir: Path) -> Path:
    """Keeps a picture that was drawn on the page, such as a mask; raises PictureError where it cannot be written."""
    drawn = io.BytesIO()
    picture.save(drawn, "PNG")
    kept = Storage(data_dir).inputs / f"{hashlib.sha256(drawn.getvalue()).hexdigest()}.png"
    if not kept.is_file():
        _write(kept, lambda file: file.write(drawn.getvalue()))
    return kept


def _write(kept: Path, write: Callable[[IO[bytes]], object]) -> None:
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_whole(kept, write)
    except OSError as error:
        raise PictureError(
            f"The picture cannot be kept in {kept.parent} ({error.strerror or error}); check the data folder."
        ) from error
