"""Everything that can be asked for, as one frozen value.

A `Request` and its seeds give the same picture on the same machine; the page, the command line and the metadata of a
picture all carry this one class. Checked on construction, so that a request in hand is a request that makes sense; what
depends on the checkpoint (default size, largest side) is checked by `Request.resolve`.
Knows nothing of torch, of files on disk or of a page.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from glmimage.errors import RequestError
from glmimage.geometry import Size

LARGEST_SEED = 2**53 - 1
"""The largest whole number that every JSON reader keeps exact."""
LARGEST_COUNT = 64
LARGEST_STEPS = 1000
"""The scheduler has 1000 training timesteps; more steps would repeat some of them."""
LARGEST_GUIDANCE = 30.0
LONGEST_PROMPT = 20_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Defaults:
    """What a checkpoint does where a request says nothing, and the sides it was trained for."""

    width: int = 1024
    height: int = 1024
    steps: int = 50
    guidance: float = 1.5
    min_side: int = 256
    max_side: int = 2048
    name: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """A picture that the new one is made from."""

    path: str
    role: str = ""
    """What it is for ("the cat", "the style"); words for people and for tasks, the model sees only its order."""

    def __post_init__(self) -> None:
        _text("reference path", self.path)
        _text("reference role", self.role)
        if not self.path.strip():
            raise RequestError("A reference has no file; choose a picture or remove the reference.")

    def to_json(self) -> dict[str, Any]:
        return {"path": self.path, "role": self.role}

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

    def __post_init__(self) -> None:
        _text("region text", self.text)
        _text("region color", self.color)
        if not self.text.strip():
            raise RequestError("A region has no text; write what it should say or remove the region.")
        box = tuple(_number("region box", side) for side in self.box) if isinstance(self.box, (tuple, list)) else ()
        if len(box) != 4 or not (0 <= box[0] < box[2] <= 1 and 0 <= box[1] < box[3] <= 1):
            raise RequestError(
                f"The region box {self.box!r} is not left, top, right, bottom between 0 and 1;"
                " draw it inside the picture."
            )
        object.__setattr__(self, "box", box)

    def to_json(self) -> dict[str, Any]:
        return {"text": self.text, "box": list(self.box), "color": self.color}

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
class Request:
    """One run: a prompt, its references, and how many pictures of what size. None = the checkpoint's default."""

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

    @property
    def size(self) -> Size:
        """The size of a resolved request; RequestError before that."""
        if self.width is None or self.height is None:
            raise RequestError("The request has no size yet; resolve it with the checkpoint's defaults first.")
        return Size(self.width, self.height)

    def resolve(self, defaults: Defaults) -> Request:
        """This request with every None filled from `defaults` (except seeds and sampling) and the size snapped to 32.

        Raises RequestError where the snapped size is outside the checkpoint's range or longer than 4:1.
        """
        size = Size.snap(
            defaults.width if self.width is None else self.width,
            defaults.height if self.height is None else self.height,
        )
        low, high = defaults.min_side, defaults.max_side
        if not (low <= size.width <= high and low <= size.height <= high):
            raise RequestError(
                f"The size {size} is outside what {defaults.name or 'this checkpoint'} can make;"
                f" choose sides between {low} and {high} pixels."
            )
        return replace(
            self,
            width=size.width,
            height=size.height,
            steps=defaults.steps if self.steps is None else self.steps,
            guidance=defaults.guidance if self.guidance is None else self.guidance,
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
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Request:
        """Reads what `to_json` wrote; missing fields take their defaults. Raises RequestError on anything else."""
        known = _known(cls, data)
        for name, kind in (("references", Reference), ("regions", Region)):
            if name in known:
                if not isinstance(known[name], (list, tuple)):
                    raise RequestError(f"The {name} of the request are not a list; write them as one.")
                known[name] = tuple(kind.from_json(item) for item in known[name])
        if "sampling" in known:
            known["sampling"] = Sampling.from_json(known["sampling"])
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


def _whole(name: str, value: object, low: int, high: int, remedy: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise RequestError(f"The {name} {value!r} is not a whole number between {low} and {high}; {remedy}.")


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise RequestError(f"The {name} {value!r} is not a number; write it with digits.")
    return float(value)
