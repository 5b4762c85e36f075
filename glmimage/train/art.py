"""The art of the sticker world: icons as die-cut stickers, letters and Chinese characters as tiles.

Icons come from four npm packages of icon data (`npm ci` in `glmimage/train/art`), one for each art style; letters
from the DejaVu font that matplotlib carries, characters from Noto Sans SC (PyPI `pylopdf-fonts-zh-cn`). Stickers are
rendered once and kept as one compressed file in the work folder. Knows nothing of scenes or captions.
"""

from __future__ import annotations

import importlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from glmimage.errors import TrainingError
from glmimage.geometry import PRIOR_CELL
from glmimage.train.loop import write_whole
from glmimage.train.words import CHARACTERS, LETTERS

CELL = PRIOR_CELL
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
    # From here on the last level of the world; labels count in this order.
    "bear": "bear",
    "octopus": "octopus",
    "watermelon": "watermelon",
    "pineapple": "pineapple",
    "cherries": "cherries",
    "mushroom": "mushroom",
    "doughnut": "doughnut",
    "ice cream": "ice-cream",
    "bicycle": "bicycle",
    "airplane": "airplane",
    "palm tree": "palm-tree",
    "tulip": "tulip",
    "rainbow": "rainbow",
    "snowflake": "snowflake",
    "balloon": "balloon",
    "umbrella": "umbrella",
}
"""Thing -> icon name, the same in all four sets."""

STICKER_CELLS = (2, 3, 4)
"""Sides of a sticker, small to big, in pictures of every size: codes then are the same in all of them, and what was
learned of small pictures holds in large ones."""
FONT_SIZE = 50
"""At 50 px the fixed pitch of DejaVu Sans Mono Bold is 30 px: one letter fills its 32 px column."""
BASELINE = 46
"""Of the 64 px line: capitals and descenders are then about centred."""
CHARACTER_SIZE = 56
CHARACTER_STROKE = 1
"""Noto Sans SC comes in regular weight; a stroke of a pixel makes it about bold."""

Sprites = dict[tuple[str, str, int], NDArray[np.uint8]]


@dataclass(frozen=True, slots=True)
class Art:
    """Everything a scene is drawn with."""

    stickers: Sprites
    """(thing, style, cells) -> RGBA [cells*32, cells*32, 4], uint8, not premultiplied."""
    letters: dict[str, NDArray[np.uint8]]
    """Letter -> coverage [64, 32], Chinese character -> [64, 64], uint8: one or two columns, two rows of the code
    grid."""


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
    resvg_py = _installed("resvg_py")
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
    import cv2

    solid = canvas.getchannel("A").point(lambda a: 255 if a > 64 else 0)
    grown = solid.filter(ImageFilter.GaussianBlur(border / 2)).point(lambda a: 255 if a > 6 else 0)
    # OpenCV's flood fill, as Pillow's is in Python: minutes for all the art.
    outside = np.pad(np.asarray(grown), 1)
    cv2.floodFill(outside, None, (0, 0), 128)
    silhouette = Image.fromarray(np.where(outside == 128, 0, 255).astype(np.uint8)[1:-1, 1:-1])
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
    matplotlib = _installed("matplotlib")
    font = ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSansMono-Bold.ttf"), FONT_SIZE)
    tiles = {}
    for letter in LETTERS:
        tile = Image.new("L", (CELL, 2 * CELL), 0)
        ImageDraw.Draw(tile).text((CELL / 2, BASELINE), letter, fill=255, font=font, anchor="ms")
        tiles[letter] = np.asarray(tile)
    return tiles


def chinese_font() -> Path:
    """Noto Sans SC."""
    path: Path = _installed("pylopdf_fonts_zh_cn").sans_path()
    return path


def _installed(name: str) -> Any:
    """A package that only drawing the art needs. Raises `TrainingError` with the remedy where it is not there."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise TrainingError(
            f"The package {name} is not installed: install requirements-dev.txt, then start again."
        ) from error


def character_tiles() -> dict[str, NDArray[np.uint8]]:
    """Coverage of each Chinese character in its 64 x 64 px tile."""
    font = ImageFont.truetype(str(chinese_font()), CHARACTER_SIZE)
    tiles = {}
    for character in CHARACTERS:
        tile = Image.new("L", (2 * CELL, 2 * CELL), 0)
        ImageDraw.Draw(tile).text(
            (CELL, CELL), character, fill=255, font=font, anchor="mm", stroke_width=CHARACTER_STROKE
        )
        tiles[character] = np.asarray(tile)
    return tiles


def load_art(work: Path, packages: Path | None = None) -> Art:
    """The rendered art, from `work/art.npz`; stickers that are missing there are rendered first.

    Raises `TrainingError` with the remedy where the icon packages or the Chinese font are not installed.
    """
    cache = work / "art.npz"
    keys = [f"{thing}|{style}|{cells}" for thing in THINGS for style in STYLES for cells in STICKER_CELLS]
    letters = letter_tiles() | character_tiles()
    stored = _stored(cache)
    if missing := [key for key in keys if key not in stored]:
        stored |= _render(missing, packages or Path(__file__).parent / "art" / "node_modules" / "@iconify-json")
        _store(cache, stored)
    stickers = {}
    for key in keys:
        thing, style, cells = key.split("|")
        stickers[thing, style, int(cells)] = stored[key]
    return Art(stickers=stickers, letters=letters)


def _stored(cache: Path) -> dict[str, NDArray[np.uint8]]:
    if not cache.exists():
        return {}
    with np.load(cache) as arrays:
        return {key: arrays[key] for key in arrays.files}


def _store(cache: Path, arrays: Mapping[str, NDArray[np.uint8]]) -> None:
    cache.parent.mkdir(parents=True, exist_ok=True)
    write_whole(cache, lambda file: np.savez_compressed(file, **arrays))  # type: ignore[arg-type]


def _render(keys: Sequence[str], packages: Path) -> dict[str, NDArray[np.uint8]]:
    arrays, icons = {}, {}
    for style, package in STYLES.items():
        path = packages / package / "icons.json"
        if not path.exists():
            raise TrainingError(
                f"The icon set {package} is not installed: run `npm ci` in glmimage/train/art"
                " (Node.js with npm is needed for training only)."
            )
        icons[style] = json.loads(path.read_text(encoding="utf-8"))
    drawn: dict[tuple[str, str], Image.Image] = {}
    for key in keys:
        thing, style, cells = key.split("|")
        if (thing, style) not in drawn:
            drawn[thing, style] = rasterize(icon_svg(icons[style], THINGS[thing]))
        arrays[key] = die_cut(drawn[thing, style], int(cells))
    return arrays
