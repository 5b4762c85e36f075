"""Pictures from outside become pictures of the history: with their settings, as far as they carry any.

Nothing is kept as it came: the pixels are written anew, with settings that were checked. A picture that this program
made goes back to its own place, so what was made from it finds it again. Knows no page.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from app import parameters
from app.storage import Picture, Storage, day_of
from glmimage import metadata
from glmimage.errors import GLMImageError
from glmimage.metadata import Settings
from glmimage.pictures import printable, read_file, read_picture
from glmimage.request import Reference, Request

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, kw_only=True, slots=True)
class Adopted:
    """A picture that was taken in."""

    picture: Picture
    settings: Settings | None
    """As far as they could be restored; files by name."""
    missing: tuple[str, ...]
    """What could not be restored, in sentences."""
    known: bool = False
    """It was here already."""


def adopt(storage: Storage, path: Path, place: Callable[[int], Picture]) -> Adopted:
    """Takes in the untrusted file at `path`; `place` gives a new place for a seed. Raises PictureError."""
    data = read_file(path, follow=False)
    image = read_picture(data, path.name)
    settings, missing = _settings(storage, metadata.read_texts(io.BytesIO(data)), image)
    if settings and (known := storage.locate(settings.key)) and _same(known, image):
        return Adopted(picture=known, settings=settings, missing=missing, known=True)
    picture = _own_place(storage, settings) or place(settings.paint_seed if settings else 0)
    if settings:
        settings = replace(settings, key=picture.key)
    picture.path.parent.mkdir(parents=True, exist_ok=True)
    metadata.write_picture(image, settings, picture.path)
    return Adopted(picture=picture, settings=settings, missing=missing)


def _settings(storage: Storage, texts: dict[str, str], image: Image) -> tuple[Settings | None, tuple[str, ...]]:
    """What the picture says of itself, in our words or another program's."""
    missing: tuple[str, ...] = ()
    try:
        settings = metadata.read_settings(texts, "the picture")
    except GLMImageError as error:
        settings, missing = None, (str(error),)
    if settings is not None:
        return _ours(storage, settings)
    text = texts.get(metadata.PARAMETERS, "")
    if not text.strip():
        return None, missing or ("The picture carries no settings that this program can read.",)
    request, left_out = parameters.restore(parameters.read(text), *image.size)
    if request is None:
        return None, (*missing, *left_out)
    foreign = Settings(request=request, index=0, layout_seed=request.seed, paint_seed=request.seed, foreign=text)
    return foreign, (*missing, *left_out)


def _ours(storage: Storage, settings: Settings) -> tuple[Settings, tuple[str, ...]]:
    """Only files of the data folder are named in a picture that came from outside."""
    request, missing = settings.request, []
    for file in (*(reference.path for reference in request.references), *filter(None, (request.mask,))):
        lies = storage.path(file)
        if lies is None or not lies.is_file():
            missing.append(f"The picture {printable(file)}, which it was made from, is not here; bring it again.")
    strange = [reference for reference in request.references if storage.path(reference.path) is None]
    if strange or (request.mask and storage.path(request.mask) is None):
        kept = tuple(reference for reference in request.references if reference not in strange)
        settings = replace(settings, request=_without(request, kept))
    return settings, tuple(missing)


def _without(request: Request, kept: tuple[Reference, ...]) -> Request:
    """A mask and kept content belong to the first reference."""
    whole = kept == request.references
    return replace(request, references=kept, mask=None, content=request.content if whole else 0.0)


def _own_place(storage: Storage, settings: Settings | None) -> Picture | None:
    """Where the picture once lay, if that place is free."""
    if settings is None or not storage.is_key(settings.key) or day_of(settings.key) is None:
        return None
    return None if storage.locate(settings.key) else Picture(settings.key, storage.pictures / settings.key)


def _same(known: Picture, image: Image) -> bool:
    with suppress(GLMImageError):
        return read_picture(read_file(known.path)).tobytes() == image.tobytes()
    return False
