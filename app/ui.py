"""The page: its head, the watch on the worker, and the tabs."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Sequence
from typing import Any, cast

import gradio as gr

from app import easel
from app.page import LATEST, QUIET, Page, Ports, Tab, Updates, Values
from app.presets import Example, Sizes
from app.run import Worker
from app.tabs.edit import Edit
from app.tabs.gallery import Gallery
from app.tabs.style import Style
from app.tabs.subjects import Subjects
from app.tabs.system import System
from app.tabs.text_regions import TextRegions
from app.tabs.text_to_image import TextToImage
from app.words import Words, label

TITLE = "GLM-Image Atelier"
LONGEST_WAIT = 20.0
"""Seconds after which a quiet watch is renewed; proxies cut longer ones."""

_WATCH = """
const names = NAMES;
const rest = (ms) => new Promise((done) => setTimeout(done, ms));
let seen = '';
(async () => {
  for (;;) {
    try {
      const now = await server.changed(seen);
      if (typeof now !== 'string') throw new Error('no answer');
      document.body.classList.remove('is-offline');
      if (seen && now.split('.')[0] !== seen.split('.')[0]) { location.reload(); return; }
      if (now !== seen) { seen = now; trigger(names[window.atelier.tab()] ?? Object.values(names)[0]); }
      await rest(180);
    } catch (error) {
      document.body.classList.add('is-offline');
      await rest(2000);
    }
  }
})();
"""
"""Waits for the worker's next change and tells the tab in sight. A studio that was started anew has another first half:
reload."""


def tabs() -> tuple[Tab, ...]:
    """Those that there are, in the order in which they are shown."""
    return (TextToImage(), TextRegions(), Edit(), Style(), Subjects(), Gallery(), System())


def build(worker: Worker, sizes: Sizes, examples: Sequence[Example]) -> gr.Blocks:
    """The whole page for one worker."""
    there = tabs()
    with gr.Blocks(title=TITLE, analytics_enabled=False, fill_width=True) as blocks:
        news = _head(worker, [tab.name for tab in there])
        page = Page(cast(gr.Blocks, blocks), worker, sizes, examples, there)
        items, ports = [], []
        with page.tabs:
            for tab in there:
                with gr.Tab(cast(str, label(f"tab.{tab.name}")), id=tab.name, elem_id=f"tab-{tab.name}") as item:
                    ports.append(tab.build(page))
                items.append(item)
        for tab, item, port in zip(there, items, ports, strict=True):
            _wire(page, news, tab, item, port)
        _open(page, news, there[0], ports[0])
    return cast(gr.Blocks, blocks)


def _head(worker: Worker, names: Sequence[str]) -> gr.HTML:
    start = secrets.token_hex(4)

    async def changed(seen: str) -> str:
        """Answers when the worker is no longer at `seen`, at the latest after LONGEST_WAIT; holds no thread."""
        patience = time.monotonic() + LONGEST_WAIT
        while seen == f"{start}.{worker.version}" and time.monotonic() < patience:
            await asyncio.sleep(0.05)
        return f"{start}.{worker.version}"

    with gr.Row(elem_id="top"):
        gr.HTML('<h1 class="name">Atelier<span>GLM-Image</span></h1>', apply_default_css=False, elem_id="name")
        return gr.HTML(
            easel.head(worker.snapshot(), Words()),
            js_on_load=_WATCH.replace("NAMES", json.dumps({name: _event(name) for name in names})),
            server_functions=[changed],
            apply_default_css=False,
            elem_id="status",
        )


def _event(name: str) -> str:
    """The event of the head that says: news for the tab in sight, which is this one."""
    return f"news_{name}"


def _wire(page: Page, news: gr.HTML, tab: Tab, item: gr.Tab, ports: Ports) -> None:
    """The tab sees what is new while it is open, and gets what is sent to it."""

    def look(values: Values) -> Updates:
        visit = page.visit(values)
        return {news: easel.head(visit.snapshot, visit.words)} | tab.look(visit, values)

    def receive(values: Values) -> Updates:
        parcel = page.parcel(values)
        if parcel is None or parcel.to != tab.name:
            return {news: gr.skip()}
        visit = page.visit(values)
        return tab.look(visit, values) | tab.receive(parcel, visit, values)

    inputs: set[Any] = {*ports.inputs, page.who}
    outputs: list[Any] = [news, *ports.outputs]
    getattr(news, _event(tab.name))(look, inputs, outputs, **LATEST)
    item.select(look, inputs, outputs, **QUIET)
    page.post.change(receive, {*inputs, page.post}, outputs, **QUIET)


def _open(page: Page, news: gr.HTML, first: Tab, ports: Ports) -> None:
    """What a page does when it opens: says who it is, then shows what is going on."""

    def look(values: Values) -> Updates:
        visit = page.visit(values)
        return {news: easel.head(visit.snapshot, visit.words)} | first.look(visit, values)

    known = page.blocks.load(None, None, page.who, js="() => window.atelier.who()", **QUIET)
    known.then(look, {*ports.inputs, page.who}, [news, *ports.outputs], **QUIET)
