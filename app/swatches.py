"""Presets to choose from, as rows of small pictures or chips; HTML without widgets or events."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

from app.library import Preset
from app.vocabulary import Vocabulary
from app.words import Words
from glmimage import tasks

_NAMED = re.compile(r"in (.+) style", re.IGNORECASE)
"""How a preset's words name its style."""


def usable(styles: Sequence[Preset], vocabulary: Vocabulary | None) -> list[Preset]:
    """The program's styles that the checkpoint knows, and all of one's own."""
    return [one for one in styles if one.own or vocabulary is None or not vocabulary.unknown(one.said("en"))]


def style_name(preset: Preset) -> str:
    """What a prompt calls the style of a preset: "soft 3D". In English, which every checkpoint was told."""
    words = _NAMED.search(preset.said("en"))
    return words[1] if words else preset.title("en").lower()


def restyling(preset: Preset) -> str:
    """The prompt of a picture that is redrawn in the style of a preset."""
    return tasks.STYLE_WORDS["en"].format(style=style_name(preset))


def style_row(styles: Sequence[Preset], chosen: str, words: Words) -> str:
    """One can be chosen, or none; the last tile makes a new one."""
    tiles = [_tile("", words("create.style.none"), "", not chosen)]
    tiles += [_tile(one.key, one.title(words.language), one.thumbnail, one.key == chosen) for one in styles]
    new = escape(words("create.style.new"))
    tiles.append(
        f'<button type="button" class="tile is-new" data-act="new-style" aria-label="{new}" title="{new}">'
        f'<span class="face" aria-hidden="true"></span><span class="name">{new}</span></button>'
    )
    label = escape(words("create.style"))
    return f'<div class="tiles-label" id="style-label">{label}</div><div class="tiles">{"".join(tiles)}</div>'


def size_row(sizes: Sequence[Preset], words: Words) -> str:
    """One's own sizes, and a way to keep another."""
    chips = "".join(
        f'<button type="button" data-act="size" data-key="{escape(one.key)}">'
        f"{escape(one.title(words.language))}</button>"
        for one in sizes
    )
    keep = escape(words("create.size.keep"))
    label = f"<span>{escape(words('create.size.label'))}</span>" if chips else ""
    return f'<div class="sizes">{label}{chips}<button type="button" data-act="keep-size">{keep}</button></div>'


def _tile(key: str, name: str, thumbnail: str, chosen: bool) -> str:
    face = f'<img src="{escape(thumbnail)}" alt="">' if thumbnail else ""
    return (
        f'<button type="button" class="tile" data-act="style" data-key="{escape(key)}"'
        f' aria-pressed="{"true" if chosen else "false"}"><span class="face">{face}</span>'
        f'<span class="name">{escape(name)}</span></button>'
    )
