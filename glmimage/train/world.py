"""The sticker world: what there is at each level, and how scenes are made up of it.

A scene is a ground with one to three stickers and perhaps words, all snapped to a grid of cells of 32 px. Everything is
drawn from a `random.Random` that the caller seeds; the same seed gives the same scene, picture and caption. The first
level is text-to-image alone: one size, plain grounds, one word on a line, English. The second adds more shapes, words
in boxes and the tasks with references: what the shipped weights were trained on. The third adds all sizes that the page
offers up to 512 px, the fourth has everything; all that is possible at one level is possible at the next.

How scenes look is in `layout` and `grounds`, how they are worded in `captions` and `chinese`, tasks with references in
`edits`; the names that trainers and tests need are here, too.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from glmimage.errors import TrainingError
from glmimage.geometry import Grid
from glmimage.prompting import PLACES, QUOTED
from glmimage.train import chinese
from glmimage.train.art import CELL, STICKER_CELLS, STYLES, THINGS
from glmimage.train.captions import (
    FRAMES,
    HELD_OUT_FRAMES,
    HELD_OUT_WORDLESS_FRAMES,
    PLACE_WORDS,
    STYLE_WORDS,
    SYNONYMS,
    WORDLESS_FRAMES,
    Grammar,
)
from glmimage.train.grounds import ABOVE, BESIDE, GROUNDS, INKS, LANDSCAPES, contrasting
from glmimage.train.instructions import INSTRUCTIONS
from glmimage.train.layout import (
    GRID,
    LABELS,
    LINE_ROWS,
    LINES,
    SIDE,
    SQUARE,
    Box,
    Scene,
    Thing,
    Word,
    cells_in,
    labels,
    line_row,
    paste,
    render,
    taken,
)
from glmimage.train.words import (
    GREETINGS,
    HELD_OUT_WORDS,
    LETTERS,
    LONGEST,
    LONGEST_GREETING,
    WORDS,
    columns,
    sample_greeting,
    sample_text,
)

__all__ = [
    "FRAMES",
    "FULL",
    "GRID",
    "GROUNDS",
    "HELD_OUT_FRAMES",
    "HELD_OUT_WORDLESS_FRAMES",
    "HELD_OUT_WORDS",
    "LABELS",
    "LINE_ROWS",
    "PLACES",
    "PLACE_WORDS",
    "SHIPPED",
    "SIDE",
    "SIZED",
    "SMALL",
    "STYLE_WORDS",
    "SYNONYMS",
    "TASKED",
    "WORDLESS_FRAMES",
    "WORDS",
    "WORLDS",
    "Scene",
    "Thing",
    "Word",
    "World",
    "caption",
    "contrasting",
    "describe",
    "labels",
    "paste",
    "render",
    "sample_scene",
]


_T = TypeVar("_T")
LATE = 0.12
"""Share of training's words that stand a cell late."""


@dataclass(frozen=True, kw_only=True, slots=True)
class World:
    """What scenes are made up of."""

    level: int
    things: tuple[str, ...]
    grounds: tuple[str, ...] = tuple(GROUNDS)
    """Plain colours, then landscapes."""
    two_tone: float = 0.0
    """Share of scenes on two colours."""
    landscape: float = 0.0
    """Share of scenes in a landscape."""
    grids: Mapping[Grid, int]
    """(rows, columns) of the pictures -> how often."""
    arrangements: Mapping[str, int]
    """How words stand -> how often: "line", "stack" (two lines of one text), "apart" (top and bottom), "boxes"."""
    languages: tuple[str, ...] = ("en",)
    greetings: float = 0.0
    """Share of texts in Chinese characters."""
    tasks: Mapping[str, int] = field(default_factory=lambda: {"text": 1})
    """Task -> how often, in training."""


