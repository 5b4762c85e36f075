"""Own presets: renamed, deleted and brought back, exported and imported; part of the System tab."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app import easel, export, intake, preset_list
from app.library import KINDS, Library, Preset
from app.page import CLICKS, QUIET, Page, Updates, Values, Visit
from app.words import Words
from glmimage.errors import GLMImageError


class OwnPresets:
    """Made where it is to stand."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self.list = gr.HTML(
            preset_list.html((), (), Words()), js_on_load=CLICKS, apply_default_css=False, elem_id="system-presets"
        )
        self.deleted = gr.State(None)
        inputs: set[Any] = {self.deleted, page.who}
        self.list.act(self._act, inputs, [self.list, self.deleted], **QUIET)

    def look(self, visit: Visit, values: Values) -> Updates:
        return {self.list: self._html(visit, deleted=values[self.deleted])}

    def _html(self, visit: Visit, **told: Any) -> str:
        library = visit.library
        own = [preset for kind in KINDS for preset in library.presets(kind) if preset.own]
        return preset_list.html(own, library.faults(), visit.words, **told)

    def _act(self, values: Values, event: gr.EventData) -> Updates:
        visit, deleted = self._page.visit(values), values[self.deleted]
        try:
            told, deleted = self._do(str(event.act), str(event.key), str(event.to), visit, deleted)
        except GLMImageError as error:
            told = {"complaint": str(error)}
        return {self.list: self._html(visit, deleted=deleted, **told), self.deleted: deleted}

    def _do(
        self, act: str, key: str, to: str, visit: Visit, deleted: Preset | None
    ) -> tuple[dict[str, str], Preset | None]:
        """(what to tell, what can be brought back). Raises GLMImageError."""
        library: Library = visit.library
        match act:
            case "rename":
                library.rename(key, to, visit.words.language)
            case "delete":
                gone = library.find(key)
                library.delete(key)
                return {}, gone
            case "undo" if deleted is not None:
                library.keep(deleted)
                return {}, None
            case "export":
                own = [preset.key for kind in KINDS for preset in library.presets(kind) if preset.own]
                return {"exported": easel.file_url(export.text(visit.history.storage, library.export(*own)))}, deleted
            case "file.presets":
                with intake.arrived(key) as file:
                    library.adopt(file)
        return {}, deleted
