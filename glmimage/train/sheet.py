"""Contact sheets of pictures, to look at."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from glmimage.errors import TrainingError
from glmimage.train.art import Art, chinese_font
from glmimage.train.edits import WHOLE, Sample, sample
from glmimage.train.layout import render
from glmimage.train.loop import scene_rng
from glmimage.train.world import FULL, World, caption, sample_scene, sample_with

GAP = 8
NARROWEST = 300
"""Pixels of a card: prompts need room."""
FONT_SIZE, LINE = 18, 27
WORDINGS = 10
"""Captions of each picture that is written to learn from."""
LARGEST = 16_383
"""Pixels of a side: more does not go into a WebP file. A sheet that is longer is made smaller."""
KEPT_DARK = 4
"""What must be kept is shown darkened by this."""


def world_sheet(
    art: Art,
    split: str,
    world: World = FULL,
    task: str | None = None,
    language: str | None = None,
    count: int = 24,
    width: int = 1600,
) -> Image.Image:
    """The first exercises of a split: references > wanted picture (and what must be kept of an edit), prompt below."""
    font = ImageFont.truetype(str(chinese_font()), FONT_SIZE)
    held_out = split == "evaluate"
    samples = (sample(scene_rng(split, index), world, task, held_out, language) for index in range(count))
    return _flow([_card(each, art, font) for each in samples], width)


def captioned_pictures(
    folder: Path, art: Art, world: World, count: int, thing: str | None = None, style: str | None = None
) -> None:
    """Pictures of a world with `WORDINGS` captions of each beside them, as `lora` learns from: 000.png, 000.txt ...

    `thing`, `style`: as in `sample_with`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        rng = scene_rng("train", index)
        scene = sample_with(thing, rng, False, world, style) if thing else sample_scene(rng, world=world)
        path = folder / f"{index:03d}.png"
        Image.fromarray(render(scene, art)).save(path)
        said = [caption(scene, rng)[0] for _ in range(WORDINGS)]
        path.with_suffix(".txt").write_text("".join(f"{line}\n" for line in said), encoding="utf-8")


def answers_sheet(answers: Sequence[tuple[Sample, NDArray[np.uint8]]], art: Art, width: int = 1600) -> Image.Image:
    """Exercises with the pictures that a model gave: references > its picture, prompt below."""
    font = ImageFont.truetype(str(chinese_font()), FONT_SIZE)
    return _flow([_card(each, art, font, picture) for each, picture in answers], width)


def _card(
    each: Sample, art: Art, font: ImageFont.FreeTypeFont, picture: NDArray[np.uint8] | None = None
) -> Image.Image:
    wanted = render(each.scene, art)
    panels = [*(render(scene, art) for scene in each.references), wanted if picture is None else picture]
    if each.task in WHOLE and picture is None:
        kept = each.kept(art)[..., None]
        panels.append(np.where(kept, wanted // KEPT_DARK, 255).astype(np.uint8))
    width = max(NARROWEST, sum(panel.shape[1] + GAP for panel in panels) - GAP)
    lines = _wrap(f"{each.task}: {each.prompt}", width, font)
    high = max(panel.shape[0] for panel in panels)
    card = Image.new("RGB", (width, high + LINE * len(lines)), (255, 255, 255))
    left = 0
    for panel in panels:
        card.paste(Image.fromarray(panel), (left, 0))
        left += panel.shape[1] + GAP
    draw = ImageDraw.Draw(card)
    for number, line in enumerate(lines):
        draw.text((0, high + LINE * number), line, fill=(0, 0, 0), font=font)
    return card


def _wrap(text: str, width: int, font: ImageFont.FreeTypeFont) -> list[str]:
    """Breaks between words, and between any two Chinese characters."""
    lines = [""]
    for piece in re.findall(r"[\u2e80-\uffff]|[^\s\u2e80-\uffff]+|\s+", text):
        if lines[-1] and font.getlength(lines[-1] + piece) > width:
            lines.append(piece.strip())
        else:
            lines[-1] += piece
    return lines


def _flow(cards: Iterable[Image.Image], width: int) -> Image.Image:
    """Cards of any size, line by line."""
    placed, left, top, high = [], GAP, GAP, 0
    for card in cards:
        if left > GAP and left + card.width + GAP > width:
            left, top, high = GAP, top + high + 2 * GAP, 0
        placed.append((card, left, top))
        left, high = left + card.width + 2 * GAP, max(high, card.height)
    wide = max([width, *(card.width + at + GAP for card, at, _ in placed)])
    sheet = Image.new("RGB", (wide, top + high + GAP), (255, 255, 255))
    for card, x, y in placed:
        sheet.paste(card, (x, y))
    sheet.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    return sheet


def sheet_file(path: Path) -> Path:
    """A file that a sheet can be stored in. Raises `TrainingError` before anything is painted for it."""
    if path.suffix.lower() not in (".png", ".webp", ".jpg", ".jpeg"):
        raise TrainingError(f"The sheet {path} is no picture; name it .png, .webp or .jpg.")
    if not path.resolve().parent.is_dir():
        raise TrainingError(f"The folder of the sheet {path} is not there; make it, or name another.")
    return path
