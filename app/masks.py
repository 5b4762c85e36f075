"""A mask as it is painted on a picture: strokes of a round brush, kept as numbers, shown as SVG, stored as a picture.

The browser tells strokes, never pixels, so that nothing of it has to be decoded. Knows no widgets.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app import uploads
from app.easel import file_url
from app.words import Words
from glmimage.errors import RequestError

if TYPE_CHECKING:
    from PIL.Image import Image

ACROSS = 1000
"""Units from the left edge to the right one; as many of them lie from top to bottom as the shape gives."""
LARGEST_UNIT = 4 * ACROSS
MOST_STROKES = 2000
MOST_POINTS = 50_000
DOWN_TO_MARK = 128
"""Grey from which on a stored mask counts as white, as in the engine."""


@dataclass(frozen=True, slots=True)
class Stroke:
    """One movement of the brush, in units."""

    points: tuple[tuple[int, int], ...]
    width: int
    erases: bool = False


@dataclass(frozen=True, slots=True)
class Mask:
    """What may change: a stored mask, if there is one, and what was painted over it."""

    strokes: tuple[Stroke, ...] = ()
    base: str = ""
    """The file of a mask that a picture was made with."""

    @property
    def blank(self) -> bool:
        return not self.base and all(stroke.erases for stroke in self.strokes)

    def painted(self, told: str) -> Mask:
        """With the strokes that a browser tells: a JSON list of [erases, width, x, y, x, y, ...] or null, which wipes
        everything. Raises RequestError."""
        try:
            rows = json.loads(told)
            if rows is None:
                return Mask()
            strokes = tuple(_stroke(row) for row in rows[: MOST_STROKES + 1])
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            raise RequestError("The strokes of the mask did not arrive; paint them again.") from None
        if len(strokes) > MOST_STROKES or sum(len(stroke.points) for stroke in strokes) > MOST_POINTS:
            raise RequestError("The mask has too many strokes; wipe it and use a larger brush.")
        return replace(self, strokes=strokes)

    def draw(self, size: tuple[int, int]) -> Image:
        """Mode L, white where the picture of `size` (width, height) may change."""
        from PIL import Image, ImageDraw

        mask = Image.new("L", size)
        if self.base:
            with Image.open(self.base) as base:
                level = base.convert("L").resize(size)
            mask.paste(level.point(lambda value: 255 * (value >= DOWN_TO_MARK)))
        pen = ImageDraw.Draw(mask)
        scale = size[0] / ACROSS
        for stroke in self.strokes:
            fill = 0 if stroke.erases else 255
            points = [(x * scale, y * scale) for x, y in stroke.points]
            width = max(1.0, stroke.width * scale)
            if len(points) > 1:
                pen.line(points, fill, round(width))
            for x, y in points:
                pen.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), fill)
        return mask

    def keep(self, picture: Path, data_dir: Path) -> Path:
        """Stores the mask of a picture; raises RequestError where it marks nothing, PictureError as uploads.keep."""
        from PIL import Image

        with Image.open(picture) as opened:
            size = opened.size
        mask = self.draw(size)
        if mask.getbbox() is None:
            raise RequestError("Nothing is marked; paint over what may change, or change the whole picture.")
        return uploads.keep(mask, data_dir)


def _stroke(row: Sequence[Any]) -> Stroke:
    """Raises ValueError, TypeError or OverflowError."""
    erases, width, *places = row
    numbers = [round(float(place)) for place in places]
    thick = round(float(width))
    points = tuple(zip(numbers[::2], numbers[1::2], strict=True))
    inside = all(-LARGEST_UNIT <= number <= 2 * LARGEST_UNIT for number in numbers)
    if not points or not 1 <= thick <= ACROSS or not inside:
        raise ValueError("outside the picture")
    return Stroke(points, thick, bool(erases))


_HATCH = (
    '<pattern id="mask-hatch" width="28" height="28" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<rect width="28" height="28" fill="#0f6b5c" fill-opacity=".55"/>'
    '<rect width="9" height="28" fill="#fff" fill-opacity=".75"/></pattern>'
)
"""Seen on a picture of any colour."""


def paintable(picture: Path, size: tuple[int, int], mask: Mask, words: Words) -> str:
    """The picture with its mask on it and the brushes; assets/brush.js moves them and tells the strokes."""
    high = round(ACROSS * size[1] / size[0])
    drawn = "".join(
        f'<polyline points="{" ".join(f"{x},{y}" for x, y in (*stroke.points, stroke.points[-1]))}"'
        f' stroke-width="{stroke.width}" stroke="{"black" if stroke.erases else "white"}"/>'
        for stroke in mask.strokes
    )
    base = f'<image href="{file_url(Path(mask.base))}" width="{ACROSS}" height="{high}"/>' if mask.base else ""
    overlay = (
        f'<svg viewBox="0 0 {ACROSS} {high}" tabindex="0" role="application" aria-label="{escape(words("mask.label"))}"'
        f' aria-describedby="mask-keys"><mask id="mask-drawn">{base}<g class="strokes">{drawn}</g></mask>'
        f'{_HATCH}<rect class="marked" width="{ACROSS}" height="{high}" mask="url(#mask-drawn)"/>'
        '<circle class="brush" r="0"/></svg>'
    )
    tools = (
        f'<label class="size"><span>{escape(words("mask.size"))}</span>'
        f'<input type="range" class="width" min="20" max="300" value="110"></label>'
        f'<button type="button" data-brush="erase" aria-pressed="false">{escape(words("mask.erase"))}</button>'
        f'<button type="button" data-brush="undo">{escape(words("mask.undo"))}</button>'
        f'<button type="button" data-brush="wipe">{escape(words("mask.wipe"))}</button>'
    )
    return (
        f'<div class="paintable"><div class="canvas" style="--ratio:{size[0] / size[1]:.4f}">'
        f'<img src="{file_url(picture)}" alt="{escape(words("mask.picture"))}" draggable="false">{overlay}</div>'
        f'<div class="tools" role="group" aria-label="{escape(words("mask.tools"))}">{tools}</div>'
        f'<p class="keys" id="mask-keys">{escape(words("mask.keys"))}</p></div>'
    )
