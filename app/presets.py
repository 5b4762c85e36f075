"""Reads and checks the data files under presets/: shapes and sizes, examples for each task.

Knows no page and no model; what a checkpoint can make comes in as its `Defaults`.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from glmimage.errors import GLMImageError, RequestError
from glmimage.geometry import PRIOR_CELL, Size
from glmimage.request import Defaults, Region, Request

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "presets"
LONGEST_RATIO = 10_000
"""Of a shape's sides, as numbers."""
NEARLY_THAT_SHAPE = 0.08
"""`Shape.differs` of a size that is still called so: 3:2 and 16:9 are 0.17 apart."""


class PresetError(GLMImageError):
    """A preset file cannot be used."""


@dataclass(frozen=True, slots=True)
class Shape:
    """An aspect by the name that people know."""

    label: str
    width: int
    height: int

    def differs(self, size: Size) -> float:
        """How far `size` is from this shape: the logarithm of the ratio of both aspects, 0 and more."""
        return abs(math.log(size.width / size.height * self.height / self.width))

    def fit(self, side: int, defaults: Defaults) -> Size:
        """The size of this shape with about `side` x `side` pixels, in steps of 32, within the checkpoint's range.

        Where the checkpoint says which sizes it learned, the one of about as many pixels that is nearest in shape: of
        others a small model makes rubble.
        """
        ratio = math.sqrt(self.width / self.height)
        learned = [size for size in defaults.sizes if abs(math.log2(size.width * size.height / side**2)) <= 1]
        if learned:
            return min(learned, key=self.differs)
        wide, high = side * ratio, side / ratio
        shrink = min(1.0, defaults.max_side / max(wide, high))
        grow = max(1.0, defaults.min_side / min(wide, high))
        factor = shrink if shrink < 1 else grow
        low, top = (_step(edge, up) for edge, up in ((defaults.min_side, True), (defaults.max_side, False)))
        return Size(*(min(top, max(low, round(edge * factor / PRIOR_CELL) * PRIOR_CELL)) for edge in (wide, high)))


