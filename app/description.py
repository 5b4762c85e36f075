"""What a picture's file says of it, as far as it can be searched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from glmimage import metadata
from glmimage.errors import GLMImageError


@dataclass(frozen=True, kw_only=True, slots=True)
class Description:
    """What a picture's file says of it."""

    prompt: str = ""
    task: str = ""
    width: int = 0
    height: int = 0
    sha: str = ""
    parents: tuple[str, ...] = ()
    ancestry: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def describe(path: Path) -> Description:
    """Never fails: of what cannot be read only its hash is known."""
    import hashlib

    try:
        with path.open("rb") as file:
            sha = hashlib.file_digest(file, "sha256").hexdigest()
        settings = metadata.read(path, whole=False)
    except OSError:
        return Description()
    except GLMImageError:
        return Description(sha=sha)
    if settings is None:
        return Description(sha=sha)
    request = settings.request
    return Description(
        prompt=request.prompt,
        task=request.task,
        width=request.width or 0,
        height=request.height or 0,
        sha=sha,
        parents=tuple(reference.path for reference in request.references),
        ancestry=settings.ancestry,
    )
