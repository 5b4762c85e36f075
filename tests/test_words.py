"""The catalogue: both languages say everything, and everything that a widget says is in it."""

from __future__ import annotations

import re
import string
from pathlib import Path

import gradio as gr
import pytest
from gradio.i18n import I18nData

from app import presets, ui
from app.history import History
from app.run import Worker
from app.words import CATALOGUE, Words, browser_words, create, gallery, label, page, regions, system, tasks
from tests.fakes import DEFAULTS, FakeEngine

ROOT = Path(__file__).resolve().parent.parent
SPOKEN = ("label", "info", "placeholder", "value")
"""Properties of Gradio's widgets that are words."""
SILENT = (gr.HTML, gr.State, gr.BrowserState, gr.Number, gr.Radio, gr.Slider, gr.Checkbox)
"""Their values are no labels."""


def fields(text: str) -> set[str | None]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


@pytest.mark.parametrize("key", sorted(CATALOGUE))
def test_both_languages_say_the_same(key: str) -> None:
    english, chinese = CATALOGUE[key]
    assert english.strip()
    assert chinese.strip()
    assert fields(english) == fields(chinese), "the same values are put in"
    assert not re.search("[\u4e00-\u9fff]", english) or key.startswith("head.language")


def test_no_key_is_said_twice() -> None:
    assert len(CATALOGUE) == sum(len(part.WORDS) for part in (page, create, tasks, gallery, regions, system))


def test_the_browser_gets_the_words_without_values() -> None:
    translations = browser_words().translations_dict
    assert translations["zh"] == translations["zh-CN"]
    assert translations["en"]["control.paint"] == "Paint"
    assert "easel.left" not in translations["en"]
    with pytest.raises(AssertionError):
        label("no.such.key")


def test_words_follow_the_browser() -> None:
    assert [Words.of(text).language for text in ("zh-CN", "zh", "en", "de", "")] == ["zh", "zh", "en", "en", "en"]
    assert Words("zh")("easel.left", time="0:05") == "剩余 0:05"


def test_every_key_that_the_code_names_is_in_the_catalogue() -> None:
    said = re.compile(r"""\b(?:words|label)\(\s*"([a-z_.]+)\"""")
    for path in (ROOT / "app").rglob("*.py"):
        for key in said.findall(path.read_text(encoding="utf-8")):
            assert key in CATALOGUE, f"{path.name} says {key}"


def test_every_label_of_a_widget_is_in_the_catalogue(tmp_path: Path) -> None:
    worker = Worker(lambda choice: FakeEngine(), History(tmp_path), DEFAULTS)
    blocks = ui.build(worker, presets.read_sizes(), presets.read_examples())
    missing = []
    for block in blocks.blocks.values():
        for name in SPOKEN:
            words = getattr(block, name, None)
            if name == "value" and isinstance(block, SILENT):
                continue
            if isinstance(words, I18nData) or str(words).startswith("__i18n__"):
                assert re.sub(r'.*"key": "([^"]+)".*', r"\1", str(words)) in CATALOGUE
            elif (
                isinstance(words, str)
                and words
                and getattr(block, "elem_id", "") not in ("who", "post", "edit-strokes")
            ):
                missing.append((type(block).__name__, name, words))
    assert missing == []