SMALL = World(level=1, things=tuple(THINGS)[:33], grids={SQUARE: 1}, arrangements={"line": 1})
EVERY_TASK = {
    "text": 3,
    "regions": 6,
    "replace": 3,
    "remove": 4,
    "add": 2,
    "background": 2,
    "word": 6,
    "style": 2,
    "style_reference": 2,
    "subjects": 2,
}
"""What is learned last comes most: with equal shares, 10,600 steps of the prior brought backgrounds and style transfers
to their bars while words in boxes stood at 0.08, in edits at 0.15. (6,000 more steps with regions at 10 and words at 6
of 34, and three quarters of all from the second level, changed no score by more than its interval.)"""
TASKED = World(
    level=2,
    things=SMALL.things,
    grids={SQUARE: 16, (8, 6): 1, (6, 8): 1, (10, 8): 1, (8, 10): 1, (12, 8): 1, (8, 12): 1},
    arrangements={"line": 6, "stack": 1, "apart": 1, "boxes": 4},
    languages=("en", "en", "en", "zh"),
    tasks=EVERY_TASK,
)
SIZED = replace(
    TASKED,
    level=3,
    # All sizes that the studio's page offers up to 512 px a side, and those of the level before.
    grids={
        **dict.fromkeys(TASKED.grids, 1),
        SQUARE: 2,
        **dict.fromkeys(((7, 9), (9, 7), (7, 10), (10, 7), (6, 11), (11, 6)), 1),
        (12, 12): 3,
        **dict.fromkeys(((10, 14), (14, 10), (10, 15), (15, 10), (9, 16), (16, 9)), 1),
        (16, 16): 4,
        **dict.fromkeys(((12, 16), (16, 12), (11, 16), (16, 11)), 1),
    },
)
FULL = World(
    level=4,
    things=tuple(THINGS),
    grounds=(*GROUNDS, *LANDSCAPES),
    two_tone=0.2,
    landscape=0.35,
    grids={**SIZED.grids, SQUARE: 16, (6, 6): 1, (10, 10): 1, (16, 8): 1, (8, 16): 1},
    arrangements={"line": 5, "stack": 2, "apart": 2, "boxes": 3},
    languages=("en", "en", "zh"),
    greetings=0.35,
    tasks=EVERY_TASK,
)
WORLDS: Mapping[int, World] = {world.level: world for world in (SMALL, TASKED, SIZED, FULL)}
SHIPPED = TASKED
"""What the weights in assets/miniature were trained on."""
GRAMMARS: Mapping[str, Grammar] = {grammar.language: grammar for grammar in (Grammar(), chinese.Chinese())}
NAMES_OF: Mapping[str, Mapping[str, tuple[str, ...]]] = {"zh": chinese.MEANINGS}
"""Language other than English -> English name -> its names."""


# -- scenes ----------------------------------------------------------------------------------------------------------


def sample_scene(
    rng: random.Random,
    held_out: bool = False,
    word_share: float = 0.7,
    world: World = SMALL,
    arrangement: str | None = None,
) -> Scene:
    """A scene whose stickers and words do not overlap and whose stickers stand in different places.

    `held_out`: with the words of the evaluation. `arrangement` asks for words that stand like that.
    """
    while True:
        scene = _try_scene(rng, held_out, word_share, world, arrangement)
        if scene is not None:
            return scene


def sample_with(thing: str, rng: random.Random, held_out: bool, world: World, style: str | None = None) -> Scene:
    """A scene in which a thing stands once, also one that the world lacks; with a `style` in that, alone, not small.

    Raises TrainingError for what nobody drew.
    """
    for name, asked, known in (("thing", thing, THINGS), ("style", style, STYLES)):
        if asked is not None and asked not in known:
            raise TrainingError(f"There is no art for the {name} {asked!r}; choose one of: {', '.join(known)}.")
    if thing not in world.things:
        world = replace(world, things=(*world.things, thing))
    while True:
        scene = sample_scene(rng, held_out, 0.0 if style else 0.3, world)
        # Chosen to be there, not waited for.
        first = replace(scene.things[0], kind=thing)
        if style and first.cells > min(STICKER_CELLS):
            return replace(scene, things=(replace(first, style=style),))
        scene = replace(scene, things=(first, *scene.things[1:]))
        if not style and sum(each.kind == thing for each in scene.things) == 1:
            return scene


