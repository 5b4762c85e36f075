"""Create: a prompt becomes pictures.

The widgets build a Request for the worker; everything that is shown comes from the worker's snapshot and the history,
so a page that is opened or reloaded finds what is going on. Knows neither the engine nor how a picture is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr
from gradio.blocks import Block
from gradio.components import Component

from app import controls, easel
from app.presets import Example, Sizes
from app.run import Snapshot, Worker
from glmimage.errors import GLMImageError
from glmimage.request import Defaults, Request

QUIET: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}

CLICKS = """
element.addEventListener('click', (event) => {
  const target = event.target.closest('[data-act]');
  if (target && element.contains(target)) trigger('act', {act: target.dataset.act, key: target.dataset.key ?? ''});
});
"""
"""Passes a click on the markup of `easel` on as the event 'act'."""


@dataclass(frozen=True, slots=True)
class View:
    """What one page looks at; the rest is the worker's and the same for all pages."""

    chosen: str | None = None
    """The picture that was clicked; None follows the work."""
    sentence: str = ""
    """What was wrong with the last request."""
    defaults: Defaults | None = None
    """Those that the widgets were last fitted to."""


class TextToImage:
    """The tab. `news` is the component whose event 'news' says that the worker has something new."""

    def __init__(self, worker: Worker, sizes: Sizes, examples: Sequence[Example], news: gr.HTML) -> None:
        self._worker = worker
        self._examples = examples
        snapshot = worker.snapshot()
        self._status = news
        self._view = gr.State(View(defaults=snapshot.defaults))
        with gr.Row(elem_id="room"):
            with gr.Column(elem_id="desk", min_width=280):
                self._desk(sizes, snapshot)
            with gr.Column(elem_id="wall", min_width=280):
                self._easel = gr.HTML(
                    easel.picture_area(snapshot, worker.history, None, examples),
                    js_on_load=CLICKS,
                    apply_default_css=False,
                    elem_id="easel",
                )
                self._shelf = gr.HTML(
                    easel.shelf(snapshot, worker.history, None),
                    js_on_load=CLICKS,
                    apply_default_css=False,
                    elem_id="shelf",
                )
        self._wire()

    def _desk(self, sizes: Sizes, snapshot: Snapshot) -> None:
        self._prompt = gr.Textbox(
            label="Prompt",
            lines=4,
            max_lines=10,
            placeholder='a cat at the top left and the word "HELLO" at the bottom, on a blue background',
            elem_id="prompt",
        )
        self._written = gr.HTML(easel.written(""), apply_default_css=False, elem_id="written")
        self._complaint = gr.HTML("", apply_default_css=False, elem_id="complaint")
        self._controls = controls.make(sizes, snapshot.defaults)
        with gr.Row(elem_id="actions"):
            self._paint = gr.Button("Paint", variant="primary", elem_id="paint", min_width=120, scale=3)
            self._stop = gr.Button("Stop", visible=False, elem_id="stop", min_width=80, scale=1)

    def load(self, page: gr.Blocks) -> None:
        """What a page does when it opens: bring back the draft, show what is going on."""
        page.load(None, None, self._prompt, js="() => window.atelier.draft()", **QUIET)
        page.load(self._look, self._view, self._shown, **QUIET)

    @property
    def _shown(self) -> list[Component]:
        """What `_show` updates."""
        fitted: list[Component] = [self._controls.side, self._controls.steps, self._controls.guidance]
        return [self._view, self._status, self._easel, self._shelf, self._complaint, self._stop, *fitted]

    def _wire(self) -> None:
        widgets: set[Block] = {*self._controls.inputs, self._prompt, self._view}
        answers: list[Block] = [*self._shown, self._prompt, *(self._controls.inputs - set(self._shown))]
        self._paint.click(self._on_paint, widgets, answers, **QUIET)
        self._stop.click(self._on_stop, self._view, self._shown, **QUIET)
        self._status.news(self._look, self._view, self._shown, trigger_mode="always_last", **QUIET)
        for part in (self._easel, self._shelf):
            part.act(self._on_act, widgets, answers, **QUIET)
        self._prompt.change(easel.written, self._prompt, self._written, trigger_mode="always_last", **QUIET)

    def _look(self, view: View) -> dict[Component, Any]:
        """For events that no click caused; one may be overtaken by a click, so it does not write an old view back."""
        updates = self._show(view)
        return {part: update for part, update in updates.items() if part is not self._view or update != view}

    def _show(self, view: View) -> dict[Component, Any]:
        """Everything that depends on the worker, as it is now."""
        snapshot = self._worker.snapshot()
        history = self._worker.history
        updates: dict[Component, Any] = {}
        if view.defaults != snapshot.defaults:
            updates |= self._controls.fit_checkpoint(snapshot.defaults)
            view = replace(view, defaults=snapshot.defaults)
        return updates | {
            self._view: view,
            self._status: easel.status(snapshot),
            self._easel: easel.picture_area(snapshot, history, view.chosen, self._examples),
            self._shelf: easel.shelf(snapshot, history, view.chosen),
            self._complaint: easel.complaint(view.sentence or _trouble(snapshot)),
            self._stop: gr.update(visible=snapshot.current is not None),
        }

    def _on_paint(self, values: controls.Values) -> dict[Component, Any]:
        return self._submit(values, lambda: self._asked(values[self._prompt] or "", values))

    def _asked(self, prompt: str, values: controls.Values) -> Request:
        return self._controls.request(prompt, values, self._worker.snapshot().defaults)

    def _submit(self, values: controls.Values, build: Callable[[], Request]) -> dict[Component, Any]:
        """Hands the request to the worker, or says what is wrong with it; nothing that was typed is touched."""
        view: View = values[self._view]
        try:
            request = build()
        except GLMImageError as error:
            return self._show(replace(view, sentence=str(error)))
        self._worker.submit(request)
        return {self._controls.seed: request.seed} | self._show(replace(view, chosen=None, sentence=""))

    def _on_stop(self, view: View) -> dict[Component, Any]:
        self._worker.stop()
        return self._show(view)

    def _on_act(self, values: controls.Values, event: gr.EventData) -> dict[Component, Any]:
        """A click on a picture, an example, a waiting job."""
        view: View = values[self._view]
        act, key = str(event.act), str(event.key)
        match act:
            case "choose" if self._worker.history.find(key):
                return self._show(replace(view, chosen=key))
            case "live":
                return self._show(replace(view, chosen=None))
            case "remove" if key.isdigit():
                self._worker.stop(int(key))
            case "use":
                return self._use(view, key)
            case "example" if key.isdigit() and int(key) < len(self._examples):
                return self._paint_example(values, self._examples[int(key)])
        return self._show(view)

    def _use(self, view: View, key: str) -> dict[Component, Any]:
        picture = self._worker.history.find(key)
        settings = self._worker.history.settings(picture) if picture else None
        if settings is None:
            return self._show(replace(view, sentence="This picture carries no settings; choose another one."))
        defaults = self._worker.snapshot().defaults
        return self._show(view) | self._controls.show(settings, defaults) | {self._prompt: settings.request.prompt}

    def _paint_example(self, values: controls.Values, example: Example) -> dict[Component, Any]:
        updates = self._submit(values, lambda: replace(self._asked(example.prompt, values), seed=example.seed))
        return updates | {self._prompt: example.prompt}


def _trouble(snapshot: Snapshot) -> str:
    """What went wrong last, as long as nothing newer is being done."""
    if snapshot.current is not None or snapshot.waiting:
        return ""
    if snapshot.last is not None and snapshot.last.error:
        return snapshot.last.error
    return snapshot.message
