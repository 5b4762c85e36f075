"""What a checkpoint knows, and what of a prompt it does not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.presets import ROOT
from app.vocabulary import Vocabulary

WORLD = json.loads((ROOT / "assets" / "miniature" / "world.json").read_text(encoding="utf-8"))
CHINESE = {
    "words": list("一只猫在左上角的写着"),
    "languages": ["en", "zh"],
    "names_zh": {"things": {"cat": ["猫", "猫咪"]}},
}


def vocabulary() -> Vocabulary:
    made = Vocabulary.of(WORLD)
    assert made is not None
    return made


@pytest.mark.parametrize(
    ("prompt", "unknown"),
    [
        ('a cat at the top left and the word "HELLO" at the bottom, on a blue background', ()),
        ("A Cat, in ink style; on RED", ()),
        ("a zebra and an elephant and a zebra", ("zebra", "elephant")),
        ('a cat and the word "zebra"', ()),
        ("the cat's crown", ()),
        ("un chat très joli", ("un", "chat", "très", "joli")),
        ("一只猫和一只鲸", ("鲸",)),
        ("", ()),
    ],
)
def test_words_that_were_never_seen(prompt: str, unknown: tuple[str, ...]) -> None:
    assert vocabulary().unknown(prompt) == unknown


def test_chinese_is_known_by_character() -> None:
    made = Vocabulary.of(CHINESE)
    assert made is not None
    assert made.unknown("左上角一只大象，写着“恐龙”") == ("大象",)


def test_phrases_that_are_offered_are_known() -> None:
    made = vocabulary()
    assert set(made.groups) == {"things", "styles", "grounds", "places"}
    assert "a cat" in made.groups["things"]
    assert "an owl" in made.groups["things"]
    for phrases in made.groups.values():
        for phrase in phrases:
            assert made.unknown(phrase) == ()


def test_the_visitors_language_where_the_checkpoint_speaks_it() -> None:
    made = Vocabulary.of(CHINESE, "zh")
    assert made is not None
    assert made.groups["things"] == ("猫",)
    english = Vocabulary.of({**WORLD, "languages": ["en"]}, "zh")
    assert english is not None
    assert "a cat" in english.groups["things"], "this one speaks no Chinese"


def test_texts_that_it_never_wrote() -> None:
    made = vocabulary()
    assert not made.unwritable("HELLO")
    assert made.unwritable("HELLOWORLD")
    assert made.unwritable("é")


@pytest.mark.parametrize("world", [None, {}, [], {"words": 3}, {"things": {"cat": []}}])
def test_a_checkpoint_that_says_nothing_has_none(world: Any) -> None:
    assert Vocabulary.of(world) is None


def test_a_strange_file_breaks_nothing() -> None:
    made = Vocabulary.of({"words": [1, None], "things": 3, "languages": {}, "lettering": [], "names_zh": "x"}, "zh")
    assert made is not None
    assert made.groups == {}
    assert not made.unwritable("anything")
