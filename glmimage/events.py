"""What the engine yields while it works.

Plain values that any consumer (page, command line, test) can show or drop; they hold no models and no tensors.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from glmimage.request import Request

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

Stage = Literal["loading", "references", "layout", "glyphs", "painting", "decoding"]


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


Event = Progress | Preview | Note | Result
