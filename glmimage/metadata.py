"""Settings in the PNG: what a picture was made from travels inside it.

Three text chunks: `parameters`, the line format that other tools read (prompt, then "Steps: 20, Sampler: ...");
`glmimage`, our JSON, from which the same picture can be made again; and an XMP packet that says in IPTC's words that a
model made the picture (https://cv.iptc.org/newscodes/digitalsourcetype/). `strip` leaves all of it out.
Files are written whole or not at all. Knows nothing of models, and imports Pillow and numpy only where a file is at
hand.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from glmimage.errors import GLMImageError, PictureError, RequestError
from glmimage.events import Line, PriorTokens, Report, Result
from glmimage.files import write_whole
from glmimage.request import Request

if TYPE_CHECKING:
    from PIL.Image import Image

KEY = "glmimage"
PARAMETERS = "parameters"
VERSION = 1
XMP = "XML:com.adobe.xmp"
"""The keyword under which a PNG carries XMP (XMP specification, part 3)."""
MADE_BY_A_MODEL = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
TOOL = "GLM-Image Atelier"
_PACKET = f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description
 rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
 xmp:CreatorTool="{TOOL}" Iptc4xmpExt:DigitalSourceType="{MADE_BY_A_MODEL}"/></rdf:RDF></x:xmpmeta>
<?xpacket end="r"?>"""


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
    report: Report | None = None
    """What could be read in it."""
    key: str = ""
    """Under which a history keeps the picture."""
    ancestry: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What the pictures before this one were made from, by the names a history gives them; outlives their files."""
    foreign: str = ""
    """The `parameters` text of another program, where the picture came from one."""

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
            report=result.report,
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
            "report": None if self.report is None else [asdict(line) for line in self.report.lines],
            "key": self.key,
            "ancestry": {name: list(parents) for name, parents in self.ancestry.items()},
            "foreign": self.foreign,
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
            report=_report(data.get("report")),
            key=str(data.get("key", "")),
            ancestry=_ancestry(data.get("ancestry")),
            foreign=str(data.get("foreign", "")),
        )

    @property
    def parameters(self) -> str:
        """The text that other tools read."""
        if self.foreign:
            return self.foreign
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


def save(image: Image, settings: Settings | None, file: IO[bytes]) -> None:
    """Writes the picture with its settings as PNG; without any for one of unknown origin."""
    from PIL.PngImagePlugin import PngInfo

    chunks = PngInfo()
    if settings is not None:
        chunks.add_text(PARAMETERS, settings.parameters)
        chunks.add_text(KEY, json.dumps(settings.to_json(), separators=(",", ":")))
        chunks.add_itxt(XMP, _PACKET)
    image.save(file, format="PNG", pnginfo=chunks)


def write(result: Result, path: Path, settings: Settings | None = None) -> None:
    """Stores the result at `path`, whole or not at all; replaces what was there. Raises PictureError.

    `settings` say more of it than the result itself does, such as its key.
    """
    write_picture(result.image, settings or Settings.of(result), path)


def write_picture(image: Image, settings: Settings | None, path: Path) -> None:
    """As `write`, for a picture that no engine has just made."""
    try:
        write_whole(path, lambda file: save(image, settings, file))
    except OSError as error:
        raise PictureError(
            f"The picture cannot be written to {path} ({error.strerror or error}); choose another place."
        ) from error


def strip(path: Path, file: IO[bytes]) -> None:
    """Writes the picture at `path` as a PNG of pixels alone: no settings, no provenance. Raises PictureError."""
    from PIL import Image

    with _opened(path) as picture:
        bare = Image.frombytes(picture.mode, picture.size, picture.tobytes())
    bare.save(file, format="PNG")


def read_texts(path: Path | IO[bytes], *, whole: bool = True) -> dict[str, str]:
    """The text chunks of a picture, by keyword. Raises PictureError for a file that is not a picture.

    Unless `whole`, those before the pixels do, which are ours, and the pixels are not looked at: much faster.
    """
    with _opened(path, KEY if not whole else None) as picture:
        return {str(name): str(text) for name, text in getattr(picture, "text", {}).items()}


def read(path: Path, *, whole: bool = True) -> Settings | None:
    """The settings in a picture of ours; None in any other picture.

    Raises PictureError for a file that is not a picture, RequestError for settings of another version.
    Unless `whole`, a picture that has its settings is not looked at any further.
    """
    return read_settings(read_texts(path, whole=whole), path.name)


def read_size(path: Path) -> tuple[int, int]:
    """Width and height. Raises PictureError for a file that is not a picture."""
    with _opened(path) as picture:
        return picture.size


def read_settings(texts: Mapping[str, str], name: str) -> Settings | None:
    """Our settings among a picture's texts; None without them. Raises RequestError as `read` does."""
    text = texts.get(KEY)
    if text is None:
        return None
    try:
        return Settings.from_json(json.loads(text))
    except GLMImageError:
        raise
    # RecursionError: brackets without end.
    except (ValueError, RecursionError):
        raise RequestError(f"The settings in {name} are damaged; they cannot be used.") from None


@contextmanager
def _opened(path: Path | IO[bytes], enough: str | None = None) -> Iterator[Image]:
    """The decoded picture; not decoded where its head holds the text `enough`."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            # Text chunks may follow the pixels.
            if enough is None or enough not in picture.info:
                picture.load()
            yield picture
    except GLMImageError:
        raise
    # Broken files raise OSError, SyntaxError, ValueError and more; bombs raise their own.
    except Exception as error:
        name = path.name if isinstance(path, Path) else "picture"
        raise PictureError(f"The file {name} is not a picture that can be read; choose another.") from error


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise RequestError("The settings lack their picture's number or seeds; they cannot be used.")
    return value


def _seconds(data: object) -> dict[str, float]:
    if not isinstance(data, Mapping):
        return {}
    return {str(stage): float(value) for stage, value in data.items() if isinstance(value, (int, float))}


def _report(data: Any) -> Report | None:
    if not isinstance(data, list):
        return None
    try:
        return Report(
            tuple(
                Line(
                    wanted=str(line["wanted"]),
                    read=str(line["read"]),
                    match=bool(line["match"]),
                    likeness=float(line["likeness"]),
                )
                for line in data
            )
        )
    except (KeyError, TypeError, ValueError):
        raise RequestError("What was read in the picture is damaged in its settings; they cannot be used.") from None


def _ancestry(data: object) -> dict[str, tuple[str, ...]]:
    if not isinstance(data, Mapping):
        return {}
    return {str(name): tuple(map(str, made)) for name, made in data.items() if isinstance(made, (list, tuple))}


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