def one_of(rng: random.Random, chances: Mapping[_T, int]) -> _T:
    """One key, as often as it says beside the others; where there is no choice nothing is drawn."""
    return next(iter(chances)) if len(chances) == 1 else rng.choices(tuple(chances), tuple(chances.values()))[0]


def sample_ground(rng: random.Random, world: World) -> str:
    """One of the world's grounds."""
    kind = rng.random() if world.two_tone or world.landscape else 1.0
    if kind < world.two_tone:
        return rng.choice((ABOVE, BESIDE)).join(rng.sample(tuple(GROUNDS), 2))
    kinds = LANDSCAPES if kind < world.two_tone + world.landscape else GROUNDS
    return rng.choice([ground for ground in world.grounds if ground in kinds])


def _try_scene(
    rng: random.Random, held_out: bool, word_share: float, world: World, arrangement: str | None
) -> Scene | None:
    grid = one_of(rng, world.grids)
    ground = sample_ground(rng, world)
    found: tuple[Word, ...] | None = ()
    if arrangement or rng.random() < word_share:
        if arrangement is None:
            arrangement = one_of(rng, world.arrangements)
        found = _words(rng, held_out, world, ground, grid, arrangement)
    if found is None:
        return None
    if not held_out:
        found = _late(rng, found)
    used = taken(found, grid)
    if arrangement != "boxes":
        # Nothing stands beside a line of text.
        used |= used.any(axis=1, keepdims=True)
    things = _things(rng, world, grid, used)
    return Scene(ground, things, found, grid) if things else None


