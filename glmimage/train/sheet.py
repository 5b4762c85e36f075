"""Contact sheets of pictures, to look at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from glmimage.train.art import Art
from glmimage.train.loop import scene_rng
from glmimage.train.world import render, sample_scene


def contact_sheet(pictures: Sequence[NDArray[np.uint8]], columns: int = 8, gap: int = 4) -> Image.Image:
    """Equally large RGB pictures side by side, on gray."""
    height, width = pictures[0].shape[:2]
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * (width + gap) - gap, rows * (height + gap) - gap), (128, 128, 128))
    for index, picture in enumerate(pictures):
        sheet.paste(Image.fromarray(picture), ((index % columns) * (width + gap), (index // columns) * (height + gap)))
    return sheet


def world_sheet(art: Art, split: str, count: int = 48) -> Image.Image:
    """The first scenes of a split."""
    return contact_sheet([render(sample_scene(scene_rng(split, index)), art) for index in range(count)])
