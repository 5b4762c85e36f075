"""The trail of a chain of edits, from the files alone, and the two ways to see what became of a picture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from app import comparisons, uploads
from app.history import History, Picture
from app.words import Words
from glmimage.request import Reference
from tests.test_history import result

EN = Words()


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path / "data")


def edited(history: History, source: Path, prompt: str) -> Picture:
    made = result(prompt=prompt)
    request = replace(made.request, task="edit", references=(Reference(path=str(source)),))
    return history.add(replace(made, request=request))


def test_a_chain_is_shown_from_any_of_its_pictures(history: History, tmp_path: Path) -> None:
    Image.new("RGB", (64, 48), "red").save(tmp_path / "brought.png")
    given = uploads.take(tmp_path / "brought.png", tmp_path / "data")
    first = edited(history, given, "<a>")
    second = edited(history, first.path, "b")
    other = edited(history, first.path, "c")
    all_of_them = [first.key, second.key, other.key]
    for start, keys in ((second.path, all_of_them[:2]), (first.path, all_of_them), (given, all_of_them)):
        frames = comparisons.trail(history, start, ("now",), EN, shown=True)
        assert [frame.key for frame in frames[1:]] == keys
        assert frames[0].act == "source"
        assert history.storage.path(frames[0].key) == given
        shown = [frame.key for frame in frames if frame.shown]
        assert shown == [history.storage.name(start).removeprefix("pictures/")]
    assert comparisons.trail(history, given, (), EN)[0].title == "The picture that you brought"


def test_a_chain_ends_where_a_picture_is_gone_or_was_painted(history: History) -> None:
    painted = history.add(result(prompt="a cat"))
    first = edited(history, painted.path, "b")
    assert [frame.key for frame in comparisons.trail(history, first.path, (), EN)] == [painted.key, first.key]
    history.trash(painted.key)
    assert [frame.key for frame in comparisons.trail(history, first.path, (), EN)] == [first.key]


def test_the_slider_has_both_pictures_and_a_label(tmp_path: Path) -> None:
    for name in ("before.png", "after.png"):
        Image.new("RGB", (64, 32)).save(tmp_path / name)
    html = comparisons.slider(tmp_path / "before.png", tmp_path / "after.png", EN)
    assert "--ratio:2.0000" in html
    assert html.index("after.png") < html.index("before.png"), "the cut one lies on top"
    assert 'type="range"' in html
    assert 'aria-label="How much of the picture before is shown"' in html


def test_a_row_shows_what_there_is() -> None:
    panes = comparisons.Pane("Content"), comparisons.Pane("Result", main=True), comparisons.Pane("<Ink>", url="x")
    html = comparisons.row(*panes)
    assert html.count("is-side") == 2
    assert html.count("<img") == 1
    assert "&lt;Ink&gt;" in html