def _step(edge: int, up: bool) -> int:
    return -(-edge // PRIOR_CELL) * PRIOR_CELL if up else edge // PRIOR_CELL * PRIOR_CELL


@dataclass(frozen=True, slots=True)
class Sizes:
    """The choices of shape, side and count."""

    shapes: tuple[Shape, ...]
    sides: tuple[int, ...]
    counts: tuple[int, ...]

    def shape(self, label: str) -> Shape:
        return next((shape for shape in self.shapes if shape.label == label), self.shapes[0])

    def shapes_for(self, defaults: Defaults) -> tuple[Shape, ...]:
        """Those that the checkpoint learned, where it says which sizes it did; the first in any case."""
        side = default_side(defaults)
        able = [
            shape
            for shape in self.shapes
            if not defaults.sizes or shape.differs(shape.fit(side, defaults)) <= NEARLY_THAT_SHAPE
        ]
        return tuple(able) or self.shapes[:1]

    def sides_for(self, defaults: Defaults) -> tuple[int, ...]:
        """The sides that the checkpoint learned, its own default among them."""
        default = default_side(defaults)
        able = {
            side
            for side in self.sides
            if defaults.min_side <= side <= defaults.max_side and side**2 <= defaults.max_pixels
        }
        return tuple(sorted(able | {default}))

    def nearest(self, size: Size, defaults: Defaults) -> tuple[Shape, int]:
        """The shape and side whose size comes closest to `size`; exact for sizes that were made from them."""

        def distance(choice: tuple[Shape, int]) -> int:
            made = choice[0].fit(choice[1], defaults)
            return abs(made.width - size.width) + abs(made.height - size.height)

        choices = itertools.product(self.shapes_for(defaults), self.sides_for(defaults))
        return min(choices, key=distance)


PLAIN = Sizes((Shape("1:1", 1, 1), Shape("4:3", 4, 3), Shape("3:4", 3, 4)), (256, 512, 1024), (1, 2, 4))
"""What there is to choose where the file cannot be used."""


def default_side(defaults: Defaults) -> int:
    """The side of the square with as many pixels as the checkpoint's default picture."""
    return round(math.sqrt(defaults.width * defaults.height))


ExampleTask = Literal["text", "regions", "edit", "style", "subjects"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """Something to start from, with a seed that was seen to work and a small picture of what came of it."""

    prompt: str = ""
    """None is needed where a style is taken over; of texts in boxes the rest of the picture."""
    seed: int = 0
    task: ExampleTask = "text"
    said: Mapping[str, str] = field(default_factory=dict)
    """Language -> what is said of it in place of the prompt."""
    regions: tuple[Region, ...] = ()
    """Texts in boxes."""
    pictures: tuple[Path, ...] = ()
    """References, in their order."""
    names: tuple[str, ...] = ()
    """Of the subjects in `pictures`."""
    kinds: tuple[str, ...] = ()
    """What they are, as the model knows them."""
    style: str = ""
    """Key of a preset."""
    thumbnail: Path | None = None

    def title(self, language: str) -> str:
        return self.said.get(language, self.prompt)

    def seeded(self, request: Request) -> Request:
        """The request with this seed alone, whatever seeds are kept on the desk."""
        return replace(request, seed=self.seed, layout_seed=None)


def usable(folder: Path = FOLDER) -> tuple[Sizes, tuple[Example, ...]]:
    """What the files offer; in place of what is broken, the plain sizes and no examples."""
    sizes = PLAIN
    examples: tuple[Example, ...] = ()
    with suppress(PresetError):
        sizes = read_sizes(folder)
    with suppress(PresetError):
        examples = read_examples(folder)
    return sizes, examples


def faults(folder: Path = FOLDER) -> Iterator[str]:
    """A sentence for each of the two files that cannot be used."""
    for read in (read_sizes, read_examples):
        try:
            read(folder)
        except PresetError as error:
            yield str(error)


def read_sizes(folder: Path = FOLDER) -> Sizes:
    """Raises PresetError naming the file and what is wrong in it."""
    path = folder / "sizes.json"
    data = _read(path)
    try:
        sizes = Sizes(
            tuple(Shape(str(one["label"]), int(one["width"]), int(one["height"])) for one in data["shapes"]),
            tuple(int(side) for side in data["sides"]),
            tuple(int(count) for count in data["counts"]),
        )
        whole = all(0 < edge <= LONGEST_RATIO for shape in sizes.shapes for edge in (shape.width, shape.height))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise PresetError(f"The preset {path} is not usable ({error!r}); correct it or restore the original.") from None
    if not (whole and sizes.shapes and sizes.sides and sizes.counts and min(sizes.sides + sizes.counts) > 0):
        raise PresetError(f"The preset {path} has an empty list or a number that is below 1 or too large; correct it.")
    return sizes


def read_examples(folder: Path = FOLDER) -> tuple[Example, ...]:
    """Raises PresetError naming the file and what is wrong in it. A thumbnail that is not there is left out, and so is
    an example whose pictures are not."""
    path = folder / "examples.json"
    try:
        examples = tuple(_example(one) for one in _read(path)["examples"])
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError, RequestError) as error:
        raise PresetError(f"The preset {path} is not usable ({error!r}); correct it or restore the original.") from None
    return tuple(one for one in examples if all(picture.is_file() for picture in one.pictures))


def _example(one: Mapping[str, Any]) -> Example:
    task = one.get("task", "text")
    if task not in get_args(ExampleTask):
        raise ValueError(f"no task {task!r}")
    return Example(
        prompt=str(one.get("prompt", "")),
        seed=int(one["seed"]),
        task=task,
        said={str(language): str(text) for language, text in one.get("said", {}).items()},
        regions=tuple(map(Region.from_json, one.get("regions", ()))),
        pictures=tuple(ROOT / str(name) for name in one.get("pictures", ())),
        names=tuple(map(str, one.get("names", ()))),
        kinds=tuple(map(str, one.get("kinds", ()))),
        style=str(one.get("style", "")),
        thumbnail=_thumbnail(str(one.get("thumbnail", ""))),
    )


def _thumbnail(name: str) -> Path | None:
    path = ROOT / name
    return path if name and path.is_file() else None


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise PresetError(f"The preset {path} cannot be read ({error}); correct it or restore the original.") from None
    if not isinstance(data, dict):
        raise PresetError(f"The preset {path} is not a JSON object; write it as one.")
    return data
