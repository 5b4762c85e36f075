"""Captions of scenes: a grammar with many wordings of the same scene, in English; `chinese` follows it.

Prompts of people vary, so sentence frames, order, synonyms and what is left unsaid are drawn at random; the evaluation
uses sentence frames that training never sees. Also the noun phrases that instructions for edits are made of. Knows
scenes, not how they are made up.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from typing import ClassVar

from glmimage.prompting import region_words
from glmimage.train.art import STICKER_CELLS
from glmimage.train.grounds import ABOVE, LANDSCAPES, halves
from glmimage.train.layout import Scene, Thing, Word, region_of

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
    "bear": ("bear",),
    "doughnut": ("doughnut", "donut"),
    "ice cream": ("ice cream", "ice cream cone"),
    "watermelon": ("watermelon", "slice of watermelon"),
    "bicycle": ("bicycle", "bike"),
    "airplane": ("airplane", "plane"),
    "palm tree": ("palm tree",),
    "mushroom": ("mushroom", "toadstool"),
}
PLURAL = ("cherries",)
"""Things that take no "a"."""
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
SIZE_WORDS = ("small ", "", "big ")


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
    "{things} and {word} {ground}",
    "{things}; {word}; {ground}",
    "{things}, {ground} and {word}",
    "{things} with {word}, {ground}",
    "{ground}: {word}; {things}",
    "{ground}; {things}; {word}",
    "{ground}. {things}. {word}",
    "{ground} {things}, and {word}",
    "{ground} there is {things}, {word}",
    "{word}; {things}; {ground}",
    "{word} and {things}, {ground}",
    "{word} with {things} {ground}",
    "a card {ground} with {word} and {things}",
    "a card with {things} {ground}, {word}",
    "a poster with {word} and {things} {ground}",
    "a poster {ground}: {word}; {things}",
    "an image of {things} {ground} with {word}",
    "an image {ground}, with {things}, {word}",
    "a sign {ground} that shows {things} and {word}",
    "a sticker sheet {ground}, showing {things}, {word}",
    "a drawing of {things}, {word}, {ground}",
    "draw {things} {ground} and {word}",
    "show {things}, {word}, {ground}",
    "show me a card {ground} that has {things}, {word}",
    "please draw {things}, {ground}, {word}",
    "I would like a poster of {things}, {word}, {ground}",
    "there is {things}; {ground}; {word}",
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
    "{things}; {ground}",
    "{ground}. {things}",
    "{ground}; {things}",
    "{ground} there is {things}",
    "there is {things}, {ground}",
    "a card {ground} with {things}",
    "an image {ground}: {things}",
    "an image of {things}, {ground}",
    "a drawing of {things} {ground}",
    "a sign {ground} that shows {things}",
    "a sticker sheet {ground}, showing {things}",
    "draw {things}, {ground}",
    "show {things} {ground}",
    "show me a card {ground} that has {things}",
    "please draw {things} {ground}",
    "I would like {things}, {ground}",
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

STACK_FRAMES = (
    "the words {first} and {second} on two lines{color}{line}",
    "{first} over {second}{color}{line}",
    "two lines{line} saying {first} and {second}{color}",
    "the text {first} {second} on two lines{line}{color}",
)
ABOVE_FRAMES = (
    "on a two-tone background, {} above {}",
    "on a background that is {} above and {} below",
    "in front of {} above {}",
    "with a background of {} above {}",
)
BESIDE_FRAMES = (
    "on a two-tone background, {} beside {}",
    "on a background that is {} on its left and {} on its right",
    "in front of {} beside {}",
    "with a background of {} beside {}",
)
LANDSCAPE_FRAMES: Mapping[str, Sequence[str]] = {
    "meadow": ("on a meadow", "on a green meadow", "on a meadow background", "in front of a meadow"),
    "night sky": ("under a night sky", "in front of a night sky", "on a starry night sky", "on a night sky background"),
    "beach": ("on the beach", "at the beach", "on a beach background", "on a sandy beach"),
    "snow": ("in the snow", "on snow", "on a snow background", "in a landscape of snow"),
}
BACKDROPS: Mapping[str, Sequence[str]] = {
    "meadow": ("a meadow", "a green meadow"),
    "night sky": ("a night sky", "a starry night sky"),
    "beach": ("a beach", "a sandy beach"),
    "snow": ("snow", "a snow landscape"),
}


def size_of(thing: Thing) -> int:
    """0 small, 1 middling, 2 big."""
    return STICKER_CELLS.index(thing.cells)


class Grammar:
    """How a scene is put into words; this one is English."""

    language: ClassVar[str] = "en"
    frames: ClassVar[Sequence[str]] = FRAMES
    held_out_frames: ClassVar[Sequence[str]] = HELD_OUT_FRAMES
    wordless_frames: ClassVar[Sequence[str]] = WORDLESS_FRAMES
    held_out_wordless_frames: ClassVar[Sequence[str]] = HELD_OUT_WORDLESS_FRAMES

    def caption(
        self, scene: Scene, rng: random.Random, held_out: bool = False, names: Mapping[Thing, str] | None = None
    ) -> tuple[str, frozenset[str]]:
        """One of many wordings of a scene, and what it leaves open (of "style", "place", "ground", "line", "box",
        "ink").

        The evaluation (`held_out`) uses frames that training does not, and leaves nothing open but the ink. `names` are
        nouns in place of kinds and styles ("the cat from picture 1").
        """
        open_: set[str] = set()
        shared = {thing.style for thing in scene.things}
        style_mode = rng.choices(
            ("each", "scene" if len(shared) == 1 else "each", "none"), (55, 25, 0 if held_out else 20)
        )[0]
        if names:
            style_mode = "named"
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
        parts = [
            self.placed(
                names[thing] if names else self.noun(thing, rng, style_mode == "each"),
                thing.place if place_mode == "each" else "",
                rng,
            )
            for thing in ordered
        ]
        things = self.join(parts, rng)
        if place_mode == "row":
            things = self.in_row(things)
        if style_mode == "scene":
            things = self.in_style(things, scene.things[0].style, rng)
        ground = self.ground(scene.ground, rng)
        if not scene.words:
            frame = rng.choice(self.held_out_wordless_frames if held_out else self.wordless_frames)
            return self.tidy(frame.format(things=things, ground=ground)), frozenset(open_)
        word, left_open = self.words(scene, rng, held_out)
        frame = rng.choice(self.held_out_frames if held_out else self.frames)
        return self.tidy(frame.format(things=things, word=word, ground=ground)), frozenset(open_ | left_open)

    def words(self, scene: Scene, rng: random.Random, held_out: bool) -> tuple[str, set[str]]:
        """Everything that is written, and what is left open."""
        if scene.stacked:
            return self.stack(scene, rng)
        parts, open_ = [], set()
        for word in scene.words:
            if word.box and (held_out or rng.random() < 0.7):
                color = "" if rng.random() < 0.35 else self.ink(word.color)
                said = region_words(region_of(word.text, word.box, color, word.grid), self.language)
                left = set() if color else {"ink"}
            elif word.box:
                said, left = self.word(word, rng, held_out, self.at(word.place, rng))
                left.add("box")
            else:
                said, left = self.word(word, rng, held_out)
            parts.append(said)
            open_ |= left
        return self.join_words(parts), open_

    # -- what English says ----------------------------------------------------------------------------------------

    def noun(self, thing: Thing, rng: random.Random, style: bool) -> str:
        """ "a big flat cat"."""
        name = self.name(thing.kind, rng)
        size = SIZE_WORDS[size_of(thing)] if rng.random() < 0.3 else ""
        look = self.style(thing.style, rng) if style else ""
        if look and rng.random() < 0.35:
            noun = f"{size}{name} in {look} style"
        else:
            noun = f"{size}{look} {name}".replace("  ", " ").strip()
        return f"a {noun}" if rng.random() < 0.85 and thing.kind not in PLURAL else noun

    def placed(self, noun: str, place: str, rng: random.Random) -> str:
        if not place:
            return noun
        where = self.at(place, rng)
        kind = rng.random()
        if kind < 0.75:
            return f"{noun} {where}"
        return f"{where} {noun}" if kind < 0.9 else f"{where}: {noun}"

    def word(self, word: Word, rng: random.Random, held_out: bool, where: str | None = None) -> tuple[str, set[str]]:
        quote = self.quote(word.text, rng)
        open_ = set()
        color = rng.choice((f" in {word.color}", f" in {word.color} letters"))
        if rng.random() < 0.35:
            color = ""
            open_.add("ink")
        line = " " + (where or rng.choice(LINE_WORDS[word.line]))
        if where is None and not held_out and rng.random() < 0.1:
            line = ""
            open_.add("line")
        return rng.choice(WORD_FRAMES).format(quote=quote, color=color, line=line).strip(), open_

    def stack(self, scene: Scene, rng: random.Random) -> tuple[str, set[str]]:
        left, right = rng.choice(QUOTES)
        first, second = (f"{left}{word.text}{right}" for word in scene.words)
        color, open_ = f" in {scene.words[0].color}", set()
        if rng.random() < 0.35:
            color, open_ = "", {"ink"}
        line = " " + LINE_WORDS[scene.stack_line][0]
        return rng.choice(STACK_FRAMES).format(first=first, second=second, color=color, line=line), open_

    def ground(self, ground: str, rng: random.Random) -> str:
        """As a part of a caption: "on a blue background"."""
        if ground in LANDSCAPES:
            return rng.choice(LANDSCAPE_FRAMES[ground])
        pair = halves(ground)
        if pair:
            return rng.choice(ABOVE_FRAMES if ABOVE in ground else BESIDE_FRAMES).format(*pair)
        return rng.choice(GROUND_FRAMES).format(ground)

    def backdrop(self, ground: str, rng: random.Random) -> str:
        """As a noun: "a blue background"."""
        return f"a background of {ground}" if halves(ground) else f"a {ground} background"

    def color(self, ground: str, rng: random.Random) -> str:
        """As what a background is: "blue", "a meadow"."""
        return rng.choice(BACKDROPS[ground]) if ground in LANDSCAPES else ground

    def name(self, kind: str, rng: random.Random) -> str:
        return rng.choice(SYNONYMS.get(kind, (kind,)))

    def the(self, thing: Thing, rng: random.Random, place: bool) -> str:
        """ "the cat at the top left"."""
        name = f"the {self.name(thing.kind, rng)}"
        return f"{name} {self.at(thing.place, rng)}" if place else name

    def pictured(self, kind: str, number: int, rng: random.Random) -> str:
        """The thing that picture `number` (from 1; 0 = not said which) shows."""
        name = self.name(kind, rng)
        if not number:
            return rng.choice((f"the {name}", f"this {name}" if kind not in PLURAL else f"these {name}"))
        ordinal = ("first", "second", "third")[number - 1]
        return rng.choice(
            (
                f"the {name} from picture {number}",
                f"the {name} of the {ordinal} picture",
                f"the {name} in image {number}",
            )
        )

    def at(self, place: str, rng: random.Random) -> str:
        return rng.choice(PLACE_WORDS[place])

    def style(self, style: str, rng: random.Random) -> str:
        return rng.choice(STYLE_WORDS[style])

    def ink(self, color: str) -> str:
        return color

    def quote(self, text: str, rng: random.Random) -> str:
        left, right = rng.choice(QUOTES)
        return f"{left}{text}{right}"

    def in_row(self, things: str) -> str:
        return f"{things} in a row"

    def in_style(self, things: str, style: str, rng: random.Random) -> str:
        name = self.style(style, rng)
        return rng.choice((f"{things} in {name} style", f"{things}, {name} style", f"{name} style {things}"))

    def join(self, parts: list[str], rng: random.Random) -> str:
        if len(parts) == 1:
            return parts[0]
        if rng.random() < 0.6:
            return ", ".join(parts[:-1]) + " and " + parts[-1]
        return ", ".join(parts)

    def join_words(self, parts: list[str]) -> str:
        return " and ".join(parts)

    def tidy(self, text: str) -> str:
        return re.sub(r"\ba (?=[aeio]|um)", "an ", " ".join(text.split()).replace(" ,", ","))
