"""Style: a picture as another hand would have painted it, after a style's name or after another picture.

Content, result and style stand side by side. Knows neither the engine nor how a picture is stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any, ClassVar, cast

import gradio as gr
from gradio.blocks import Block

from app import comparisons, controls, easel, intake, swatches, uploads
from app.comparisons import Pane
from app.history import Picture
from app.library import Preset
from app.page import CLICKS, QUIET, Cargo, Page, Parcel, Ports, Updates, Values, Visit
from app.presets import Example
from app.wall import Hanging, Wall
from app.words import Words, label
from glmimage import tasks
from glmimage.errors import GLMImageError, RequestError
from glmimage.request import Request


class Style:
    """The tab."""

    name: ClassVar[str] = "style"
    accepts: ClassVar[frozenset[Cargo]] = frozenset({"picture", "settings", "seed"})

    def build(self, page: Page) -> Ports:
        self._page = page
        self._wall = Wall(page, self.name, self._welcome, Hanging(stage=self._stage, alone=self._alone))
        self._fitted = gr.State(page.worker.snapshot().defaults)
        # Paths; None: nobody has chosen yet, "": somebody took it away.
        self._content = gr.State(None)
        self._like = gr.State("")
        self._chosen = gr.State("")
        with gr.Row(elem_classes="room"):
            with gr.Column(elem_classes="desk", min_width=280):
                self._desk()
            with gr.Column(elem_classes="wall", min_width=280):
                self._wall.hang()
        widgets: list[Block] = [self._strength, *self._controls.inputs]
        states: list[Block] = [self._content, self._like, self._chosen]
        inputs: set[Block] = {*widgets, *states, self._fitted, self._wall.view}
        own: list[Block] = [*states, *widgets]
        everything: set[Any] = {*inputs, page.who}
        self._wall.wire(
            inputs, own, self._act, (self._well, self._styles, self._likeness), self._furnish, self._controls.drawing
        )
        outputs = [*self._wall.outputs, self._fitted, *own]
        self._wall.settle(self._wall.paint.click(self._paint, everything, [*outputs], **QUIET), everything)
        return Ports(inputs, outputs)

    def look(self, visit: Visit, values: Values) -> Updates:
        updates: Updates = {}
        if values[self._content] is None and (request := self._remembered(visit)):
            # After a reload, what the last picture was made from.
            updates = self._shown(request, visit)
            values = {**values, **updates}
        updates |= self._wall.look(visit, values)
        defaults = visit.snapshot.defaults
        if values[self._fitted] != defaults:
            updates |= self._controls.fit_checkpoint(defaults) | {self._fitted: defaults}
        return updates

    def receive(self, parcel: Parcel, visit: Visit, values: Values) -> Updates:
        """A picture to be restyled, or all that one was made with, or its seed alone."""
        picture = visit.history.find(parcel.key)
        if picture is None:
            return self._wall.say(visit, values, visit.words("intake.gone"))
        if parcel.cargo == "picture":
            return self._turn(visit, values, {self._content: str(picture.path)})
        settings = visit.history.settings(picture)
        if settings is None:
            return self._wall.say(visit, values, visit.words("easel.no_settings"))
        if parcel.cargo == "seed":
            return self._controls.show_seed(settings)
        references = settings.request.references
        if not references or not all(Path(reference.path).is_file() for reference in references):
            return self._wall.say(visit, values, visit.words("intake.gone"))
        shown = self._shown(settings.request, visit)
        updates = self._turn(visit, values, shown) | self._controls.show(settings, visit.snapshot.defaults)
        return updates | shown | self._wall.choose(visit, {**values, **shown}, parcel.key)

    def _desk(self) -> None:
        words = Words()
        self._well = gr.HTML("", js_on_load=CLICKS, apply_default_css=False, elem_classes="well", elem_id="style-well")
        self._styles = gr.HTML(
            self._named(words, self._page.library.presets("style"), ""),
            js_on_load=CLICKS,
            apply_default_css=False,
            elem_classes="styles",
            elem_id="style-names",
        )
        self._likeness = gr.HTML(
            intake.slot("like", words, said=words("style.like")),
            js_on_load=CLICKS,
            apply_default_css=False,
            elem_classes="well is-small",
            elem_id="style-like",
        )
        self._wall.complain()
        self._strength = gr.Slider(
            0,
            1,
            value=1,
            step=0.05,
            label=cast(str, label("style.strength")),
            info=cast(str, label("style.strength.info")),
            elem_id="style-strength",
        )
        self._controls = controls.make(self.name, self._page, reads="never", shaped=False)
        self._wall.actions(paint="style.paint")

    # --- what is shown ----------------------------------------------------------------------------------------------

    def _welcome(self, words: Words) -> str:
        invitation = intake.slot("content", words, said=words("style.welcome.how"))
        return easel.welcome(words("style.welcome"), invitation, easel.cards(self._page.examples_of("style"), words))

    def _stage(self, visit: Visit, values: Values) -> str:
        content = values[self._content]
        if not content:
            return ""
        left = Pane(visit.words("style.content"), Path(content), main=True)
        right = self._style_pane(visit.words, values[self._like], visit.library.find(values[self._chosen]))
        return f'<div class="from" data-take="content">{comparisons.row(left, right)}</div>'

    def _alone(self, visit: Visit, picture: Picture) -> str:
        settings = visit.history.settings(picture)
        if settings is None or settings.request.task != "style" or not settings.request.references:
            return ""
        request, words = settings.request, visit.words
        left = Pane(words("style.content"), Path(request.references[0].path))
        like = request.references[1].path if len(request.references) > 1 else ""
        right = self._style_pane(words, like, self._preset(request.prompt, visit))
        return comparisons.row(left, Pane(words("style.result"), picture.path, main=True), right)

    def _style_pane(self, words: Words, like: str, preset: Preset | None) -> Pane:
        if like:
            return Pane(words("style.like.short"), Path(like))
        if preset is None:
            return Pane(words("style.none"))
        return Pane(preset.title(words.language), url=preset.thumbnail)

    def _furnish(self, visit: Visit, values: Values) -> Updates:
        """The desk's own markup."""
        words, content, like, chosen = visit.words, values[self._content], values[self._like], values[self._chosen]
        styles = visit.library.presets("style")
        known = swatches.usable(styles, visit.vocabulary)
        # One that older settings brought back is shown, known or not: it is what would be painted.
        offered = [one for one in styles if one in known or one.key == chosen]
        said = words("style.like.short") if like else words("style.like")
        well = intake.slot("content", words, said=words("style.content"), picture=content) if content else ""
        return {
            self._well: well,
            self._styles: self._named(words, offered, "" if like else chosen, visit.snapshot.defaults.name),
            self._likeness: intake.slot("like", words, said=said, picture=like or None),
        }

    def _named(self, words: Words, offered: Sequence[Preset], chosen: str, checkpoint: str = "") -> str:
        """The styles that have a name; a sentence where the checkpoint was taught none."""
        tiles = "".join(
            f'<button type="button" class="swatch" data-act="style" data-key="{escape(preset.key)}"'
            f' aria-pressed="{"true" if preset.key == chosen else "false"}"><span class="face">{_face(preset)}</span>'
            f'<span class="name">{escape(preset.title(words.language))}</span></button>'
            for preset in offered
        )
        name = escape(words("style.names"))
        if not tiles:
            none = escape(words("style.none_known", name=checkpoint))
            return f'<p class="caption">{name}</p><p class="calm">{none}</p>'
        return f'<p class="caption">{name}</p><div class="swatches" role="group" aria-label="{name}">{tiles}</div>'

    def _preset(self, prompt: str, visit: Visit) -> Preset | None:
        """The style whose wording a picture was made with."""
        return next((one for one in visit.library.presets("style") if swatches.restyling(one) == prompt), None)

    # --- what is done -----------------------------------------------------------------------------------------------

    def _remembered(self, visit: Visit) -> Request | None:
        current = visit.snapshot.current
        job = current if current is not None and current.tab == self.name else visit.snapshot.last.get(self.name)
        found = job is not None and all(Path(one.path).is_file() for one in job.request.references)
        return job.request if job is not None and found and job.request.references else None

    def _shown(self, request: Request, visit: Visit) -> Updates:
        """What a request was made from, back in its places."""
        preset = self._preset(request.prompt, visit)
        return {
            self._content: request.references[0].path,
            self._like: request.references[1].path if len(request.references) > 1 else "",
            self._chosen: preset.key if preset else "",
            self._strength: round(1 - request.content, 6),
        }

    def _paint(self, values: Values) -> Updates:
        visit = self._page.visit(values)
        request, updates = self._wall.submit(visit, values, lambda: self._asked(visit, values))
        return updates if request is None else updates | self._controls.rolled(request, values)

    def _asked(self, visit: Visit, values: Values) -> Request:
        """Raises GLMImageError with what is missing."""
        content, like, preset = values[self._content], values[self._like], visit.library.find(values[self._chosen])
        if not content:
            raise RequestError(visit.words("style.no_content"))
        if not like and preset is None:
            raise RequestError(visit.words("style.no_style"))
        base = self._controls.request(visit.words("tab.style"), values, visit.snapshot.defaults)
        name = None if like or preset is None else swatches.style_name(preset)
        return tasks.style(base, content, name, like or None, strength=float(values[self._strength]))

    def _act(self, act: str, key: str, visit: Visit, values: Values) -> Updates | None:
        kind, _, slot = act.partition(".")
        place = {"content": self._content, "like": self._like}.get(slot)
        picture = visit.history.find(key)
        match kind:
            case "file" if place is not None:
                try:
                    taken = intake.take(key, visit.history.storage.root)
                except GLMImageError as error:
                    return self._wall.say(visit, values, str(error))
                return self._turn(visit, values, {place: str(taken)})
            case "drag" if place is not None and picture is not None:
                return self._turn(visit, values, {place: str(picture.path)})
            case "choose" if not values[self._content] and picture is not None:
                return self._turn(visit, values, {self._content: str(picture.path)})
            case "clear" if place is not None:
                return self._turn(visit, values, {place: ""})
            case "example" if (example := self._page.example("style", key)) is not None:
                return self._try(visit, values, example)
            case "style" if (preset := visit.library.find(key)) is not None:
                changes: Updates = {self._chosen: key, self._like: ""}
                if "content" in preset.settings:
                    changes[self._strength] = round(1 - preset.settings["content"], 6)
                return self._turn(visit, values, changes) | self._controls.settings(preset.settings)
        return None

    def _try(self, visit: Visit, values: Values, example: Example) -> Updates:
        """Paints an example."""
        try:
            taken = [str(uploads.take(picture, visit.history.storage.root)) for picture in example.pictures]
        except GLMImageError as error:
            return self._wall.say(visit, values, str(error))
        content, like = [*taken, ""][:2]
        changes: Updates = {self._content: content, self._like: like, self._chosen: example.style, self._strength: 1}
        shown = self._turn(visit, values, changes)
        now = {**values, **shown}
        request, updates = self._wall.submit(visit, now, lambda: example.seeded(self._asked(visit, now)))
        return shown | updates | ({} if request is None else {self._controls.seed: request.seed})

    def _turn(self, visit: Visit, values: Values, changes: Updates) -> Updates:
        """Shows what is to be made now, with `changes` to the states."""
        view = replace(values[self._wall.view], sentence="")
        now = {**values, **changes, self._wall.view: view}
        return self._wall.choose(visit, now, "") | self._furnish(visit, now) | changes


def _face(preset: Preset) -> str:
    name = preset.title("en")
    return f'<img src="{escape(preset.thumbnail)}" alt="">' if preset.thumbnail else comparisons.letter(name)
