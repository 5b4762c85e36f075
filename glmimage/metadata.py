"""Settings in the PNG: what a picture was made from travels inside it.

Two text chunks: `parameters`, the line format that other tools read (prompt, then "Steps: 20, Sampler: ..."), and
`glmimage`, our JSON, from which the same picture can be made again. Files are written whole or not at all.
Knows nothing of models, and imports Pillow and numpy only where a file is at hand.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from glmimage.errors import GLMImageError, PictureError, RequestError
from glmimage.events import PriorTokens, Result
from glmimage.request import Request

KEY = "glmimage"
PARAMETERS = "parameters"
VERSION = 1


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Settings:
    """What one picture was made from."""

    request: Request
    """Resolved, as it was asked: with its whole batch."""
    index: int
    layout_seed: int
    paint_seed: int
    checkpoint: str = ""
    prior: PriorTokens | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Wall time by stage."""

    @classmethod
    def of(cls, result: Result) -> Settings:
        return cls(
            request=result.request,
            index=result.index,
            layout_seed=result.layout_seed,
            paint_seed=result.paint_seed,
            checkpoint=result.checkpoint,
            prior=result.prior,
            seconds=result.seconds,
        )

    @property
    def again(self) -> Request:
        """The request that makes this one picture again."""
        if self.layout_seed == self.paint_seed:
            return replace(self.request, count=1, seed=self.layout_seed, layout_seed=None, paint_seed=None)
        return replace(self.request, count=1, layout_seed=self.layout_seed, paint_seed=self.paint_seed)

    def to_json(self) -> dict[str, Any]:
        prior = None
        if self.prior is not None:
            preview = self.prior.preview
            prior = {"target": self.prior.target.tolist(), "preview": None if preview is None else preview.tolist()}
        return {
            "version": VERSION,
            "checkpoint": self.checkpoint,
            "index": self.index,
            "layout_seed": self.layout_seed,
            "paint_seed": self.paint_seed,
            "request": self.request.to_json(),
            "prior": prior,
            "seconds": {stage: round(seconds, 3) for stage, seconds in self.seconds.items()},
        }

    @classmethod
    def from_json(cls, data: Any) -> Settings:
        """Reads what `to_json` wrote; raises RequestError on anything else."""
        if not isinstance(data, Mapping) or data.get("version") != VERSION:
            raise RequestError(
                f"The settings are not of version {VERSION}; open the picture with the version that wrote it."
            )
        index, layout_seed, paint_seed = (_whole(data.get(name)) for name in ("index", "layout_seed", "paint_seed"))
        return cls(
            request=Request.from_json(data.get("request", {})),
            index=index,
            layout_seed=layout_seed,
            paint_seed=paint_seed,
            checkpoint=str(data.get("checkpoint", "")),
            prior=_prior(data.get("prior")),
            seconds=_seconds(data.get("seconds")),
        )

    @property
    def parameters(self) -> str:
        """The text that other tools read."""
        request = self.request
        values = {
            "Steps": request.steps,
            "Sampler": "Euler",
            "CFG scale": None if request.guidance is None else f"{request.guidance:g}",
            "Seed": self.paint_seed,
            "Layout seed": None if self.layout_seed == self.paint_seed else self.layout_seed,
            "Size": None if request.width is None else f"{request.width}x{request.height}",
            "Model": self.checkpoint or None,
        }
        return f"{request.prompt}\n" + ", ".join(
            f"{key}: {value}" for key, value in values.items() if value is not None
        )


def save(result: Result, file: IO[bytes]) -> None:
    """Writes the result's picture with its settings as PNG."""
    from PIL.PngImagePlugin import PngInfo

    settings = Settings.of(result)
    chunks = PngInfo()
    chunks.add_text(PARAMETERS, settings.parameters)
    chunks.add_text(KEY, json.dumps(settings.to_json(), separators=(",", ":")))
    result.image.save(file, format="PNG", pnginfo=chunks)


def write(result: Result, path: Path) -> None:
    """Stores the result at `path`, whole or not at all; replaces what was there. Raises PictureError."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        try:
            with part.open("wb") as file:
                save(result, file)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise PictureError(
            f"The picture cannot be written to {path} ({error.strerror or error}); choose another place."
        ) from error


def read(path: Path) -> Settings | None:
    """The settings in a picture of ours; None in any other picture.

    Raises PictureError for a file that is not a picture, RequestError for settings of another version.
    """
    from PIL import Image

    try:
        with Image.open(path) as picture:
            # Text chunks may follow the pixels.
            picture.load()
            text = getattr(picture, "text", {}).get(KEY)
    # Broken files raise OSError, SyntaxError, ValueError and more; bombs raise their own.
    except Exception as error:
        raise PictureError(f"The file {path.name} is not a picture that can be read; choose another.") from error
    if text is None:
        return None
    try:
        return Settings.from_json(json.loads(text))
    except GLMImageError:
        raise
    except ValueError:
        raise RequestError(f"The settings in {path.name} are damaged; they cannot be used.") from None


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise RequestError("The settings lack their picture's number or seeds; they cannot be used.")
    return value


def _seconds(data: object) -> dict[str, float]:
    if not isinstance(data, Mapping):
        return {}
    return {str(stage): float(value) for stage, value in data.items() if isinstance(value, (int, float))}


def _prior(data: Any) -> PriorTokens | None:
    if not isinstance(data, Mapping):
        return None
    import numpy as np

    grids = []
    for name in ("target", "preview"):
        rows = data.get(name)
        try:
            grid = None if rows is None else np.array(rows, dtype=np.int64)
        except (TypeError, ValueError, OverflowError):
            raise RequestError("The layout in the settings is not a grid of codes; it cannot be used.") from None
        if grid is not None and (grid.ndim != 2 or grid.size == 0 or grid.min() < 0):
            raise RequestError("The layout in the settings is not a grid of codes; it cannot be used.")
        grids.append(grid)
    return None if grids[0] is None else PriorTokens(grids[0], grids[1])
