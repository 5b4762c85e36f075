"""The tasks of the sticker world: prompts, reference pictures, the wanted picture, and what of it must be kept.

"text" and "regions" have no references. Edits have one, the picture before; "style_reference" a second one, whose
style is taken; "subjects" one for each sticker, alone on a plain ground. Because everything is drawn from scenes, the
wanted picture and what stays as it was are known exactly.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from glmimage.errors import TrainingError
from glmimage.train.art import CELL, STICKER_CELLS, STYLES, Art
from glmimage.train.grounds import GROUNDS, contrasting
from glmimage.train.instructions import HELD_OUT_INSTRUCTIONS, INSTRUCTIONS
from glmimage.train.layout import Scene, Thing, Word, cells_in, labels, render, taken
from glmimage.train.words import columns
from glmimage.train.world import FULL, GRAMMARS, World, free_spots, one_of, sample_ground, sample_scene, text_for

WHOLE = ("replace", "remove", "add", "background", "word", "style", "style_reference")
"""Tasks whose first reference is the picture before."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One exercise. Everything in it can be drawn again from its scenes."""

    task: str
    language: str
    prompt: str
    references: tuple[Scene, ...]
    """In the order in which the model gets them."""
    scene: Scene
    """The wanted picture."""

    def labels(self) -> NDArray[np.int64]:
        """Of the wanted picture, as `layout.labels`."""
        return labels(self.scene)

    def changed(self) -> NDArray[np.bool_]:
        """Cells with a thing or word that is new, gone or other than before: [rows, columns]."""
        if self.task not in WHOLE:
            return np.ones(self.scene.grid, dtype=bool)
        before, after = self.references[0], self.scene
        things, words = {*before.things} ^ {*after.things}, {*before.words} ^ {*after.words}
        return taken((*things, *words), after.grid)

    def kept(self, art: Art) -> NDArray[np.bool_]:
        """Pixels of the first reference that must be found again in the wanted picture: [H, W], bool.

        Those of unchanged cells that are equal before and after: all around a replaced sticker, and the stickers
        themselves where the background changes. None where no picture is edited.
        """
        free = ~self.changed().repeat(CELL, 0).repeat(CELL, 1)
        if free.any():
            free &= (render(self.references[0], art) == render(self.scene, art)).all(-1)
        return free


Draw = tuple[str, tuple[Scene, ...], Scene]
"""Prompt, references, wanted scene."""


@dataclass(frozen=True, slots=True)
class _Draft:
    rng: random.Random
    """Decides what is there."""
    voice: random.Random
    """Decides how it is said."""
    world: World
    held_out: bool
    language: str

    def scene(self, word_share: float = 0.6, arrangement: str | None = None) -> Scene:
        return sample_scene(self.rng, self.held_out, word_share, self.world, arrangement)

    def say(self, task: str, **slots: str) -> str:
        frames = (HELD_OUT_INSTRUCTIONS if self.held_out else INSTRUCTIONS)[task][self.language]
        grammar = GRAMMARS[self.language]
        return grammar.tidy(self.voice.choice(frames).format(**slots))

    def the(self, scene: Scene, thing: Thing) -> str:
        """A thing of a scene so that one can tell it from the others."""
        alone = sum(other.kind == thing.kind for other in scene.things) == 1
        return GRAMMARS[self.language].the(thing, self.voice, not alone or self.voice.random() < 0.4)

    def new(self, thing: Thing, scene: Scene) -> str:
        """A thing that comes into a scene; its style is said where it does not follow from the others'."""
        styles = {other.style for other in scene.things}
        return GRAMMARS[self.language].noun(thing, self.voice, styles != {thing.style} or self.voice.random() < 0.3)


def _text(draft: _Draft) -> Draw:
    scene = draft.scene(0.7)
    return GRAMMARS[draft.language].caption(scene, draft.voice, draft.held_out)[0], (), scene


def _regions(draft: _Draft) -> Draw:
    scene = draft.scene(arrangement="boxes")
    return GRAMMARS[draft.language].caption(scene, draft.voice, draft.held_out)[0], (), scene


def _replace(draft: _Draft) -> Draw | None:
    rng, before = draft.rng, draft.scene()
    old = rng.choice(before.things)
    kinds = {thing.kind for thing in before.things}
    new = replace(old, kind=rng.choice([kind for kind in draft.world.things if kind not in kinds]))
    # What takes a thing's place takes its style and size, said or not.
    noun = GRAMMARS[draft.language].noun(new, draft.voice, draft.voice.random() < 0.25)
    after = replace(before, things=tuple(new if thing == old else thing for thing in before.things))
    return draft.say("replace", old=draft.the(before, old), new=noun), (before,), after


def _remove(draft: _Draft) -> Draw | None:
    before = draft.scene()
    if len(before.things) == 1 and draft.rng.random() < 0.7:
        return None
    old = draft.rng.choice(before.things)
    after = replace(before, things=tuple(thing for thing in before.things if thing != old))
    return draft.say("remove", old=draft.the(before, old)), (before,), after


