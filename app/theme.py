"""How the page looks: paper and near-black grounds, one accent (viridian), system fonts.

Rules that no variable of Gradio's reaches stand in assets/atelier.css. Nothing comes from another host.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

import gradio as gr

from app import canvas
from app.presets import ROOT, Shape
from glmimage.pictures import LARGEST_FILE

STYLES = tuple(
    ROOT / "assets" / name for name in ("atelier.css", "tasks.css", "gallery.css", "board.css", "system.css")
)
SCRIPTS = tuple(ROOT / "assets" / name for name in ("atelier.js", "brush.js", "board.js"))

SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "PingFang SC", "Microsoft YaHei", "sans-serif")
MONO = ("ui-monospace", "SF Mono", "Cascadia Mono", "Consolas", "monospace")

_VIRIDIAN = gr.themes.Color(
    "#edf7f4",
    "#d3ebe4",
    "#a9d8cb",
    "#74bfac",
    "#43a38c",
    "#1f8770",
    "#0f6b5c",
    "#0d574b",
    "#0b463d",
    "#093932",
    "#04211d",
)
_STONE = gr.themes.Color(
    "#fbfaf7",
    "#f4f2ed",
    "#e6e3db",
    "#d0ccc1",
    "#a19c90",
    "#6f6b62",
    "#57544c",
    "#3d3b36",
    "#282724",
    "#1b1a18",
    "#121110",
)


def theme() -> gr.themes.Base:
    """Gradio's variables in our colours; component rules that no variable reaches stand in the style sheet."""
    return gr.themes.Base(
        primary_hue=_VIRIDIAN,
        secondary_hue=_VIRIDIAN,
        neutral_hue=_STONE,
        radius_size=gr.themes.sizes.radius_md,
        font=SANS,
        font_mono=MONO,
    ).set(
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        body_text_color="*neutral_900",
        body_text_color_dark="*neutral_100",
        body_text_color_subdued="*neutral_500",
        body_text_color_subdued_dark="*neutral_400",
        background_fill_primary="*neutral_50",
        background_fill_primary_dark="*neutral_950",
        background_fill_secondary="*neutral_100",
        background_fill_secondary_dark="*neutral_900",
        block_background_fill="transparent",
        block_background_fill_dark="transparent",
        block_border_width="0px",
        block_shadow="none",
        block_padding="0",
        block_label_text_color="*neutral_600",
        block_label_text_color_dark="*neutral_300",
        block_title_text_color="*neutral_600",
        block_title_text_color_dark="*neutral_300",
        block_title_text_size="*text_sm",
        block_info_text_color="*neutral_500",
        block_info_text_color_dark="*neutral_400",
        border_color_primary="*neutral_200",
        border_color_primary_dark="*neutral_800",
        panel_border_width="0",
        input_background_fill="#ffffff",
        input_background_fill_dark="*neutral_900",
        input_border_color="*neutral_300",
        input_border_color_dark="*neutral_700",
        input_border_color_focus="*primary_600",
        input_border_color_focus_dark="*primary_300",
        input_border_width="1px",
        input_shadow="none",
        input_shadow_focus="none",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
        input_radius="8px",
        slider_color="*primary_600",
        slider_color_dark="*primary_300",
        checkbox_background_color_selected="*primary_600",
        checkbox_background_color_selected_dark="*primary_600",
        checkbox_border_color_selected="*primary_600",
        checkbox_label_background_fill="#ffffff",
        checkbox_label_background_fill_dark="*neutral_900",
        checkbox_label_background_fill_hover="*neutral_100",
        checkbox_label_background_fill_hover_dark="*neutral_800",
        checkbox_label_background_fill_selected="*primary_600",
        checkbox_label_background_fill_selected_dark="*primary_300",
        checkbox_label_text_color_selected="#ffffff",
        checkbox_label_text_color_selected_dark="*neutral_950",
        checkbox_label_border_color="*neutral_300",
        checkbox_label_border_color_dark="*neutral_700",
        checkbox_label_border_color_selected="*primary_600",
        checkbox_label_border_color_selected_dark="*primary_300",
        checkbox_label_border_width="1px",
        checkbox_label_shadow="none",
        checkbox_label_padding="6px 12px",
        button_border_width="1px",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_300",
        button_primary_background_fill_hover_dark="*primary_200",
        button_primary_border_color="*primary_600",
        button_primary_border_color_dark="*primary_300",
        button_primary_text_color="#ffffff",
        button_primary_text_color_dark="*neutral_950",
        button_secondary_background_fill="transparent",
        button_secondary_background_fill_dark="transparent",
        button_secondary_background_fill_hover="*neutral_100",
        button_secondary_background_fill_hover_dark="*neutral_800",
        button_secondary_border_color="*neutral_300",
        button_secondary_border_color_dark="*neutral_700",
        button_secondary_text_color="*neutral_800",
        button_secondary_text_color_dark="*neutral_100",
        button_large_text_weight="600",
        button_primary_shadow="none",
        button_secondary_shadow="none",
    )


def head(shapes: Iterable[Shape]) -> str:
    """The style sheet, a little outline for every shape of the presets, and the page's own script, all inline.

    Not through `css=`: that prefixes every rule with the inside of the page, which rules about its outside never match.
    """
    outlines = []
    for shape in shapes:
        longest = max(shape.width, shape.height)
        width, height = (round(14 * side / longest, 1) for side in (shape.width, shape.height))
        value = json.dumps(shape.label).replace("<", r"\3c ")
        outlines.append(f"#tabs .shape label:has([value={value}])::before{{width:{width}px;height:{height}px}}")
    rules = "\n".join([*(path.read_text(encoding="utf-8") for path in STYLES), *outlines])
    largest = f"window.atelierLargest = {LARGEST_FILE};"
    scripts = "\n".join([canvas.furnish(), largest, *(path.read_text(encoding="utf-8") for path in SCRIPTS)])
    return f"<style>{rules}</style><script>{scripts}</script>"
