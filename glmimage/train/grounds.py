"""The grounds of the sticker world: plain colours, two colours, landscapes; all made of 32 px tiles.

A landscape is a stack of bands, each one row of cells high and periodic after one, two or four cells, so that it fits
every size and shape of picture and a code need know but a few looks. Knows nothing of stickers or words.

Names: a plain colour ("blue"), "red above blue", "red beside blue" (left beside right), or a landscape ("meadow").
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from glmimage.geometry import PRIOR_CELL as CELL
from glmimage.geometry import Grid

Color = tuple[int, int, int]

GROUNDS: Mapping[str, Color] = {
    "white": (255, 255, 255),
    "black": (22, 22, 26),
    "red": (216, 40, 44),
    "orange": (250, 140, 30),
    "yellow": (252, 208, 40),
    "green": (40, 160, 88),
    "blue": (40, 100, 220),
    "purple": (126, 62, 190),
    "pink": (246, 140, 184),
    "gray": (146, 150, 158),
}
"""The plain ones."""
INKS = ("white", "black", "red", "yellow", "blue", "green")
"""Colours of lettering."""
ABOVE, BESIDE = " above ", " beside "
PERIOD = 4
"""Cells of the strip that a band is drawn on."""
_FINE = 4
"""Bands are drawn this much larger, then averaged."""


class Brush:
    """Draws on one strip in pixels of the picture, the same again every `PERIOD` cells."""

    def __init__(self, color: Color) -> None:
        self.image = Image.new("RGB", (PERIOD * CELL * _FINE, CELL * _FINE), color)
        self.draw = ImageDraw.Draw(self.image)

    def dot(self, x: float, y: float, radius: float, color: Color, flat: float = 1.0) -> None:
        """An ellipse whose height is `flat` times its width."""
        for shift in (-PERIOD * CELL, 0, PERIOD * CELL):
            left, right = (x + shift - radius) * _FINE, (x + shift + radius) * _FINE
            self.draw.ellipse((left, (y - radius * flat) * _FINE, right, (y + radius * flat) * _FINE), fill=color)

    def shape(self, points: Sequence[tuple[float, float]], color: Color) -> None:
        for shift in (-PERIOD * CELL, 0, PERIOD * CELL):
            self.draw.polygon([((x + shift) * _FINE, y * _FINE) for x, y in points], fill=color)

    def below(self, curve: Callable[[float], float], color: Color) -> None:
        """Fills what lies under `curve`, which takes the share of the strip (0..1) and gives pixels from the top."""
        for column in range(self.image.width):
            top = curve(column / self.image.width) * _FINE
            self.draw.line((column, round(top), column, self.image.height), fill=color)

    def star(self, x: float, y: float, radius: float, color: Color) -> None:
        """A four-pointed star."""
        inner = radius * 0.3
        corners = [(radius if k % 2 == 0 else inner, k * math.pi / 4) for k in range(8)]
        self.shape([(x + r * math.sin(a), y - r * math.cos(a)) for r, a in corners], color)

    def pixels(self) -> NDArray[np.uint8]:
        return np.asarray(self.image.resize((PERIOD * CELL, CELL), Image.Resampling.BOX))


def wave(middle: float, *swings: tuple[int, float, float]) -> Callable[[float], float]:
    """A periodic curve: (waves on the strip, height in pixels, shift in turns) each."""
    return lambda x: middle + sum(height * math.sin(2 * math.pi * (count * x + turn)) for count, height, turn in swings)


@dataclass(frozen=True, slots=True)
class Band:
    color: Color
    period: int = 1
    draw: Callable[[Brush], None] | None = None


@dataclass(frozen=True, slots=True)
class Landscape:
    bands: Mapping[str, Band]
    colors: tuple[Color, ...]
    """Its large areas: lettering must contrast with each."""
    order: Callable[[int], Sequence[str]]
    """Rows of the picture -> names of bands, top to bottom."""


SKY, CLOUD = (176, 222, 248), (250, 253, 255)
HILL, GRASS, BLADE = (158, 214, 112), (134, 200, 88), (108, 178, 70)


def _clouds(brush: Brush) -> None:
    for x, y, radius in ((20, 20, 9), (32, 14, 11), (45, 20, 9), (94, 22, 5), (101, 18, 7), (109, 22, 5)):
        brush.dot(x, y, radius, CLOUD)
    brush.shape([(14, 20), (52, 20), (50, 29), (18, 29)], CLOUD)
    brush.shape([(92, 21), (111, 21), (110, 27), (93, 27)], CLOUD)


def _hills(brush: Brush) -> None:
    brush.below(wave(17, (1, 7, 0.1), (2, 3, 0.3)), HILL)
    brush.below(wave(24, (1, 5, 0.6), (2, 2, 0.0)), GRASS)


def _tuft(brush: Brush, x: float, y: float) -> None:
    for lean in (-4, 0, 4):
        brush.shape([(x - 1.5, y), (x + 1.5, y), (x + lean, y - 8 + abs(lean) / 2)], BLADE)


def _flower(brush: Brush, x: float, y: float, color: Color) -> None:
    for k in range(5):
        brush.dot(x + 3 * math.sin(1.2566 * k), y - 3 * math.cos(1.2566 * k), 2.2, color)
    brush.dot(x, y, 1.8, (252, 208, 40))


def _grass_a(brush: Brush) -> None:
    for x in (16, 80):
        _tuft(brush, x, 22)
    _flower(brush, 48, 14, (255, 255, 255))
    _flower(brush, 112, 14, (255, 255, 255))


def _grass_b(brush: Brush) -> None:
    for x in (40, 104):
        _tuft(brush, x, 15)
        _tuft(brush, x + 15, 26)
    _flower(brush, 16, 14, (246, 140, 184))
    _flower(brush, 80, 14, (246, 140, 184))


NIGHT, MOONLIT, DIM = (26, 32, 78), (255, 246, 200), (150, 164, 220)
RIDGE, VALLEY = (16, 20, 50), (10, 13, 34)


def _stars(points: Sequence[tuple[float, float, float]]) -> Callable[[Brush], None]:
    def draw(brush: Brush) -> None:
        for x, y, radius in points:
            if radius > 2:
                brush.star(x, y, radius, MOONLIT)
            else:
                brush.dot(x, y, radius, DIM)

    return draw


def _ridge(brush: Brush) -> None:
    brush.dot(24, 5, 1, DIM)
    brush.below(wave(16, (1, 6, 0.2), (2, 3, 0.1)), RIDGE)
    brush.below(wave(25, (1, 4, 0.7), (2, 2, 0.4)), VALLEY)


AIR, SEA, SPRAY, SAND, GRAIN = (198, 232, 250), (100, 194, 226), (190, 232, 244), (248, 226, 168), (226, 196, 128)


def _sea(brush: Brush) -> None:
    for x, y in ((8, 11), (24, 23)):
        for shift in (0, 32, 64, 96):
            brush.dot(x + shift, y, 5, SPRAY, 0.22)


def _foam(brush: Brush) -> None:
    brush.below(wave(9, (2, 4, 0.0)), (150, 216, 236))
    brush.below(wave(15, (2, 4, 0.05)), (255, 255, 255))
    brush.below(wave(20, (2, 4, 0.05)), SAND)


def _sand_a(brush: Brush) -> None:
    for shift in (0, 64):
        for x, y in ((8, 8), (22, 20), (40, 11), (54, 25)):
            brush.dot(x + shift, y, 1.6, GRAIN)


def _sand_b(brush: Brush) -> None:
    for x, y in ((10, 22), (26, 7), (58, 24), (74, 9), (90, 22), (120, 8)):
        brush.dot(x, y, 1.6, GRAIN)
    brush.shape(
        [
            (
                44 + (8 if k % 2 == 0 else 3.5) * math.sin(k * math.pi / 5),
                15 - (8 if k % 2 == 0 else 3.5) * math.cos(k * math.pi / 5),
            )
            for k in range(10)
        ],
        (240, 128, 96),
    )
    brush.dot(108, 14, 6, (246, 160, 184), 0.85)
    for lean in (-5, 0, 5):
        brush.shape([(107.4 + lean * 0.7, 10), (108.6 + lean * 0.7, 10), (108, 19)], (252, 208, 220))
    brush.dot(108, 19, 2.4, (246, 160, 184), 0.7)


WINTER, SNOW, SHADE, PINE = (128, 170, 214), (246, 250, 253), (222, 233, 244), (78, 128, 128)


def _flakes(points: Sequence[tuple[float, float]]) -> Callable[[Brush], None]:
    def draw(brush: Brush) -> None:
        for index, (x, y) in enumerate(points):
            brush.dot(x, y, (2.2, 1.4)[index % 2], SNOW)

    return draw


def _drift(brush: Brush) -> None:
    for x, high in ((14, 17), (26, 13), (84, 15), (97, 20), (109, 13)):
        for part in range(3):
            top = 26 - high + part * high / 3.4
            wide = 3.5 + 1.6 * part
            brush.shape([(x, top), (x - wide, top + high / 2), (x + wide, top + high / 2)], PINE)
        brush.shape([(x, 26 - high), (x - 1.8, 29 - high), (x + 1.8, 29 - high)], SNOW)
    brush.below(wave(23, (1, 4, 0.3), (2, 1.5, 0.1)), SHADE)
    brush.below(wave(27, (1, 3, 0.8), (2, 1.5, 0.6)), SNOW)


def _snow_b(brush: Brush) -> None:
    for x, y, radius in ((20, 16, 14), (88, 14, 17)):
        brush.dot(x, y, radius, SHADE, 0.24)
        brush.dot(x, y - 2, radius, SNOW, 0.24)


def _meadow_rows(rows: int) -> list[str]:
    horizon = rows // 2 - 1
    sky = ["clouds" if row % 4 == 0 else "sky" for row in range(horizon)]
    return [*sky, "hills", *("grass a" if row % 2 == 0 else "grass b" for row in range(rows - horizon - 1))]


def _night_rows(rows: int) -> list[str]:
    return [*("stars " + "abc"[row % 3] for row in range(rows - 2)), "ridge", "valley"]


def _beach_rows(rows: int) -> list[str]:
    sky, sea = rows * 3 // 8, max(1, rows // 4)
    sand = ("sand a" if row % 2 == 0 else "sand b" for row in range(rows - sky - sea - 1))
    return ["air"] * sky + ["sea"] * sea + ["foam", *sand]


def _snow_rows(rows: int) -> list[str]:
    horizon = rows * 5 // 8 - 1
    sky = ["flakes a" if row % 2 == 0 else "flakes b" for row in range(horizon)]
    return [*sky, "drift", *("snow a" if row % 2 == 0 else "snow b" for row in range(rows - horizon - 1))]


LANDSCAPES: Mapping[str, Landscape] = {
    "meadow": Landscape(
        {
            "sky": Band(SKY),
            "clouds": Band(SKY, 4, _clouds),
            "hills": Band(SKY, 4, _hills),
            "grass a": Band(GRASS, 2, _grass_a),
            "grass b": Band(GRASS, 2, _grass_b),
        },
        (SKY, GRASS),
        _meadow_rows,
    ),
    "night sky": Landscape(
        {
            "stars a": Band(NIGHT, 4, _stars([(12, 9, 5), (50, 22, 1.2), (75, 7, 1.2), (106, 18, 1.2)])),
            "stars b": Band(NIGHT, 4, _stars([(24, 24, 1.2), (56, 9, 1.2), (86, 17, 5), (120, 6, 1.2)])),
            "stars c": Band(NIGHT, 4, _stars([(8, 20, 1.2), (44, 14, 4), (72, 26, 1.2), (110, 10, 1.2)])),
            "ridge": Band(NIGHT, 4, _ridge),
            "valley": Band(VALLEY),
        },
        (NIGHT, VALLEY),
        _night_rows,
    ),
    "beach": Landscape(
        {
            "air": Band(AIR),
            "sea": Band(SEA, 1, _sea),
            "foam": Band(SEA, 2, _foam),
            "sand a": Band(SAND, 2, _sand_a),
            "sand b": Band(SAND, 4, _sand_b),
        },
        (AIR, SEA, SAND),
        _beach_rows,
    ),
    "snow": Landscape(
        {
            "flakes a": Band(WINTER, 4, _flakes([(10, 8), (26, 22), (44, 12), (70, 26), (88, 9), (110, 19)])),
            "flakes b": Band(WINTER, 4, _flakes([(4, 24), (36, 6), (58, 18), (78, 8), (100, 24), (120, 11)])),
            "drift": Band(WINTER, 4, _drift),
            "snow a": Band(SNOW),
            "snow b": Band(SNOW, 4, _snow_b),
        },
        (WINTER, SNOW),
        _snow_rows,
    ),
}


def _number_tiles() -> dict[str, int]:
    """ "meadow:hills" -> the class of its first cell; plain colours come first, in their order."""
    first = {name: index for index, name in enumerate(GROUNDS)}
    count = len(first)
    for name, landscape in LANDSCAPES.items():
        for band, drawn in landscape.bands.items():
            first[f"{name}:{band}"] = count
            count += drawn.period
    return first


_FIRST = _number_tiles()
TILES = len(GROUNDS) + sum(band.period for land in LANDSCAPES.values() for band in land.bands.values())
"""How many different cells of ground there are; the plain colours are the first ten."""


@lru_cache(maxsize=1)
def _tiles() -> NDArray[np.uint8]:
    """[TILES, 32, 32, 3]."""
    tiles = np.empty((TILES, CELL, CELL, 3), dtype=np.uint8)
    for name, color in GROUNDS.items():
        tiles[_FIRST[name]] = color
    for name, landscape in LANDSCAPES.items():
        for band_name, band in landscape.bands.items():
            brush = Brush(band.color)
            if band.draw:
                band.draw(brush)
            strip = brush.pixels().reshape(CELL, PERIOD, CELL, 3).transpose(1, 0, 2, 3)
            first = _FIRST[f"{name}:{band_name}"]
            tiles[first : first + band.period] = strip[: band.period]
    return tiles


def halves(ground: str) -> tuple[str, str] | None:
    """The two colours of a two-tone ground, upper or left one first; None for the others."""
    for between in (ABOVE, BESIDE):
        if between in ground:
            first, _, second = ground.partition(between)
            return first, second
    return None


@lru_cache(maxsize=512)
def tiles_of(ground: str, grid: Grid) -> NDArray[np.int64]:
    """The class of ground in each cell: [rows, columns], int64, below `TILES`. Two tones meet in the middle."""
    rows, cols = grid
    cells = np.empty(grid, dtype=np.int64)
    pair = halves(ground)
    if pair:
        cells[:] = _FIRST[pair[1]]
        cells[: rows // 2 if ABOVE in ground else rows, : cols if ABOVE in ground else cols // 2] = _FIRST[pair[0]]
    elif ground in GROUNDS:
        cells[:] = _FIRST[ground]
    else:
        landscape = LANDSCAPES[ground]
        for row, band in enumerate(landscape.order(rows)):
            cells[row] = _FIRST[f"{ground}:{band}"] + np.arange(cols) % landscape.bands[band].period
    cells.flags.writeable = False
    return cells


def paint(ground: str, grid: Grid) -> NDArray[np.uint8]:
    """The bare ground: [rows*32, columns*32, 3], uint8 RGB."""
    rows, cols = grid
    cells = _tiles()[tiles_of(ground, grid)]
    return cells.transpose(0, 2, 1, 3, 4).reshape(rows * CELL, cols * CELL, 3)


def colors_of(ground: str) -> tuple[Color, ...]:
    """The colours of its large areas."""
    if ground in LANDSCAPES:
        return LANDSCAPES[ground].colors
    return tuple(GROUNDS[name] for name in halves(ground) or (ground,))


def contrasting(ground: str) -> list[str]:
    """The lettering colours that can be read everywhere on a ground."""
    weights = np.array([0.299, 0.587, 0.114])
    backs = np.array(colors_of(ground), dtype=float)
    return [
        ink for ink in INKS if all(abs(float(d @ weights)) > 60 for d in np.array(GROUNDS[ink], dtype=float) - backs)
    ]
