"""What is said under a prompt."""

from __future__ import annotations

import pytest

from app import reading
from app.vocabulary import Vocabulary
from app.words import Words
from glmimage import glyphs

EN = Words()


@pytest.mark.parametrize(
    ("prompt", "strings", "stray", "unquoted"),
    [
        ('a fox and the word "HI"', ("HI",), (), ()),
        ("don't paint the dogs' house", (), (), ()),
        ("a sign that says 'open", (), ("'",), ()),
        ('a fox and the word "HI', (), ('"',), ()),
        ("招牌上写着“营业", (), ("“",), ()),
        ("招牌上写着营业中", (), (), ("营业中",)),
        ("a sign saying OPEN in red", (), (), ("OPEN",)),
        ("the word hello at the top", (), (), ("hello",)),
        ("a poster with text at the bottom", (), (), ()),
        ("the text in white", (), (), ()),
        ('the words "A" and "B" on two lines', ("A", "B"), (), ()),
        ("a text: SALE", (), (), ("SALE",)),
        ("a red title above a cat", (), (), ()),
        ("the text Happy Birthday above a cake", (), (), ("Happy Birthday",)),
        ("the caption reads: good morning, everyone", (), (), ("good morning",)),
        ("a book titled The Hobbit", (), (), ()),
        ("a sign saying open in red and the letters ABC", (), (), ("open", "ABC")),
    ],
)
def test_what_looks_meant_is_told_from_what_is_read(
    prompt: str, strings: tuple[str, ...], stray: tuple[str, ...], unquoted: tuple[str, ...]
) -> None:
    seen = reading.read(prompt)
    assert (seen.strings, seen.stray, seen.unquoted) == (strings, stray, unquoted)
    assert (seen.unknown, seen.unpractised) == ((), ())


def test_the_limit_is_the_encoders() -> None:
    assert reading.LONGEST == glyphs.LONGEST - 1
    assert reading.read(f'"{"x" * 2047}"').too_long == ()
    assert reading.read(f'"{"é" * 1024}"').too_long == ("é" * 1024,)


def test_every_finding_is_a_line_and_no_prompt_becomes_markup() -> None:
    words = frozenset({"a", "cat", "and", "the", "word"})
    vocabulary = Vocabulary(words=words, languages=("en",), groups={}, longest=4)
    named = reading.read("Mia's dog beside the zebra and Leo", vocabulary, "Mia LEO")
    assert set(named.unknown) & {"Mia's", "Leo", "zebra"} == {"zebra"}
    seen = reading.read('a <b>zebra</b> and the word "<img>x" \'stray', vocabulary)
    html = reading.html(seen, EN, "miniature")
    assert html.count('class="read is-warning"') == 2
    assert 'class="read is-unknown"' in html
    assert "zebra" in html
    assert "<b>" not in html
    assert "<img>" not in html


def test_a_long_list_is_cut() -> None:
    vocabulary = Vocabulary(words=frozenset({"a"}), languages=("en",), groups={})
    html = reading.html(reading.read(" ".join(f"word{number}x" for number in range(30)), vocabulary), EN, "m")
    assert "word7x" in html
    assert "word8x" not in html


def test_the_offer_is_the_checkpoints_own() -> None:
    vocabulary = Vocabulary(words=frozenset(), languages=(), groups={"things": ('a "cat"',)})
    html = reading.offer(vocabulary, EN, "miniature")
    assert 'data-insert="a &quot;cat&quot;"' in html
    assert reading.offer(None, EN, "miniature") == ""
