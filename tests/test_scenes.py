"""Who is in a scene, as it is shown: names lit, faults in both languages, nothing that was typed becomes markup."""

from __future__ import annotations

from pathlib import Path

import pytest

from app import scenes
from app.scenes import Card
from app.subjects import Subject
from app.vocabulary import Vocabulary
from app.words import Words
from glmimage.request import Reference
from glmimage.tasks import find_subjects

EN = Words()
NASTY = "<b>&"


def people(*names: str) -> list[Reference]:
    return [Reference(path=f"{name}.png", name=name) for name in names]


def test_names_are_lit_where_they_stand() -> None:
    prompt = "Mia waves at the <b>&, and mia smiles"
    html = scenes.lit(prompt, find_subjects(prompt, people("Mia", NASTY)))
    assert "<mark>Mia</mark> waves at <mark>the &lt;b&gt;&amp;</mark>, and <mark>mia</mark> smiles\n" in html
    assert 'aria-hidden="true"' in html, "the text itself is in the widget"


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_fault_is_said(language: str) -> None:
    words = Words(language)
    subjects = [*people("Mia", "Mia", "Tom"), Reference(path="a.png")]
    said = scenes.faults(find_subjects("Mia and picture 7", subjects), subjects, words)
    assert said == [
        words("subjects.fault.unnamed", number=4),
        words("subjects.fault.alike", number=2, name="Mia"),
        words("subjects.fault.missing", name="Tom"),
        words("subjects.fault.unknown", words="picture 7"),
    ]
    assert scenes.faults(find_subjects("a cat", []), [], words) == [words("subjects.fault.none", most=4)]
    assert scenes.faults(find_subjects("Mia", people("Mia")), people("Mia"), words) == []


def test_what_is_told_follows_the_prompt() -> None:
    subjects = people("Mia", NASTY)
    assert scenes.told(find_subjects("", []), [], "", EN) == ""
    assert "Say the scene with their names" in scenes.told(find_subjects("", subjects), subjects, "", EN)
    html = scenes.told(find_subjects("Mia runs", subjects), subjects, "Mia runs", EN)
    assert "<mark>Mia</mark>" in html
    assert "does not say &lt;b&gt;&amp;" in html


def test_whom_a_small_checkpoint_cannot_know_is_said() -> None:
    vocabulary = Vocabulary.of({"words": ["cat", "runs"]})
    cat, leo, kind = (
        Reference(path="a", name="cat"),
        Reference(path="b", name="Leo"),
        Reference(path="c", name="Mia", role="a cat"),
    )
    html = scenes.told(find_subjects("", [cat, leo, kind]), [cat, leo, kind], "", EN, vocabulary, "tiny")
    assert "tiny knows things, not names: say what Leo is" in html
    assert html.count("say what") == 1
    assert "say what" not in scenes.told(find_subjects("", [leo]), [leo], "", EN)


def test_a_card_is_kept_once_and_again_when_it_changed(tmp_path: Path) -> None:
    stored = Subject(id="0" * 16, name="Mia", picture=tmp_path / "a.png", notes="cat")
    card = Card(str(tmp_path / "a.png"))
    assert 'data-act="subject-keep.1"' in scenes.card(1, card, "Mia", None, "", EN)
    assert "subject-keep" not in scenes.card(1, card, "Mia", stored, "cat", EN)
    assert "Keep the change" in scenes.card(1, card, "Mia", stored, "dog", EN)
    assert "&lt;b&gt;" in scenes.card(0, card, NASTY, None, "", EN)


def test_the_library_says_who_is_in_use_and_offers_the_deleted(tmp_path: Path) -> None:
    mia, tom = (
        Subject(id=sign * 16, name=name, picture=tmp_path / "a.png") for sign, name in (("1", "Mia"), ("2", NASTY))
    )
    html = scenes.library([mia, tom], [mia.id], None, EN)
    assert f'data-key="{mia.id}" aria-pressed="true"' in html
    assert f'data-key="{tom.id}" aria-pressed="false"' in html
    assert NASTY not in html
    assert scenes.library([], [], None, EN) == ""
    assert f'data-act="subject-undo" data-key="{mia.id}"' in scenes.library([], [], mia, EN)
