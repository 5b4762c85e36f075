"""A person's own presets as a list with names to change, and the sentences about files that are no presets.

Pure functions; what a click means is the tab's.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from app.library import LONGEST_NAME, Preset
from app.words import Words


def html(
    presets: Sequence[Preset],
    faults: Sequence[str],
    words: Words,
    *,
    deleted: Preset | None = None,
    exported: str = "",
    complaint: str = "",
) -> str:
    """`deleted` can be brought back; `exported` is where a file with all of them can be had; `complaint` about what
    was just tried."""
    rows = "".join(_row(preset, words) for preset in presets) or f'<li class="how">{escape(words("presets.none"))}</li>'
    told = f'<p class="error" role="alert">{escape(words.said(complaint))}</p>' if complaint else ""
    told += "".join(f'<p class="error">{escape(words.said(fault))}</p>' for fault in faults)
    if deleted is not None:
        gone = escape(words("presets.deleted", name=deleted.title(words.language)))
        told += f'<p>{gone} <button type="button" data-act="undo">{escape(words("presets.undo"))}</button></p>'
    return (
        f'<section class="system-part"><h2>{escape(words("presets.title"))}</h2><ol class="presets">{rows}</ol>{told}'
        f'<div class="acts">{_taking(words)}{_giving(words, exported) if presets else ""}</div></section>'
    )


def _row(preset: Preset, words: Words) -> str:
    title, key = preset.title(words.language), escape(preset.key)
    rename, delete = (escape(words(f"presets.{act}.label", name=title)) for act in ("rename", "delete"))
    face = f'<img src="{escape(preset.thumbnail)}" alt="">' if preset.thumbnail else "<i></i>"
    return (
        f"<li>{face}"
        f'<input value="{escape(title)}" maxlength="{LONGEST_NAME}" data-change="rename" data-key="{key}"'
        f' aria-label="{rename}">'
        f"<small>{escape(words(f'presets.kind.{preset.kind}'))}</small>"
        f'<button type="button" data-act="delete" data-key="{key}" aria-label="{delete}">'
        f"{escape(words('presets.delete'))}</button></li>"
    )


def _taking(words: Words) -> str:
    return (
        '<label class="choose"><input type="file" accept=".json,application/json" data-slot="presets"'
        f' aria-label="{escape(words("presets.import.label"))}"><span>{escape(words("presets.import"))}</span></label>'
    )


def _giving(words: Words, exported: str) -> str:
    if exported:
        return f'<a href="{exported}" download="presets.json">{escape(words("presets.exported"))}</a>'
    return f'<button type="button" data-act="export">{escape(words("presets.export"))}</button>'
