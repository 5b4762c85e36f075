"""Widgets that tabs share: shape and size, count, seed, advanced settings; and how they become part of a Request.

Knows no tab. Values come and go by widget, never by position.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

from app.presets import Sizes, default_side
from glmimage.errors import RequestError
from glmimage.geometry import Size
from glmimage.metadata import Settings
from glmimage.request import Defaults, Request, Sampling

SEED_RANGE = 10**6
"""Seeds that are rolled stay short enough to read out; any whole number can be typed."""

OWN = "the model's own"

Values = Mapping[Component, Any]


def roll() -> int:
    return secrets.randbelow(SEED_RANGE)


@dataclass(frozen=True, slots=True, eq=False)
class Controls:
    """The widgets of one tab, made where they are called for."""

    sizes: Sizes
    shape: gr.Radio
    side: gr.Radio
    count: gr.Radio
    seed: gr.Number
    dice: gr.Button
    lock: gr.Checkbox
    steps: gr.Slider
    guidance: gr.Slider
    temperature: gr.Textbox
    top_p: gr.Textbox

    @property
    def inputs(self) -> set[Component]:
        return {
            self.shape,
            self.side,
            self.count,
            self.seed,
            self.lock,
            self.steps,
            self.guidance,
            self.temperature,
            self.top_p,
        }

    def request(self, prompt: str, values: Values, defaults: Defaults) -> Request:
        """What the widgets say. Raises RequestError."""
        size = self.sizes.shape(values[self.shape]).fit(int(values[self.side] or default_side(defaults)), defaults)
        seed = values[self.seed]
        return Request(
            prompt=prompt,
            width=size.width,
            height=size.height,
            count=int(values[self.count] or 1),
            seed=int(seed) if values[self.lock] and seed is not None else roll(),
            steps=int(values[self.steps]),
            guidance=float(values[self.guidance]),
            sampling=Sampling(
                temperature=_number("temperature", values[self.temperature]), top_p=_number("top-p", values[self.top_p])
            ),
        )

    def show(self, settings: Settings, defaults: Defaults) -> dict[Component, Any]:
        """Updates that bring back how a picture was made, that one picture alone."""
        request = settings.request
        made = Size(request.width or defaults.width, request.height or defaults.height)
        shape, side = self.sizes.nearest(made, defaults)
        return {
            self.shape: shape.label,
            self.side: side,
            self.count: 1,
            self.seed: settings.layout_seed,
            self.lock: True,
            self.steps: request.steps or defaults.steps,
            self.guidance: defaults.guidance if request.guidance is None else request.guidance,
            self.temperature: _text(request.sampling.temperature),
            self.top_p: _text(request.sampling.top_p),
        }

    def fit_checkpoint(self, defaults: Defaults) -> dict[Component, Any]:
        """Updates for another checkpoint: the sides it can make, its own steps and guidance."""
        return {
            self.side: gr.update(choices=_sides(self.sizes, defaults), value=default_side(defaults)),
            self.steps: defaults.steps,
            self.guidance: defaults.guidance,
        }


def make(sizes: Sizes, defaults: Defaults) -> Controls:
    """Makes the widgets in the layout block that is open."""
    shape = gr.Radio(
        [one.label for one in sizes.shapes],
        value=sizes.shapes[0].label,
        label="Shape",
        elem_id="shape",
        elem_classes="chips",
    )
    with gr.Row(elem_classes="pair"):
        side = gr.Radio(
            _sides(sizes, defaults),
            value=default_side(defaults),
            label="Size in pixels",
            elem_id="side",
            elem_classes="chips",
        )
        count = gr.Radio(list(sizes.counts), value=1, label="How many", elem_id="count", elem_classes="chips")
    with gr.Row(elem_id="seed-row"):
        seed = gr.Number(value=roll(), precision=0, label="Seed", elem_id="seed", min_width=80)
        dice = gr.Button("Roll a new seed", elem_id="dice", elem_classes="glyph", min_width=44, scale=0)
        lock = gr.Checkbox(value=False, label="Keep", elem_id="lock", min_width=80, scale=0)
    with gr.Accordion("Advanced", open=False, elem_id="advanced"):
        steps = gr.Slider(
            1, 100, value=defaults.steps, step=1, label="Steps", info="How often the painter goes over the picture."
        )
        guidance = gr.Slider(
            1,
            8,
            value=defaults.guidance,
            step=0.1,
            label="Guidance",
            info="How firmly it holds to the sketch; 1 is off.",
        )
        with gr.Row():
            # Text, because an empty gr.Number turns into 0 when the accordion opens.
            temperature = gr.Textbox(
                label="Temperature",
                info="How freely the layout is drawn.",
                placeholder=OWN,
                elem_id="temperature",
                min_width=120,
            )
            top_p = gr.Textbox(
                label="Top-p",
                info="How many unlikely codes it may use.",
                placeholder=OWN,
                elem_id="top-p",
                min_width=120,
            )
    controls = Controls(sizes, shape, side, count, seed, dice, lock, steps, guidance, temperature, top_p)
    quiet: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    dice.click(lambda: (roll(), True), None, [seed, lock], **quiet)
    seed.input(lambda: True, None, lock, **quiet)
    return controls


def _sides(sizes: Sizes, defaults: Defaults) -> list[tuple[str, int]]:
    return [(str(side), side) for side in sizes.sides_for(defaults)]


def _number(name: str, text: str | None) -> float | None:
    """Empty = the checkpoint's own. Raises RequestError."""
    if text is None or not text.strip():
        return None
    try:
        return float(text.replace(",", "."))
    except ValueError:
        raise RequestError(f"The {name} {text!r} is not a number; correct it or leave it empty.") from None


def _text(number: float | None) -> str:
    return "" if number is None else f"{number:g}"
