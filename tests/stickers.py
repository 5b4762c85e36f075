"""Stand-in art for tests: the icon packages are for training only."""

import numpy as np

from glmimage.train.art import STICKER_CELLS, STYLES, THINGS, Art, character_tiles, letter_tiles


def discs() -> Art:
    """One plain disc a thing, style and size, each of another colour; the letters are the real ones."""
    stickers = {}
    for index, (thing, style, cells) in enumerate((t, s, c) for t in THINGS for s in STYLES for c in STICKER_CELLS):
        side = cells * 32
        rows, cols = np.mgrid[:side, :side]
        sticker = np.zeros((side, side, 4), dtype=np.uint8)
        sticker[..., :3] = (index % 251, index * 91 % 256, index * 53 % 256)
        sticker[..., 3] = 255 * ((rows - side / 2) ** 2 + (cols - side / 2) ** 2 < (side / 2) ** 2)
        stickers[thing, style, cells] = sticker
    return Art(stickers=stickers, letters=letter_tiles() | character_tiles())
