"""Widgets that tabs share: shape and size, count, seed, advanced settings; and how they become part of a Request.

Knows no tab. Values come and go by widget, never by position.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import gradio as gr
from gradio.blocks import Block

from app.page import QUIET, Page, Updates, Values
from app.presets import Sizes, default_side
from app.words import label
from glmimage.errors import RequestError
from glmimage.geometry import Size
from glmimage.metadata import Settings
from glmimage.request import Defaults, Request, Sampling

SEED_RANGE = 10**6
"""Seeds that are rolled stay short enough to read out; any whole number can be typed."""


TRIES = (3, 5, 10, 20)
"""Beside one: how often a picture may be painted until its words read right."""


def roll() -> int:
    return secrets.randbelow(SEED_RANGE)


@dataclass(frozen=True, slots=True, eq=False)
class Controls:
    """The widgets of one tab, made where they are called for."""

    sizes: Sizes
    shape: gr.Radio
    side: gr.Radio
    width: gr.Number
    height: gr.Number
    count: gr.Radio
    seed: gr.Number
    dice: gr.Button
    lock: gr.Checkbox
    steps: gr.Slider
    guidance: gr.Slider
    temperature: gr.Textbox
    top_p: gr.Textbox
    advanced: gr.Accordion
    """Open it with `with` to add a tab's own settings."""
    repainted: gr.State
    """Seeds (of the layout, of the paint) of a picture that is to be made again and has two; counts while the seed that
    is shown is kept and is its layout's."""
    tries: gr.Radio | None = None
    """How often a picture with words may be painted until they read right; None where nothing is read."""
    shaped: bool = True
    """Whether a size is asked for; otherwise the picture takes that of the one it is made from."""
    numbered: bool = False
    """Whether width and height can be said as numbers; otherwise the size is that of shape and side."""

    @property
    def inputs(self) -> set[Block]:
        return {
            self.shape,
            self.side,
            self.width,
            self.height,
            self.count,
            self.seed,
            self.lock,
            self.steps,
            self.guidance,
            self.temperature,
            self.top_p,
            self.repainted,
            *((self.tries,) if self.tries else ()),
        }

    @property
    def _sliders(self) -> Mapping[str, gr.Slider]:
        """What a preset may set here, and always has a value."""
        return {"steps": self.steps, "guidance": self.guidance}

    @property
    def _fields(self) -> Mapping[str, gr.Textbox]:
        """What a preset may set, too; empty where it is left to the checkpoint."""
        return {"temperature": self.temperature, "top_p": self.top_p}

    def request(self, prompt: str, values: Values, defaults: Defaults) -> Request:
        """What the widgets say. Raises RequestError."""
        size = self._asked(values, defaults) if self.shaped else None
        typed, layout_seed = values[self.seed], None
        seed = int(typed) if values[self.lock] and typed is not None else roll()
        if values[self.lock] and values[self.repainted] and values[self.repainted][0] == seed:
            layout_seed, seed = values[self.repainted]
        return Request(
            prompt=prompt,
            width=size.width if size else None,
            height=size.height if size else None,
            count=int(values[self.count] or 1),
            seed=seed,
            layout_seed=layout_seed,
            **self.drawing(values),
            sampling=Sampling(
                temperature=_number("temperature", values[self.temperature]), top_p=_number("top-p", values[self.top_p])
            ),
        )

    def drawing(self, values: Values) -> dict[str, Any]:
        """What of a request a repaint may change: steps and guidance."""
        return {"steps": int(values[self.steps]), "guidance": float(values[self.guidance])}

    def attempts(self, values: Values) -> int:
        """As `Worker.submit` takes them: with one alone nothing needs to be read."""
        tries = int(values[self.tries] or 1) if self.tries else 1
        return tries if tries > 1 else 0

    def rolled(self, request: Request, values: Values) -> Updates:
        """Updates to the seed that a request was given, where none is kept."""
        return {} if values[self.lock] else {self.seed: request.seed}

    def show(self, settings: Settings, defaults: Defaults) -> Updates:
        """Updates that bring back how a picture was made, that one picture alone."""
        request = settings.request
        return self.resize(request.width or defaults.width, request.height or defaults.height, defaults) | {
            self.count: 1,
            **self.show_seed(settings),
            self.steps: request.steps or defaults.steps,
            self.guidance: defaults.guidance if request.guidance is None else request.guidance,
            self.temperature: _text(request.sampling.temperature),
            self.top_p: _text(request.sampling.top_p),
        }

    def show_seed(self, settings: Settings) -> Updates:
        """Updates that bring back a picture's seed alone, or both of them."""
        seeds = settings.layout_seed, settings.paint_seed
        return {self.seed: seeds[0], self.lock: True, self.repainted: seeds if seeds[0] != seeds[1] else None}

    def settings(self, chosen: Mapping[str, float]) -> Updates:
        """Updates for what a preset sets."""
        sliders: Updates = {slider: chosen[name] for name, slider in self._sliders.items() if name in chosen}
        return sliders | {field: _text(chosen[name]) for name, field in self._fields.items() if name in chosen}

    def own_sampling(self) -> Updates:
        """Updates that leave it to the checkpoint how codes are drawn."""
        return dict.fromkeys(self._fields.values(), "")

    def differing(self, values: Values, defaults: Defaults) -> dict[str, float]:
        """What a preset would set: all that is not the checkpoint's own. Raises RequestError."""
        usual = {"steps": defaults.steps, "guidance": defaults.guidance}
        moved = {name: values[part] for name, part in self._sliders.items() if values[part] != usual[name]}
        typed = {name: _number(name.replace("_", "-"), values[field]) for name, field in self._fields.items()}
        return moved | {name: number for name, number in typed.items() if number is not None}

    def resize(self, width: int, height: int, defaults: Defaults) -> Updates:
        """Updates to a size, with the shape and side that come closest."""
        shape, side = self.sizes.nearest(Size(width, height), defaults)
        return {self.shape: shape.label, self.side: side, self.width: width, self.height: height}

    def fit(self, values: Values, defaults: Defaults) -> Updates:
        """Updates to the size of the shape and side that were chosen."""
        size = self._fitted(values, defaults)
        return {self.width: size.width, self.height: size.height}

    def fit_checkpoint(self, defaults: Defaults) -> Updates:
        """Updates for another checkpoint: the shapes and sides it can make, its own size, steps and guidance."""
        size = self.resize(defaults.width, defaults.height, defaults)
        return {
            self.shape: gr.update(choices=_shapes(self.sizes, defaults), value=size[self.shape]),
            self.side: gr.update(choices=_sides(self.sizes, defaults), value=size[self.side]),
            **({edge: size[edge] for edge in (self.width, self.height)} if self.numbered else {}),
            self.steps: defaults.steps,
            self.guidance: defaults.guidance,
        }

    def _asked(self, values: Values, defaults: Defaults) -> Size:
        size = self._fitted(values, defaults)
        if not self.numbered:
            return size
        return Size(int(values[self.width] or size.width), int(values[self.height] or size.height))

    def _fitted(self, values: Values, defaults: Defaults) -> Size:
        return self.sizes.shape(values[self.shape]).fit(int(values[self.side] or default_side(defaults)), defaults)