def text_for(rng: random.Random, held_out: bool, world: World, cols: int) -> str:
    """A text of at most `cols` columns."""
    if world.greetings and rng.random() < world.greetings:
        return sample_greeting(rng, held_out, min(LONGEST_GREETING, cols // 2))
    return sample_text(rng, held_out, min(LONGEST, cols))


def _words(
    rng: random.Random, held_out: bool, world: World, ground: str, grid: Grid, arrangement: str
) -> tuple[Word, ...] | None:
    """Words on a ground; None where this grid has no room for them, or no colour can be read everywhere."""
    rows, cols = grid
    inks = contrasting(ground)
    if not inks:
        return None
    if arrangement == "boxes":
        return _boxes(rng, held_out, world, inks, grid)

    def word(text: str, color: str, row: int) -> Word:
        return Word(text, color, row, (cols - columns(text)) // 2, grid)

    first = text_for(rng, held_out, world, cols)
    color = rng.choice(inks)
    if arrangement == "line":
        return (word(first, color, line_row(rng.choice((*LINES, "bottom")), rows)),)
    second = text_for(rng, held_out, world, cols)
    if rows < GRID or first == second:
        return None
    if arrangement == "stack":
        row = line_row(rng.choice(LINES), rows, 4)
        return word(first, color, row), word(second, color, row + 2)
    return word(first, color, line_row("top", rows)), word(second, rng.choice(inks), line_row("bottom", rows))


def _boxes(rng: random.Random, held_out: bool, world: World, inks: list[str], grid: Grid) -> tuple[Word, ...] | None:
    """One to three words anywhere, each in the middle of a box as a person might draw it."""
    rows, cols = grid
    words: list[Word] = []
    for _ in range(rng.choices((1, 2, 3), (3, 4, 2))[0]):
        text = text_for(rng, held_out, world, cols)
        row, col = rng.randrange(rows - 1), rng.randrange(cols - columns(text) + 1)
        word = Word(text, rng.choice(inks), row, col, grid, _box(rng, text, row, col, grid))
        if taken(words, grid)[word.area].any() or text in (other.text for other in words):
            return None
        words.append(word)
    return tuple(words)


def _box(rng: random.Random, text: str, row: int, col: int, grid: Grid) -> Box:
    """A box in whole steps of 5 % whose middle is the text's, about as large or larger, inside the picture."""
    rows, cols = grid
    while True:
        sides = []
        for low, length, count in ((col, columns(text), cols), (row, 2, rows)):
            spare = rng.uniform(0, 1.5)
            shift = rng.uniform(-0.4, 0.4)
            ends = low + shift - spare, low + length + shift + spare
            sides.append([round(20 * min(max(end / count, 0), 1)) / 20 for end in ends])
        (left, right), (top, bottom) = sides
        box = (left, top, right, bottom)
        if cells_in(box, text, grid) == (row, col):
            return box


def _late(rng: random.Random, words: tuple[Word, ...]) -> tuple[Word, ...]:
    """Training's words, some of them a cell right of or below where they belong.

    Codes are drawn one by one, so that a word that did not begin in its place must come a cell later, and what was
    always in its place would teach that it then never comes. Right only with a column to spare: one that is taken to be
    shorter than it is would else be cut at the edge.
    """
    moved: list[Word] = []
    for index, word in enumerate(words):
        if rng.random() < LATE:
            # Lines that belong together stay at their distance.
            down, right = rng.choice(((0, 1), (1, 0))) if word.box or len(words) == 1 else (0, 1)
            late = replace(word, row=word.row + down, col=word.col + right)
            rows, cols = word.grid
            inside = late.row <= rows - 2 and late.col + columns(late.text) <= cols - right
            said = late.box or late.line == word.line
            if inside and said and not taken((*moved, *words[index + 1 :]), word.grid)[late.area].any():
                word = late
        moved.append(word)
    return tuple(moved)


def offsets(cells: int, length: int) -> list[int]:
    """Where a sticker may begin along an axis: at the edges, centred, and for small ones a cell inside."""
    spare = length - cells
    inside = [1, spare - 1] if cells == 2 else []
    return sorted({0, spare, spare // 2, (spare + 1) // 2, *inside})


def free_spots(cells: int, used: NDArray[np.bool_], places: set[str]) -> list[tuple[int, int]]:
    """Where a sticker may stand: on free cells, not in one of `places`."""
    empty = not used.any()
    return [
        (row, col)
        for row, col, place in _spots(cells, (used.shape[0], used.shape[1]))
        if place not in places and (empty or not used[row : row + cells, col : col + cells].any())
    ]


@cache
def _spots(cells: int, grid: Grid) -> tuple[tuple[int, int, str], ...]:
    """Rows, columns and places where a sticker may begin in an empty picture: asked for millions of times."""
    rows, cols = (offsets(cells, length) for length in grid)
    return tuple((row, col, Thing("", "", row, col, cells, grid).place) for row in rows for col in cols)


def _fits(row: int, col: int, cells: int, used: NDArray[np.bool_], places: set[str]) -> bool:
    thing = Thing("", "", row, col, cells, (used.shape[0], used.shape[1]))
    return not used[thing.area].any() and thing.place not in places


def _things(rng: random.Random, world: World, grid: Grid, used: NDArray[np.bool_]) -> tuple[Thing, ...] | None:
    """One to three stickers on the cells that are not `used`; None where they find no room."""
    cols = grid[1]
    count = rng.choices((1, 2, 3), (0.25, 0.4, 0.35))[0]
    style = rng.choice(tuple(STYLES)) if rng.random() < 0.6 else None
    used = used.copy()
    things: list[Thing] = []
    row_of = None
    if count > 1 and rng.random() < 0.15:
        small, middling, _ = STICKER_CELLS
        row_of = rng.choice((small, small if count == 3 else middling))
    for index in range(count):
        cells = row_of or rng.choices(STICKER_CELLS, {1: (0, 3, 7), 2: (1, 5, 4), 3: (3, 7, 0)}[count])[0]
        places = {thing.place for thing in things}
        if row_of:
            gap = cols - count * cells
            col = index * cells + (gap * (index + 1)) // (count + 1)
            spots = [(things[0].row, col)] if things else [(row, col) for row in offsets(cells, grid[0])]
            spots = [spot for spot in spots if _fits(*spot, cells, used, places)]
        else:
            spots = free_spots(cells, used, places)
        if not spots:
            return None
        row, col = rng.choice(spots)
        thing = Thing(rng.choice(world.things), style or rng.choice(tuple(STYLES)), row, col, cells, grid)
        used[thing.area] = True
        things.append(thing)
    return tuple(things)


def caption(
    scene: Scene, rng: random.Random, held_out: bool = False, language: str = "en"
) -> tuple[str, frozenset[str]]:
    """`Grammar.caption` in "en" or "zh"."""
    return GRAMMARS[language].caption(scene, rng, held_out)


def describe(world: World = SHIPPED) -> dict[str, object]:
    """What a world contains, for `world.json`: things with synonyms, styles, grounds, places, lettering, all words."""
    lettering: dict[str, object] = {
        "letters": LETTERS,
        "letter": [CELL, 2 * CELL],
        "longest": LONGEST,
        "lines": list(LINES),
        "colors": list(INKS),
    }
    described: dict[str, object] = {
        "things": {kind: sorted(set(SYNONYMS.get(kind, (kind,)))) for kind in world.things},
        "styles": {style: sorted(set(STYLE_WORDS[style])) for style in STYLES},
        "grounds": {ground: f"#{color[0]:02x}{color[1]:02x}{color[2]:02x}" for ground, color in GROUNDS.items()},
        "places": [place for row in PLACES for place in row],
        "lettering": lettering,
        "languages": sorted(set(world.languages)),
        "words": spoken(world),
    }
    if world.level > 1:
        lettering |= {"arrangements": list(world.arrangements)}
        described |= {
            "sizes": [f"{cols * CELL}x{rows * CELL}" for rows, cols in world.grids],
            "tasks": list(world.tasks),
        }
    if world.greetings:
        lettering |= {"greetings": list(GREETINGS), "longest_greeting": LONGEST_GREETING}
        described |= {"landscapes": list(LANDSCAPES), "two_tone": [ABOVE.strip(), BESIDE.strip()]}
    if "zh" in world.languages:
        grounds = {name: [text] for name, text in chinese.COLORS.items()}
        grounds |= {name: list(texts) for name, texts in chinese.VIEWS.items()}
        described["names_zh"] = {
            "things": {kind: list(chinese.NAMES[kind][1:]) for kind in world.things},
            "styles": {style: list(names) for style, names in chinese.STYLES.items()},
            "grounds": {name: texts for name, texts in grounds.items() if name in world.grounds},
        }
    return described


CAPTIONS_HEARD = 3000
"""Captions of a language from which its words are gathered: enough for every name and sentence frame to occur."""
_SPOKEN = re.compile("[0-9a-z]+|[\u3400-\u9fff]")


def spoken(world: World) -> list[str]:
    """Every word that prompts of a world are made of, sorted, in small letters: English words, Chinese characters.

    Not those between quotation marks, which may say anything.
    """
    rng = random.Random(0)
    said = [
        caption(sample_scene(rng, world=world), rng, language=language)[0]
        for language in sorted(set(world.languages))
        for _ in range(CAPTIONS_HEARD)
    ]
    # The tasks name their parts, "subjects" the pictures that its nouns come from.
    said += [
        re.sub(r"\{[a-z]+\}", " ", frame)
        for task, frames in INSTRUCTIONS.items()
        if task.removeprefix("only_") in world.tasks
        for language in set(world.languages)
        for frame in frames[language]
    ]
    if "subjects" in world.tasks:
        thing = sample_scene(rng, world=world).things[0]
        for language in set(world.languages):
            grammar = GRAMMARS[language]
            said += [grammar.pictured(thing.kind, number, rng) for number in range(4) for _ in range(50)]
    return sorted({word for text in said for word in _SPOKEN.findall(re.sub(QUOTED, " ", text.lower()))})
