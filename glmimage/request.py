"""Everything that can be asked for, as one frozen value.

A `Request` and its seeds give the same picture on the same machine; the page, the command line and the metadata of a
picture all carry this one class. Checked on construction, so that a request in hand is a request that makes sense; what
depends on the checkpoint (default size, largest side) is checked by `Request.resolve`.
Knows nothing of torch, of files on disk or of a page.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from glmimage.errors import RequestError
from glmimage.geometry import PRIOR_CELL, Size

LARGEST_SEED = 2**53 - 1
"""The largest whole number that every JSON reader keeps exact."""
LARGEST_COUNT = 64
LARGEST_STEPS = 1000
"""The scheduler has 1000 training timesteps; more steps would repeat some of them."""
LARGEST_GUIDANCE = 30.0
LONGEST_PROMPT = 20_000
TASKS = ("text", "regions", "edit", "style", "subjects")
ALIGNMENTS = ("left", "centre", "right")
LARGEST_STRENGTH = 10.0
"""Of regions; from 3 on a text hardly finds into another's box, and letters may blur."""
LARGEST_GRID = 1024
"""Codes a side; far more than any model draws."""

Codes = tuple[tuple[int, ...], ...]
"""A grid of codes, row by row."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Defaults:
    """What a checkpoint does where a request says nothing, and the sides it was trained for."""

    width: int = 1024
    height: int = 1024
    steps: int = 50
    guidance: float = 1.5
    min_side: int = 256
    max_side: int = 2048
    max_pixels: int = 2048 * 2048
    """Of the largest pictures that it was trained for; larger ones are painted, with a note."""
    sizes: tuple[Size, ...] = ()
    """Of the pictures that it was trained for, where it says so; others come out less well, or not at all."""
    name: str = ""
    keep: bool = False
    """Whether a cell's code tells all that it shows, so that an edit may keep the pixels of cells that keep theirs."""
    repeats: bool = False
    """Whether a preview finer than the picture repeats its codes by whole numbers (`geometry.preview_cells`); else it
    shows the picture scaled to its grid, as the release's does."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """A picture that the new one is made from."""

    path: str
    role: str = ""
    """What it is for ("the cat", "the style"); words for people and for tasks, the model sees only its order."""
    name: str = ""
    """What a prompt calls it ("Mia"), where the role does not do."""

    def __post_init__(self) -> None:
        _text("reference path", self.path)
        _text("reference role", self.role)
        _text("reference name", self.name)
        if not self.path.strip():
            raise RequestError("A reference has no file; choose a picture or remove the reference.")

    def to_json(self) -> dict[str, Any]:
        return {"path": self.path, "role": self.role, "name": self.name}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Reference:
        return cls(**_known(cls, data))


@dataclass(frozen=True, kw_only=True, slots=True)
class Region:
    """A text and the box it belongs in."""

    text: str
    box: tuple[float, float, float, float]
    """Left, top, right, bottom as fractions of the picture, 0..1."""
    color: str = ""
    style: str = ""
    """Of the lettering ("bold", "handwritten")."""
    align: str = "centre"
    """One of `ALIGNMENTS`."""
    cell: tuple[int, int] | None = None
    """Column and row where the text begins, from 1, in widths of a letter, where the checkpoint's letters have one size
    (`prompting.first_cell`): the prompt then says these in place of the box's sides."""

    def __post_init__(self) -> None:
        for name in ("text", "color", "style", "align"):
            _text(f"region {name}", getattr(self, name))
        _one_of("region align", self.align, ALIGNMENTS)
        if not self.text.strip():
            raise RequestError("A region has no text; write what it should say or remove the region.")
        box = tuple(_number("region box", side) for side in self.box) if isinstance(self.box, (tuple, list)) else ()
        if len(box) != 4 or not (0 <= box[0] < box[2] <= 1 and 0 <= box[1] < box[3] <= 1):
            raise RequestError(
                f"The region box {self.box!r} is not left, top, right, bottom between 0 and 1;"
                " draw it inside the picture."
            )
        object.__setattr__(self, "box", box)
        if self.cell is not None:
            if not isinstance(self.cell, (tuple, list)) or len(self.cell) != 2:
                raise RequestError(f"The region cell {self.cell!r} is not a column and a row; write both, from 1.")
            for name, number in zip(("column", "row"), self.cell, strict=True):
                _whole(f"region {name}", number, 1, 1_000_000, "they are counted from 1")
            object.__setattr__(self, "cell", tuple(self.cell))

    def to_json(self) -> dict[str, Any]:
        data = {field.name: getattr(self, field.name) for field in fields(self)} | {"box": list(self.box)}
        return data | {"cell": self.cell and list(self.cell)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Region:
        return cls(**_known(cls, data))


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """How the prior draws its codes. None = the checkpoint's generation_config.json."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    """0 = no limit."""

    def __post_init__(self) -> None:
        if self.temperature is not None:
            temperature = _number("temperature", self.temperature)
            if not 0 < temperature <= 100:
                raise RequestError(
                    f"The temperature {temperature:g} is not above 0 and at most 100; 0.9 is a good start."
                )
            object.__setattr__(self, "temperature", temperature)
        if self.top_p is not None:
            top_p = _number("top-p", self.top_p)
            if not 0 < top_p <= 1:
                raise RequestError(f"The top-p {top_p:g} is not above 0 and at most 1; 0.75 is a good start.")
            object.__setattr__(self, "top_p", top_p)
        if self.top_k is not None:
            _whole("top-k", self.top_k, 0, 1_000_000, "0 means no limit")

    def to_json(self) -> dict[str, Any]:
        return {"temperature": self.temperature, "top_p": self.top_p, "top_k": self.top_k}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Sampling:
        return cls(**_known(cls, data))


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """Codes to paint from, instead of drawing them."""

    preview: Codes | None = None
    """The sketch that the prior goes on from; with a target it is only kept."""
    target: Codes | None = None
    """The whole layout: the prior draws nothing."""

    def __post_init__(self) -> None:
        if self.preview is None and self.target is None:
            raise RequestError("The layout is empty; give its preview or its target, or leave the layout out.")
        for name in ("preview", "target"):
            object.__setattr__(self, name, _codes(f"layout's {name}", getattr(self, name)))

    def check(self, size: Size) -> None:
        """Raises RequestError where this is not the layout of a picture of that size."""
        for name, codes, grid in (
            ("preview", self.preview, size.preview_grid),
            ("target", self.target, size.prior_grid),
        ):
            if codes is not None and (len(codes), len(codes[0])) != grid:
                raise RequestError(
                    f"The layout's {name} has {len(codes)} rows of {len(codes[0])} codes, a picture of {size} has"
                    f" {grid[0]} of {grid[1]}; ask for the size that the layout was made for."
                )

    def to_json(self) -> dict[str, Any]:
        return {"preview": self.preview, "target": self.target}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Layout:
        return cls(**_known(cls, data))


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One run: a prompt, its references, and how many pictures of what size. None = the checkpoint's default.

    A picture that keeps something of its first reference has that one's size, whatever is said here (`follows_source`).
    """

    prompt: str
    width: int | None = None
    height: int | None = None
    count: int = 1
    seed: int = 0
    layout_seed: int | None = None
    """Locks the prior's seed for every picture; else picture i uses seed + i."""
    paint_seed: int | None = None
    """Locks the decoder's seed for every picture; else picture i uses seed + i."""
    steps: int | None = None
    guidance: float | None = None
    references: tuple[Reference, ...] = ()
    regions: tuple[Region, ...] = ()
    sampling: Sampling = Sampling()
    task: str = "text"
    """One of `TASKS`; tells people what this is. The engine goes by the other fields."""
    mask: str | None = None
    """File of a picture of the first reference's shape: white may change, the rest of that reference stays."""
    content: float = 0.0
    """0..1: share of the painting's early steps that is left out by starting from the first reference's own latents."""
    keep: bool | None = None
    """Whether an edit's picture has the first reference's pixels in all cells whose codes it takes over from it, if the
    two are of one size."""
    region_strength: float = 1.0
    """How strongly a region's text is tied to its box in the painting, and whether in the layout; 0 = not at all, as
    upstream."""
    layout: Layout | None = None

    def __post_init__(self) -> None:
        _text("prompt", self.prompt)
        if not self.prompt.strip():
            raise RequestError("The prompt is empty; say what the picture should show.")
        if len(self.prompt) > LONGEST_PROMPT:
            raise RequestError(f"The prompt has {len(self.prompt)} characters; shorten it to {LONGEST_PROMPT} at most.")
        for name, side in (("width", self.width), ("height", self.height)):
            if side is not None:
                _whole(name, side, 1, 1_000_000, "sides are in pixels")
        if self.width is not None and self.height is not None:
            Size.snap(self.width, self.height)
        _whole("count", self.count, 1, LARGEST_COUNT, "ask for more pictures in a second run")
        for name, seed in (("seed", self.seed), ("layout seed", self.layout_seed), ("paint seed", self.paint_seed)):
            if seed is not None:
                _whole(name, seed, 0, LARGEST_SEED, "any number in that range will do")
        if self.steps is not None:
            _whole("number of steps", self.steps, 1, LARGEST_STEPS, "20 to 50 are usual")
        if self.guidance is not None:
            guidance = _number("guidance", self.guidance)
            if not 0 <= guidance <= LARGEST_GUIDANCE:
                raise RequestError(
                    f"The guidance {guidance:g} is not between 0 and {LARGEST_GUIDANCE:g};"
                    " 1.5 is usual, 1 turns it off."
                )
            object.__setattr__(self, "guidance", guidance)
        for name, items, kind in (("references", self.references, Reference), ("regions", self.regions, Region)):
            if not isinstance(items, (tuple, list)) or not all(isinstance(item, kind) for item in items):
                raise RequestError(f"The {name} are not a list of {kind.__name__} values; build them as such.")
            object.__setattr__(self, name, tuple(items))
        if not isinstance(self.sampling, Sampling):
            raise RequestError(f"The sampling {self.sampling!r} is not a Sampling value; build it as such.")
        self._check_task()

    def _check_task(self) -> None:
        _one_of("task", self.task, TASKS)
        if self.mask is not None:
            _text("mask", self.mask)
            if not self.mask.strip():
                raise RequestError("The mask has no file; choose a picture or leave the mask out.")
        for name, high in (("content", 1.0), ("region_strength", LARGEST_STRENGTH)):
            said = name.replace("_", " ")
            value = _number(said, getattr(self, name))
            if not 0 <= value <= high:
                raise RequestError(f"The {said} {value:g} is not between 0 and {high:g}; choose a number in between.")
            object.__setattr__(self, name, value)
        if (self.mask is not None or self.content > 0) and not self.references:
            raise RequestError("There is no picture to keep anything of; add a reference, or remove mask and content.")
        if self.keep is not None and not isinstance(self.keep, bool):
            raise RequestError(f"The keeping {self.keep!r} is neither true nor false; choose one, or leave it out.")
        if self.layout is not None and not isinstance(self.layout, Layout):
            raise RequestError(f"The layout {self.layout!r} is not a Layout value; build it as such.")

    @property
    def follows_source(self) -> bool:
        """Whether the picture has its first reference's size: where it keeps something of it, and where an edit or a
        style transfer says no size."""
        changed = self.task in ("edit", "style") and bool(self.references)
        return self.mask is not None or self.content > 0 or (changed and self.width is None and self.height is None)

    @property
    def size(self) -> Size:
        """The size of a resolved request; RequestError before that."""
        if self.width is None or self.height is None:
            raise RequestError("The request has no size yet; resolve it with the checkpoint's defaults first.")
        return Size(self.width, self.height)

    def resolve(self, defaults: Defaults) -> Request:
        """This request with every None filled from `defaults` (except seeds and sampling) and the size snapped to 32.

        A layout says the size where the request does not. Raises RequestError where the snapped size is outside the
        checkpoint's range, longer than 4:1 or not the layout's.
        """
        usual = Size(defaults.width, defaults.height)
        if self.layout is not None and self.layout.target is not None:
            usual = Size(PRIOR_CELL * len(self.layout.target[0]), PRIOR_CELL * len(self.layout.target))
        size = Size.snap(
            usual.width if self.width is None else self.width, usual.height if self.height is None else self.height
        )
        low, high = defaults.min_side, defaults.max_side
        if not (low <= size.width <= high and low <= size.height <= high):
            raise RequestError(
                f"The size {size} is outside what {defaults.name or 'this checkpoint'} can make;"
                f" choose sides between {low} and {high} pixels."
            )
        if self.layout is not None:
            self.layout.check(size)
        return replace(
            self,
            width=size.width,
            height=size.height,
            steps=defaults.steps if self.steps is None else self.steps,
            guidance=defaults.guidance if self.guidance is None else self.guidance,
            keep=defaults.keep if self.keep is None else self.keep,
        )

    def layout_seed_of(self, index: int) -> int:
        """The prior's seed for picture `index` of the batch."""
        return (self.seed + index) % (LARGEST_SEED + 1) if self.layout_seed is None else self.layout_seed

    def paint_seed_of(self, index: int) -> int:
        """The decoder's seed for picture `index` of the batch."""
        return (self.seed + index) % (LARGEST_SEED + 1) if self.paint_seed is None else self.paint_seed

    def to_json(self) -> dict[str, Any]:
        """Plain values for json.dumps; `from_json` gives an equal request back."""
        data: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        data["references"] = [reference.to_json() for reference in self.references]
        data["regions"] = [region.to_json() for region in self.regions]
        data["sampling"] = self.sampling.to_json()
        data["layout"] = None if self.layout is None else self.layout.to_json()
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Request:
        """Reads what `to_json` wrote; missing fields take their defaults. Raises RequestError on anything else."""
        # Pictures of before there was a choice are painted again as they were.
        known = {"keep": False} | _known(cls, data)
        for name, kind in (("references", Reference), ("regions", Region)):
            if name in known:
                if not isinstance(known[name], (list, tuple)):
                    raise RequestError(f"The {name} of the request are not a list; write them as one.")
                known[name] = tuple(kind.from_json(item) for item in known[name])
        if "sampling" in known:
            known["sampling"] = Sampling.from_json(known["sampling"])
        if known.get("layout") is not None:
            known["layout"] = Layout.from_json(known["layout"])
        return cls(**known)


def _known(cls: type[Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """`data` as keyword arguments of `cls`; names what does not belong or is missing."""
    if not isinstance(data, Mapping):
        raise RequestError(f"A {cls.__name__.lower()} is an object in JSON, not {data!r}; write its fields by name.")
    names = {field.name for field in fields(cls)}
    if unknown := sorted(str(key) for key in data if key not in names):
        raise RequestError(
            f"The {cls.__name__.lower()} has unknown fields {', '.join(unknown)};"
            " remove them or open it with the version that wrote it."
        )
    try:
        cls(**data) if cls is not Request else None
    except TypeError as error:
        raise RequestError(f"The {cls.__name__.lower()} is not complete ({error}); add the missing fields.") from None
    if cls is Request and "prompt" not in data:
        raise RequestError("The request has no prompt; add one.")
    return dict(data)


def _text(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise RequestError(f"The {name} {value!r} is not text; write it as text.")
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        raise RequestError(f"The {name} holds half a character (a lone surrogate); type it again.")


def _one_of(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise RequestError(f"The {name} {value!r} is not known; choose one of {', '.join(choices)}.")


def _codes(name: str, rows: object) -> Codes | None:
    """The grid as nested tuples."""
    if rows is None:
        return None
    listed = rows if isinstance(rows, (tuple, list)) else ()
    grid = tuple(tuple(row) if isinstance(row, (tuple, list)) else () for row in listed)
    whole = all(isinstance(code, int) and not isinstance(code, bool) and code >= 0 for row in grid for code in row)
    widths = {len(row) for row in grid}
    if not whole or len(widths) != 1 or not all(1 <= side <= LARGEST_GRID for side in (len(grid), *widths)):
        raise RequestError(f"The {name} is not a grid of codes; take it from a picture that this program made.")
    return grid


def _whole(name: str, value: object, low: int, high: int, remedy: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise RequestError(f"The {name} {value!r} is not a whole number between {low} and {high}; {remedy}.")


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise RequestError(f"The {name} {value!r} is not a number; write it with digits.")
    return float(value)
