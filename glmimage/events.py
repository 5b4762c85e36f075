"""What the engine yields while it works.

Plain values that any consumer (page, command line, test) can show or drop; they hold no models and no tensors.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from glmimage.request import Codes, Layout, Request

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

Stage = Literal["loading", "references", "layout", "glyphs", "painting", "decoding", "reading"]


@dataclass(frozen=True, slots=True)
class Progress:
    """`step` of `total` is done in this stage; picture `picture` of `pictures`, counted from 0."""

    stage: Stage
    step: int
    total: int
    picture: int = 0
    pictures: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class Preview:
    """A rough picture of what is being made; any size, RGB."""

    image: Image
    stage: Stage
    picture: int = 0


@dataclass(frozen=True, slots=True)
class Note:
    """One sentence that the person should know, such as a size that was snapped."""

    text: str


@dataclass(frozen=True, slots=True, eq=False)
class PriorTokens:
    """The prior's codes: int64, ids of the codebook, rows x columns."""

    target: NDArray[np.int64]
    """[H/32, W/32]."""
    preview: NDArray[np.int64] | None = None
    """[h, w] of the preview grid; None with references, where the model draws no preview."""

    @property
    def layout(self) -> Layout:
        """What a request takes to paint from these codes again."""
        preview = None if self.preview is None else plain_codes(self.preview)
        return Layout(preview=preview, target=plain_codes(self.target))


def plain_codes(grid: NDArray[np.int64]) -> Codes:
    """A grid of codes [rows, columns] as a request carries it."""
    return tuple(tuple(row) for row in grid.tolist())


@dataclass(frozen=True, slots=True, eq=False)
class Sketch:
    """A preview grid alone, painted in few steps: what a whole picture could become."""

    image: Image
    index: int
    layout_seed: int
    layout: Layout

    def pick(self, request: Request) -> Request:
        """The request that makes a whole picture of this sketch, from the request that was sketched. It is the picture
        that these seeds give without sketches, too."""
        return replace(
            request,
            count=1,
            layout=self.layout,
            layout_seed=self.layout_seed,
            paint_seed=request.paint_seed_of(self.index),
        )


@dataclass(frozen=True, slots=True)
class Line:
    """One wanted text, and what can be read in its place."""

    wanted: str
    read: str
    match: bool
    likeness: float
    """0..1: 1 - edit distance / length of the longer, without case and spaces."""


@dataclass(frozen=True, slots=True)
class Report:
    """A proofreader's findings in one picture."""

    lines: tuple[Line, ...]

    @property
    def right(self) -> bool:
        """Everything reads as it was wanted."""
        return all(line.match for line in self.lines)

    @property
    def likeness(self) -> float:
        """The mean of all lines; 1 where nothing was wanted."""
        return sum(line.likeness for line in self.lines) / len(self.lines) if self.lines else 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """One finished picture and all that is needed to make it again."""

    image: Image
    request: Request
    """Resolved: size, steps and guidance are set."""
    index: int
    layout_seed: int
    paint_seed: int
    prior: PriorTokens
    seconds: dict[str, float] = field(default_factory=dict)
    """Wall time by stage."""
    checkpoint: str = ""
    report: Report | None = None
    """What can be read in it, where somebody looked."""


Event = Progress | Preview | Note | Sketch | Result
