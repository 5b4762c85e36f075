"""The easel as widgets: picture, progress, film strip, Paint and Stop; every creative tab has one.

A tab makes a `Wall`, calls `hang` in its right column and `actions` at the end of its left one, and `wire` once its
other widgets are there. It shows the tab's own pictures; the strip shows all. Knows no prompt and no request.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import gradio as gr
from gradio.blocks import Block

from app import easel
from app.controls import roll
from app.history import Picture
from app.jobs import Snapshot
from app.page import CLICKS, QUIET, Page, Updates, Values, Visit
from app.words import Words, label
from glmimage.errors import GLMImageError, RequestError
from glmimage.metadata import Settings
from glmimage.request import Request

TASK_TABS = {"text": "create"}
"""Where the settings of a picture belong; other tasks have the names of their tabs."""

BARE = """
element.addEventListener('click', async (event) => {
  const link = event.target.closest('a[data-bare]');
  if (!link || !window.atelier.bare()) return;
  event.preventDefault();
  const {error, url, name} = await server.bare({who: window.atelier.who(), key: link.dataset.key}) ?? {};
  if (url) window.atelier.save(url, name);
  if (error) trigger('act', {act: 'fault', key: error, to: ''});
});
"""
"""Where pictures leave without their settings, the link under one saves it so. What is wrong is said where faults are:
the link goes as soon as somebody notices that its picture has gone."""

Act = Callable[[str, str, Visit, Values], Updates | None]
Beside = Callable[[Visit, Values], Updates]
Drawing = Callable[[Values], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class View:
    """What one page looks at; the rest is the worker's and the same for all pages."""

    chosen: str | None = None
    """The picture that was clicked; None follows the work, "" shows none."""
    sentence: str = ""
    """What was wrong with the last request."""
    sketching: bool = False
    """The sketches are looked at."""
    picked: frozenset[int] = frozenset()
    """Sketches that were clicked."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Hanging:
    """What a tab hangs there in its own way; each may leave it to the easel."""

    stage: Callable[[Visit, Values], str] = lambda visit, values: ""
    """What stands there while no picture is shown, in place of the welcome."""
    alone: Callable[[Visit, Picture], str] = lambda visit, picture: ""
    """A single finished picture."""
    frames: Callable[[Visit, Values], Sequence[easel.Frame] | None] = lambda visit, values: None
    """The film strip."""
    further: bool = False
    """Whether the tab goes on from its own pictures."""
    bare: bool = False
    """Whether the tab shows its pictures itself: the wall has progress and strip alone."""


class Wall:
    """`welcome` says in HTML what stands there before the first picture."""

    def __init__(self, page: Page, tab: str, welcome: Callable[[Words], str], hanging: Hanging | None = None) -> None:
        self._page = page
        self._tab = tab
        self._welcome = welcome
        self._hanging = hanging or Hanging()
        self.view = gr.State(View())
        self._parts: Sequence[gr.HTML] = ()
        self._beside: Beside = lambda visit, values: {}
        self._drawing: Drawing = lambda values: {}

    def hang(self) -> None:
        """Makes picture and strip in the column that is open."""
        words, snapshot, history = Words(), self._page.worker.snapshot(), self._page.worker.history

        def bare(ask: Mapping[str, object]) -> dict[str, str]:
            """The picture as pixels alone, for download."""
            visit = self._page.visit({self._page.who: str(ask.get("who", ""))})
            try:
                path = visit.history.bare(str(ask.get("key", "")))
            except GLMImageError as error:
                return {"error": str(error)}
            return {"url": easel.file_url(path), "name": path.name}

        self.easel = gr.HTML(
            easel.progress_area(snapshot, easel.Place(self._tab), words)
            if self._hanging.bare
            else easel.picture_area(snapshot, history, easel.Place(self._tab), self._welcome(words), words),
            js_on_load=CLICKS,
            apply_default_css=False,
            elem_classes="easel-part",
            elem_id=f"{self._tab}-easel",
        )
        self.shelf = gr.HTML(
            easel.shelf(snapshot, history, easel.Place(self._tab), words),
            js_on_load=CLICKS + BARE,
            server_functions=[bare],
            apply_default_css=False,
            elem_classes="shelf-part",
            elem_id=f"{self._tab}-shelf",
        )

    def complain(self) -> None:
        """Makes the place where faults are said, in the column that is open; near the prompt."""
        self.complaint = gr.HTML(
            "", apply_default_css=False, elem_classes="complaint-part", elem_id=f"{self._tab}-complaint"
        )

    def actions(self, between: Callable[[], None] | None = None, paint: str = "control.paint") -> None:
        """Makes Paint and Stop in the column that is open, and what `between` makes."""
        with gr.Row(elem_classes="actions"):
            self.paint = gr.Button(
                cast(str, label(paint)),
                variant="primary",
                elem_classes="paint",
                elem_id=f"{self._tab}-paint",
                min_width=120,
                scale=3,
            )
            if between is not None:
                between()
            self.stop = gr.Button(
                cast(str, label("control.stop")),
                visible=False,
                elem_classes="stop",
                elem_id=f"{self._tab}-stop",
                min_width=80,
                scale=1,
            )

    @property
    def outputs(self) -> list[Block]:
        """What `look` writes, and the view."""
        return [self.view, self.easel, self.shelf, self.complaint, self.stop, *self._parts]

    def wire(
        self,
        inputs: set[Block],
        outputs: Sequence[Block],
        act: Act | None = None,
        parts: Sequence[gr.HTML] = (),
        beside: Beside | None = None,
        drawing: Drawing | None = None,
    ) -> None:
        """Clicks on the markup, on that of the tab's own `parts`, and on Stop. `act` answers the tab's own ones, with
        `inputs` and `outputs` at hand. `beside` writes such of the parts as follow from the tab's states. `drawing`:
        what a repaint takes from the desk."""
        self._parts, self._beside, self._drawing = parts, beside or self._beside, drawing or self._drawing

        def clicked(values: Values, event: gr.EventData) -> Updates:
            visit = self._page.visit(values)
            name, key = str(event.act), str(event.key)
            updates = act(name, key, visit, values) if act else None
            return self.act(name, key, visit, values, str(event.to)) if updates is None else updates

        def stopped(values: Values) -> Updates:
            self._page.worker.stop(owner=self._page.visit(values).owner)
            return self.look(self._page.visit(values), values)

        wide: set[Any] = {*inputs, self.view, self._page.who}
        answers: list[Any] = [*dict.fromkeys([*self.outputs, *outputs, *self._page.mail])]
        for part in (self.easel, self.shelf, *parts):
            self.settle(part.act(clicked, wide, answers, **QUIET), wide)
        self.stop.click(stopped, wide, self.outputs, **QUIET)

    def settle(
        self, event: Any, inputs: set[Any], look: Beside | None = None, outputs: Sequence[Block] | None = None
    ) -> None:
        """Looks again once a click or a letter is answered: a look that began before may be answered later, and would
        stay. `look`, `outputs`: the tab's own, where it writes more than the wall."""
        again = look or self.look
        event.then(
            lambda values: again(self._page.visit(values), values),
            inputs,
            [*(self.outputs if outputs is None else outputs)],
            **QUIET,
        )

    def look(self, visit: Visit, values: Values) -> Updates:
        """Everything that depends on the worker. A click may overtake this, so it does not write the view back."""
        updates = self._show(visit, values, values[self.view])
        del updates[self.view]
        return updates | self._beside(visit, values)

    def submit(
        self,
        visit: Visit,
        values: Values,
        build: Callable[[], Request | Sequence[Request]],
        *,
        tries: int = 0,
        sketching: bool = False,
    ) -> tuple[Request | None, Updates]:
        """Hands a request, or several as one job, to the worker, or says what is wrong; what was typed stays.

        tries, sketching: as `Worker.submit`. Answers with the first request, None where there is none.
        """
        view: View = values[self.view]
        try:
            request = build()
        except GLMImageError as error:
            return None, self._show(visit, values, replace(view, sentence=str(error)))
        self._page.worker.submit(request, self._tab, tries=tries, sketching=sketching, owner=visit.owner)
        fresh = replace(view, chosen=None, sentence="", sketching=sketching, picked=frozenset())
        first = request if isinstance(request, Request) else request[0]
        return first, self._show(self._anew(visit), values, fresh)

    def picked(self, visit: Visit, values: Values) -> list[Request]:
        """The requests that go on with the sketches that were clicked; none where none is, or they are not in sight."""
        view: View = values[self.view]
        sketched = visit.snapshot.sketched.get(self._tab)
        if not view.sketching or view.chosen is not None or sketched is None:
            return []
        return [one.pick(sketched.request) for one in sketched.sketches if one.index in view.picked]

    def say(self, visit: Visit, values: Values, sentence: str) -> Updates:
        """Says a fault where the person is looking."""
        return self._show(visit, values, replace(values[self.view], sentence=sentence))

    def choose(self, visit: Visit, values: Values, key: str | None) -> Updates:
        """Shows a picture large; None follows the work."""
        return self._show(visit, values, replace(values[self.view], chosen=key))

    def _show(self, visit: Visit, values: Values, view: View) -> Updates:
        snapshot, history, words, hanging = visit.snapshot, visit.history, visit.words, self._hanging
        takers = tuple(self._page.takers("picture", "" if hanging.further else self._tab))
        # With what is shown now, not with what was when the event began.
        values = {**values, self.view: view}
        empty = hanging.stage(visit, values) or self._welcome(words)
        place = easel.Place(self._tab, view.chosen, takers, view.sketching, view.picked)
        return {
            self.view: view,
            self.easel: easel.progress_area(snapshot, place, words)
            if hanging.bare
            else easel.picture_area(
                snapshot, history, place, empty, words, lambda picture: hanging.alone(visit, picture)
            ),
            self.shelf: easel.shelf(snapshot, history, place, words, hanging.frames(visit, values)),
            self.complaint: easel.complaint(words.said(view.sentence or trouble(snapshot, self._tab))),
            self.stop: gr.update(visible=snapshot.current is not None),
        }

    def act(self, act: str, key: str, visit: Visit, values: Values, to: str = "") -> Updates:
        """A click that means the same in every tab."""
        match act:
            case "choose" if visit.history.find(key):
                return self.choose(visit, values, key)
            case "live":
                return self.choose(visit, values, None)
            case "sketches":
                return self._show(visit, values, replace(values[self.view], chosen=None, sketching=True))
            case "pick" if key.isdigit():
                view: View = values[self.view]
                return self._show(visit, values, replace(view, picked=view.picked ^ {int(key)}))
            case "repaint":
                return self.repaint(key, visit, values)
            case "remove" if key.isdigit():
                self._page.worker.stop(int(key), visit.owner)
                visit = self._anew(visit)
            case "send":
                return self._page.send(to, "picture", key)
            case "fault":
                return self.say(visit, values, key)
            case "use":
                return self._use(key, visit, values)
        return self._show(visit, values, values[self.view])

    def _anew(self, visit: Visit) -> Visit:
        return replace(visit, snapshot=self._page.worker.snapshot(visit.owner))

    def settings(self, key: str, visit: Visit) -> Settings | None:
        """How the picture under a key was made, where it says so."""
        picture = visit.history.find(key)
        return visit.history.settings(picture) if picture else None

    def repaint(self, key: str, visit: Visit, values: Values) -> Updates:
        """Paints a picture again in its layout, drawn as the desk says now; what stands in its boxes is read again."""
        settings, drawing = self.settings(key, visit), self._drawing(values)
        tries = 1 if settings is not None and settings.request.regions else 0
        return self.submit(visit, values, lambda: repainted(settings, visit.words, **drawing), tries=tries)[1]

    def _use(self, key: str, visit: Visit, values: Values) -> Updates:
        settings = self.settings(key, visit)
        if settings is None:
            return self.say(visit, values, visit.words("easel.no_settings"))
        task = settings.request.task
        home = TASK_TABS.get(task, task)
        return self._page.send(home if home in self._page.takers("settings") else self._tab, "settings", key)


def repainted(settings: Settings | None, words: Words, **changes: Any) -> Request:
    """A picture again with its layout as it is and another seed for the painter; `changes`: how it is drawn.

    Raises RequestError for a picture that carries no layout.
    """
    if settings is None or settings.prior is None:
        raise RequestError(words("easel.no_layout"))
    again = replace(settings.again, **changes)
    return replace(again, layout=settings.prior.layout, layout_seed=settings.layout_seed, paint_seed=roll())


def trouble(snapshot: Snapshot, tab: str) -> str:
    """What went wrong last in a tab, as long as nothing newer is being done."""
    if any(job.tab == tab for job in (snapshot.current, *snapshot.waiting) if job is not None):
        return ""
    last = snapshot.last.get(tab)
    return (last.error if last is not None else "") or snapshot.message
