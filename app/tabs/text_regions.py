"""Text layout: texts in boxes, drawn where the picture will be; afterwards what can be read in each.

The boxes come from the page's script as one JSON value (`app.board`) and the script is told what lies beneath them
(`app.canvas`). Knows neither the engine nor how a picture is stored.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, cast

import gradio as gr
from gradio.blocks import Block

from app import canvas, controls, easel, reading
from app.board import Board, Box, Pen, advise, board_of
from app.library import Preset
from app.page import CLICKS, LATEST, QUIET, Cargo, Page, Parcel, Ports, Updates, Values, Visit
from app.presets import Example, default_side
from app.wall import Hanging, View, Wall
from app.words import Words, label
from glmimage.errors import GLMImageError, RequestError
from glmimage.geometry import Size
from glmimage.request import Request

STRONGEST = 4.0
_LIST = """
const events = ['edit', 'restore'];
window.atelier.board.list(element, props, (name) => events.includes(name) && trigger(name), watch);
"""
_CANVAS = "window.atelier.board.canvas(element, props, watch);"


class TextRegions:
    """The tab."""

    name: ClassVar[str] = "regions"
    accepts: ClassVar[frozenset[Cargo]] = frozenset({"settings", "prompt", "seed"})

    def build(self, page: Page) -> Ports:
        self._page = page
        self._wall = Wall(page, self.name, lambda words: "", Hanging(bare=True))
        self._fitted = gr.State(page.worker.snapshot().defaults)
        with gr.Row(elem_classes="room"):
            with gr.Column(elem_classes="desk", min_width=280):
                self._desk()
            with gr.Column(elem_classes="wall", min_width=280):
                # The markup is the script's own: a template that never changes is left alone.
                self._canvas = gr.HTML(
                    "",
                    html_template=" ",
                    js_on_load=_CANVAS,
                    apply_default_css=False,
                    elem_id="regions-canvas",
                    elem_classes="easel-part",
                )
                self._examples = gr.HTML(
                    "",
                    js_on_load=CLICKS,
                    apply_default_css=False,
                    elem_id="regions-examples",
                )
                self._wall.hang()
        widgets: list[Block] = [self._scene, self._strength, *self._controls.inputs]
        inputs: set[Block] = {*widgets, self._board, self._name, self._fitted, self._wall.view}
        own: list[Block] = [self._board, self._canvas, self._written, self._examples, self._name, *widgets]
        everything: set[Any] = {*inputs, page.who}
        parts = (self._templates, self._offer, self._examples)
        self._wall.wire(inputs, own, self._act, parts, self._furnish, self._drawing)
        outputs = [*self._wall.outputs, self._fitted, *own]
        self._wall.settle(self._wall.paint.click(self._paint, everything, [*outputs], **QUIET), everything)
        self._keep.click(self._keep_template, everything, [*outputs], **QUIET)
        told: list[Any] = [self._canvas, self._written, self._examples]
        self._wall.settle(self._board.edit(self._tell, everything, told, **LATEST), everything, self.look, outputs)
        self._board.restore(self._restore, everything, [*told, self._controls.shape], **QUIET)
        for widget in (self._scene, self._controls.shape, self._controls.side):
            typed = widget.change(self._tell, everything, told, **LATEST)
            self._wall.settle(typed, everything, self.look, outputs)
        page.keep_draft(self._scene)
        return Ports(inputs, outputs)

    def look(self, visit: Visit, values: Values) -> Updates:
        updates = self._wall.look(visit, values)
        updates |= self._told(visit, values, values[self._wall.view])
        defaults = visit.snapshot.defaults
        if values[self._fitted] != defaults:
            updates |= self._controls.fit_checkpoint(defaults) | {self._fitted: defaults}
        return updates

    def receive(self, parcel: Parcel, visit: Visit, values: Values) -> Updates:
        """Boxes, scene and settings of a picture, or only its words, or its seed alone."""
        picture = visit.history.find(parcel.key)
        settings = visit.history.settings(picture) if picture else None
        if settings is None:
            return self._wall.say(visit, values, visit.words("easel.no_settings"))
        if parcel.cargo == "seed":
            return self._controls.show_seed(settings)
        board, scene = board_of(settings.request)
        shown: Updates = {self._scene: scene}
        if board.boxes:
            shown |= {self._board: board.to_json()}
        if parcel.cargo == "settings":
            shown |= self._controls.show(settings, visit.snapshot.defaults)
            shown |= {self._strength: min(STRONGEST, settings.request.region_strength)}
        now = {**values, **shown}
        chosen = self._wall.choose(visit, now, parcel.key)
        return chosen | self._told(visit, now, chosen[self._wall.view]) | shown

    def _desk(self) -> None:
        words = Words()
        self._templates = gr.HTML(
            canvas.templates(self._page.library.presets("template"), words),
            js_on_load=CLICKS,
            apply_default_css=False,
            elem_id="regions-templates",
        )
        self._board = gr.HTML("", html_template=" ", js_on_load=_LIST, apply_default_css=False, elem_id="regions-boxes")
        self._scene = gr.Textbox(
            label=cast(str, label("regions.scene")),
            lines=2,
            max_lines=8,
            placeholder=cast(str, label("regions.placeholder")),
            elem_id="regions-scene",
            elem_classes="prompt draft completes",
        )
        self._written = gr.HTML(
            canvas.written("", words), apply_default_css=False, elem_id="regions-written", elem_classes="written-part"
        )
        self._offer = gr.HTML(
            "", js_on_load=CLICKS, apply_default_css=False, elem_classes="offer-part", elem_id="regions-offer"
        )
        self._wall.complain()
        self._controls = controls.make(self.name, self._page, reads="always")
        with self._controls.advanced:
            self._strength = gr.Slider(
                0,
                STRONGEST,
                value=1,
                step=0.1,
                label=cast(str, label("regions.strength")),
                info=cast(str, label("regions.strength.info")),
                elem_id="regions-strength",
            )
        with gr.Accordion(
            cast(str, label("regions.keep")), open=False, elem_classes="advanced", elem_id="regions-keep"
        ):
            self._name = gr.Textbox(label=cast(str, label("regions.keep.name")), max_length=60, elem_id="regions-name")
            self._keep = gr.Button(cast(str, label("regions.keep.do")), elem_id="regions-keep-do")
        self._wall.actions()

    # --- what is shown ----------------------------------------------------------------------------------------------

    def _tell(self, values: Values) -> Updates:
        return self._told(self._page.visit(values), values, values[self._wall.view])

    def _restore(self, values: Values) -> Updates:
        """A page that has found its draft: the canvas takes the shape that it had."""
        try:
            shape = Board.from_json(values[self._board]).shape
        except RequestError:
            shape = ""
        visit = self._page.visit(values)
        if shape not in [one.label for one in self._page.sizes.shapes_for(visit.snapshot.defaults)]:
            shape = values[self._controls.shape]
        now = {**values, self._controls.shape: shape}
        told = self._told(visit, now, values[self._wall.view], restored=True)
        # A shape that stays is left alone: a template may have been clicked in the meantime.
        return told if shape == values[self._controls.shape] else told | {self._controls.shape: shape}

    def _told(self, visit: Visit, values: Values, view: View, *, restored: bool = False) -> Updates:
        """What the script shows, and what the prompt will be."""
        size = self._size(visit, values)
        pen, name = Pen.of(visit.snapshot.world), visit.snapshot.defaults.name
        try:
            board = Board.from_json(values[self._board])
            advice = [advise(box, size, pen, name, visit.words) for box in board.boxes]
            will = self._request(board, visit, values).prompt if _written(board) else ""
        except GLMImageError:
            board, advice, will = Board(), [], ""
        place = easel.Place(self.name, view.chosen)
        shown = easel.pictures_shown(visit.snapshot, visit.history, place)
        scene = reading.read(values[self._scene] or "", visit.vocabulary)
        return {
            self._canvas: canvas.view(visit, place, size, {"edit": board.edit, "advice": advice, "restored": restored}),
            self._written: canvas.written(will, visit.words) + reading.html(scene, visit.words, name),
            self._examples: "" if board.boxes or shown else easel.cards(self._page.examples_of("regions"), visit.words),
        }

    def _size(self, visit: Visit, values: Values) -> Size:
        defaults = visit.snapshot.defaults
        side = int(values[self._controls.side] or default_side(defaults))
        return self._page.sizes.shape(values[self._controls.shape]).fit(side, defaults)

    def _furnish(self, visit: Visit, values: Values) -> Updates:
        """The desk's own markup."""
        return {
            self._templates: canvas.templates(visit.library.presets("template"), visit.words),
            self._offer: reading.offer(visit.vocabulary, visit.words, visit.snapshot.defaults.name),
        }

    # --- what is done -----------------------------------------------------------------------------------------------

    def _paint(self, values: Values) -> Updates:
        visit = self._page.visit(values)
        # What stands in its boxes is read in any case.
        tries = self._controls.attempts(values) or 1
        request, updates = self._wall.submit(visit, values, lambda: self._asked(visit, values), tries=tries)
        if request is None:
            return updates
        visit = self._page.visit(values)
        told = self._told(visit, values, updates[self._wall.view])
        return updates | told | self._controls.rolled(request, values)

    def _asked(self, visit: Visit, values: Values) -> Request:
        """Raises GLMImageError with what is missing."""
        return self._request(Board.from_json(values[self._board]), visit, values)

    def _request(self, board: Board, visit: Visit, values: Values) -> Request:
        defaults = visit.snapshot.defaults
        base = self._controls.request(visit.words("tab.regions"), values, defaults)
        base = replace(base, **self._drawing(values))
        return board.request(base, values[self._scene] or "", Pen.of(visit.snapshot.world), defaults)

    def _drawing(self, values: Values) -> dict[str, Any]:
        return self._controls.drawing(values) | {"region_strength": float(values[self._strength])}

    def _act(self, act: str, key: str, visit: Visit, values: Values) -> Updates | None:
        match act:
            case "repaint":
                updates = self._wall.repaint(key, visit, values)
                return updates | self._told(self._page.visit(values), values, updates[self._wall.view])
            case "choose" if visit.history.find(key):
                return self._choose(visit, values, key)
            case "live":
                return self._choose(visit, values, None)
            case "example" if (example := self._page.example("regions", key)) is not None:
                return self._paint_example(visit, values, example)
            case "template" if (preset := visit.library.find(key)) is not None:
                return self._start(preset, visit, values)
            case "forget":
                try:
                    visit.library.delete(key)
                except GLMImageError as error:
                    return self._wall.say(visit, values, str(error))
                return self._furnish(visit, values)
        return None

    def _choose(self, visit: Visit, values: Values, key: str | None) -> Updates:
        updates = self._wall.choose(visit, values, key)
        return updates | self._told(visit, values, updates[self._wall.view])

    def _start(self, preset: Preset, visit: Visit, values: Values) -> Updates:
        """The boxes of a template; its scene only where there is none yet."""
        shown: Updates = {self._board: Board(boxes=tuple(map(Box.of, preset.regions))).to_json()}
        if preset.width and preset.height:
            size = Size(preset.width, preset.height)
            shapes = self._page.sizes.shapes_for(visit.snapshot.defaults)
            shape = min(shapes, key=lambda one: one.differs(size))
            shown |= {self._controls.shape: shape.label}
        if not (values[self._scene] or "").strip():
            shown |= {self._scene: preset.said(visit.words.language)}
        if "region_strength" in preset.settings:
            shown |= {self._strength: preset.settings["region_strength"]}
        shown |= self._controls.settings(preset.settings)
        chosen = self._wall.choose(visit, {**values, **shown}, "")
        return chosen | self._told(visit, {**values, **shown}, chosen[self._wall.view]) | shown

    def _paint_example(self, visit: Visit, values: Values, example: Example) -> Updates:
        """Its boxes and scene, on a square, and at once its picture."""
        board = Board(boxes=tuple(map(Box.of, example.regions)))
        shown: Updates = {
            self._board: board.to_json(),
            self._scene: example.prompt,
            self._strength: 1,
            self._controls.shape: self._page.sizes.shapes_for(visit.snapshot.defaults)[0].label,
        }
        now = {**values, **shown}
        request, updates = self._wall.submit(visit, now, lambda: example.seeded(self._request(board, visit, now)))
        if request is None:
            return updates
        visit = self._page.visit(values)
        return updates | self._told(visit, now, updates[self._wall.view]) | shown | {self._controls.seed: example.seed}

    def _keep_template(self, values: Values) -> Updates:
        """The boxes under a name of the person's own."""
        visit = self._page.visit(values)
        try:
            request = self._asked(visit, values)
            if not (name := (values[self._name] or "").strip()):
                raise RequestError(visit.words("regions.keep.nameless"))
            scene = (values[self._scene] or "").strip()
            boxes = Board.from_json(values[self._board]).boxes
            visit.library.keep(
                Preset(
                    kind="template",
                    name={"en": name},
                    words={"en": scene} if scene else {},
                    width=request.width,
                    height=request.height,
                    regions=tuple(box.region("en") for box in boxes),
                )
            )
        except GLMImageError as error:
            return self._wall.say(visit, values, str(error))
        said = self._wall.say(visit, values, "")
        return said | self._furnish(visit, values) | {self._name: ""}


def _written(board: Board) -> bool:
    """Whether every box has its text."""
    return bool(board.boxes) and all(box.text.strip() for box in board.boxes)
