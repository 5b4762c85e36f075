"""The markup of a snapshot: says what goes on, shows what is there, lets no prompt become markup."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from PIL import Image

from app import easel
from app.choice import Choice
from app.history import History
from app.jobs import Job, Sketched, Snapshot, in_line
from app.presets import Example
from app.words import Words
from glmimage.download import Transfer
from glmimage.events import Progress, Sketch, Stage
from glmimage.hub import Release
from glmimage.request import Layout, Request
from tests.fakes import DEFAULTS
from tests.test_history import result

EN = Words()
HERE = easel.Place("create")
WELCOME = easel.welcome("What shall we paint?", "", easel.cards((Example(prompt="a dog"),), Words()))
NASTY = '<img src=x onerror="alert(1)"> & "O\'K"'


def job(progress: Progress | None = None, prompt: str = "a cat", count: int = 1, stopping: bool = False) -> Job:
    previews: tuple[tuple[int, Image.Image, Stage], ...] = ((0, Image.new("RGB", (900, 300)), "painting"),)
    request = Request(prompt=prompt, width=384, height=128, count=count)
    return Job(
        number=1,
        request=request,
        count=count,
        tab="create",
        sketching=False,
        state="running",
        progress=progress,
        seconds_left=65.2,
        previews=previews,
        pictures=(),
        sketches=(),
        notes=("A note.",),
        error="",
        stopping=stopping,
    )


def snapshot(current: Job | None = None, waiting: tuple[Job, ...] = (), latest: tuple[str, ...] = ()) -> Snapshot:
    return Snapshot(
        version=1,
        readiness="ready",
        message="",
        choice=Choice(),
        refusal="",
        defaults=DEFAULTS,
        current=current,
        waiting=waiting,
        last={},
        latest={"create": latest},
    )


def transfer(doing: Literal["checking", "downloading"]) -> Transfer:
    release = Release(
        hub_id="zai-org/GLM-Image", revision="main", commit="0" * 40, licence="<mit>", files=(), folder=Path("cache")
    )
    return Transfer(release, doing, 3 * 2**30, 12 * 2**30)


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path)


def test_progress_says_stage_count_and_time_left(history: History) -> None:
    html = easel.picture_area(snapshot(job(Progress("painting", 7, 20, 1, 4), count=4)), history, HERE, WELCOME, EN)
    for words in ("Painting<", "7/20 · picture 2 of 4", "1:05 left", 'aria-valuenow="35"', "A note."):
        assert words in html
    assert html.count('class="sheet ') == 4, "a sheet for each picture, begun or not"


def test_a_download_is_followed(history: History) -> None:
    now = replace(snapshot(), readiness="loading", transfer=transfer("downloading"))
    area = easel.picture_area(now, history, HERE, WELCOME, EN)
    for html in (easel.head(now, EN), area):
        assert "Downloading miniature (licence: &lt;mit&gt;)" in html
        assert ">3.0 GiB of 12.0 GiB · 25 %<" in html
    assert 'aria-valuenow="25"' in area
    weights = replace(now, transfer=Transfer(None, "loading", 11 * 2**30, 33 * 2**30))
    for html in (easel.head(weights, EN), easel.progress_area(weights, HERE, EN)):
        assert "Loading miniature…" in html
        assert ">11.0 GiB of 33.0 GiB · 33 %<" in html
    assert 'aria-valuenow="33"' in easel.progress_area(weights, HERE, EN)
    assert "Checking miniature" in easel.head(replace(now, transfer=transfer("checking")), EN)
    assert "Loading miniature…" in easel.head(replace(now, transfer=None), EN)


def test_layouts_are_counted_together(history: History) -> None:
    html = easel.picture_area(snapshot(job(Progress("layout", 120, 321, 0, 4), count=4)), history, HERE, WELCOME, EN)
    assert "Sketching the layout<" in html
    assert "120/321<" in html


def test_previews_are_small_enough_to_send_often(history: History) -> None:
    html = easel.picture_area(snapshot(job(Progress("painting", 1, 2))), history, HERE, WELCOME, EN)
    assert "data:image/jpeg;base64," in html
    assert len(html) < 60_000


def test_the_first_visit_offers_examples(history: History) -> None:
    offered = (Example(prompt="a dog", said={"zh": "一只狗"}), Example(prompt=NASTY))
    welcome = easel.welcome(NASTY, "", easel.cards(offered, EN))
    html = easel.picture_area(snapshot(), history, HERE, welcome, EN)
    assert html.count('data-act="example"') == 2
    assert "<img src=x" not in html
    assert "a dog" in html
    assert "一只狗" in easel.cards(offered, Words.of("zh"))


def test_a_finished_picture_is_shown_with_its_settings(history: History) -> None:
    picture = history.add(result(prompt=NASTY))
    now = snapshot(latest=(picture.key,))
    area, shelf = easel.picture_area(now, history, HERE, WELCOME, EN), easel.shelf(now, history, HERE, EN)
    assert picture.path.name in area
    for words in ("256 × 256", "seed 7", "1 steps", "guidance 1.5", "miniature", "Use settings", "Download"):
        assert words in shelf
    assert "<img src=x" not in area + shelf


def test_a_chosen_picture_is_shown_while_another_is_painted(history: History) -> None:
    picture = history.add(result())
    now = snapshot(job(Progress("painting", 1, 2)))
    area = easel.picture_area(now, history, easel.Place("create", picture.key), WELCOME, EN)
    assert picture.path.name in area
    assert "Painting" in area
    assert 'data-act="live" aria-pressed="false"' in easel.shelf(now, history, easel.Place("create", picture.key), EN)


def test_a_picture_that_was_deleted_is_not_shown(history: History) -> None:
    picture = history.add(result())
    picture.path.unlink()
    place = easel.Place("create", picture.key)
    area = easel.picture_area(snapshot(latest=(picture.key,)), history, place, WELCOME, EN)
    assert "What shall we paint?" in area


def test_waiting_jobs_are_listed_with_a_way_out(history: History) -> None:
    html = easel.picture_area(snapshot(job(), (job(prompt=NASTY),)), history, HERE, WELCOME, EN)
    assert 'data-act="remove" data-key="1"' in html
    assert "<img src=x" not in html


def test_a_complaint_is_announced_and_escaped() -> None:
    assert easel.complaint("") == ""
    assert "&lt;b&gt;" in easel.complaint("The <b> is wrong.")
    assert 'role="alert"' in easel.complaint("Wrong.")


def test_another_tabs_job_is_said_and_its_pictures_are_not_shown(history: History) -> None:
    there = easel.Place("edit")
    html = easel.picture_area(snapshot(job(Progress("painting", 7, 20))), history, there, WELCOME, EN)
    assert "At work in Create · Painting<" in html
    assert "What shall we paint?" in html
    assert "is-live" not in easel.shelf(snapshot(job(Progress("painting", 7, 20))), history, there, EN)


def test_a_picture_can_be_sent_to_the_tabs_that_take_one(history: History) -> None:
    picture = history.add(result())
    place = easel.Place("create", picture.key, ("edit",))
    html = easel.shelf(snapshot(), history, place, EN)
    assert f'data-act="send" data-to="edit" data-key="{picture.key}">Edit<' in html


def test_the_page_speaks_chinese(history: History) -> None:
    zh = Words("zh")
    html = easel.picture_area(snapshot(job(Progress("painting", 7, 20))), history, HERE, WELCOME, zh)
    assert "绘制<" in html
    assert "剩余 1:05" in html
    assert "English" in easel.head(snapshot(), zh)


SKETCHED = Sketched(
    Request(prompt="a cat", width=384, height=128, count=2),
    tuple(Sketch(Image.new("RGB", (64, 64)), index, index, Layout(preview=((1,),))) for index in range(2)),
)


def test_sketches_can_be_picked(history: History) -> None:
    now = replace(snapshot(), sketched={"create": SKETCHED})
    place = easel.Place("create", sketching=True, picked=frozenset({1}))
    html = easel.picture_area(now, history, place, WELCOME, EN)
    assert re.findall(r'data-act="pick" data-key="(\d)" aria-pressed="(\w+)"', html) == [("0", "false"), ("1", "true")]
    assert 'data-act="sketches" aria-pressed="true"' in easel.shelf(now, history, place, EN)
    assert "What shall we paint?" in easel.picture_area(now, history, HERE, WELCOME, EN)


def test_the_queue_says_place_and_time(history: History) -> None:
    running = job(Progress("painting", 7, 20))
    waiting = tuple(in_line([running], [job(prompt="second"), job(prompt="third")]))
    html = easel.picture_area(snapshot(running, waiting), history, HERE, WELCOME, EN)
    assert "<b>2</b><span>second</span><small>begins in 1:05</small>" in html
    assert "<b>3</b><span>third</span><small>begins in 2:10</small>" in html
    # The second and the fourth are another visitor's.
    waiting = tuple(in_line([running], [job(), job(prompt="third"), job(), job(prompt="fifth")]))[1::2]
    html = easel.picture_area(snapshot(waiting=waiting), history, HERE, WELCOME, EN)
    assert "2 ahead of yours" in html
    assert "<b>3</b><span>third</span><small>begins in 2:10</small>" in html
    assert "<b>5</b><span>fifth</span><small>begins in 4:21</small>" in html
    unknown = tuple(in_line([replace(running, seconds_left=None)], [job(prompt="second")]))
    assert "begins in" not in easel.picture_area(snapshot(running, unknown), history, HERE, WELCOME, EN)
