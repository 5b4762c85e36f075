"""Subjects: up to four pictures with names, and a scene that says what they do.

Names light up in the prompt as they are typed; who is missing or unnamed is said before anything runs. Subjects can be
kept in a library. Knows neither the engine nor how a picture is stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, cast

import gradio as gr
from gradio.blocks import Block

from app import controls, easel, intake, reading, scenes, uploads
from app.page import CLICKS, LATEST, QUIET, Cargo, Page, Parcel, Ports, Updates, Values, Visit
from app.presets import Example
from app.scenes import Card
from app.subjects import Subjects as Library
from app.wall import Hanging, Wall
from app.words import Words, label
from glmimage import tasks
from glmimage.errors import GLMImageError, RequestError
from glmimage.request import Reference, Request
from glmimage.tasks import MOST_SUBJECTS


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """The widgets of one card."""

    row: gr.Row
    face: gr.HTML
    name: gr.Textbox
    kind: gr.Textbox


@dataclass(frozen=True, slots=True)
class Cast:
    """Who is in the scene, with what is written beside each."""

    cards: tuple[Card, ...] = ()
    names: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()

    def references(self) -> list[Reference]:
        return [
            Reference(path=card.picture, name=name.strip(), role=kind.strip())
            for card, name, kind in zip(self.cards, self.names, self.kinds, strict=True)
        ]

    def with_(self, card: Card, name: str = "", kind: str = "") -> Cast:
        return Cast((*self.cards, card), (*self.names, name), (*self.kinds, kind))

    def without(self, index: int) -> Cast:
        after = index + 1
        return Cast(
            self.cards[:index] + self.cards[after:],
            self.names[:index] + self.names[after:],
            self.kinds[:index] + self.kinds[after:],
        )

    def first(self, count: int) -> Cast:
        return Cast(self.cards[:count], self.names[:count], self.kinds[:count])


class Subjects:
    """The tab."""

    name: ClassVar[str] = "subjects"
    accepts: ClassVar[frozenset[Cargo]] = frozenset({"picture", "settings", "prompt", "seed"})

    def build(self, page: Page) -> Ports:
        self._page = page
        self._wall = Wall(page, self.name, self._welcome, Hanging(stage=self._stage))
        self._fitted = gr.State(page.worker.snapshot().defaults)
        # None: nobody has chosen yet.
        self._cards = gr.State(None)
        self._deleted = gr.State("")
        with gr.Row(elem_classes="room"):
            with gr.Column(elem_classes="desk", min_width=280):
                self._desk()
            with gr.Column(elem_classes="wall", min_width=280):
                self._wall.hang()
        fields: list[Block] = [field for place in self._places for field in (place.name, place.kind)]
        widgets: list[Block] = [self._prompt, *fields, *self._controls.inputs]
        inputs: set[Block] = {*widgets, self._cards, self._deleted, self._fitted, self._wall.view}
        faces = [place.face for place in self._places]
        rows = [place.row for place in self._places]
        lights: list[Block] = [self._behind, self._told]
        own: list[Block] = [self._cards, self._deleted, *lights, *rows, *widgets]
        everything: set[Any] = {*inputs, page.who}
        parts = (self._more, self._library, self._offer, *faces)
        self._wall.wire(inputs, own, self._act, parts, self._furnish, self._controls.drawing)
        outputs = [*self._wall.outputs, self._fitted, *own]
        self._wall.settle(self._wall.paint.click(self._paint, everything, [*outputs], **QUIET), everything)
        for field in (self._prompt, *(place.name for place in self._places), *(place.kind for place in self._places)):
            typed = field.change(self._typed, everything, [*self._wall.outputs, *lights], **LATEST)
            self._wall.settle(typed, everything)
        page.keep_draft(self._prompt)
        return Ports(inputs, outputs)

    def look(self, visit: Visit, values: Values) -> Updates:
        updates: Updates = {}
        if values[self._cards] is None and (request := self._remembered(visit)):
            # After a reload, who was in the last picture.
            updates = self._deal(visit, values, _of(request))
            values = {**values, **updates}
        updates |= self._wall.look(visit, values)
        defaults = visit.snapshot.defaults
        if values[self._fitted] != defaults:
            updates |= self._controls.fit_checkpoint(defaults) | {self._fitted: defaults}
        return updates

    def receive(self, parcel: Parcel, visit: Visit, values: Values) -> Updates:
        """A picture to be in the scene, or a whole scene, or its words or its seed alone."""
        picture = visit.history.find(parcel.key)
        if picture is None:
            return self._wall.say(visit, values, visit.words("intake.gone"))
        if parcel.cargo == "picture":
            return self._enter(visit, values, Card(str(picture.path)))
        settings = visit.history.settings(picture)
        if settings is None:
            return self._wall.say(visit, values, visit.words("easel.no_settings"))
        request = settings.request
        match parcel.cargo:
            case "prompt":
                return {self._prompt: request.prompt}
            case "seed":
                return self._controls.show_seed(settings)
        if not all(Path(reference.path).is_file() for reference in request.references):
            return self._wall.say(visit, values, visit.words("intake.gone"))
        now = {**values, self._prompt: request.prompt}
        updates = self._deal(visit, now, _of(request)) | self._controls.show(settings, visit.snapshot.defaults)
        shown = self._wall.choose(visit, {**now, **updates}, parcel.key)
        return updates | {self._prompt: request.prompt} | shown

    def _typed(self, values: Values) -> Updates:
        """A letter of the scene, a name or a kind."""
        visit = self._page.visit(values)
        return self._wall.look(visit, values) | self._light(visit, values, self._cast(values))

    # --- the desk ---------------------------------------------------------------------------------------------------

    def _desk(self) -> None:
        words = Words()
        self._places = tuple(self._place(index) for index in range(MOST_SUBJECTS))
        self._more = gr.HTML(
            self._adder(words, Cast()),
            js_on_load=CLICKS,
            apply_default_css=False,
            elem_classes="well is-small",
            elem_id="subjects-more",
        )
        self._library = gr.HTML(
            "", js_on_load=CLICKS, apply_default_css=False, elem_classes="library-part", elem_id="subjects-library"
        )
        with gr.Column(elem_classes="scene"):
            self._behind = gr.HTML("", apply_default_css=False, elem_classes="behind-part")
            self._prompt = gr.Textbox(
                label=cast(str, label("subjects.prompt")),
                lines=3,
                max_lines=10,
                placeholder=cast(str, label("subjects.placeholder")),
                elem_id="subjects-prompt",
                elem_classes="prompt draft completes",
            )
        self._told = gr.HTML("", apply_default_css=False, elem_classes="written-part", elem_id="subjects-told")
        self._offer = gr.HTML(
            "", js_on_load=CLICKS, apply_default_css=False, elem_classes="offer-part", elem_id="subjects-offer"
        )
        self._wall.complain()
        self._controls = controls.make(self.name, self._page)
        self._wall.actions()

    def _place(self, index: int) -> Place:
        with gr.Row(elem_classes="subject", visible=False, elem_id=f"subject-{index}") as row:
            face = gr.HTML("", js_on_load=CLICKS, apply_default_css=False, elem_classes="face-part")
            with gr.Column(elem_classes="fields", min_width=100):
                name, kind = (
                    gr.Textbox(
                        label=cast(str, label(f"subjects.{field}")),
                        placeholder=cast(str, label(f"subjects.{field}.placeholder")),
                        elem_id=f"subject-{field}-{index}",
                        max_lines=1,
                    )
                    for field in ("name", "kind")
                )
        return Place(row, face, name, kind)

    # --- what is shown ----------------------------------------------------------------------------------------------

    def _welcome(self, words: Words) -> str:
        invitation = intake.slot("subject", words, said=words("subjects.welcome.how"), many=True)
        offered = easel.cards(self._page.examples_of("subjects"), words)
        return easel.welcome(words("subjects.welcome"), invitation, offered)

    def _stage(self, visit: Visit, values: Values) -> str:
        cast_now = self._cast(values)
        if not cast_now.cards:
            return ""
        shown = scenes.cast(cast_now.cards, cast_now.names, visit.words)
        return f'<div class="from" data-take="subject">{shown}</div>'

    def _light(self, visit: Visit, values: Values, cast_now: Cast) -> Updates:
        """What follows the words as they are typed."""
        prompt, subjects = values[self._prompt] or "", cast_now.references()
        findings = tasks.find_subjects(prompt, subjects)
        vocabulary, name = visit.vocabulary, visit.snapshot.defaults.name
        found = reading.read(prompt, vocabulary, " ".join((*cast_now.names, *cast_now.kinds)))
        updates: Updates = {
            self._behind: scenes.lit(prompt, findings),
            self._told: scenes.told(findings, subjects, prompt, visit.words, vocabulary, name)
            + reading.html(found, visit.words, name),
        }
        library = self._shelf(visit)
        for index, card in enumerate(cast_now.cards):
            stored = library.find(card.id) if card.id else None
            name, kind = cast_now.names[index], cast_now.kinds[index]
            updates[self._places[index].face] = scenes.card(index, card, name, stored, kind, visit.words)
        return updates

    def _deal(self, visit: Visit, values: Values, cast_now: Cast) -> Updates:
        """All that shows who is there."""
        updates: Updates = {self._cards: cast_now.cards}
        for index, place in enumerate(self._places):
            there = index < len(cast_now.cards)
            updates[place.row] = gr.update(visible=there)
            updates[place.name] = cast_now.names[index] if there else ""
            updates[place.kind] = cast_now.kinds[index] if there else ""
        updates |= self._light(visit, values, cast_now)
        return updates | self._furnish(visit, {**values, **updates})

    def _furnish(self, visit: Visit, values: Values) -> Updates:
        """What of the desk does not follow the words as they are typed."""
        return {
            self._library: self._kept(visit, values),
            self._more: self._adder(visit.words, self._cast(values)),
            self._offer: reading.offer(visit.vocabulary, visit.words, visit.snapshot.defaults.name),
        }

    def _adder(self, words: Words, cast_now: Cast) -> str:
        """A way to one more; at first the easel has it."""
        if not 0 < len(cast_now.cards) < MOST_SUBJECTS:
            return ""
        return intake.slot("subject", words, said=words("subjects.more", most=MOST_SUBJECTS), many=True)

    def _kept(self, visit: Visit, values: Values) -> str:
        library = self._shelf(visit)
        deleted = next((one for one in library.deleted() if one.id == values[self._deleted]), None)
        return scenes.library(library.all(), [card.id for card in values[self._cards] or ()], deleted, visit.words)

    def _shelf(self, visit: Visit) -> Library:
        return Library(visit.history.storage.root)

    def _cast(self, values: Values) -> Cast:
        cards = tuple(values[self._cards] or ())
        places = self._places[: len(cards)]
        return Cast(
            cards,
            tuple(values[place.name] or "" for place in places),
            tuple(values[place.kind] or "" for place in places),
        )

    def _remembered(self, visit: Visit) -> Request | None:
        current = visit.snapshot.current
        job = current if current is not None and current.tab == self.name else visit.snapshot.last.get(self.name)
        if job is None or not all(Path(reference.path).is_file() for reference in job.request.references):
            return None
        return job.request

    # --- what is done -----------------------------------------------------------------------------------------------

    def _paint(self, values: Values) -> Updates:
        visit = self._page.visit(values)
        tries = self._controls.attempts(values)
        request, updates = self._wall.submit(visit, values, lambda: self._asked(visit, values), tries=tries)
        return updates if request is None else updates | self._controls.rolled(request, values)

    def _asked(self, visit: Visit, values: Values) -> Request:
        """Raises GLMImageError with what is missing."""
        prompt, subjects = (values[self._prompt] or "").strip(), self._cast(values).references()
        if subjects and not prompt:
            raise RequestError(visit.words("subjects.no_prompt"))
        if faults := scenes.faults(tasks.find_subjects(prompt, subjects), subjects, visit.words):
            raise RequestError(faults[0])
        base = self._controls.request(prompt, values, visit.snapshot.defaults)
        return tasks.subjects(base, prompt, subjects)

    def _act(self, act: str, key: str, visit: Visit, values: Values) -> Updates | None:
        kind, _, slot = act.partition(".")
        picture = visit.history.find(key)
        cards: Sequence[Card] = values[self._cards] or ()
        match kind:
            case "file":
                return self._arrive(visit, values, key.split("\n"))
            case "drag" if picture is not None:
                return self._enter(visit, values, Card(str(picture.path)))
            case "choose" if not cards and picture is not None:
                return self._enter(visit, values, Card(str(picture.path)))
            case "clear" if slot.isdigit() and int(slot) < len(cards):
                return self._turn(visit, values, self._cast(values).without(int(slot)))
            case "example" if (example := self._page.example("subjects", key)) is not None:
                return self._try(visit, values, example)
            case "subject-keep" if slot.isdigit() and int(slot) < len(cards):
                return self._keep(visit, values, int(slot))
            case "subject-pick" | "subject-delete" | "subject-undo":
                return self._visit_library(visit, values, kind, key)
        return None

    def _try(self, visit: Visit, values: Values, example: Example) -> Updates:
        """Paints an example."""
        try:
            taken = [uploads.take(picture, visit.history.storage.root) for picture in example.pictures]
        except GLMImageError as error:
            return self._wall.say(visit, values, str(error))
        cast_now = Cast(tuple(Card(str(picture)) for picture in taken), example.names, example.kinds)
        now = {**values, self._prompt: example.prompt}
        shown = self._deal(visit, now, cast_now) | {self._prompt: example.prompt}
        now |= shown
        request, updates = self._wall.submit(visit, now, lambda: example.seeded(self._asked(visit, now)))
        return shown | updates | ({} if request is None else {self._controls.seed: request.seed})

    def _arrive(self, visit: Visit, values: Values, uploads: Sequence[str]) -> Updates:
        """All that can be used enters; the first that cannot is told of."""
        cast_now, sentence = self._cast(values), ""
        for place in uploads:
            try:
                cast_now = cast_now.with_(Card(str(intake.take(place, visit.history.storage.root))))
            except GLMImageError as error:
                sentence = sentence or str(error)
        if len(cast_now.cards) > MOST_SUBJECTS:
            cast_now = cast_now.first(MOST_SUBJECTS)
            sentence = sentence or visit.words("subjects.full", most=MOST_SUBJECTS)
        if cast_now.cards == tuple(values[self._cards] or ()):
            return self._wall.say(visit, values, sentence)
        return self._turn(visit, values, cast_now, sentence)

    def _enter(self, visit: Visit, values: Values, card: Card, name: str = "", kind: str = "") -> Updates:
        cast_now = self._cast(values)
        if len(cast_now.cards) >= MOST_SUBJECTS:
            return self._wall.say(visit, values, visit.words("subjects.full", most=MOST_SUBJECTS))
        return self._turn(visit, values, cast_now.with_(card, name, kind))

    def _keep(self, visit: Visit, values: Values, index: int) -> Updates:
        """Puts a card into the library, or changes what it is called there."""
        cast_now, library = self._cast(values), self._shelf(visit)
        card, name, kind = cast_now.cards[index], cast_now.names[index], cast_now.kinds[index]
        try:
            if card.id and library.find(card.id) is not None:
                library.rename(card.id, name)
                stored = library.describe(card.id, kind)
            else:
                stored = library.add(name, Path(card.picture), kind)
        except GLMImageError as error:
            return self._wall.say(visit, values, str(error))
        cards = list(cast_now.cards)
        cards[index] = replace(card, id=stored.id)
        return self._turn(visit, values, replace(cast_now, cards=tuple(cards)))

    def _visit_library(self, visit: Visit, values: Values, act: str, key: str) -> Updates:
        library = self._shelf(visit)
        try:
            if act == "subject-delete":
                library.delete(key)
                values = {**values, self._deleted: key}
            elif act == "subject-undo":
                library.restore(key)
                values = {**values, self._deleted: ""}
            else:
                return self._pick(visit, values, key)
        except GLMImageError as error:
            return self._wall.say(visit, values, str(error))
        changed: Updates = {self._deleted: values[self._deleted], self._library: self._kept(visit, values)}
        return changed | self._light(visit, values, self._cast(values))

    def _pick(self, visit: Visit, values: Values, key: str) -> Updates:
        """Into the scene, or out of it again."""
        cast_now, subject = self._cast(values), self._shelf(visit).find(key)
        used = next((index for index, card in enumerate(cast_now.cards) if card.id == key), None)
        if used is not None:
            return self._turn(visit, values, cast_now.without(used))
        if subject is None:
            return self._wall.say(visit, values, visit.words("intake.gone"))
        return self._enter(visit, values, Card(str(subject.picture), subject.id), subject.name, subject.notes)

    def _turn(self, visit: Visit, values: Values, cast_now: Cast, sentence: str = "") -> Updates:
        """Another cast; shows it."""
        dealt = self._deal(visit, values, cast_now)
        view = replace(values[self._wall.view], sentence=sentence)
        return dealt | self._wall.choose(visit, {**values, **dealt, self._wall.view: view}, "")


def _of(request: Request) -> Cast:
    """Who was in a picture."""
    references = request.references[:MOST_SUBJECTS]
    return Cast(
        tuple(Card(one.path, _id(Path(one.path))) for one in references),
        tuple(one.name for one in references),
        tuple(one.role for one in references),
    )


def _id(picture: Path) -> str:
    """Of a picture of the library."""
    return picture.stem if picture.parent.name == "subjects" else ""
