"""The art of the sticker world: icons as die-cut stickers, letters as tiles.

Icons come from four npm packages of icon data (`npm ci` in `glmimage/train/art`), one for each art style; letters
from the DejaVu font that matplotlib carries. Rendered once and kept as one compressed file in the work folder. Knows
nothing of scenes or captions.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from glmimage.errors import TrainingError

CELL = 32
"""Pixels of one code of the semantic tokenizer: stickers and letters begin and end on this grid."""

STYLES: Mapping[str, str] = {
    "soft 3D": "fluent-emoji",
    "flat": "fluent-emoji-flat",
    "cartoon": "noto",
    "ink": "fluent-emoji-high-contrast",
}
"""Art style -> icon set."""

THINGS: Mapping[str, str] = {
    "cat": "cat-face",
    "dog": "dog-face",
    "rabbit": "rabbit-face",
    "panda": "panda",
    "fox": "fox",
    "lion": "lion",
    "frog": "frog",
    "penguin": "penguin",
    "owl": "owl",
    "fish": "fish",
    "butterfly": "butterfly",
    "snail": "snail",
    "turtle": "turtle",
    "unicorn": "unicorn",
    "apple": "red-apple",
    "banana": "banana",
    "strawberry": "strawberry",
    "pizza": "pizza",
    "cake": "birthday-cake",
    "cup of coffee": "hot-beverage",
    "car": "automobile",
    "rocket": "rocket",
    "sailboat": "sailboat",
    "house": "house",
    "castle": "castle",
    "pine tree": "evergreen-tree",
    "cactus": "cactus",
    "sunflower": "sunflower",
    "sun": "sun",
    "star": "star",
    "heart": "red-heart",
    "crown": "crown",
    "robot": "robot",
}
"""Thing -> icon name, the same in all four sets."""

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
STICKER_CELLS = (2, 3, 4)
FONT_SIZE = 50
"""At 50 px the fixed pitch of DejaVu Sans Mono Bold is 30 px: one letter fills its 32 px column."""
BASELINE = 46
"""Of the 64 px line: capitals and descenders are then about centred."""

Sprites = dict[tuple[str, str, int], NDArray[np.uint8]]


@dataclass(frozen=True, slots=True)
class Art:
    """Everything a scene is drawn with."""

    stickers: Sprites
    """(thing, style, cells) -> RGBA [cells*32, cells*32, 4], uint8, not premultiplied."""
    letters: dict[str, NDArray[np.uint8]]
    """Letter -> coverage [64, 32], uint8: one column, two rows of the code grid."""


def icon_svg(icons: Mapping[str, object], name: str) -> str:
    """The SVG document of one icon of an iconify set."""
    entries = icons["icons"]
    assert isinstance(entries, dict)
    entry = entries[name]
    width = entry.get("width", icons.get("width", 16))
    height = entry.get("height", icons.get("height", 16))
    box = f"{entry.get('left', 0)} {entry.get('top', 0)} {width} {height}"
    body = str(entry["body"]).replace("currentColor", "#18181b")
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="512" height="512" viewBox="{box}">{body}</svg>'
    )


def rasterize(svg: str) -> Image.Image:
    """An RGBA picture of 512 x 512."""
    import resvg_py

    return Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=svg)))).convert("RGBA")


def die_cut(icon: Image.Image, cells: int) -> NDArray[np.uint8]:
    """The icon on its white sticker: the silhouette, holes filled, grown by a border.

    The border keeps black line art visible on black and makes the inside of a sticker independent of the ground it
    lies on.
    """
    side = 4 * cells * CELL
    border = side // 26
    inner = side - 2 * border - 8
    icon = icon.crop(icon.getchannel("A").point(lambda a: 255 if a > 16 else 0).getbbox())
    icon.thumbnail((inner, inner), Image.Resampling.LANCZOS)
    if max(icon.size) < inner:
        scale = inner / max(icon.size)
        icon = icon.resize((round(icon.width * scale), round(icon.height * scale)), Image.Resampling.LANCZOS)
    canvas = Image.new("RGBA", (side, side), (255, 255, 255, 0))
    canvas.alpha_composite(icon, ((side - icon.width) // 2, (side - icon.height) // 2))
    solid = canvas.getchannel("A").point(lambda a: 255 if a > 64 else 0)
    grown = solid.filter(ImageFilter.GaussianBlur(border / 2)).point(lambda a: 255 if a > 6 else 0)
    outside = Image.new("L", (side + 2, side + 2), 0)
    outside.paste(grown, (1, 1))
    ImageDraw.floodfill(outside, (0, 0), 128)
    silhouette = outside.point(lambda a: 0 if a == 128 else 255).crop((1, 1, side + 1, side + 1))
    sticker = Image.new("RGBA", (side, side), (255, 255, 255, 255))
    sticker.alpha_composite(canvas)
    sticker.putalpha(silhouette)
    # Reducing premultiplied colours keeps the ground from bleeding into the edge.
    pixels = np.asarray(sticker, dtype=np.float32)
    alpha = pixels[..., 3:] / 255
    small = np.concatenate([pixels[..., :3] * alpha, alpha * 255], -1)
    small = small.reshape(side // 4, 4, side // 4, 4, 4).mean((1, 3))
    covered = np.maximum(small[..., 3:] / 255, 1e-6)
    rgb = np.where(small[..., 3:] > 0, small[..., :3] / covered, 255.0)
    return np.concatenate([rgb, small[..., 3:]], -1).round().clip(0, 255).astype(np.uint8)


def letter_tiles() -> dict[str, NDArray[np.uint8]]:
    """Coverage of each letter in its 32 x 64 px tile."""
    import matplotlib

    font = ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSansMono-Bold.ttf"), FONT_SIZE)
    tiles = {}
    for letter in LETTERS:
        tile = Image.new("L", (CELL, 2 * CELL), 0)
        ImageDraw.Draw(tile).text((CELL / 2, BASELINE), letter, fill=255, font=font, anchor="ms")
        tiles[letter] = np.asarray(tile)
    return tiles


def load_art(work: Path, packages: Path | None = None) -> Art:
    """The rendered art, from `work/art.npz`, rendered there first where it is missing.

    Raises `TrainingError` with the remedy where the icon packages are not installed.
    """
    cache = work / "art.npz"
    keys = [(thing, style, cells) for thing in THINGS for style in STYLES for cells in STICKER_CELLS]
    if not cache.exists():
        _render(cache, packages or Path(__file__).parent / "art" / "node_modules" / "@iconify-json")
    with np.load(cache) as stored:
        missing = [key for key in keys if "|".join(map(str, key)) not in stored]
        if missing:
            raise TrainingError(
                f"{cache} was made for another world ({missing[0]} is missing): delete it and start again."
            )
        stickers = {key: stored["|".join(map(str, key))] for key in keys}
    return Art(stickers=stickers, letters=letter_tiles())


def _render(cache: Path, packages: Path) -> None:
    arrays = {}
    for style, package in STYLES.items():
        path = packages / package / "icons.json"
        if not path.exists():
            raise TrainingError(
                f"The icon set {package} is not installed: run `npm ci` in glmimage/train/art"
                " (Node.js with npm is needed for training only)."
            )
        icons = json.loads(path.read_text(encoding="utf-8"))
        for thing, name in THINGS.items():
            icon = rasterize(icon_svg(icons, name))
            for cells in STICKER_CELLS:
                arrays[f"{thing}|{style}|{cells}"] = die_cut(icon, cells)
    cache.parent.mkdir(parents=True, exist_ok=True)
    partial = cache.with_suffix(".partial.npz")
    np.savez_compressed(partial, **arrays)  # type: ignore[arg-type]
    partial.replace(cache)
