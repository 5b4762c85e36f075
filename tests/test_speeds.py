"""Measured speeds: what was seen comes out again, other sizes are told from it, and a lost file costs nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from app.speeds import Speeds
from glmimage.events import Progress
from glmimage.request import Layout, Request

ASKED = Request(prompt="a cat", width=256, height=256, steps=20, guidance=1.5)
TOOK = {"layout": 3.2, "painting": 4.0, "decoding": 0.5}


@pytest.fixture
def speeds(tmp_path: Path) -> Speeds:
    made = Speeds(tmp_path / "speeds.json")
    made.learn("miniature", ASKED, TOOK)
    return made


def test_the_same_again_takes_as_long(speeds: Speeds) -> None:
    assert speeds.expect("miniature", ASKED) == pytest.approx(7.7)
    assert speeds.expect("miniature", replace(ASKED, steps=40)) == pytest.approx(11.7)
    assert speeds.expect("miniature", replace(ASKED, guidance=1.0)) == pytest.approx(5.7)
    assert speeds.expect("another", ASKED) is None
    assert speeds.expect("miniature", Request(prompt="a cat")) is None, "without a size nothing can be said"


def test_a_locked_layout_costs_no_codes(speeds: Speeds) -> None:
    rows, columns = ASKED.size.prior_grid
    locked = replace(ASKED, layout=Layout(target=((0,) * columns,) * rows))
    assert speeds.expect("miniature", locked) == pytest.approx(4.5)


def test_a_larger_size_is_told_from_the_nearest(speeds: Speeds) -> None:
    larger = replace(ASKED, width=512, height=512)
    expected = speeds.expect("miniature", larger)
    assert expected is not None
    assert 4 * 4.5 < expected < 4 * 7.7


def test_a_newer_measurement_counts_half(speeds: Speeds) -> None:
    speeds.learn("miniature", ASKED, TOOK | {"painting": 8.0})
    assert speeds.expect("miniature", ASKED) == pytest.approx(9.7)


def test_what_is_left_of_a_running_job(speeds: Speeds) -> None:
    two = replace(ASKED, count=2)
    whole = speeds.left("miniature", two, Progress("layout", 0, 320, 0, 2), 0.0)
    assert whole == pytest.approx(speeds.expect("miniature", two))
    # The first picture is painted half, faster than expected; then it is decoded, then the second one.
    assert speeds.left("miniature", two, Progress("painting", 10, 20, 0, 2), 1.0) == pytest.approx(1 + 0.5 + 4.5)
    assert speeds.left("miniature", two, Progress("decoding", 0, 1, 1, 2), 0.1) == pytest.approx(0.5)
    # How long reading takes is not known: the second picture's share is what is told.
    assert speeds.left("miniature", two, Progress("reading", 0, 1, 0, 2), 0.1) == pytest.approx(4.5)


def test_they_outlast_the_studio(speeds: Speeds, tmp_path: Path) -> None:
    assert Speeds(tmp_path / "speeds.json").expect("miniature", ASKED) == pytest.approx(7.7)


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"miniature": 3}', '{"miniature": {"layout": "x"}}', '{"m": {"a/b/c": 1}}']
)
def test_a_strange_file_is_forgotten(tmp_path: Path, text: str) -> None:
    (tmp_path / "speeds.json").write_text(text)
    made = Speeds(tmp_path / "speeds.json")
    assert made.expect("miniature", ASKED) is None
    made.learn("miniature", ASKED, TOOK)
    assert made.expect("miniature", ASKED) is not None
