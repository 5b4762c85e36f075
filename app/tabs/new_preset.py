"""A small form for a preset of one's own: its name and its words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, cast

import gradio as gr
from gradio.blocks import Block

from app import easel
from app.library import Preset
from app.page import QUIET, Page, Updates, Values, Visit
from app.words import label
from glmimage.errors import GLMImageError

Keep = Callable[[Preset, Visit, Values], Updates]


class NewPreset:
    """Made in the column that is open; hidden until `show`."""

    def __init__(self, page: Page, kind: Literal["style", "edit"]) -> None:
        self._page, self._kind = page, kind
        with gr.Column(visible=False, elem_classes="small-form") as self._form:
            self._name, self._words = (
                gr.Textbox(label=cast(str, label(said)), elem_id=f"new-{kind}-{part}", max_lines=1)
                for part, said in (("name", "preset.name"), ("words", f"preset.words.{kind}"))
            )
            self._fault = gr.HTML("", apply_default_css=False, elem_classes="complaint-part")
            with gr.Row():
                self._keep, self._drop = (
                    gr.Button(
                        cast(str, label(f"preset.{act}")),
                        elem_id=f"new-{kind}-{act}",
                        elem_classes="second",
                        min_width=80,
                    )
                    for act in ("keep", "drop")
                )

    @property
    def outputs(self) -> list[Block]:
        return [self._form, self._name, self._words, self._fault]

    def show(self, words: str = "") -> Updates:
        return {self._form: gr.update(visible=True), self._words: words, self._fault: ""}

    def _hide(self) -> Updates:
        return {self._form: gr.update(visible=False), self._name: "", self._words: "", self._fault: ""}

    def wire(self, inputs: set[Block], outputs: Sequence[Block], keep: Keep) -> None:
        """`keep` stores the preset and answers with updates of `outputs`."""

        def kept(values: Values) -> Updates:
            visit = self._page.visit(values)
            try:
                data = {"kind": self._kind, "name": values[self._name] or "", "words": values[self._words] or ""}
                updates = keep(visit.library.check(data), visit, values)
            except GLMImageError as error:
                return {self._fault: easel.complaint(visit.words.said(str(error)))}
            return updates | self._hide()

        wide: set[Any] = {*inputs, self._name, self._words, self._page.who}
        answers: list[Any] = [*dict.fromkeys([*outputs, *self.outputs])]
        self._keep.click(kept, wide, answers, **QUIET)
        self._drop.click(self._hide, None, [*self.outputs], **QUIET)
