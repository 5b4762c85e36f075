"""Pixels and the three grids they are cut into.

Axis order: `Size` is (width, height) as people say it; every grid is (rows, columns) = (h, w).
Knows nothing of a checkpoint's limits. Follows transformers' `GlmImageProcessor._get_target_shape`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from glmimage.errors import RequestError

PRIOR_CELL = 32
"""Pixels a side of one code of the prior."""
PATCH = 16
"""Pixels a side of one token of the decoder."""
LATENT = 8
"""Pixels a side of one latent."""
LARGEST_ASPECT = 4
"""The image processor refuses longer shapes; exactly 4:1 is allowed."""

Grid = tuple[int, int]
"""(rows, columns)."""

_SIZE = re.compile(r"\s*(\d{1,6})\s*[xX×*]\s*(\d{1,6})\s*")


@dataclass(frozen=True, slots=True, order=True)
class Size:
    """A picture's size in pixels. Grids are exact for sizes that are multiples of 32."""

    width: int
    height: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"

    @classmethod
    def snap(cls, width: int, height: int) -> Size:
        """The nearest size in multiples of 32, at least 32 a side.

        Raises RequestError for sides below 1 pixel and for shapes longer than 4:1 (before or after the snap).
        """
        if width < 1 or height < 1:
            raise RequestError(f"The size {width}x{height} has no pixels; give both sides as positive numbers.")
        # Halves go up (round() would send 48 to 32 and 80 to 96).
        size = cls(*(max(PRIOR_CELL, (side + PRIOR_CELL // 2) // PRIOR_CELL * PRIOR_CELL) for side in (width, height)))
        for candidate in (cls(width, height), size):
            if candidate.aspect > LARGEST_ASPECT:
                raise RequestError(
                    f"The size {candidate} is longer than {LARGEST_ASPECT}:1, which the model cannot lay out;"
                    f" make the longer side at most {LARGEST_ASPECT} times the shorter."
                )
        return size

    @classmethod
    def parse(cls, text: str) -> Size:
        """Reads "256x256" (width x height); not snapped. Raises RequestError."""
        match = _SIZE.fullmatch(text)
        if match is None:
            raise RequestError(f"The size {text!r} cannot be read; write it as WIDTHxHEIGHT, for example 256x256.")
        return cls(int(match[1]), int(match[2]))

    @property
    def aspect(self) -> float:
        """Longer side over shorter side, at least 1."""
        return max(self.width, self.height) / min(self.width, self.height)

    @property
    def prior_grid(self) -> Grid:
        """The prior's target grid: one code for 32 x 32 pixels."""
        return self.height // PRIOR_CELL, self.width // PRIOR_CELL

    @property
    def preview_grid(self) -> Grid:
        """The grid of about 256 codes that the prior sketches first (16 x 16 for a square)."""
        rows, columns = self.prior_grid
        ratio = rows / columns
        half = PRIOR_CELL // 2
        return int(math.sqrt(ratio) * half), int(math.sqrt(1 / ratio) * half)

    @property
    def latent_grid(self) -> Grid:
        """The VAE's grid: one latent for 8 x 8 pixels."""
        return self.height // LATENT, self.width // LATENT

    @property
    def patch_grid(self) -> Grid:
        """The decoder's token grid: one token for 16 x 16 pixels."""
        return self.height // PATCH, self.width // PATCH


def preview_times(held: Grid, grid: Grid) -> int:
    """How often a preview `grid` shows each cell of a picture's grid `held` along both axes; 0 where it is coarser."""
    return min(count // has for count, has in zip(grid, held, strict=True))


def preview_cells(held: Grid, grid: Grid) -> tuple[list[int], list[int]]:
    """The row of a grid `held` that each row of `grid` shows, and so its columns: how a preview repeats a picture.

    In a finer grid everything comes as often along both axes, and what that leaves over repeats the last row and
    column; a coarser one leaves cells out.
    """
    times = preview_times(held, grid)

    def axis(has: int, count: int) -> list[int]:
        return [min(index // times, has - 1) if times else index * has // count for index in range(count)]

    return axis(held[0], grid[0]), axis(held[1], grid[1])
