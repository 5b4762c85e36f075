"""The gallery's markup says what there is and escapes it; what a browser says is taken for what it is."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from gradio.utils import get_upload_folder

from app import gallery, presets, ui
from app.gallery import Roads
from app.history import Counts, Entry, History, Query
from app.library import Preset
from app.run import Worker
from app.words import CATALOGUE, Words
from glmimage.events import Line, Report
from glmimage.metadata import Settings
from glmimage.request import Reference
from tests.fakes import DEFAULTS, FakeEngine
from tests.test_history import Clock, result

Ask = Callable[[dict[str, Any]], dict[str, Any]]


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path / "data", now=Clock())


@pytest.fixture
def ask(history: History) -> dict[str, Ask]:
    """What the script can call."""
    blocks = ui.build(
        Worker(lambda choice: FakeEngine(), history, DEFAULTS), presets.read_sizes(), presets.read_examples()
    )
    wall = next(block for block in blocks.blocks.values() if getattr(block, "elem_id", "") == "gallery")
    assert isinstance(wall, gr.HTML)
    return {name: getattr(wall, name) for name in ("enter", "shots", "show", "deed", "pack", "adopt")}


def entry(history: History, prompt: str = "a cat") -> Entry:
    found = history.entry(history.add(result(prompt=prompt)).key)
    assert found is not None
    return found


def test_what_people_write_is_escaped(history: History) -> None:
    evil = '<script>alert("x")</script>\' onload=x'
    one = replace(entry(history, evil), tags=(evil,))
    settings = replace(Settings.of(result()), report=Report((Line(evil, evil, False, 0.1),)))
    words = Words()
    html = gallery.shots([one], history, words)
    html += gallery.viewer(one, settings, "", Roads(parts={"settings": ["create"]}), words)
    html += gallery.sieve(Query(tag=evil), Counts(tags={evil: 1}), words)
    preset = Preset(kind="style", name={"en": evil}, key=evil)
    html += gallery.tools(Query(), Counts(), {"style": [preset]}, evil, words)
    assert "<script" not in html
    assert "&lt;script&gt;" in html


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_frame_speaks_both_languages(language: str) -> None:
    html = gallery.frame(Words(language))
    assert CATALOGUE["gallery.search"][language == "zh"] in html
    assert len(re.findall("<template", html)) == 3


def test_filters_show_what_is_chosen_and_no_task_that_is_alone(history: History) -> None:
    words = Words()
    assert 'data-act="task"' not in gallery.sieve(Query(), Counts(tasks={"text": 3}), words)
    html = gallery.sieve(Query(task="edit", star=True), Counts(tasks={"text": 3, "edit": 1}), words)
    pressed = re.findall(r'data-act="(\w+)" data-key="(\w*)" aria-pressed="true"', html)
    assert pressed == [("starred", ""), ("task", "edit")]
    assert "data-sure" in gallery.tools(Query(trashed=True), Counts(trashed=2), {}, "", words)


def test_a_layout_is_offered_only_where_there_is_one(history: History) -> None:
    one, roads = entry(history), Roads(parts={"prompt": ["create"], "layout": ["create"]})
    settings = Settings.of(result())
    assert 'data-key="layout"' in gallery.viewer(one, settings, "", roads, Words())
    assert 'data-key="layout"' not in gallery.viewer(one, replace(settings, prior=None), "", roads, Words())
    assert "reuse" not in gallery.viewer(one, None, "", roads, Words())


def test_settings_without_a_picture_are_not_for_tabs_that_begin_with_one(history: History, ask: dict[str, Ask]) -> None:
    plain = history.add(result())
    edited = replace(result(2).request, task="edit", references=(Reference(path=str(plain.path)),))
    for picture, tabs in ((plain, ["create", "regions"]), (history.add(replace(result(2), request=edited)), ["edit"])):
        html = ask["show"]({"key": picture.key})["html"]
        offered = re.findall(r'data-act="reuse" data-key="settings" data-to="(\w+)"', html)
        assert offered[: len(tabs)] == tabs
        assert ("edit" in offered) == (picture != plain)


def test_pages_answer_what_is_asked(history: History, ask: dict[str, Ask]) -> None:
    keys = [history.add(result(seed, f"picture {seed}")).key for seed in range(5)]
    first = ask["shots"]({"limit": 3})
    assert re.findall(r'class="shot" data-key="([^"]+)"', first["html"]) == keys[:1:-1]
    second = ask["shots"]({"limit": 3, "cursor": first["cursor"]})
    assert re.findall(r'class="shot" data-key="([^"]+)"', second["html"]) == keys[1::-1]
    assert "sieve" not in second
    assert ask["shots"]({"who": "zh-CN"})["told"] == "5 张图片"


@pytest.mark.parametrize(
    "nonsense",
    [
        {},
        {"text": ["x"], "limit": "many", "cursor": 7, "since": "soon", "until": {}, "preset": "../x", "star": "yes"},
        {"key": "../../etc/passwd", "keys": ["../x", "/etc/passwd", 7], "act": "star", "path": "/etc/passwd"},
        {"act": "nothing", "keys": [], "tag": None, "who": 5},
        {"act": "delete", "keys": []},
    ],
)
def test_nonsense_is_answered_calmly(history: History, ask: dict[str, Ask], nonsense: dict[str, Any]) -> None:
    picture = history.add(result())
    for name in ("enter", "shots", "show", "deed", "pack", "adopt"):
        answer = ask[name](nonsense)
        assert isinstance(answer, dict)
    assert history.find(picture.key) == picture


def test_deeds_concern_the_pictures_that_there_are(history: History, ask: dict[str, Ask]) -> None:
    key = history.add(result()).key
    assert ask["deed"]({"act": "star", "keys": [key, "none"]})["keys"] == (key,)
    assert ask["deed"]({"act": "discard", "keys": [key]})["told"] == "1 moved to the trash."
    assert ask["show"]({"key": key})["html"].count("Restore") == 1
    assert ask["deed"]({"act": "delete", "keys": [key]})["told"] == "1 deleted."
    assert ask["show"]({"key": key})["gone"]


def test_only_what_was_uploaded_is_opened(history: History, ask: dict[str, Ask], tmp_path: Path) -> None:
    outside = history.add(result()).path
    uploads = Path(get_upload_folder())
    uploads.mkdir(parents=True, exist_ok=True)
    link = uploads / f"{tmp_path.name}-link.png"
    link.symlink_to(outside)
    try:
        for path in (outside, link, uploads, uploads / ".." / "x.png", Path("a\0b"), uploads / "none.png"):
            assert "did not arrive" in ask["adopt"]({"path": str(path)})["error"]
    finally:
        link.unlink()
    assert outside.exists()
    assert "did not arrive" in ask["adopt"]({"path": ""})["error"]
