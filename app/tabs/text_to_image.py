"""Create: a prompt becomes pictures, sketched first if asked.

The widgets build a Request for the worker; everything that is shown comes from the worker's snapshot and the history,
so a page that is opened or reloaded finds what is going on. Knows neither the engine nor how a picture is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from html import escape
from typing import ClassVar, cast

import gradio as gr
from gradio.blocks import Block

from app import controls, easel, reading, swatches
from app.library import Preset
from app.page import CLICKS, LATEST, QUIET, Cargo, Page, Parcel, Ports, Updates, Values, Visit
from app.presets import Example
from app.tabs.new_preset import NewPreset
from app.wall import Wall
from app.words import Words, label
from glmimage import tasks
from glmimage.errors import GLMImageError, RequestError
from glmimage.request import Request

SKETCHES = 6


class TextToImage:
    """The tab."""

    name: ClassVar[str] = "create"
    accepts: ClassVar[frozenset[Cargo]] = frozenset({"settings", "prompt", "seed", "layout"})

    def build(self, page: Page) -> Ports:
        self._page = page
        self._wall = Wall(page, self.name, self._welcome)
        self._fitted = gr.State(page.worker.snapshot().defaults)
        self._style = gr.State("")
        # Key of the picture whose layout is kept.
        self._layout = gr.State("")
        with gr.Row(elem_classes="room"):
            with gr.Column(elem_classes="desk", min_width=280):
                self._desk()
            with gr.Column(elem_classes="wall", min_width=280):
                self._wall.hang()
        widgets: list[Block] = [self._prompt, *self._controls.inputs, self._style, self._layout]
        inputs: set[Block] = {*widgets, self._fitted, self._wall.view}
        said: list[Block] = [
            self._reading,
            self._offer,
            self._kept,
            self._styles,
            self._sizes,
            *self._new_style.outputs,
        ]
        outputs = [*self._wall.outputs, *widgets, *said, self._fitted, self._wall.paint]
        self._wire(inputs, outputs)
        page.keep_draft(self._prompt)
        return Ports(inputs, outputs)

    def look(self, visit: Visit, values: Values) -> Updates:
        defaults = visit.snapshot.defaults
        updates = self._wall.look(visit, values) | self._tell(visit, values)
        if values[self._fitted] != defaults:
            updates |= self._controls.fit_checkpoint(defaults) | {self._fitted: defaults}
        return updates

    def receive(self, parcel: Parcel, visit: Visit, values: Values) -> Updates:
        """Settings of a picture: everything that made it, or its prompt, its seed or its layout alone."""
        settings = self._wall.settings(parcel.key, visit)
        if settings is None:
            return self._wall.say(visit, values, visit.words("easel.no_settings"))
        prompt: Updates = {self._prompt: settings.request.prompt}
        match parcel.cargo:
            case "prompt":
                return prompt
            case "seed":
                return self._controls.show_seed(settings)
            case "layout":
                return self._keep_layout(parcel.key, visit)
        shown = self._controls.show(settings, visit.snapshot.defaults) | prompt
        chosen = self._wall.choose(visit, values, parcel.key)
        plain = {self._style: "", self._styles: self._style_row(visit, "")}
        # One that was given its layout cannot be told how it came by it.
        given = parcel.key if settings.request.layout is not None else ""
        return chosen | shown | plain | self._keep_layout(given, visit)

    # -- widgets -------------------------------------------------------------------------------------------------------

    def _desk(self) -> None:
        words = Words()
        self._prompt = gr.Textbox(
            label=cast(str, label("create.prompt")),
            lines=4,
            max_lines=10,
            placeholder=cast(str, label("create.placeholder")),
            elem_id="prompt",
            elem_classes="prompt draft completes",
        )
        self._reading = _html(reading.html(reading.read(""), words, "", hint=True), "written")
        self._offer = _html("", "offer")
        self._kept = _html("", "kept", CLICKS)
        self._wall.complain()
        self._styles = _html("", "styles", CLICKS)
        self._new_style = NewPreset(self._page, "style")
        self._controls = controls.make(self.name, self._page, sizing=self._make_sizes)
        self._wall.actions(self._make_sketch)

    def _make_sizes(self) -> None:
        self._sizes = _html("", "sizes", CLICKS)

    def _make_sketch(self) -> None:
        self._sketch = gr.Button(
            cast(str, label("create.sketch")), elem_id="create-sketch", elem_classes="second", min_width=100, scale=2
        )

    def _welcome(self, words: Words) -> str:
        how = f"<p>{escape(words('create.welcome.how'))}</p>"
        return easel.welcome(words("create.welcome"), how, easel.cards(self._page.examples_of("text"), words))

    def _wire(self, inputs: set[Block], outputs: Sequence[Block]) -> None:
        page, answers, wide = self._page, [*outputs], {*inputs, self._page.who}
        self._wall.wire(inputs, outputs, self._act, drawing=self._controls.drawing)
        self._wall.settle(self._wall.paint.click(self._paint, wide, answers, **QUIET), wide)
        self._wall.settle(self._sketch.click(self._draw_sketches, wide, answers, **QUIET), wide)
        for row in (self._styles, self._sizes, self._kept):
            row.act(self._on_preset, wide, answers, **QUIET)
        self._new_style.wire({self._wall.view}, answers, self._keep_style)
        typed = self._prompt.change(
            lambda values: self._read(page.visit(values), values),
            {self._prompt, page.who},
            self._reading,
            **LATEST,
        )
        self._wall.settle(typed, wide, self.look, answers)

    # -- what is said --------------------------------------------------------------------------------------------------

    def _tell(self, visit: Visit, values: Values) -> Updates:
        """All that follows from the checkpoint, the presets and what was clicked."""
        picks = len(self._wall.picked(visit, values))
        paint = visit.words("create.paint_picked", count=picks) if picks else visit.words("control.paint")
        return {
            self._reading: self._read(visit, values),
            self._offer: reading.offer(visit.vocabulary, visit.words, visit.snapshot.defaults.name),
            self._styles: self._style_row(visit, values[self._style]),
            self._sizes: swatches.size_row(visit.library.presets("size"), visit.words),
            self._wall.paint: gr.update(value=paint),
        }

    def _read(self, visit: Visit, values: Values) -> str:
        found = reading.read(values[self._prompt] or "", visit.vocabulary)
        return reading.html(found, visit.words, visit.snapshot.defaults.name, hint=True)

    def _style_row(self, visit: Visit, chosen: str) -> str:
        styles = swatches.usable(visit.library.presets("style"), visit.vocabulary)
        return swatches.style_row(styles, chosen, visit.words)

    # -- what is asked -------------------------------------------------------------------------------------------------

    def _asked(self, prompt: str, values: Values) -> Request:
        """What the widgets say, in the chosen style. Raises RequestError."""
        base = self._controls.request(prompt or " ", values, self._page.worker.snapshot().defaults)
        visit = self._page.visit(values)
        request = tasks.text(base, self._styled(prompt, visit.library.find(values[self._style])))
        if not values[self._layout]:
            return request
        settings = self._wall.settings(values[self._layout], visit)
        if settings is None or settings.prior is None:
            raise RequestError(visit.words("create.layout.gone"))
        return replace(request, layout=settings.prior.layout, layout_seed=settings.layout_seed)

    def _styled(self, prompt: str, style: Preset | None) -> str:
        if style is None or not prompt.strip():
            return prompt
        language = tasks.language_of(prompt)
        joint = "，" if language == "zh" else ", "
        return f"{prompt.rstrip().rstrip('.,。，')}{joint}{style.said(language)}"

    def _paint(self, values: Values) -> Updates:
        visit = self._page.visit(values)
        picked, tries = self._wall.picked(visit, values), self._controls.attempts(values)
        if not picked:
            return self._submit(visit, values, lambda: self._asked(values[self._prompt] or "", values), tries=tries)

        drawing = self._controls.drawing(values)
        return self._submit(
            visit, values, lambda: [replace(one, **drawing) for one in picked], tries=tries, seeded=False
        )

    def _draw_sketches(self, values: Values) -> Updates:
        visit = self._page.visit(values)

        def asked() -> Request:
            # Sketches are layouts.
            free = {**values, self._layout: "", self._controls.repainted: None}
            return replace(self._asked(values[self._prompt] or "", free), count=SKETCHES)

        return self._submit(visit, values, asked, sketching=True)

    def _submit(
        self,
        visit: Visit,
        values: Values,
        build: Callable[[], Request | Sequence[Request]],
        *,
        tries: int = 0,
        sketching: bool = False,
        seeded: bool = True,
    ) -> Updates:
        request, updates = self._wall.submit(visit, values, build, tries=tries, sketching=sketching)
        seed = self._controls.rolled(request, values) if request is not None and seeded else {}
        return updates | seed | {self._wall.paint: gr.update(value=visit.words("control.paint"))}

    # -- clicks --------------------------------------------------------------------------------------------------------

    def _act(self, act: str, key: str, visit: Visit, values: Values) -> Updates | None:
        match act:
            case "example" if (example := self._page.example("text", key)) is not None:
                return self._paint_example(visit, values, example)
            case "pick" | "choose" | "sketches" | "live":
                return self._look_after(act, key, visit, values)
        return None

    def _look_after(self, act: str, key: str, visit: Visit, values: Values) -> Updates:
        """The same as everywhere, and Paint says what it would paint."""
        updates = self._wall.act(act, key, visit, values)
        changed = {**values, self._wall.view: updates[self._wall.view]}
        return updates | {self._wall.paint: self._tell(visit, changed)[self._wall.paint]}

    def _paint_example(self, visit: Visit, values: Values, example: Example) -> Updates:
        plain = {**values, self._style: "", self._layout: ""}
        updates = self._submit(visit, plain, lambda: example.seeded(self._asked(example.prompt, plain)))
        shown = {
            self._prompt: example.prompt,
            self._style: "",
            self._styles: self._style_row(visit, ""),
            self._controls.seed: example.seed,
        }
        return updates | shown | self._keep_layout("", visit)

    def _on_preset(self, values: Values, event: gr.EventData) -> Updates:
        """A click on a style or a size."""
        visit, act, key = self._page.visit(values), str(event.act), str(event.key)
        preset = visit.library.find(key)
        match act:
            case "style":
                chosen = key if preset else ""
                shown: Updates = {self._style: chosen, self._styles: self._style_row(visit, chosen)}
                return shown | self._controls.settings(preset.settings if preset else {})
            case "new-style":
                return self._new_style.show()
            case "size" if preset is not None and preset.width and preset.height:
                return self._controls.resize(preset.width, preset.height, visit.snapshot.defaults)
            case "keep-size":
                return self._keep_size(visit, values)
            case "drop-layout":
                return self._keep_layout("", visit)
        return {self._styles: gr.skip()}

    def _keep_layout(self, key: str, visit: Visit) -> Updates:
        """Everything that is painted from now on has the layout of the picture under a key; "": its own again."""
        picture = visit.history.find(key) if key else None
        settings = visit.history.settings(picture) if picture is not None else None
        if picture is None or settings is None or settings.prior is None:
            return {self._layout: "", self._kept: ""}
        size = settings.request.size
        shown = easel.kept_layout(visit.history.thumbnail(picture), visit.words)
        resized = self._controls.resize(size.width, size.height, visit.snapshot.defaults)
        return {self._layout: key, self._kept: shown} | resized

    def _keep_size(self, visit: Visit, values: Values) -> Updates:
        try:
            asked = self._controls.request("-", values, visit.snapshot.defaults).size
            name = {"en": f"{asked.width} × {asked.height}"}
            visit.library.keep(Preset(kind="size", name=name, width=asked.width, height=asked.height))
        except GLMImageError as error:
            return self._wall.say(visit, values, str(error))
        return {self._sizes: swatches.size_row(visit.library.presets("size"), visit.words)}

    def _keep_style(self, preset: Preset, visit: Visit, values: Values) -> Updates:
        """A new style is chosen at once; its thumbnail is the picture that is shown."""
        shown = values[self._wall.view].chosen or next(iter(visit.snapshot.latest.get(self.name, ())), "")
        picture = visit.history.find(shown)
        thumbnail = easel.thumbnail_url(visit.history.thumbnail(picture)) if picture else ""
        kept = visit.library.keep(replace(preset, thumbnail=thumbnail))
        return {self._style: kept.key, self._styles: self._style_row(visit, kept.key)}


def _html(value: str, name: str, script: str | None = None) -> gr.HTML:
    return gr.HTML(
        value, js_on_load=script, apply_default_css=False, elem_id=f"create-{name}", elem_classes=f"{name}-part"
    )