def _add(draft: _Draft) -> Draw | None:
    rng, before = draft.rng, draft.scene()
    used = taken((*before.things, *before.words), before.grid)
    cells = rng.choices(STICKER_CELLS, (3, 7, 2))[0]
    spots = free_spots(cells, used, {thing.place for thing in before.things})
    if len(before.things) > 2 or not spots:
        return None
    styles = sorted({thing.style for thing in before.things})
    style = styles[0] if len(styles) == 1 and rng.random() < 0.6 else rng.choice(tuple(STYLES))
    new = Thing(rng.choice(draft.world.things), style, *rng.choice(spots), cells, before.grid)
    after = replace(before, things=(*before.things, new))
    place = GRAMMARS[draft.language].at(new.place, draft.voice)
    return draft.say("add", new=draft.new(new, before), place=place), (before,), after


def _background(draft: _Draft) -> Draw | None:
    rng, before = draft.rng, draft.scene()
    ground, grammar = sample_ground(rng, draft.world), GRAMMARS[draft.language]
    if ground == before.ground or not {word.color for word in before.words} <= set(contrasting(ground)):
        return None
    voice = draft.voice
    prompt = draft.say("background", color=grammar.color(ground, voice), scene=grammar.backdrop(ground, voice))
    return prompt, (before,), replace(before, ground=ground)


def _word(draft: _Draft) -> Draw | None:
    rng, before = draft.rng, draft.scene(1.0)
    old, grammar = rng.choice(before.words), GRAMMARS[draft.language]
    text = text_for(rng, draft.held_out, draft.world, before.grid[1])
    if text in (word.text for word in before.words):
        return None
    new = _rewritten(old, text)
    others = [word for word in before.words if word != old]
    if taken((*before.things, *others), before.grid)[new.area].any():
        return None
    after = replace(before, words=tuple(new if word == old else word for word in before.words))
    voice = draft.voice
    slots = {"old": grammar.quote(old.text, voice), "new": grammar.quote(text, voice)}
    one = len(before.words) == 1 and voice.random() < 0.5
    return draft.say("only_word" if one else "word", **slots), (before,), after


def _rewritten(old: Word, text: str) -> Word:
    """Another text in the middle of where the old one was."""
    if old.box:
        row, col = cells_in(old.box, text, old.grid)
        return replace(old, text=text, row=row, col=col)
    return replace(old, text=text, col=(old.grid[1] - columns(text)) // 2)


def _restyled(scene: Scene, style: str) -> Scene:
    return replace(scene, things=tuple(replace(thing, style=style) for thing in scene.things))


def _style(draft: _Draft) -> Draw | None:
    before, style = draft.scene(), draft.rng.choice(tuple(STYLES))
    after = _restyled(before, style)
    if after == before:
        return None
    name = GRAMMARS[draft.language].style(style, draft.voice)
    return draft.say("style", style=name), (before,), after


def _style_reference(draft: _Draft) -> Draw | None:
    rng, before, other = draft.rng, draft.scene(0.5), draft.scene(0.3)
    style = rng.choice(tuple(STYLES))
    after = _restyled(before, style)
    if after == before:
        return None
    return draft.say("style_reference"), (before, _restyled(other, style)), after


def _subjects(draft: _Draft) -> Draw | None:
    rng, voice, scene = draft.rng, draft.voice, draft.scene(0.4)
    subjects = rng.sample(scene.things, len(scene.things))
    portraits = tuple(_portrait(thing, rng) for thing in subjects)
    kinds = [thing.kind for thing in subjects]
    numbered = voice.random() < 0.5
    grammar = GRAMMARS[draft.language]
    names = {
        thing: grammar.pictured(thing.kind, number if numbered or kinds.count(thing.kind) > 1 else 0, voice)
        for number, thing in enumerate(subjects, 1)
    }
    return grammar.caption(scene, voice, draft.held_out, names)[0], portraits, scene


def _portrait(thing: Thing, rng: random.Random) -> Scene:
    """A sticker alone on a plain ground."""
    cells = rng.choices(STICKER_CELLS, (1, 3, 6))[0]
    at = rng.choice(((8 - cells) // 2, (9 - cells) // 2))
    return Scene(rng.choice(tuple(GROUNDS)), (Thing(thing.kind, thing.style, at, at, cells),))


TASKS: Mapping[str, Callable[[_Draft], Draw | None]] = {
    "text": _text,
    "regions": _regions,
    "replace": _replace,
    "remove": _remove,
    "add": _add,
    "background": _background,
    "word": _word,
    "style": _style,
    "style_reference": _style_reference,
    "subjects": _subjects,
}


def sample(
    rng: random.Random,
    world: World = FULL,
    task: str | None = None,
    held_out: bool = False,
    language: str | None = None,
    voice: random.Random | None = None,
) -> Sample:
    """An exercise of a world: any of its tasks, or the one that is named.

    `held_out`: with the words and sentence frames of the evaluation. `voice` words it anew without changing what it
    shows; without, `rng` does that, too. Raises `TrainingError` for a task or language that
    the world does not have.
    """
    for name, asked, known in (("task", task, world.tasks), ("language", language, world.languages)):
        if asked is not None and asked not in known:
            choice = ", ".join(dict.fromkeys(known))
            raise TrainingError(f"The world of level {world.level} has no {name} {asked!r}; choose one of: {choice}.")
    # Where there is no choice nothing is drawn: an exercise of the first level is the scene of its seed.
    chosen = task or one_of(rng, world.tasks)
    spoken = language or (rng.choice(world.languages) if len(world.languages) > 1 else world.languages[0])
    while True:
        drawn = TASKS[chosen](_Draft(rng, voice or rng, world, held_out, spoken))
        if drawn is not None:
            prompt, references, scene = drawn
            return Sample(task=chosen, language=spoken, prompt=prompt, references=references, scene=scene)
