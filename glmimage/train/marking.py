"""Marks of a picture: which stickers stand where, on which ground, what can be read, what an edit kept.

Stickers are told by the share of their own contrast with the ground that is found in the picture, words by RapidOCR's
recognition of the line or box where they belong. Knows the world and exercises, no model of ours.

Word accuracy and NED are CVTG-2K's: wanted words found among the words read / wanted words, and the mean over wanted
words of 1 - Levenshtein / longer length to the closest word read; both without regard to case.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from glmimage.geometry import Grid
from glmimage.proofread import likeness, open_reader
from glmimage.train import grounds
from glmimage.train.art import CELL, STICKER_CELLS, Art
from glmimage.train.edits import Sample
from glmimage.train.layout import Scene, Thing, Word, render, taken
from glmimage.train.words import LETTERS
from glmimage.train.world import SHIPPED, World

Picture = NDArray[np.uint8]
"""[H, W, 3], RGB."""
Small = NDArray[np.float32]
"""[H/4, W/4, 3], 0..1."""
Marks = dict[str, list[float]]
"""Score -> a number for each thing, word or picture that it is about."""

SCALE = 4
"""Pictures are compared at a quarter of their size: what a sticker is, not how sharp it is."""
NOTHING = 0.9
"""Plain ground is explained to 1 by every sticker: above this, nothing stands there."""
GONE = 0.25
"""Of a removed sticker's contrast with what is behind it, the most that may be left."""
SHORTEST = 3
"""Letters of a word that is marked; one or two are hardly a word to an OCR model."""
MARGIN = 32
"""Pixels of ground around a line, in one of two readings: with and without, different letters are read well."""
BEST_PSNR = 60.0


class Marker:
    """Knows every sticker of a world, and reads words."""

    def __init__(self, art: Art, world: World = SHIPPED, threads: int = 0) -> None:
        """threads: of the OCR; 0 leaves the choice to it."""
        self.art, self.world = art, world
        self.stickers = {cells: _Stickers.of(art, world, cells) for cells in STICKER_CELLS}
        self.reader = open_reader(threads)

    def mark(self, picture: Picture, sample: Sample) -> Marks:
        """What is right in a picture that was asked for by an exercise; scores by the names of the report, and
        "task:NAME" for the exercise's own kind."""
        match sample.task:
            case "text":
                return self._text(picture, sample.scene)
            case "regions":
                return {"regions": [float(self._is_read(picture, word)) for word in _marked(sample.scene.words)]}
            case "subjects":
                return {"subjects": self._stand(picture, sample.scene, sample.scene.things)}
            case "style" | "style_reference":
                right = self._stand(picture, sample.scene, sample.scene.things)
                return {"style_transfer": right, f"task:{sample.task}": right}
        changed = float(self._changed(picture, sample))
        marks: Marks = {"edit": [changed], f"task:{sample.task}": [changed]}
        kept = sample.kept(self.art)
        if kept.any():
            marks["edit_kept_psnr"] = [psnr(picture[kept], render(sample.references[0], self.art)[kept])]
        return marks

    def _text(self, picture: Picture, scene: Scene) -> Marks:
        free = ~taken((*scene.things, *scene.words), scene.grid)
        marks: Marks = {"backgrounds": [float(ground_of(picture, self.world, free) == scene.ground)]}
        for thing in scene.things:
            kind, style = self.sticker_at(picture, scene, thing)
            marks.setdefault("things", []).append(float(kind == thing.kind))
            marks.setdefault("styles", []).append(float(style == thing.style))
        for word in _marked(scene.words):
            wanted, found = word.text.lower(), self.read(picture, word)
            accuracy = "word_accuracy" if word.text[0] in LETTERS else "word_accuracy_zh"
            marks.setdefault(accuracy, []).append(float(wanted in found))
            marks.setdefault("ned", []).append(max((likeness(wanted, each) for each in found), default=0.0))
        return marks

    def _stand(self, picture: Picture, scene: Scene, things: Iterable[Thing]) -> list[float]:
        """Whether each thing stands in its place in its style."""
        return [float(self.sticker_at(picture, scene, thing) == (thing.kind, thing.style)) for thing in things]

    def _is_read(self, picture: Picture, word: Word) -> bool:
        return word.text.lower() in self.read(picture, word)

    def _changed(self, picture: Picture, sample: Sample) -> bool:
        """Whether all that an edit asked for is there."""
        before, after = sample.references[0], sample.scene
        if sample.task == "remove":
            was, now = render(before, self.art), render(after, self.art)
            gone = (was != now).any(-1)
            return _difference(picture[gone], now[gone]) < GONE * _difference(was[gone], now[gone])
        if sample.task == "background":
            free = ~taken((*after.things, *after.words), after.grid)
            return ground_of(picture, self.world, free) == after.ground
        new = [thing for thing in after.things if thing not in before.things]
        words = [word for word in after.words if word not in before.words]
        return all(self._stand(picture, after, new)) and all(self._is_read(picture, word) for word in words)

    def sticker_at(self, picture: Picture, scene: Scene, asked: Thing) -> tuple[str, str]:
        """(kind, style) of the sticker that explains the asked place best, wherever in it and however large.

        A sticker explains a square of the picture by the share of its own contrast with the scene's ground that is
        found there. ("", "") where nothing stands.
        """
        small, ground = shrink(picture), _bare(scene.ground, scene.grid)
        best, answer = NOTHING, ("", "")
        for cells in STICKER_CELLS:
            spots = _spots(asked, cells)
            windows, grounds_there = (np.stack([view[spot] for spot in spots]) for view in (small, ground))
            stickers = self.stickers[cells]
            errors = stickers.unexplained(windows, grounds_there)
            index = int(errors.min(0).argmin())
            if errors[:, index].min() < best:
                best, answer = float(errors[:, index].min()), stickers.keys[index]
        return answer

    def read(self, picture: Picture, word: Word) -> list[str]:
        """What can be read where a word belongs (its box, or its line from edge to edge), lower case: each reading
        in one piece, and its parts."""
        found: list[str] = []
        for rows, cols in _places(word):
            crop = Image.fromarray(picture[rows, cols])
            framed = Image.new("RGB", (crop.width + 2 * MARGIN, crop.height + 2 * MARGIN), crop.getpixel((2, 2)))
            framed.paste(crop, (MARGIN, MARGIN))
            for view in (crop, framed):
                told = self.reader(np.asarray(view)[..., ::-1], use_det=False, use_cls=False, use_rec=True)
                parts = "".join(
                    letter if letter.isalnum() else " " for text in told.txts or () for letter in text.lower()
                ).split()
                found += ["".join(parts), *parts] if parts else []
        return list(dict.fromkeys(found))


