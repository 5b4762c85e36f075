"""The sticker world: scenes, their pictures, their labels on the code grid, and captions for them.

A scene is a plain ground with one to three stickers and perhaps a word, all snapped to a grid of 8 x 8 cells of 32
px, so that each cell of the picture is nearly a function of what stands there: the semantic codes can carry it.
Everything is drawn from a `random.Random` that the caller seeds; the same seed gives the same scene, picture and
caption.

Prompts of people vary, so captions come from a grammar, and the evaluation uses sentence frames that training never
sees.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glmimage.train.art import CELL, LETTERS, STICKER_CELLS, STYLES, THINGS, Art

GRID = 8
"""Cells along each side of the picture."""
SIDE = GRID * CELL

GROUNDS: Mapping[str, tuple[int, int, int]] = {
    "white": (255, 255, 255),
    "black": (22, 22, 26),
    "red": (216, 40, 44),
    "orange": (250, 140, 30),
    "yellow": (252, 208, 40),
    "green": (40, 160, 88),
    "blue": (40, 100, 220),
    "purple": (126, 62, 190),
    "pink": (246, 140, 184),
    "gray": (146, 150, 158),
}
INKS = ("white", "black", "red", "yellow", "blue", "green")
"""Colours of lettering."""
PLACES = (
    ("top left", "top centre", "top right"),
    ("left", "centre", "right"),
    ("bottom left", "bottom centre", "bottom right"),
)
LINES = ("top", "centre", "bottom")
LINE_ROWS = {"top": 0, "centre": 3, "bottom": 6}
"""First of the two cell rows that a word takes."""
MAX_LETTERS = GRID

SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "cat": ("cat", "kitten", "cat"),
    "dog": ("dog", "puppy", "dog"),
    "rabbit": ("rabbit", "bunny"),
    "panda": ("panda",),
    "apple": ("apple", "red apple"),
    "cup of coffee": ("cup of coffee", "coffee", "coffee cup"),
    "cake": ("cake", "birthday cake"),
    "car": ("car", "red car"),
    "rocket": ("rocket", "space rocket"),
    "sailboat": ("sailboat", "boat"),
    "house": ("house", "home"),
    "pine tree": ("pine tree", "fir tree"),
    "heart": ("heart", "red heart"),
    "pizza": ("pizza", "slice of pizza"),
    "fish": ("fish",),
}
STYLE_WORDS: Mapping[str, tuple[str, ...]] = {
    "soft 3D": ("soft 3D", "3D", "glossy 3D"),
    "flat": ("flat", "flat"),
    "cartoon": ("cartoon", "cartoon"),
    "ink": ("ink", "black ink"),
}
PLACE_WORDS: Mapping[str, tuple[str, ...]] = {
    "top left": ("at the top left", "in the top left corner", "in the upper left", "top left"),
    "top centre": ("at the top", "at the top centre", "in the top middle", "at the top center"),
    "top right": ("at the top right", "in the top right corner", "in the upper right", "top right"),
    "left": ("on the left", "at the left", "on the left side", "at the middle left"),
    "centre": ("in the centre", "in the middle", "in the center", "at the centre"),
    "right": ("on the right", "at the right", "on the right side", "at the middle right"),
    "bottom left": ("at the bottom left", "in the bottom left corner", "in the lower left", "bottom left"),
    "bottom centre": ("at the bottom", "at the bottom centre", "in the bottom middle", "at the bottom center"),
    "bottom right": ("at the bottom right", "in the bottom right corner", "in the lower right", "bottom right"),
}
LINE_WORDS: Mapping[str, tuple[str, ...]] = {
    "top": ("at the top", "above", "on top"),
    "centre": ("in the middle", "in the centre", "in the center"),
    "bottom": ("at the bottom", "below", "underneath"),
}
SIZE_WORDS = {2: "small ", 4: "big "}

_WORDS = (
    "love hello happy party pizza fresh smile dream sunny magic super cool wow yes sale open peace music dance "
    "jump play game star moon sun sky sea tree leaf rose bloom seed farm wild zoo cat dog fox owl bear lion frog fish "
    "bird bunny panda honey sweet candy cake cookie milk bread juice lemon apple berry melon mango peach coffee tea "
    "lunch bake cook yummy tasty hot ice snow cold winter summer spring autumn rain cloud storm light fire water earth "
    "wind space rocket robot pixel code data web chat mail news book read write draw paint color art photo film video "
    "studio show live tour rock jazz soul funk disco beat drum piano band club team goal win best top star1 run walk "
    "swim bike ride drive car road trip travel map city town park home house room door bed sleep night day week year "
    "time now soon today new free big small fast slow easy good great nice kind cute joy fun luck hope faith brave "
    "bold "
    "king queen crown gold silver ruby gem jewel gift card ring baby mom dad kids girl boy friend hug kiss heart wish "
    "thanks please bye hi hey okay yeah ahoy boom bang pop zap buzz beep vroom meow woof quack roar oink tweet "
    "alpha beta delta omega zen yoga spa gym fit bio eco green blue red pink black white retro vintage classic modern "
    "2024 2025 2026 100 24 365 007 1984 10 50 99"
)
WORDS = tuple(_WORDS.split())
_HELD_OUT_WORDS = (
    "welcome orange monkey planet garden guitar market school doctor island bridge castle mirror camera button "
    "dragon forest sunset coffee4 picnic pirate rabbit ticket tunnel velvet window yellow zebra violet rainbow "
    "harbor hotel jungle kitchen ladder magnet needle ocean pocket puzzle ribbon saddle temple turtle unicorn "
    "village whale wizard anchor basket circus dinner eagle falcon giraffe hammer"
)
HELD_OUT_WORDS = tuple(_HELD_OUT_WORDS.split())
"""Only the evaluation writes these."""


@dataclass(frozen=True, slots=True)
class Thing:
    """A sticker: `row`, `col` of its upper left cell, `cells` along each side."""

    kind: str
    style: str
    row: int
    col: int
    cells: int

    @property
    def place(self) -> str:
        """One of the nine names of `PLACES`, by where the middle of the sticker lies."""
        return PLACES[third(self.row + self.cells / 2)][third(self.col + self.cells / 2)]


@dataclass(frozen=True, slots=True)
class Word:
    """A word, a letter to a column, from cell column `col`, on one of `LINES`."""

    text: str
    color: str
    line: str
    col: int


@dataclass(frozen=True, slots=True)
class Scene:
    ground: str
    things: tuple[Thing, ...]
    word: Word | None


def third(middle: float) -> int:
    """0, 1, 2 for the first, second and last third of the picture; `middle` in cells."""
    return 0 if middle < 3 else 2 if middle > 5 else 1


def contrasting(ground: str) -> list[str]:
    """The lettering colours that can be read on a ground."""
    back = np.array(GROUNDS[ground], dtype=float)
    weights = np.array([0.299, 0.587, 0.114])
    return [ink for ink in INKS if abs(float((np.array(GROUNDS[ink], dtype=float) - back) @ weights)) > 60]


# -- scenes ----------------------------------------------------------------------------------------------------------


def sample_text(rng: random.Random, held_out: bool = False) -> str:
    """A word or a random string of 1 to 8 letters and digits (3 to 8 for the evaluation)."""
    if rng.random() < 0.5:
        text = rng.choice(HELD_OUT_WORDS if held_out else WORDS)
        return rng.choice((text.upper(), text.upper(), text, text.capitalize()))
    length = rng.choice((3, 4, 5, 6, 7, 8) if held_out else (1, 2, 3, 4, 5, 6, 7, 8))
    alphabet = rng.choice((LETTERS[:26], LETTERS[:26], LETTERS[26:52], LETTERS, LETTERS[52:] + LETTERS[:26]))
    return "".join(rng.choice(alphabet) for _ in range(length))


def _free(taken: NDArray[np.bool_], row: int, col: int, cells: int) -> bool:
    return not taken[row : row + cells, col : col + cells].any()


def _offsets(cells: int) -> list[int]:
    """Where a sticker may begin along an axis: at the edges, centred, and for small ones a cell inside."""
    spare = GRID - cells
    inside = [1, spare - 1] if cells == 2 else []
    return sorted({0, spare, spare // 2, (spare + 1) // 2, *inside})


def sample_scene(rng: random.Random, held_out: bool = False, word_share: float = 0.7) -> Scene:
    """A scene whose stickers do not overlap and stand in different places."""
    while True:
        scene = _try_scene(rng, held_out, word_share)
        if scene is not None:
            return scene


def _try_scene(rng: random.Random, held_out: bool, word_share: float) -> Scene | None:
    ground = rng.choice(tuple(GROUNDS))
    taken = np.zeros((GRID, GRID), dtype=bool)
    word = None
    if rng.random() < word_share:
        text = sample_text(rng, held_out)
        word = Word(text, rng.choice(contrasting(ground)), rng.choice(("top", "centre", "bottom", "bottom")), 0)
        word = Word(word.text, word.color, word.line, (GRID - len(text)) // 2)
        taken[LINE_ROWS[word.line] : LINE_ROWS[word.line] + 2] = True
    count = rng.choices((1, 2, 3), (0.25, 0.4, 0.35))[0]
    style = rng.choice(tuple(STYLES)) if rng.random() < 0.6 else None
    things: list[Thing] = []
    row_of = None
    if count > 1 and rng.random() < 0.15:
        row_of = rng.choice((2, 2 if count == 3 else 3))
    for index in range(count):
        cells = row_of or rng.choices(STICKER_CELLS, {1: (0, 3, 7), 2: (1, 5, 4), 3: (3, 7, 0)}[count])[0]
        if row_of:
            gap = GRID - count * cells
            col = index * cells + (gap * (index + 1)) // (count + 1)
            spots = [(things[0].row, col)] if things else [(row, col) for row in _offsets(cells)]
        else:
            spots = [(row, col) for row in _offsets(cells) for col in _offsets(cells)]
        spots = [(r, c) for r, c in spots if _free(taken, r, c, cells)]
        places = {thing.place for thing in things}
        spots = [(r, c) for r, c in spots if Thing("", "", r, c, cells).place not in places]
        if not spots:
            return None
        row, col = rng.choice(spots)
        taken[row : row + cells, col : col + cells] = True
        things.append(Thing(rng.choice(tuple(THINGS)), style or rng.choice(tuple(STYLES)), row, col, cells))
    return Scene(ground, tuple(things), word)


def render(scene: Scene, art: Art) -> NDArray[np.uint8]:
    """The picture of a scene: [256, 256, 3], uint8 RGB."""
    canvas = np.empty((SIDE, SIDE, 3), dtype=np.uint8)
    canvas[:] = GROUNDS[scene.ground]
    for thing in scene.things:
        paste(canvas, art.stickers[thing.kind, thing.style, thing.cells], thing.row * CELL, thing.col * CELL)
    if scene.word:
        top = LINE_ROWS[scene.word.line] * CELL
        color = np.array(GROUNDS[scene.word.color], dtype=np.uint8)
        for index, letter in enumerate(scene.word.text):
            tile = art.letters[letter]
            rgba = np.dstack([np.broadcast_to(color, (*tile.shape, 3)), tile])
            paste(canvas, rgba, top, (scene.word.col + index) * CELL)
    return canvas


def paste(canvas: NDArray[np.uint8], rgba: NDArray[np.uint8], top: int, left: int) -> None:
    """Blend a straight-alpha RGBA picture into an RGB one, in place."""
    height, width = rgba.shape[:2]
    target = canvas[top : top + height, left : left + width]
    alpha = rgba[..., 3:].astype(np.uint16)
    target[:] = ((rgba[..., :3] * alpha + target * (255 - alpha) + 127) // 255).astype(np.uint8)


# -- what stands in each cell ----------------------------------------------------------------------------------------

LABELS = ("thing", "style", "part", "letter", "ink", "ground")
"""Class 0 of every label but `ground` is "nothing of the kind here"."""
PARTS = sum(cells * cells for cells in STICKER_CELLS)
CLASSES: Mapping[str, int] = {
    "thing": len(THINGS) + 1,
    "style": len(STYLES) + 1,
    "part": PARTS + 1,
    "letter": 2 * len(LETTERS) + 1,
    "ink": len(INKS) + 1,
    "ground": len(GROUNDS),
}
_PART_BASE = {cells: 1 + sum(c * c for c in STICKER_CELLS if c < cells) for cells in STICKER_CELLS}
_THING_ID = {kind: 1 + index for index, kind in enumerate(THINGS)}
_STYLE_ID = {style: 1 + index for index, style in enumerate(STYLES)}
_INK_ID = {ink: 1 + index for index, ink in enumerate(INKS)}
_LETTER_ID = {letter: 1 + 2 * index for index, letter in enumerate(LETTERS)}
_GROUND_ID = {ground: index for index, ground in enumerate(GROUNDS)}


def labels(scene: Scene) -> NDArray[np.int64]:
    """Class ids in each cell: [len(LABELS), 8, 8], int64."""
    grid = np.zeros((len(LABELS), GRID, GRID), dtype=np.int64)
    grid[5] = _GROUND_ID[scene.ground]
    for thing in scene.things:
        rows, cols = slice(thing.row, thing.row + thing.cells), slice(thing.col, thing.col + thing.cells)
        grid[0, rows, cols] = _THING_ID[thing.kind]
        grid[1, rows, cols] = _STYLE_ID[thing.style]
        part = np.arange(thing.cells**2).reshape(thing.cells, thing.cells)
        grid[2, rows, cols] = _PART_BASE[thing.cells] + part
    if scene.word:
        row = LINE_ROWS[scene.word.line]
        for index, letter in enumerate(scene.word.text):
            grid[3, row : row + 2, scene.word.col + index] = _LETTER_ID[letter] + np.arange(2)
            grid[4, row : row + 2, scene.word.col + index] = _INK_ID[scene.word.color]
    return grid


# -- captions --------------------------------------------------------------------------------------------------------

FRAMES: Sequence[str] = (
    "{things}, {word}, {ground}",
    "{things} and {word}, {ground}",
    "{things} {ground}, {word}",
    "{ground}, {things}, {word}",
    "{word}, {things}, {ground}",
    "{ground}: {things}; {word}",
    "a poster with {things}, {word}, {ground}",
    "a sticker poster of {things} {ground}, {word}",
    "a picture of {things} with {word} {ground}",
    "{things}; {ground}; {word}",
)
HELD_OUT_FRAMES: Sequence[str] = (
    "{ground}, {word} and {things}",
    "a poster {ground} with {things} and {word}",
    "{word} {ground}, {things}",
    "a picture {ground}: {things}, {word}",
    "{things}. {word}. {ground}",
)
WORDLESS_FRAMES: Sequence[str] = (
    "{things}, {ground}",
    "{things} {ground}",
    "{ground}, {things}",
    "{ground}: {things}",
    "a poster with {things}, {ground}",
    "a sticker poster of {things} {ground}",
    "a picture of {things} {ground}",
)
HELD_OUT_WORDLESS_FRAMES: Sequence[str] = (
    "a poster {ground} with {things}",
    "a picture {ground}: {things}",
    "{things}. {ground}",
)
GROUND_FRAMES = (
    "on a {} background",
    "{} background",
    "on {}",
    "with a {} background",
    "in front of {}",
    "against a {} background",
    "on a {} ground",
)
WORD_FRAMES = (
    "the word {quote}{color}{line}",
    "{quote}{color}{line}",
    "the text {quote}{color}{line}",
    "the words {quote}{line}{color}",
    "{line} the word {quote}{color}",
    "saying {quote}{color}{line}",
    "{quote} written{color}{line}",
)
QUOTES = (('"', '"'),) * 7 + (("“", "”"), ("'", "'"), ("「", "」"))


def caption(scene: Scene, rng: random.Random, held_out: bool = False) -> tuple[str, frozenset[str]]:
    """One of many wordings of a scene, and what it leaves open (of "style", "place", "ground", "line", "ink").

    The evaluation (`held_out`) uses frames that training does not, and leaves nothing open but the ink.
    """
    open_: set[str] = set()
    shared = {thing.style for thing in scene.things}
    style_mode = rng.choices(
        ("each", "scene" if len(shared) == 1 else "each", "none"), (55, 25, 0 if held_out else 20)
    )[0]
    place_mode = "each"
    in_row = len(scene.things) > 1 and len({(t.row, t.cells) for t in scene.things}) == 1
    if in_row and not held_out and rng.random() < 0.6:
        place_mode = "row"
    elif not held_out and rng.random() < 0.12:
        place_mode = "none"
    if style_mode == "none":
        open_.add("style")
    if place_mode == "none":
        open_.add("place")
    ordered = list(scene.things)
    if place_mode == "row":
        ordered.sort(key=lambda thing: thing.col)
    else:
        rng.shuffle(ordered)
    parts = [_thing_words(thing, rng, style_mode == "each", place_mode == "each") for thing in ordered]
    things = _join(parts, rng)
    if place_mode == "row":
        things += " in a row"
    if style_mode == "scene":
        name = rng.choice(STYLE_WORDS[scene.things[0].style])
        things = rng.choice((f"{things} in {name} style", f"{things}, {name} style", f"{name} style {things}"))
    ground = rng.choice(GROUND_FRAMES).format(scene.ground)
    if scene.word is None:
        frame = rng.choice(HELD_OUT_WORDLESS_FRAMES if held_out else WORDLESS_FRAMES)
        return _tidy(frame.format(things=things, ground=ground)), frozenset(open_)
    word, left_open = _word_words(scene.word, rng, held_out)
    frame = rng.choice(HELD_OUT_FRAMES if held_out else FRAMES)
    return _tidy(frame.format(things=things, word=word, ground=ground)), frozenset(open_ | left_open)


def _thing_words(thing: Thing, rng: random.Random, style: bool, place: bool) -> str:
    name = rng.choice(SYNONYMS.get(thing.kind, (thing.kind,)))
    size = SIZE_WORDS.get(thing.cells, "") if rng.random() < 0.3 else ""
    look = rng.choice(STYLE_WORDS[thing.style]) if style else ""
    if look and rng.random() < 0.35:
        noun = f"{size}{name} in {look} style"
    else:
        noun = f"{size}{look} {name}".replace("  ", " ").strip()
    noun = f"a {noun}" if rng.random() < 0.85 else noun
    if not place:
        return noun
    where = rng.choice(PLACE_WORDS[thing.place])
    kind = rng.random()
    if kind < 0.75:
        return f"{noun} {where}"
    return f"{where} {noun}" if kind < 0.9 else f"{where}: {noun}"


def _word_words(word: Word, rng: random.Random, held_out: bool) -> tuple[str, set[str]]:
    left, right = rng.choice(QUOTES)
    quote = f"{left}{word.text}{right}"
    open_ = set()
    color = rng.choice((f" in {word.color}", f" in {word.color} letters"))
    if rng.random() < 0.35:
        color = ""
        open_.add("ink")
    line = " " + rng.choice(LINE_WORDS[word.line])
    if not held_out and rng.random() < 0.1:
        line = ""
        open_.add("line")
    return rng.choice(WORD_FRAMES).format(quote=quote, color=color, line=line).strip(), open_


def _join(parts: list[str], rng: random.Random) -> str:
    if len(parts) == 1:
        return parts[0]
    if rng.random() < 0.6:
        return ", ".join(parts[:-1]) + " and " + parts[-1]
    return ", ".join(parts)


def _tidy(text: str) -> str:
    return re.sub(r"\ba (?=[aeio])", "an ", " ".join(text.split()).replace(" ,", ","))


def describe() -> dict[str, object]:
    """What the world contains, for `world.json`: things with synonyms, styles, grounds, places, lettering."""
    return {
        "things": {kind: sorted(set(SYNONYMS.get(kind, (kind,)))) for kind in THINGS},
        "styles": {style: sorted(set(STYLE_WORDS[style])) for style in STYLES},
        "grounds": {ground: f"#{color[0]:02x}{color[1]:02x}{color[2]:02x}" for ground, color in GROUNDS.items()},
        "places": [place for row in PLACES for place in row],
        "lettering": {"letters": LETTERS, "longest": MAX_LETTERS, "lines": list(LINES), "colors": list(INKS)},
        "languages": ["en"],
    }
