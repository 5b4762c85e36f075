"""What the page is to a tab, and a tab to the page.

A tab is a class in app/tabs/ that satisfies `Tab`; app/ui.py lists them and shows those that there are, in that order.
- `build(page)` makes the widgets inside the open gr.Tab, wires the tab's own events, and returns its `Ports`: what
  `look` and `receive` may read and write. Labels are `words.label(key)`, HTML is written with `Visit.words`.
- `look(visit, values)` answers with everything in the tab that depends on the worker or the history. The shell calls
  it when the page opens, when the tab is opened, and whenever the worker has news while the tab is in sight.
- `receive(parcel, visit, values)` takes a picture, its settings or a part of them (`accepts` says which), sent with
  `page.send(to, cargo, key)` from any tab; the shell opens the receiving tab first. A handler that sends has
  `*page.mail` among its outputs. `look` is called after `receive`, with the same values.

Values come by widget, never by position: `inputs` are sets, so that a handler gets {widget: value}; handlers return
{widget: update}. Every handler has `page.who` among its inputs, and `page.visit(values)` says who looks: language,
pictures, the state of the worker. `wall.Wall` is the easel that the creative tabs share.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import gradio as gr
from gradio.blocks import Block

from app.history import History
from app.jobs import Snapshot
from app.library import Library
from app.presets import Example, ExampleTask, Sizes
from app.run import Worker
from app.vocabulary import Vocabulary
from app.words import Words

QUIET: dict[str, Any] = {
    "queue": False,
    "show_progress": "hidden",
    "api_visibility": "private",
    "trigger_mode": "multiple",
}
"""How the page's events are wired: answered at once, without Gradio's spinner, no part of a public interface, and every
click counts: Gradio would leave out those that come before an earlier one is answered."""
LATEST: dict[str, Any] = QUIET | {"trigger_mode": "always_last"}
"""Where only the last of several counts, as of letters that are typed."""

Values = Mapping[Block, Any]
Updates = dict[Block, Any]
Cargo = Literal["picture", "settings", "prompt", "seed", "layout"]
"""The picture itself, all that made it, or one part of that, which leaves everything else in the tab as it is."""

CLICKS = """
element.addEventListener('click', (event) => {
  const target = event.target.closest('[data-act]');
  if (!target || !element.contains(target)) return;
  if ('once' in target.dataset && event.detail > 1) return;
  const {act, key = '', to = ''} = target.dataset;
  trigger('act', {act, key, to});
});
element.addEventListener('say', (event) => trigger('act', {key: '', to: '', ...event.detail}));
const bring = async (slot, files) => {
  const wanted = document.querySelector(`[data-slot="${slot}"]`)?.multiple ? files : files.slice(0, 1);
  if (!wanted.length) return;
  element.classList.add('is-busy');
  const sent = await Promise.all(wanted.map((file) => window.atelier.sent(upload, file)));
  element.classList.remove('is-busy');
  trigger('act', {act: `file.${slot}`, key: sent.join('\\n'), to: ''});
};
element.addEventListener('change', (event) => {
  const {slot, change, key = ''} = event.target.dataset;
  if (change) trigger('act', {act: change, key, to: event.target.value});
  if (slot === undefined) return;
  bring(slot, [...event.target.files]);
  event.target.value = '';
});
element.addEventListener('bring', (event) => bring(event.detail.slot, event.detail.files));
"""
"""What a gr.HTML passes on as its event 'act': a click on markup with `data-act`, `data-key` and `data-to`, only the
first of a double click where it says `data-once`; what was typed into a field with `data-change`; what the page's own
script says; a file that was chosen, dropped or pasted into a slot, once it is uploaded (`app.intake`)."""


@dataclass(frozen=True, slots=True)
class Visit:
    """One look at the studio."""

    words: Words
    history: History
    snapshot: Snapshot
    owner: str = ""
    """Whose jobs these are, for `Worker.submit` and `Worker.stop`."""

    @property
    def library(self) -> Library:
        """The visitor's presets, and those of the program."""
        return Library(self.history.storage.root)

    @property
    def vocabulary(self) -> Vocabulary | None:
        """What the checkpoint knows, in the visitor's language."""
        return Vocabulary.of(self.snapshot.world, self.words.language)


