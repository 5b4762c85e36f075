"""The markup of a snapshot: says what goes on, shows what is there, lets no prompt become markup."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from PIL import Image

from app import easel
from app.history import History
from app.presets import Example
from app.run import Job, Snapshot
from glmimage.download import Transfer
from glmimage.events import Progress, Stage
from glmimage.hub import Release
from glmimage.request import Request
from tests.fakes import DEFAULTS
from tests.test_history import result

NASTY = '<img src=x onerror="alert(1)"> & "O\'K"'


def job(progress: Progress | None = None, prompt: str = "a cat", count: int = 1, stopping: bool = False) -> Job:
    previews: tuple[tuple[int, Image.Image, Stage], ...] = ((0, Image.new("RGB", (900, 300)), "painting"),)
    request = Request(prompt=prompt, width=384, height=128, count=count)
    return Job(1, request, "running", progress, 65.2, previews, (), ("A note.",), "", stopping)


def snapshot(current: Job | None = None, waiting: tuple[Job, ...] = (), latest: tuple[str, ...] = ()) -> Snapshot:
    return Snapshot(1, "ready", "", DEFAULTS, current, waiting, None, latest)


def transfer(doing: Literal["checking", "downloading"]) -> Transfer:
    release = Release(
        hub_id="zai-org/GLM-Image", revision="main", commit="0" * 40, licence="<mit>", files=(), folder=Path("cache")
    )
    return Transfer(release, doing, 3 * 2**30, 12 * 2**30)


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path)


def test_progress_says_stage_count_and_time_left(history: History) -> None:
    html = easel.picture_area(snapshot(job(Progress("painting", 7, 20, 1, 4), count=4)), history, None, ())
    for words in ("Painting<", "7/20 · picture 2 of 4", "1:05 left", 'aria-valuenow="35"', "A note."):
        assert words in html
    assert html.count('class="sheet ') == 4, "a sheet for each picture, begun or not"


def test_a_download_is_followed(history: History) -> None:
    now = replace(snapshot(), readiness="loading", transfer=transfer("downloading"))
    area = easel.picture_area(now, history, None, ())
    for html in (easel.status(now), area):
        assert "Downloading miniature (licence: &lt;mit&gt;)" in html
        assert ">3.0 GiB of 12.0 GiB<" in html
    assert 'aria-valuenow="25"' in area
    assert "Checking miniature" in easel.status(replace(now, transfer=transfer("checking")))
    assert "Loading miniature…" in easel.status(replace(now, transfer=None))


def test_layouts_are_counted_together(history: History) -> None:
    html = easel.picture_area(snapshot(job(Progress("layout", 120, 321, 0, 4), count=4)), history, None, ())
    assert "Sketching the layout<" in html
    assert "120/321<" in html


def test_previews_are_small_enough_to_send_often(history: History) -> None:
    html = easel.picture_area(snapshot(job(Progress("painting", 1, 2))), history, None, ())
    assert "data:image/jpeg;base64," in html
    assert len(html) < 60_000


def test_the_first_visit_offers_examples(history: History) -> None:
    html = easel.picture_area(snapshot(), history, None, (Example("a dog", 1, None), Example(NASTY, 1, None)))
    assert html.count('data-act="example"') == 2
    assert "<img src=x" not in html


def test_a_finished_picture_is_shown_with_its_settings(history: History) -> None:
    picture = history.add(result(prompt=NASTY))
    now = snapshot(latest=(picture.key,))
    area, shelf = easel.picture_area(now, history, None, ()), easel.shelf(now, history, None)
    assert picture.path.name in area
    for words in ("256 × 256", "seed 7", "1 steps", "guidance 1.5", "miniature", "Use settings", "Download"):
        assert words in shelf
    assert "<img src=x" not in area + shelf


def test_a_chosen_picture_is_shown_while_another_is_painted(history: History) -> None:
    picture = history.add(result())
    now = snapshot(job(Progress("painting", 1, 2)))
    area = easel.picture_area(now, history, picture.key, ())
    assert picture.path.name in area
    assert "Painting" in area
    assert 'data-act="live" aria-pressed="false"' in easel.shelf(now, history, picture.key)


def test_a_picture_that_was_deleted_is_not_shown(history: History) -> None:
    picture = history.add(result())
    picture.path.unlink()
    area = easel.picture_area(snapshot(latest=(picture.key,)), history, picture.key, (Example("a dog", 1, None),))
    assert "What shall we paint?" in area


def test_waiting_jobs_are_listed_with_a_way_out(history: History) -> None:
    html = easel.picture_area(snapshot(job(), (job(prompt=NASTY),)), history, None, ())
    assert 'data-act="remove" data-key="1"' in html
    assert "<img src=x" not in html


def test_words_in_quotation_marks_are_announced() -> None:
    assert "<mark>MOON</mark>" in easel.written('a rocket and "MOON"')
    assert "<mark>&lt;b&gt;</mark>" in easel.written('a rocket and "<b>"')
    assert "quotation marks" in easel.written("don't")


def test_a_complaint_is_announced_and_escaped() -> None:
    assert easel.complaint("") == ""
    assert "&lt;b&gt;" in easel.complaint("The <b> is wrong.")
    assert 'role="alert"' in easel.complaint("Wrong.")
