"""The proofreader on drawn pictures, and painting until it reads right with a painter that learns to spell."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from glmimage.errors import MachineError, RequestError, Stopped
from glmimage.events import Event, Note, Preview, PriorTokens, Progress, Report, Result
from glmimage.proofread import Proofreader, likeness, until_right
from glmimage.request import Layout, Reference, Region, Request
from glmimage.train.art import chinese_font

LEFT, RIGHT, BOTTOM = (0.0, 0.05, 0.5, 0.3), (0.5, 0.05, 1.0, 0.3), (0.1, 0.7, 0.9, 0.95)


@pytest.fixture(scope="module")
def proofreader() -> Proofreader:
    return Proofreader()


def poster(*texts: tuple[str, tuple[float, float, float, float]], side: int = 256) -> Image.Image:
    """Texts in the middle of boxes."""
    picture = Image.new("RGB", (side, side), "#2864dc")
    pen = ImageDraw.Draw(picture)
    for text, (left, top, right, bottom) in texts:
        font: ImageFont.FreeTypeFont | ImageFont.ImageFont = ImageFont.load_default(side // 8)
        if not text.isascii():
            font = ImageFont.truetype(str(chinese_font()), side // 8)
        pen.text(((left + right) / 2 * side, (top + bottom) / 2 * side), text, "white", font, anchor="mm")
    return picture


@pytest.mark.parametrize("side", [256, 1024])
def test_words_are_found_anywhere(proofreader: Proofreader, side: int) -> None:
    picture = poster(("HELLO", LEFT), ("moon", RIGHT), ("生日快乐", BOTTOM), side=side)
    report = proofreader.read(picture, ("生日快乐", "Moon", "HELLO", "SUN"))
    assert [(line.wanted, line.match) for line in report.lines] == [
        ("生日快乐", True),
        ("Moon", True),
        ("HELLO", True),
        ("SUN", False),
    ]
    assert not report.right
    assert 0.75 <= report.likeness < 1
    assert [piece.text for piece in proofreader.look(picture, 1 if side == 256 else 0.5)] == [
        "HELLO",
        "moon",
        "生日快乐",
    ]


def test_a_text_that_is_not_there_takes_nothing_from_one_that_is(proofreader: Proofreader) -> None:
    report = proofreader.read(poster(("SUN", BOTTOM)), ("MOON", "SUN"))
    assert [(line.read, line.match) for line in report.lines] == [("", False), ("SUN", True)]


def test_pieces_lie_where_they_stand(proofreader: Proofreader) -> None:
    (piece,) = proofreader.look(poster(("MOON", BOTTOM)))
    left, top, right, bottom = (side / 256 for side in piece.box)
    assert 0.1 < left < 0.5 < right < 0.9
    assert 0.7 < top < 0.825 < bottom < 0.95


def test_a_region_is_read_alone(proofreader: Proofreader) -> None:
    picture = poster(("HELLO", LEFT), ("MOON", RIGHT))
    swapped = proofreader.read(picture, (Region(text="MOON", box=LEFT), Region(text="HELLO", box=RIGHT)))
    assert [line.read for line in swapped.lines] == ["HELLO", "MOON"]
    assert not any(line.match for line in swapped.lines)
    mixed = proofreader.read(picture, (Region(text="hello", box=LEFT), "moon", Region(text="SUN", box=BOTTOM)))
    assert [line.match for line in mixed.lines] == [True, True, False]
    assert mixed.lines[2].likeness == 0.0


def test_a_word_is_taken_once(proofreader: Proofreader) -> None:
    report = proofreader.read(poster(("MOON", BOTTOM)), ("MOON", "MOON"))
    assert [line.match for line in report.lines] == [True, False]


def test_nothing_to_read(proofreader: Proofreader) -> None:
    plain = Image.new("RGB", (64, 64), "red")
    assert proofreader.look(plain) == []
    assert proofreader.read(plain, ()) == Report(())
    assert proofreader.read(plain, ()).right
    assert [line.read for line in proofreader.read(plain, ("A", Region(text="B", box=(0, 0, 1, 1)))).lines] == ["", ""]


@pytest.mark.parametrize(
    ("wanted", "read", "alike"),
    [("HELLO", "hel lo", 1.0), ("ＨＩ", "HI", 1.0), ("HELLO", "HELO", 0.8), ("A", "", 0.0), ("", "", 1.0)],
)
def test_likeness(wanted: str, read: str, alike: float) -> None:
    assert likeness(wanted, read) == pytest.approx(alike)


class Speller:
    """A painter whose picture says what its paint seed says it should."""

    def __init__(self, spelled: dict[int, str], stopping: int | None = None) -> None:
        self.spelled, self.stopping = spelled, stopping
        self.seeds: list[int] = []
        self.open = 0

    def run(self, request: Request, stop: threading.Event | None = None) -> Iterator[Event]:
        self.open += 1
        try:
            for index in range(request.count):
                seed = request.paint_seed_of(index)
                self.seeds.append(seed)
                if seed == self.stopping:
                    raise Stopped
                picture = poster((self.spelled.get(seed, "XX"), BOTTOM))
                yield Progress("painting", 1, 1, index, request.count)
                yield Preview(picture, "painting", index)
                tokens = PriorTokens(np.zeros((8, 8), np.int64))
                yield Result(picture, request, index, request.layout_seed_of(index), seed, tokens)
        finally:
            self.open -= 1


def results(events: Iterator[Event]) -> dict[int, Result]:
    return {event.index: event for event in events if isinstance(event, Result)}


WANTED = Request(prompt='a poster that says "MOON"', seed=10, count=2)


def test_it_tries_until_it_reads_right(proofreader: Proofreader) -> None:
    speller = Speller({10: "MOON", 11: "SUN", 13: "MOO", 15: "MOON", 17: "MOON"})
    events = list(until_right(speller.run, WANTED, proofreader, attempts=5))
    assert speller.seeds == [10, 11, 13, 15]
    made = results(iter(events))
    assert [made[index].paint_seed for index in (0, 1)] == [10, 15]
    assert all(result.report and result.report.right and result.request == WANTED for result in made.values())
    notes = [event.text for event in events if isinstance(event, Note)]
    assert len(notes) == 2
    assert notes[1] == "Picture 2 reads 'MOO' where it should say 'MOON'; attempt 3 of 5."
    for stage, steps in (("painting", (1,)), ("reading", (0, 1))):
        told = [event for event in events if isinstance(event, Progress) and event.stage == stage]
        assert [(event.step, event.picture) for event in told] == [(step, at) for at in (0, 1, 1, 1) for step in steps]
        assert {event.pictures for event in told} == {2}


def test_the_best_try_is_kept(proofreader: Proofreader) -> None:
    speller = Speller({11: "SUN", 12: "MOO", 13: "SUN"})
    (best,) = results(until_right(speller.run, Request(prompt='"MOON"', seed=11), proofreader, attempts=3)).values()
    assert (best.paint_seed, speller.seeds) == (12, [11, 12, 13])
    assert best.report is not None
    assert best.report.lines[0].read == "MOO"


def test_one_attempt_only_reads(proofreader: Proofreader) -> None:
    speller = Speller({10: "MOON"})
    made = results(until_right(speller.run, WANTED, proofreader))
    assert [made[index].report.right for index in (0, 1)] == [True, False]  # type: ignore[union-attr]
    assert speller.seeds == [10, 11]


@pytest.mark.parametrize(
    "locks",
    [{"layout_seed": 1, "paint_seed": 11}, {"layout": Layout(target=((1,),)), "paint_seed": 11}],
)
def test_what_cannot_differ_is_not_tried_again(proofreader: Proofreader, locks: dict[str, object]) -> None:
    speller = Speller({})
    request = Request(prompt='"MOON"', **locks)  # type: ignore[arg-type]
    assert len(results(until_right(speller.run, request, proofreader, attempts=4))) == 1
    assert speller.seeds == [11]


def test_a_locked_layout_stays(proofreader: Proofreader) -> None:
    speller = Speller({2: "MOON"})
    request = Request(prompt='"MOON"', seed=1, layout_seed=7)
    (made,) = results(until_right(speller.run, request, proofreader, attempts=2)).values()
    assert (made.layout_seed, made.paint_seed) == (7, 2)


def test_without_words_nothing_is_read() -> None:
    speller = Speller({})
    made = results(until_right(speller.run, Request(prompt="a cat"), Proofreader(), attempts=3))
    assert made[0].report is None
    assert speller.seeds == [0]


def test_of_an_edit_what_its_picture_shows_is_not_asked_for(proofreader: Proofreader, tmp_path: Path) -> None:
    poster(("SUN", BOTTOM)).save(tmp_path / "sun.png")
    speller = Speller({1: "SUN", 2: "MOON"})
    references = (Reference(path=str(tmp_path / "sun.png")),)
    edit = Request(prompt='change "SUN" to "MOON"', task="edit", references=references, seed=1)
    (made,) = results(until_right(speller.run, edit, proofreader, attempts=3)).values()
    assert speller.seeds == [1, 2]
    assert made.report is not None
    assert [(line.wanted, line.match) for line in made.report.lines] == [("MOON", True)]
    (made,) = results(until_right(speller.run, replace(edit, prompt='remove "SUN"'), proofreader, attempts=3)).values()
    assert (made.paint_seed, made.report, speller.seeds) == (1, None, [1, 2, 1])
    (tmp_path / "sun.png").unlink()
    (made,) = results(until_right(speller.run, edit, proofreader)).values()
    assert made.report is not None
    assert len(made.report.lines) == 2, "the picture has gone"


def test_a_stop_keeps_the_best_so_far(proofreader: Proofreader) -> None:
    speller = Speller({10: "SUN", 11: "SUN", 12: "MOO"}, stopping=14)
    events: list[Event] = []
    with pytest.raises(Stopped):
        events.extend(until_right(speller.run, WANTED, proofreader, attempts=4))
    assert {index: result.paint_seed for index, result in results(iter(events)).items()} == {0: 12, 1: 11}


def test_closing_closes_the_run(proofreader: Proofreader) -> None:
    speller = Speller({})
    events = until_right(speller.run, WANTED, proofreader, attempts=2)
    next(events)
    assert speller.open == 1
    events.close()  # type: ignore[attr-defined]
    assert speller.open == 0


@pytest.mark.parametrize("attempts", [0, 21])
def test_attempts_have_a_limit(proofreader: Proofreader, attempts: int) -> None:
    with pytest.raises(RequestError):
        next(iter(until_right(Speller({}).run, WANTED, proofreader, attempts=attempts)))


def test_a_reader_that_is_not_there_loses_no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(self: Proofreader, image: Image.Image, wanted: object) -> Report:
        raise MachineError("RapidOCR cannot be loaded; install it.")

    monkeypatch.setattr(Proofreader, "read", absent)
    speller = Speller({})
    events = list(until_right(speller.run, Request(prompt='a cat and "HELLO"', count=2), Proofreader(), attempts=3))
    assert [event.report for event in events if isinstance(event, Result)] == [None, None]
    assert [event.text for event in events if isinstance(event, Note)] == ["RapidOCR cannot be loaded; install it."]
