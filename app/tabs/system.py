"""System: the machine, the checkpoint and how it fits, what was done lately, what lies on the disk; and the choice of
another checkpoint or plan. Knows neither torch nor how a plan is made.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, ClassVar, cast

import gradio as gr

from app import caches, easel, panel
from app.choice import Choice
from app.page import CLICKS, QUIET, Cargo, Page, Parcel, Ports, Updates, Values, Visit
from app.tabs.own_presets import OwnPresets
from app.words import Words, label
from glmimage.errors import GLMImageError, RequestError

BITS = ("auto", "16", "8", "4")
OFFLOADS = ("auto", "none", "stage", "stream")
FRESH = 5.0
"""Seconds for which sizes on the disk are believed; while a picture is painted the tab is drawn anew all the time."""


class System:
    """The tab."""

    name: ClassVar[str] = "system"
    accepts: ClassVar[frozenset[Cargo]] = frozenset()

    def build(self, page: Page) -> Ports:
        self._page = page
        self._sizes: dict[Path, tuple[float, dict[str, int]]] = {}
        words = Words()
        with gr.Row(elem_classes="room"):
            with gr.Column(elem_classes="desk", min_width=280):
                self._desk()
                self._stored = gr.HTML("", js_on_load=CLICKS, apply_default_css=False, elem_id="system-stored")
                self._presets = OwnPresets(page)
                gr.HTML(panel.versions(words), apply_default_css=False, elem_id="system-versions")
            with gr.Column(elem_classes="wall", min_width=280):
                self._machine, self._plan, self._jobs = (
                    gr.HTML("", apply_default_css=False, elem_id=f"system-{name}")
                    for name in ("machine", "plan", "jobs")
                )
        # Whether the page shows what is chosen; from then on the widgets are the person's.
        self._shown = gr.State(False)
        # What was wrong with the last click.
        self._fault = gr.State("")
        choosing: list[Any] = [self._shown, self._fault, self._checkpoint, self._bits, self._offload, self._memory]
        outputs: list[Any] = [
            *choosing,
            self._how,
            self._complaint,
            self._progress,
            self._halt,
            self._stored,
            self._presets.list,
            self._machine,
            self._plan,
            self._jobs,
        ]
        inputs: set[Any] = {*choosing, self._presets.deleted, page.who}
        if page.owned:
            clicks = (
                self._load.click(self._change, inputs, outputs, **QUIET),
                self._checkpoint.submit(self._change, inputs, outputs, **QUIET),
                self._halt.click(self._stop, inputs, outputs, **QUIET),
                self._stored.act(self._act, inputs, outputs, **QUIET),
            )
            for click in clicks:
                # A look that began before the click may be answered after it, and would stay.
                click.then(lambda values: self.look(page.visit(values), values), inputs, outputs, **QUIET)
        return Ports({self._shown, self._fault, self._presets.deleted}, outputs)

    def look(self, visit: Visit, values: Values) -> Updates:
        found, words = self._page.worker.look(), visit.words
        wrong = values[self._fault] or panel.refusal(visit.snapshot, words)
        return self._show(visit.snapshot.choice, values) | {
            self._complaint: easel.complaint(words.said(wrong)),
            self._how: panel.how(words),
            self._progress: easel.progress_area(visit.snapshot, easel.Place(self.name), words),
            self._halt: gr.update(visible=self._page.owned and visit.snapshot.readiness == "loading"),
            self._stored: panel.stored(
                self._measure(visit, anew=not values[self._shown]), words, clearing=self._page.owned
            ),
            **self._presets.look(visit, values),
            self._machine: panel.machine(found, words),
            self._plan: panel.plan(found, words),
            self._jobs: panel.jobs(visit.snapshot, words),
        }

    def receive(self, parcel: Parcel, visit: Visit, values: Values) -> Updates:
        """Nothing is sent here."""
        return {}

    def _show(self, choice: Choice, values: Values) -> Updates:
        if values[self._shown]:
            return {}
        return {
            self._shown: True,
            self._checkpoint: choice.checkpoint,
            self._bits: str(choice.bits or "auto"),
            self._offload: choice.offload,
            self._memory: "" if choice.memory is None else f"{choice.memory:g}",
        }

    def _desk(self) -> None:
        """What is chosen; where the page is a stranger's it is not shown."""
        owned = self._page.owned
        self._checkpoint = gr.Textbox(
            label=cast(str, label("system.checkpoint")),
            info=cast(str, label("system.checkpoint.info")),
            max_lines=1,
            elem_id="system-checkpoint",
            visible=owned,
        )
        self._bits = gr.Radio(
            [(cast(str, label(f"system.bits.{bits}")), bits) for bits in BITS],
            value="auto",
            label=cast(str, label("system.bits")),
            elem_id="system-bits",
            elem_classes="chips",
            visible=owned,
        )
        self._offload = gr.Radio(
            [(cast(str, label(f"system.offload.{offload}")), offload) for offload in OFFLOADS],
            value="auto",
            label=cast(str, label("system.offload")),
            elem_id="system-offload",
            elem_classes="chips",
            visible=owned,
        )
        # Text, because an empty gr.Number turns into 0.
        self._memory = gr.Textbox(
            label=cast(str, label("system.memory")),
            info=cast(str, label("system.memory.info")),
            max_lines=1,
            elem_id="system-memory",
            visible=owned,
        )
        self._complaint = gr.HTML(
            "", apply_default_css=False, elem_classes="complaint-part", elem_id="system-complaint"
        )
        self._progress = gr.HTML("", apply_default_css=False, elem_id="system-progress")
        self._load = gr.Button(cast(str, label("system.load")), variant="primary", elem_id="system-load", visible=owned)
        # Of the class that Esc stops.
        self._halt = gr.Button(
            cast(str, label("system.halt")), elem_classes="stop", elem_id="system-halt", visible=False
        )
        self._how = gr.HTML("", apply_default_css=False, elem_id="system-how", visible=owned)

    def _change(self, values: Values) -> Updates:
        visit = self._page.visit(values)
        try:
            choice = self._chosen(values)
        except GLMImageError as error:
            return self._say(visit, values, str(error))
        self._page.worker.change(choice, choice.expected())
        return self._say(self._page.visit(values), values)

    def _stop(self, values: Values) -> Updates:
        self._page.worker.halt()
        return self._say(self._page.visit(values), values)

    def _chosen(self, values: Values) -> Choice:
        """Raises RequestError."""
        memory = (values[self._memory] or "").strip().replace(",", ".")
        try:
            amount = float(memory) if memory else None
        except ValueError:
            raise RequestError(f"The memory {memory!r} is not a number of GiB; correct it or leave it empty.") from None
        bits = values[self._bits]
        return Choice(
            checkpoint=(values[self._checkpoint] or "").strip(),
            bits=None if bits == "auto" else int(bits),
            offload=values[self._offload],
            memory=amount,
        )

    def _measure(self, visit: Visit, *, anew: bool) -> dict[str, int]:
        storage, now = visit.history.storage, time.monotonic()
        when, sizes = self._sizes.get(storage.root, (-FRESH, {}))
        if anew or now - when >= FRESH:
            sizes = caches.sizes(storage)
            self._sizes[storage.root] = now, sizes
        return sizes

    def _act(self, values: Values, event: gr.EventData) -> Updates:
        visit = self._page.visit(values)
        try:
            caches.clear(visit.history.storage, str(event.key))
            self._sizes.clear()
        except GLMImageError as error:
            return self._say(visit, values, str(error))
        return self._say(visit, values)

    def _say(self, visit: Visit, values: Values, fault: str = "") -> Updates:
        """How things are, and what was wrong with a click."""
        return self.look(visit, {**values, self._fault: fault}) | {self._fault: fault}