def make(
    tab: str,
    page: Page,
    *,
    shaped: bool = True,
    sizing: Callable[[], None] | None = None,
    reads: Literal["always", "words", "never"] = "words",
) -> Controls:
    """Makes the widgets in the layout block that is open; their ids begin with the tab's name.

    `reads`: when it can be said how often a picture is painted until its words read right; "words" is while the desk
    shows some (`reading.html`), which the style sheet sees to.
    `sizing` makes more beside width and height as numbers, which are offered where it is given alone.
    """
    sizes, defaults = page.sizes, page.worker.snapshot().defaults
    first, its_side = sizes.nearest(Size(defaults.width, defaults.height), defaults)
    tries = None
    if reads != "never":
        tries = gr.Radio(
            [(_said("tries.once"), 1), *((str(count), count) for count in TRIES)],
            value=1,
            label=_said("tries"),
            elem_id=f"{tab}-tries",
            elem_classes="chips" if reads == "always" else "chips for-words",
        )
    shape = gr.Radio(
        _shapes(sizes, defaults),
        value=first.label,
        label=_said("shape"),
        elem_id=f"{tab}-shape",
        elem_classes="chips shape",
        visible=shaped,
    )
    with gr.Row(elem_classes="pair"):
        side = gr.Radio(
            _sides(sizes, defaults),
            value=its_side,
            label=_said("side"),
            elem_id=f"{tab}-side",
            elem_classes="chips",
            visible=shaped,
        )
        count = gr.Radio(
            list(sizes.counts), value=1, label=_said("count"), elem_id=f"{tab}-count", elem_classes="chips"
        )
    with gr.Row(elem_classes="seed-row"):
        seed = gr.Number(
            value=roll(), precision=0, label=_said("seed"), elem_id=f"{tab}-seed", elem_classes="seed", min_width=80
        )
        dice = gr.Button(_said("dice"), elem_id=f"{tab}-dice", elem_classes="glyph dice", min_width=44, scale=0)
        lock = gr.Checkbox(
            value=False, label=_said("lock"), elem_id=f"{tab}-lock", elem_classes="lock", min_width=80, scale=0
        )
    with gr.Accordion(_said("advanced"), open=False, elem_id=f"{tab}-advanced", elem_classes="advanced") as advanced:
        with gr.Row(elem_classes="size-row", visible=sizing is not None):
            width, height = (
                gr.Number(
                    value=value,
                    precision=0,
                    label=_said(name),
                    elem_id=f"{tab}-{name}",
                    elem_classes="inline",
                    min_width=80,
                )
                for name, value in (("width", defaults.width), ("height", defaults.height))
            )
            if sizing is not None:
                sizing()
        steps = gr.Slider(1, 100, value=defaults.steps, step=1, label=_said("steps"), info=_said("steps.info"))
        guidance = gr.Slider(
            1, 8, value=defaults.guidance, step=0.1, label=_said("guidance"), info=_said("guidance.info")
        )
        with gr.Row():
            # Text, because an empty gr.Number turns into 0 when the accordion opens.
            temperature, top_p = (
                gr.Textbox(
                    label=_said(name),
                    info=_said(f"{name}.info"),
                    placeholder=_said("own"),
                    elem_id=f"{tab}-{name}",
                    min_width=120,
                )
                for name in ("temperature", "top_p")
            )
    layout, drawing = (shape, side, width, height, count, seed), (steps, guidance, temperature, top_p)
    controls = Controls(
        sizes, *layout, dice, lock, *drawing, advanced, gr.State(None), tries, shaped, sizing is not None
    )
    for chips in (shape, side):
        # In the browser: who chooses a shape and paints at once would be ahead of the numbers that the server works
        # out. Without numbers a request is of the shape's size.
        if sizing is not None:
            chips.input(None, None, [width, height], js="() => [null, null]", **QUIET)
        chips.input(
            lambda values: controls.fit(values, page.worker.snapshot().defaults),
            {shape, side},
            [width, height],
            **QUIET,
        )
    dice.click(lambda: (roll(), True), None, [seed, lock], **QUIET)
    # In the browser: who types a seed and paints at once would be ahead of the server's answer, and get another seed.
    seed.input(None, None, lock, js="() => true", **QUIET)
    return controls


def _said(key: str) -> str:
    """Gradio declares `str` where it takes words for the browser to translate, too."""
    return cast(str, label(f"control.{key}"))


def _shapes(sizes: Sizes, defaults: Defaults) -> list[str]:
    return [shape.label for shape in sizes.shapes_for(defaults)]


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
