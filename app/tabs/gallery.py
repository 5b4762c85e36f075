"""Gallery: everything that was made, found again, sorted, compared, sent on and given away.

The wall is one gr.HTML whose script (assets/gallery.js) asks the functions below for pages, pictures and deeds; only
what concerns other widgets (sending to a tab, comparing) is an event. What a browser says is taken for what it is: keys
are looked up, uploads are opened only where Gradio put them. Knows neither the index nor how marks are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date
from functools import wraps
from typing import Any, ClassVar, cast

import gradio as gr

from app import comparisons, gallery, intake, swatches
from app.easel import file_url
from app.gallery import Roads
from app.history import Query
from app.library import Kind, Preset
from app.page import QUIET, Cargo, Page, Parcel, Ports, Updates, Values, Visit
from app.presets import ROOT
from app.wall import TASK_TABS
from app.words import label
from glmimage.errors import GLMImageError
from glmimage.request import Request

SCRIPT = ROOT / "assets" / "gallery.js"
PARTS: tuple[Cargo, ...] = ("settings", "prompt", "seed", "layout")
TELLING: tuple[Kind, ...] = ("style", "edit")
"""Kinds of presets by whose words their pictures can be told."""
LARGEST_DEED = 5000
"""Pictures that one click may concern."""

Ask = Mapping[str, Any]
Answer = dict[str, Any]


def _said(answer: Callable[[Gallery, Visit, Ask], Answer]) -> Callable[[Gallery, Ask], Answer]:
    """What the script calls: a fault is answered as a sentence, and so is nonsense."""

    @wraps(answer)
    def answered(self: Gallery, ask: Ask) -> Answer:
        visit = self._page.visit({self._page.who: str(ask.get("who", ""))})
        try:
            return answer(self, visit, ask)
        except GLMImageError as error:
            return {"error": visit.words.said(str(error))}

    return answered


class Gallery:
    """The tab."""

    name: ClassVar[str] = "gallery"
    accepts: ClassVar[frozenset[Cargo]] = frozenset({"picture"})

    def build(self, page: Page) -> Ports:
        self._page = page
        self._wall = gr.HTML(
            "",
            html_template='<div class="place"></div>',
            js_on_load=SCRIPT.read_text(encoding="utf-8"),
            server_functions=self._functions(),
            apply_default_css=False,
            elem_id="gallery",
            news="",
            chosen="",
        )
        with gr.Column(visible=False, elem_id="compare") as self._compare:
            close = gr.Button(cast(str, label("gallery.close")), elem_id="compare-close", scale=0)
            self._slider = gr.HTML("", apply_default_css=False, elem_id="compare-slider", elem_classes="easel-part")
        outputs: list[Any] = [*page.mail, self._compare, self._slider]
        clicked = self._wall.act(self._act, {page.who}, outputs, **QUIET)
        clicked.then(None, None, None, js="() => document.querySelector('#compare input')?.focus()", **QUIET)
        close.click(lambda: gr.update(visible=False), None, self._compare, **QUIET)
        return Ports(set(), [self._wall])

    def look(self, visit: Visit, values: Values) -> Updates:
        """Says that there may be something new; the script asks what."""
        return {self._wall: gr.HTML(news=_newest(visit))}

    def receive(self, parcel: Parcel, visit: Visit, values: Values) -> Updates:
        """Opens the picture."""
        return {self._wall: gr.HTML(news=_newest(visit), chosen=f"{parcel.key} {parcel.number}")}

    def _functions(self) -> list[Callable[[Ask], Answer]]:
        """Plain functions, by the names under which the script knows them."""

        def enter(ask: Ask) -> Answer:
            return self._enter(ask)

        def shots(ask: Ask) -> Answer:
            return self._shots(ask)

        def show(ask: Ask) -> Answer:
            return self._show(ask)

        def deed(ask: Ask) -> Answer:
            return self._deed(ask)

        def pack(ask: Ask) -> Answer:
            return self._pack(ask)

        def adopt(ask: Ask) -> Answer:
            return self._adopt(ask)

        return [enter, shots, show, deed, pack, adopt]

    @_said
    def _enter(self, visit: Visit, ask: Ask) -> Answer:
        return {"html": gallery.frame(visit.words)}

    @_said
    def _shots(self, visit: Visit, ask: Ask) -> Answer:
        """One page of thumbnails; with the first one what stands above them."""
        presets = {kind: visit.library.presets(kind) for kind in TELLING}
        there = {preset.key: preset for kind in TELLING for preset in presets[kind]}
        chosen = there.get(str(ask.get("preset", "")))
        query = _query(ask, _wordings(chosen) if chosen else ())
        found = visit.history.search(query)
        answer: Answer = {
            "html": gallery.shots(found.pictures, visit.history, visit.words),
            "cursor": found.cursor,
            "told": gallery.summary(found, visit.words),
            "unread": found.unread,
        }
        if not query.cursor:
            counts = visit.history.counts()
            answer["sieve"] = gallery.sieve(query, counts, visit.words)
            answer["tools"] = gallery.tools(query, counts, presets, chosen.key if chosen else "", visit.words)
        return answer

    @_said
    def _show(self, visit: Visit, ask: Ask) -> Answer:
        """One picture with everything."""
        key, history = str(ask.get("key", "")), visit.history
        picture = history.find(key) or history.find_trashed(key)
        entry = history.entry(key) if picture else None
        if picture is None or entry is None:
            return {"error": visit.words("gallery.gone"), "gone": True}
        settings = history.settings(picture)
        family = gallery.lineage(entry, history.lineage(key), history, visit.words)
        roads = self._roads(settings.request if settings else None)
        return {"html": gallery.viewer(entry, settings, family, roads, visit.words)}

    @_said
    def _deed(self, visit: Visit, ask: Ask) -> Answer:
        """Stars, tags, throws away, brings back, deletes."""
        history, words = visit.history, visit.words
        keys = [str(key) for key in ask.get("keys", ())][:LARGEST_DEED]
        tag = str(ask.get("tag", ""))
        match ask.get("act"):
            case "star" | "unstar":
                return {"keys": history.star(*keys, on=ask["act"] == "star")}
            case "tag":
                return {"keys": history.tag(*keys, add=[tag])}
            case "untag":
                return {"keys": history.tag(*keys, remove=[tag])}
            case "discard":
                done = history.trash(*keys)
                return {"keys": done, "told": words("gallery.trashed", count=len(done)), "undo": words("gallery.undo")}
            case "restore":
                done = history.restore(*keys)
                return {"keys": done, "told": words("gallery.restored", count=len(done))}
            case "delete" if keys:
                return {"keys": keys, "told": words("gallery.deleted", count=history.empty_trash(*keys))}
            case "empty":
                return {"keys": [], "told": words("gallery.deleted", count=history.empty_trash())}
        return {"keys": []}

    @_said
    def _pack(self, visit: Visit, ask: Ask) -> Answer:
        """A zip of several pictures, or one without its settings."""
        keys, strip = [str(key) for key in ask.get("keys", ())][:LARGEST_DEED], ask.get("strip") is True
        path = visit.history.bare(keys[0]) if len(keys) == 1 and strip else visit.history.zip(keys, strip)
        return {"url": file_url(path), "name": path.name}

    @_said
    def _adopt(self, visit: Visit, ask: Ask) -> Answer:
        """Takes in a file that the browser has just uploaded."""
        with intake.arrived(str(ask.get("path", ""))) as file:
            adopted = visit.history.adopt(file)
        words = visit.words
        told = words("gallery.adopted.partly" if adopted.missing else "gallery.adopted")
        return {
            "key": adopted.picture.key,
            "told": words("gallery.known") if adopted.known else told,
            "missing": [words.said(sentence) for sentence in adopted.missing],
        }

    def _act(self, values: Values, event: gr.EventData) -> Updates:
        """A click that concerns other widgets than the wall."""
        nothing: Updates = {self._page.post: gr.skip()}
        visit = self._page.visit(values)
        key, to = str(event.key), str(event.to)
        match event.act:
            case "send" if event.cargo in ("picture", *PARTS):
                return self._page.send(to, event.cargo, key)
            case "compare":
                return self._side_by_side(visit, key, to) or nothing
        return nothing

    def _side_by_side(self, visit: Visit, one: str, other: str) -> Updates:
        left, right = visit.history.find(one), visit.history.find(other)
        if left is None or right is None:
            return {}
        shown = comparisons.slider(*visit.history.pair(left, right), visit.words, "gallery.compare")
        return {self._compare: gr.update(visible=True), self._slider: shown}

    def _roads(self, request: Request | None) -> Roads:
        """Which tabs take the picture, and which its settings: first the one that it was made in, where that does."""
        pictures = self._page.takers("picture", self.name)
        if request is None:
            return Roads(pictures=pictures)
        home = TASK_TABS.get(request.task, request.task)
        parts: dict[str, list[str]] = {}
        for part in PARTS:
            parts[part] = sorted(self._page.takers(part, self.name), key=lambda tab: tab != home)
        if not request.references:
            # Where pictures are worked from, settings without one are nothing to begin with.
            parts["settings"] = [tab for tab in parts["settings"] if tab not in pictures]
        return Roads(pictures=pictures, parts=parts)


def _newest(visit: Visit) -> str:
    """Changes when there is something new to see; steps of the work in hand are none."""
    return next((picture.key for picture in visit.history.newest(1)), "")


def _wordings(preset: Preset) -> tuple[str, ...]:
    """What prompts say where a preset was used."""
    return (*preset.words.values(), *([swatches.restyling(preset)] if preset.kind == "style" else []))


def _query(ask: Ask, wordings: tuple[str, ...]) -> Query:
    """What the script asks for; nonsense asks for nothing in particular."""
    return Query(
        text=str(ask.get("text", "")),
        wordings=wordings,
        task=str(ask.get("task", "")),
        star=ask.get("star") is True,
        tag=str(ask.get("tag", "")),
        since=_day(ask.get("since")),
        until=_day(ask.get("until")),
        trashed=ask.get("trashed") is True,
        cursor=str(ask.get("cursor", "")),
        limit=_limit(ask.get("limit")),
    )


def _day(text: object) -> date | None:
    try:
        return date.fromisoformat(str(text)) if text else None
    except ValueError:
        return None


def _limit(number: object) -> int:
    return number if isinstance(number, int) else Query().limit