# -- stickers ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Stickers:
    """All stickers of a size, as what one is compared with: K stickers of D pixels."""

    keys: list[tuple[str, str]]
    """(kind, style)."""
    cover: Small
    """[K, D], 0..1."""
    color: Small
    """[K, 3D], times the cover."""
    covered_color: Small
    """[K, 3D], times the cover once more."""

    @classmethod
    def of(cls, art: Art, world: World, cells: int) -> _Stickers:
        keys = [key for key in art.stickers if key[0] in world.things and key[2] == cells]
        pixels = np.stack([_fine(art.stickers[key]) for key in keys])
        cover = pixels[..., 3:]
        # What is half covered is half the sticker's colour: reduced as it is blended.
        color = shrink_all(pixels[..., :3] * cover)
        small = shrink_all(cover)
        return cls(
            [(kind, style) for kind, style, _ in keys],
            small.reshape(len(keys), -1),
            color.reshape(len(keys), -1),
            (color * small).reshape(len(keys), -1),
        )

    def unexplained(self, windows: Small, ground: Small) -> Small:
        """Squared error of each sticker on the ground against each window / its squared contrast: [windows, K].

        windows, ground [windows, side, side, 3]. Written out as products of matrices: |color + u - cover * g|² and
        |color - cover * g|², where u = ground - window.
        """
        count = len(windows)
        apart = (ground - windows).reshape(count, -1)
        flat = ground.reshape(count, -1)
        along = (apart * flat).reshape(count, -1, 3).sum(-1)
        power = (flat * flat).reshape(count, -1, 3).sum(-1)
        contrast = (self.color**2).sum(1) - 2 * flat @ self.covered_color.T + power @ (self.cover**2).T
        error = contrast + (apart**2).sum(1)[:, None] + 2 * apart @ self.color.T - 2 * along @ self.cover.T
        return np.asarray(error / contrast, dtype=np.float32)