@dataclass(frozen=True, slots=True)
class Parcel:
    """A picture on its way to a tab."""

    to: str
    cargo: Cargo
    key: str
    """The picture's key in the history."""
    number: int
    """Differs from every other, so that the same picture can be sent twice."""


@dataclass(frozen=True, slots=True)
class Ports:
    """What `look` and `receive` of a tab read and write."""

    inputs: AbstractSet[Block]
    outputs: Sequence[Block]


class Tab(Protocol):
    """See the module's docstring."""

    name: ClassVar[str]
    """Its id; the catalogue has its title under `tab.<name>`."""
    accepts: ClassVar[frozenset[Cargo]]

    def build(self, page: Page) -> Ports: ...

    def look(self, visit: Visit, values: Values) -> Updates: ...

    def receive(self, parcel: Parcel, visit: Visit, values: Values) -> Updates: ...


class Page:
    """What the tabs share: the worker, the presets, and the few components that belong to no tab."""

    def __init__(
        self, blocks: gr.Blocks, worker: Worker, sizes: Sizes, examples: Sequence[Example], tabs: Sequence[Tab]
    ) -> None:
        self.blocks = blocks
        self.worker = worker
        self.sizes = sizes
        self.examples = examples
        self.library = Library(worker.history.storage.root)
        self.owned = not worker.visitors.hosted
        """Whether who looks may change the studio itself."""
        self.accepts = {tab.name: tab.accepts for tab in tabs}
        self._numbers = itertools.count(1)
        self.who = gr.Textbox("en", visible="hidden", elem_id="who", show_label=False, container=False)
        # Not a gr.State: what an event outside the queue does to one raises no change.
        self.post = gr.Textbox("", visible="hidden", elem_id="post", show_label=False, container=False)
        self.tabs = gr.Tabs(elem_id="tabs", overflow_behavior="wrap")

    @property
    def mail(self) -> tuple[Block, Block]:
        """What `send` writes."""
        return self.post, self.tabs

    def visit(self, values: Values) -> Visit:
        language, _, visitor = (values[self.who] or "").partition("|")
        owner = self.worker.visitors.name(visitor)
        return Visit(Words.of(language), self.worker.visitors.history(owner), self.worker.snapshot(owner), owner)

    def keep_draft(self, text: gr.Textbox) -> None:
        """What is typed into a text with an id and the class "draft" survives a reload."""
        self.blocks.load(None, None, text, js=f"() => window.atelier.draft('{text.elem_id}')", **QUIET)

    def examples_of(self, task: ExampleTask) -> tuple[Example, ...]:
        return tuple(one for one in self.examples if one.task == task)

    def example(self, task: ExampleTask, key: str) -> Example | None:
        """The one that a click on a card means."""
        offered = self.examples_of(task)
        return offered[int(key)] if key.isdecimal() and int(key) < len(offered) else None

    def takers(self, cargo: Cargo, besides: str = "") -> list[str]:
        """The tabs that accept it."""
        return [name for name, accepts in self.accepts.items() if cargo in accepts and name != besides]

    def send(self, to: str, cargo: Cargo, key: str) -> Updates:
        """Sends the picture with this key, or its settings, to a tab and opens it; nothing where that cannot be.

        The tab looks the key up among its visitor's pictures: what came from a browser may name none.
        """
        if cargo not in self.accepts.get(to, ()):
            return {self.post: gr.skip()}
        parcel = json.dumps([to, cargo, key, next(self._numbers)])
        return {self.post: parcel, self.tabs: gr.update(selected=to)}

    def parcel(self, values: Values) -> Parcel | None:
        """What was sent last; None for anything else that a browser says."""
        try:
            to, cargo, key, number = json.loads(values[self.post] or "")
            return Parcel(to, cargo, str(key), int(number)) if cargo in self.accepts[to] else None
        except (KeyError, TypeError, ValueError):
            return None
