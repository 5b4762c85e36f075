"""Edit: a picture and an instruction become a changed picture, everywhere or only where it was painted over.

The result stands in the picture's place under a slider between before and after; going on from it makes a chain, which
is the film strip. Knows neither the engine nor how a picture is stored.
"""

from __future__ import annotations

from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any, ClassVar, cast

import gradio as gr
from gradio.blocks import Block

from app import comparisons, controls, easel, intake, masks, reading, uploads
from app.history import Picture
from app.library import Library, Preset
from app.masks import Mask
from app.page import CLICKS, LATEST, QUIET, Cargo, Page, Parcel, Ports, Updates, Values, Visit
from app.presets import Example
from app.tabs.new_preset import NewPreset
from app.wall import Hanging, View, Wall
from app.words import Words, label
from glmimage import tasks
from glmimage.errors import GLMImageError, RequestError
from glmimage.request import Request

_SHOW_EASEL = "() => document.querySelector('#edit-easel').scrollIntoView({block: 'nearest', behavior: 'smooth'})"
"""On a narrow screen the picture to paint on is out of sight."""


class Edit:
    """The tab."""

    name: ClassVar[str] = "edit"
    accepts: ClassVar[frozenset[Cargo]] = frozenset({"picture", "settings", "prompt", "seed"})

    def build(self, page: Page) -> Ports:
        self._page = page
        hanging = Hanging(stage=self._stage, alone=self._alone, frames=self._frames, further=True)
        self._wall = Wall(page, self.name, self._welcome, hanging)
        self._fitted = gr.State(page.worker.snapshot().defaults)
        # A path; None: nobody has chosen yet, "": somebody took it away.
        self._source = gr.State(None)
        self._mask = gr.State(Mask())
        # Written by the browser at once, so that a click on Paint brings the last stroke along.
        self._strokes = gr.Textbox("", visible="hidden", elem_id="edit-strokes", show_label=False, container=False)
        with gr.Row(elem_classes="room"):
            with gr.Column(elem_classes="desk", min_width=280):
                self._desk()
            with gr.Column(elem_classes="wall", min_width=280):
                self._wall.hang()
        widgets: list[Block] = [self._instruction, self._part, self._exact, *self._controls.inputs]
        inputs: set[Block] = {*widgets, self._fitted, self._source, self._mask, self._strokes, self._wall.view}
        own: list[Block] = [self._source, self._mask, self._strokes, self._written, *widgets]
        own += self._new.outputs
        everything: set[Any] = {*inputs, page.who}
        parts = (self._well, self._hints, self._offer)
        self._wall.wire(inputs, own, self._act, parts, self._furnish, self._controls.drawing)
        outputs = [*self._wall.outputs, self._fitted, *own]
        self._wall.settle(self._wall.paint.click(self._paint, everything, [*outputs], **QUIET), everything)
        turned = self._part.input(self._turn, everything, [*self._wall.outputs], **QUIET)
        turned.then(None, None, None, js=_SHOW_EASEL, **QUIET)
        self._instruction.change(
            lambda values: self._read(page.visit(values), values),
            {self._instruction, page.who},
            self._written,
            **LATEST,
        )
        self._new.wire(inputs, [self._hints], self._keep)
        page.keep_draft(self._instruction)
        return Ports(inputs, outputs)

    def look(self, visit: Visit, values: Values) -> Updates:
        updates: Updates = {}
        if values[self._source] is None and (remembered := self._remembered(visit)):
            # After a reload, what the last picture was made from.
            values = {**values, self._source: remembered}
            updates = {self._source: remembered}
        updates |= self._wall.look(visit, values)
        defaults = visit.snapshot.defaults
        if values[self._fitted] != defaults:
            updates |= self._controls.fit_checkpoint(defaults) | {self._fitted: defaults, self._exact: defaults.keep}
        return updates

    def receive(self, parcel: Parcel, visit: Visit, values: Values) -> Updates:
        """A picture to change, or all that one was changed with, or its words or its seed alone."""
        picture = visit.history.find(parcel.key)
        if picture is None:
            return self._wall.say(visit, values, visit.words("intake.gone"))
        if parcel.cargo == "picture":
            return self._take(visit, values, picture.path)
        settings = visit.history.settings(picture)
        if settings is None:
            return self._wall.say(visit, values, visit.words("easel.no_settings"))
        request = settings.request
        match parcel.cargo:
            case "prompt":
                return {self._instruction: request.prompt}
            case "seed":
                return self._controls.show_seed(settings)
        if not request.references:
            return self._wall.say(visit, values, visit.words("intake.gone"))
        source, mask = request.references[0].path, request.mask
        if not Path(source).is_file():
            return self._wall.say(visit, values, visit.words("intake.gone"))
        kept = mask is not None and Path(mask).is_file()
        shown = self._take(visit, values, Path(source))
        shown |= {self._mask: Mask(base=mask or "") if kept else Mask(), self._part: kept}
        shown |= self._controls.show(settings, visit.snapshot.defaults)
        shown |= {self._instruction: request.prompt, self._exact: bool(request.keep)}
        return shown | self._wall.choose(visit, {**values, self._source: source}, parcel.key)

    def _desk(self) -> None:
        words = Words()
        self._well = gr.HTML("", js_on_load=CLICKS, apply_default_css=False, elem_classes="well", elem_id="edit-well")
        self._instruction = gr.Textbox(
            label=cast(str, label("edit.instruction")),
            lines=2,
            max_lines=8,
            placeholder=cast(str, label("edit.placeholder")),
            elem_id="edit-instruction",
            elem_classes="prompt draft completes",
        )
        self._written = gr.HTML("", apply_default_css=False, elem_classes="written-part")
        self._offer = gr.HTML(
            "", js_on_load=CLICKS, apply_default_css=False, elem_classes="offer-part", elem_id="edit-offer"
        )
        self._hints = gr.HTML(
            self._suggestions(self._page.library, words),
            js_on_load=CLICKS,
            apply_default_css=False,
            elem_classes="hints-part",
        )
        self._new = NewPreset(self._page, "edit")
        self._wall.complain()
        self._part = gr.Checkbox(
            value=False,
            label=cast(str, label("edit.part")),
            info=cast(str, label("edit.part.info")),
            elem_id="edit-part",
            elem_classes="part",
        )
        self._controls = controls.make(self.name, self._page, shaped=False)
        with self._controls.advanced:
            self._exact = gr.Checkbox(
                value=self._page.worker.snapshot().defaults.keep,
                label=cast(str, label("edit.keep")),
                info=cast(str, label("edit.keep.info")),
                elem_id="edit-keep",
            )
        self._wall.actions(paint="edit.paint")

    # --- what is shown ----------------------------------------------------------------------------------------------

    def _welcome(self, words: Words) -> str:
        invitation = intake.slot("source", words, said=words("edit.welcome.how"))
        return easel.welcome(words("edit.welcome"), invitation, easel.cards(self._page.examples_of("edit"), words))

    def _stage(self, visit: Visit, values: Values) -> str:
        """The picture to be changed, with brushes where only a part is to be."""
        source = _path(values[self._source])
        if source is None:
            return ""
        size = comparisons.size(source)
        if values[self._part]:
            try:
                mask = self._painted(values)
            except GLMImageError:
                # Said when it is to be used.
                mask = values[self._mask]
            shown = masks.paintable(source, size, mask, visit.words)
        else:
            alt = escape(visit.words("mask.picture"))
            shown = (
                f'<div class="canvas" style="--ratio:{size[0] / size[1]:.4f}">'
                f'<img src="{easel.file_url(source)}" alt="{alt}"></div>'
            )
        return f'<div class="from" data-take="source">{shown}</div>'

    def _alone(self, visit: Visit, picture: Picture) -> str:
        settings = visit.history.settings(picture)
        if settings is None or settings.request.task != "edit" or not settings.request.references:
            return ""
        before = Path(settings.request.references[0].path)
        return comparisons.slider(before, picture.path, visit.words) if before.is_file() else ""

    def _frames(self, visit: Visit, values: Values) -> list[easel.Frame] | None:
        """The chain that the picture belongs to; before there is one, all pictures are offered."""
        source = _path(values[self._source])
        if source is None:
            return None
        view: View = values[self._wall.view]
        latest = visit.snapshot.latest.get(self.name, ())
        idle = view.chosen == "" or (view.chosen is None and not latest)
        return comparisons.trail(visit.history, source, latest, visit.words, shown=idle)

    def _furnish(self, visit: Visit, values: Values) -> Updates:
        """The desk's own markup."""
        return {
            self._well: self._slot(visit.words, values),
            self._hints: self._suggestions(visit.library, visit.words),
            self._offer: reading.offer(visit.vocabulary, visit.words, visit.snapshot.defaults.name),
        }

    def _read(self, visit: Visit, values: Values) -> str:
        found = reading.read(values[self._instruction] or "", visit.vocabulary)
        return reading.html(found, visit.words, visit.snapshot.defaults.name)

    def _slot(self, words: Words, values: Values) -> str:
        source = _path(values[self._source])
        return intake.slot("source", words, said=words("edit.source"), picture=source) if source else ""

    def _suggestions(self, library: Library, words: Words) -> str:
        """Typical edits; a click writes one's words, and its settings follow."""
        buttons = "".join(
            f'<button type="button" data-act="suggest" data-key="{escape(preset.key)}"'
            f' data-say="{escape(preset.said(words.language))}" data-into="#edit-instruction">'
            f"{escape(preset.title(words.language))}</button>"
            for preset in library.presets("edit")
        )
        new = f'<button type="button" data-act="new-edit">{escape(words("edit.new"))}</button>'
        return f'<div class="hints" role="group" aria-label="{escape(words("edit.hints"))}">{buttons}{new}</div>'

    def _remembered(self, visit: Visit) -> str:
        current = visit.snapshot.current
        job = current if current is not None and current.tab == self.name else visit.snapshot.last.get(self.name)
        source = job.request.references[0].path if job is not None and job.request.references else ""
        return source if source and Path(source).is_file() else ""

    # --- what is done -----------------------------------------------------------------------------------------------

    def _paint(self, values: Values) -> Updates:
        visit = self._page.visit(values)
        tries = self._controls.attempts(values)
        request, updates = self._wall.submit(visit, values, lambda: self._asked(visit, values), tries=tries)
        return updates if request is None else updates | self._controls.rolled(request, values)

    def _asked(self, visit: Visit, values: Values) -> Request:
        """Raises GLMImageError with what is missing."""
        source, instruction = _path(values[self._source]), (values[self._instruction] or "").strip()
        if source is None:
            raise RequestError(visit.words("edit.no_picture"))
        if not instruction:
            raise RequestError(visit.words("edit.no_instruction"))
        base = self._controls.request(instruction, values, visit.snapshot.defaults)
        mask = str(self._painted(values).keep(source, visit.history.storage.root)) if values[self._part] else None
        return replace(tasks.edit(base, str(source), instruction, mask), keep=bool(values[self._exact]))

    def _turn(self, values: Values) -> Updates:
        """The mask was switched on or off: shows the picture that it belongs to."""
        return self._wall.choose(self._page.visit(values), values, "")

    def _act(self, act: str, key: str, visit: Visit, values: Values) -> Updates | None:
        match act:
            case "file.source":
                try:
                    taken = intake.take(key, visit.history.storage.root)
                except GLMImageError as error:
                    return self._wall.say(visit, values, str(error))
                return self._take(visit, values, taken)
            case "drag.source" if picture := visit.history.find(key):
                return self._take(visit, values, picture.path)
            case "choose" if _path(values[self._source]) is None and (picture := visit.history.find(key)):
                return self._take(visit, values, picture.path)
            case "source" if (path := visit.history.storage.path(key)) is not None and path.is_file():
                return self._take(visit, values, path)
            case "clear.source":
                return self._take(visit, values, None)
            case "example" if (example := self._page.example("edit", key)) is not None:
                return self._try(visit, values, example)
            case "suggest":
                preset = visit.library.find(key)
                # One suggestion's way of drawing is not the next one's.
                return self._controls.own_sampling() | self._controls.settings(preset.settings) if preset else None
            case "new-edit":
                return self._new.show(values[self._instruction] or "")
        return None

    def _keep(self, preset: Preset, visit: Visit, values: Values) -> Updates:
        """A new typical edit, with the settings that differ from the checkpoint's own."""
        visit.library.keep(replace(preset, settings=self._controls.differing(values, visit.snapshot.defaults)))
        return {self._hints: self._suggestions(visit.library, visit.words)}

    def _try(self, visit: Visit, values: Values, example: Example) -> Updates:
        """Paints an example."""
        try:
            source = uploads.take(example.pictures[0], visit.history.storage.root)
        except GLMImageError as error:
            return self._wall.say(visit, values, str(error))
        shown = self._take(visit, values, source) | {self._instruction: example.prompt, self._part: False}
        now = {**values, **shown}
        request, updates = self._wall.submit(visit, now, lambda: example.seeded(self._asked(visit, now)))
        return shown | updates | ({} if request is None else {self._controls.seed: request.seed})

    def _take(self, visit: Visit, values: Values, source: Path | None) -> Updates:
        """Another picture to change; its mask begins anew."""
        now = {**values, self._source: str(source or ""), self._mask: Mask(), self._strokes: ""}
        view = replace(values[self._wall.view], sentence="")
        shown = self._wall.choose(visit, {**now, self._wall.view: view}, "")
        states: Updates = {part: now[part] for part in (self._source, self._mask, self._strokes)}
        return shown | states | {self._well: self._slot(visit.words, now)}

    def _painted(self, values: Values) -> Mask:
        """Raises RequestError for strokes that nobody painted."""
        mask: Mask = values[self._mask]
        return mask.painted(values[self._strokes]) if values[self._strokes] else mask


def _path(source: str | None) -> Path | None:
    return Path(source) if source else None