def _fine(picture: NDArray[np.uint8]) -> Small:
    return np.asarray(picture, dtype=np.float32) / np.float32(255)


def shrink_all(pictures: Small) -> Small:
    """[N, H, W, C] -> [N, H/4, W/4, C]."""
    count, height, width, channels = pictures.shape
    blocks = pictures.reshape(count, height // SCALE, SCALE, width // SCALE, SCALE, channels)
    return np.asarray(blocks.mean((2, 4)), dtype=np.float32)


def shrink(picture: Picture) -> Small:
    small: Small = shrink_all(_fine(picture)[None])[0]
    return small


def _spots(asked: Thing, cells: int) -> list[tuple[slice, slice]]:
    """Squares of the small picture where a sticker of that size stands at the place of `asked`."""
    side = CELL // SCALE
    corners = product(*(range(length - cells + 1) for length in asked.grid))
    return [
        (slice(row * side, (row + cells) * side), slice(col * side, (col + cells) * side))
        for row, col in corners
        if Thing("", "", row, col, cells, asked.grid).place == asked.place
    ]


# -- grounds -----------------------------------------------------------------------------------------------------------


def grounds_of(world: World) -> list[str]:
    """The names of every ground of a world."""
    names = list(world.grounds)
    if world.two_tone:
        names += [
            between.join((first, second))
            for between in (grounds.ABOVE, grounds.BESIDE)
            for first in grounds.GROUNDS
            for second in grounds.GROUNDS
            if first != second
        ]
    return names


@lru_cache(maxsize=512)
def _bare(ground: str, grid: Grid) -> Small:
    return shrink(grounds.paint(ground, grid))


def ground_of(picture: Picture, world: World = SHIPPED, free: NDArray[np.bool_] | None = None) -> str:
    """The ground that most of the `free` cells (None: all) are nearest to."""
    grid = picture.shape[0] // CELL, picture.shape[1] // CELL
    small, names = shrink(picture), grounds_of(world)
    errors = np.stack([_cells((small - _bare(name, grid)) ** 2) for name in names])
    if free is not None and free.any():
        errors = errors[:, free]
    errors = errors.reshape(len(names), -1)
    near = (errors <= errors.min(0) + 1e-6).sum(1)
    # Of grounds that explain as many cells, the one that explains the rest best.
    return names[int(np.lexsort((errors.mean(1), -near))[0])]


def _cells(values: Small) -> Small:
    """Mean over each cell: [h*8, w*8, 3] -> [h, w]."""
    side = CELL // SCALE
    means: Small = values.reshape(values.shape[0] // side, side, values.shape[1] // side, side, 3).mean((1, 3, 4))
    return means


# -- words and pixels --------------------------------------------------------------------------------------------------


def _marked(words: Iterable[Word]) -> list[Word]:
    return [word for word in words if len(word.text) >= SHORTEST or word.text[0] not in LETTERS]


def _places(word: Word) -> list[tuple[slice, slice]]:
    """Pixels (rows, columns) where a word is looked for: its line, or every pair of rows that lies in its box."""
    rows, cols = word.area
    high, wide = word.grid
    tops, lines, left, right = {rows.start}, rows.stop - rows.start, 0.0, float(wide)
    if word.box:
        _, top, _, bottom = word.box
        left, right = min(cols.start, word.box[0] * wide), max(cols.stop, word.box[2] * wide)
        # A row that is half in the box is in it.
        tops |= set(range(round(top * high), round(bottom * high) - lines + 1))
    across = slice(round(left * CELL), round(right * CELL))
    return [(slice(row * CELL, min(row + lines, high) * CELL), across) for row in sorted(tops)]


def _difference(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Mean squared difference."""
    return float(((one.astype(np.float32) - other) ** 2).mean())


def psnr(picture: NDArray[np.uint8], wanted: NDArray[np.uint8]) -> float:
    """Decibels, at most `BEST_PSNR`."""
    error = _difference(picture, wanted)
    return min(BEST_PSNR, 10 * math.log10(255**2 / error)) if error else BEST_PSNR
