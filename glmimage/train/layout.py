"""What stands where on a sticker poster: things, words, their picture, and their labels on the code grid.

Everything is snapped to cells of 32 px, so that each cell of the picture is nearly a function of what stands there:
the semantic codes can carry it. Knows how a scene looks, not how one is made up or put into words.

Axis order: (row, column), (rows, columns).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glmimage.geometry import Grid, Size
from glmimage.prompting import first_cell, place_of
from glmimage.request import Region
from glmimage.train.art import CELL, STICKER_CELLS, STYLES, THINGS, Art
from glmimage.train.grounds import GROUNDS, INKS, TILES, paint, tiles_of
from glmimage.train.words import CHARACTERS, LETTERS, columns

GRID = 8
"""Cells along each side of the usual picture."""
SIDE = GRID * CELL
SQUARE: Grid = (GRID, GRID)
LINES = ("top", "centre", "bottom")
LINE_ROWS = {"top": 0, "centre": 3, "bottom": 6}
"""First of the two cell rows that a word takes in the usual picture."""

Box = tuple[float, float, float, float]
"""Left, top, right, bottom as shares of the picture, as `Region.box`."""


@dataclass(frozen=True, slots=True)
class Thing:
    """A sticker: `row`, `col` of its upper left cell, `cells` along each side."""

    kind: str
    style: str
    row: int
    col: int
    cells: int
    grid: Grid = SQUARE
    """Of the picture it stands in."""

    @property
    def place(self) -> str:
        """One of the nine names of `PLACES`, by where the middle of the sticker lies."""
        rows, cols = self.grid
        return place_of((self.col + self.cells / 2) / cols, (self.row + self.cells / 2) / rows)

    @property
    def area(self) -> tuple[slice, slice]:
        return slice(self.row, self.row + self.cells), slice(self.col, self.col + self.cells)


@dataclass(frozen=True, slots=True)
class Word:
    """A word, two rows high, a letter to a column and a Chinese character to two, from `row`, `col` on."""

    text: str
    color: str
    row: int
    col: int
    grid: Grid = SQUARE
    box: Box | None = None
    """Where it was asked for a box: `cells_in` of it gives `row`, `col`, or in training those of a cell before."""

    @property
    def line(self) -> str:
        """One of `LINES`, by where its middle lies."""
        return LINES[min(2, 3 * (self.row + 1) // self.grid[0])]

    @property
    def place(self) -> str:
        """One of the nine names of `PLACES`, by where its middle lies."""
        return place_of((self.col + columns(self.text) / 2) / self.grid[1], (self.row + 1) / self.grid[0])

    @property
    def area(self) -> tuple[slice, slice]:
        return slice(self.row, self.row + 2), slice(self.col, self.col + columns(self.text))


@dataclass(frozen=True, slots=True)
class Scene:
    ground: str
    """A name of `grounds`."""
    things: tuple[Thing, ...]
    words: tuple[Word, ...] = ()
    grid: Grid = SQUARE

    @property
    def word(self) -> Word | None:
        """The first one: the only one at the first level of the world."""
        return self.words[0] if self.words else None

    @property
    def stacked(self) -> bool:
        """Whether its words are two lines of one text."""
        if len(self.words) != 2 or any(word.box for word in self.words):
            return False
        first, second = self.words
        return second.row == first.row + 2 and second.color == first.color

    @property
    def stack_line(self) -> str:
        """One of `LINES`, by where the middle of two stacked lines lies."""
        return LINES[min(2, 3 * (self.words[0].row + 2) // self.grid[0])]


def line_row(line: str, rows: int, height: int = 2) -> int:
    """First cell row of a text of `height` rows on one of `LINES`."""
    return {"top": 0, "centre": (rows - height) // 2, "bottom": rows - height}[line]


def cells_in(box: Box, text: str, grid: Grid) -> tuple[int, int]:
    """(row, col) of a text that is asked for in a box: in its middle, snapped, inside the picture."""
    # This world's letters are a cell wide and two high.
    column, row = first_cell(Region(text=text, box=box), Size(1, 2), Size(grid[1], grid[0]))
    return row - 1, column - 1


def region_of(text: str, box: Box, color: str, grid: Grid) -> Region:
    """A text in a box as the studio asks for it, with where it begins."""
    row, col = cells_in(box, text, grid)
    return Region(text=text, box=box, color=color, cell=(col + 1, row + 1))


def taken(items: Iterable[Thing | Word], grid: Grid) -> NDArray[np.bool_]:
    """The cells where something stands: [rows, columns]."""
    cells = np.zeros(grid, dtype=bool)
    for item in items:
        cells[item.area] = True
    return cells


# -- the picture -----------------------------------------------------------------------------------------------------


def render(scene: Scene, art: Art) -> NDArray[np.uint8]:
    """The picture of a scene: [rows*32, columns*32, 3], uint8 RGB."""
    canvas = paint(scene.ground, scene.grid).copy()
    for thing in scene.things:
        paste(canvas, art.stickers[thing.kind, thing.style, thing.cells], thing.row * CELL, thing.col * CELL)
    for word in scene.words:
        color = np.array(GROUNDS[word.color], dtype=np.uint8)
        left = word.col * CELL
        for letter in word.text:
            tile = art.letters[letter]
            paste(canvas, np.dstack([np.broadcast_to(color, (*tile.shape, 3)), tile]), word.row * CELL, left)
            left += tile.shape[1]
    return canvas


def paste(canvas: NDArray[np.uint8], rgba: NDArray[np.uint8], top: int, left: int) -> None:
    """Blend a straight-alpha RGBA picture into an RGB one, in place."""
    height, width = rgba.shape[:2]
    target = canvas[top : top + height, left : left + width]
    alpha = rgba[..., 3:].astype(np.uint16)
    target[:] = ((rgba[..., :3] * alpha + target * (255 - alpha) + 127) // 255).astype(np.uint8)


# -- what stands in each cell ----------------------------------------------------------------------------------------

LABELS = ("thing", "style", "part", "letter", "ink", "ground")
"""Class 0 of every label but `ground` is "nothing of the kind here"."""
_PART_BASE = {cells: 1 + sum(c * c for c in STICKER_CELLS if c < cells) for cells in STICKER_CELLS}
_THING_ID = {kind: 1 + index for index, kind in enumerate(THINGS)}
_STYLE_ID = {style: 1 + index for index, style in enumerate(STYLES)}
_INK_ID = {ink: 1 + index for index, ink in enumerate(INKS)}
# Column by column, so that what is in the upper half of a letter or character has an odd label.
_LETTER_ID = {letter: 1 + 2 * index for index, letter in enumerate(LETTERS)} | {
    character: 1 + 2 * len(LETTERS) + 4 * index for index, character in enumerate(CHARACTERS)
}
ALL_CLASSES: Mapping[str, int] = {
    "thing": len(THINGS) + 1,
    "style": len(STYLES) + 1,
    "part": 1 + sum(cells * cells for cells in STICKER_CELLS),
    "letter": 1 + 2 * len(LETTERS) + 4 * len(CHARACTERS),
    "ink": len(INKS) + 1,
    "ground": TILES,
}
"""Of everything that can be drawn. The classes of a smaller world are the first of these."""


def labels(scene: Scene) -> NDArray[np.int64]:
    """Class ids in each cell: [len(LABELS), rows, columns], int64."""
    grid = np.zeros((len(LABELS), *scene.grid), dtype=np.int64)
    grid[5] = tiles_of(scene.ground, scene.grid)
    for thing in scene.things:
        grid[(0, *thing.area)] = _THING_ID[thing.kind]
        grid[(1, *thing.area)] = _STYLE_ID[thing.style]
        part = np.arange(thing.cells**2).reshape(thing.cells, thing.cells)
        grid[(2, *thing.area)] = _PART_BASE[thing.cells] + part
    for word in scene.words:
        grid[(4, *word.area)] = _INK_ID[word.color]
        col = word.col
        for letter in word.text:
            width = columns(letter)
            halves = np.arange(2)[:, None] + 2 * np.arange(width)
            grid[3, word.row : word.row + 2, col : col + width] = _LETTER_ID[letter] + halves
            col += width
    return grid
