"""Texts in boxes, as a person lays them out: drawn, moved, resized, undone, painted, read."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from PIL.Image import Image

from glmimage import metadata
from glmimage.events import Line, Report
from glmimage.proofread import Proofreader
from glmimage.request import Region
from tests.browser.visits import NARROW, PATIENCE, WIDE, Visit, barriers, browsed, expect

pytestmark = browsed


@pytest.fixture(autouse=True)
def reader(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the proofreader finds, picture by picture; the last for all that follow."""
    found = ["SUMMER"]

    def read(_: Proofreader, image: Image, wanted: Sequence[Region | str]) -> Report:
        seen = found.pop(0) if len(found) > 1 else found[0]
        texts = [item if isinstance(item, str) else item.text for item in wanted]
        return Report(
            tuple(Line(wanted=text, read=seen, match=text == seen, likeness=float(text == seen)) for text in texts)
        )

    monkeypatch.setattr(Proofreader, "read", read)
    return found


def opened(visit: Visit, size: tuple[int, int] = WIDE, scheme: str = "light") -> Any:
    page = visit.open(size, scheme)
    show(page)
    return page


def show(page: Any) -> None:
    page.locator("#tabs [data-tab-id='regions']").first.evaluate("tab => tab.click()")
    expect(page.locator(".paper")).to_be_visible()
    expect(page.locator(".template")).to_have_count(6)


def draw(page: Any, start: tuple[float, float], end: tuple[float, float]) -> None:
    """With the mouse, from and to shares of the canvas."""
    paper = page.locator(".paper").bounding_box()
    spots = [(paper["x"] + x * paper["width"], paper["y"] + y * paper["height"]) for x, y in (start, end)]
    page.mouse.move(*spots[0])
    page.mouse.down()
    page.mouse.move((spots[0][0] + spots[1][0]) / 2, (spots[0][1] + spots[1][1]) / 2)
    page.mouse.move(*spots[1])
    page.mouse.up()


def boxes(page: Any) -> list[dict[str, Any]]:
    """As the page keeps them."""
    kept = json.loads(page.evaluate("localStorage.getItem('atelier-draft-board')"))["boxes"]
    return list(kept)


def summer(page: Any) -> None:
    draw(page, (0.03, 0.72), (0.97, 0.98))
    page.keyboard.type("SUMMER")
    page.keyboard.press("Enter")
    expect(page.locator("#regions-written .will")).to_contain_text('the text "SUMMER" at the bottom')


def test_a_box_is_drawn_written_moved_undone_painted_and_read(visit: Visit, reader: list[str]) -> None:
    page = opened(visit)
    summer(page)
    assert [(box["text"], box["box"]) for box in boxes(page)] == [("SUMMER", [0, 0.75, 1, 1])], "it met the grid"
    page.keyboard.press("ArrowUp")
    assert boxes(page)[0]["box"] == [0, 0.625, 1, 0.875]
    page.keyboard.press("Shift+ArrowLeft")
    assert boxes(page)[0]["box"] == [0, 0.625, 0.875, 0.875]
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+Shift+z")
    assert boxes(page)[0]["box"] == [0, 0.625, 1, 0.875]
    page.locator("#regions-scene textarea").fill("a cat on a blue background")
    page.locator("#regions-boxes [title='red']").click()
    expect(page.locator("#regions-written .will")).to_contain_text(
        'a cat on a blue background, the text "SUMMER" in red'
    )
    page.locator("#regions-paint").click()
    expect(page.locator(".mark.is-right")).to_have_count(1)
    expect(page.locator("#regions-boxes .read")).to_have_text("reads right")
    (picture,) = visit.history.newest(9)
    settings = metadata.read(picture.path)
    assert settings is not None
    assert settings.request.task == "regions"
    assert settings.request.regions == (Region(text="SUMMER", box=(0, 0.625, 1, 0.875), color="red"),)
    assert settings.report == Report((Line(wanted="SUMMER", read="SUMMER", match=True, likeness=1.0),))


def test_keys_alone_add_walk_duplicate_and_delete(visit: Visit) -> None:
    page = opened(visit)
    page.locator("#regions-boxes .more").press("Enter")
    page.keyboard.type("ONE")
    page.locator(".board .box").focus()
    page.keyboard.press("Control+d")
    assert [box["text"] for box in boxes(page)] == ["ONE", "ONE"]
    page.keyboard.press("Shift+Tab")
    expect(page.locator(".board .box").first).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Control+a")
    page.keyboard.type("TWO")
    page.keyboard.press("Enter")
    assert [box["text"] for box in boxes(page)] == ["TWO", "ONE"]
    page.keyboard.press("Delete")
    assert [box["text"] for box in boxes(page)] == ["ONE"]
    page.keyboard.press("Control+z")
    assert [box["text"] for box in boxes(page)] == ["TWO", "ONE"]


def test_it_is_painted_again_until_it_reads_right(visit: Visit, reader: list[str]) -> None:
    reader[:] = ["SUMER", "SUNMER", "SUMMER"]
    page = opened(visit)
    summer(page)
    page.locator("#regions-tries label").filter(has_text="5").click()
    page.locator("#regions-paint").click()
    expect(page.locator(".mark.is-right")).to_have_count(1)
    assert len(visit.engine.requests) == 3
    assert len(visit.history.newest(9)) == 1
    reader[:] = ["SUMMA"]
    page.locator("#regions-tries label").first.click()
    page.locator("#regions-paint").click()
    expect(page.locator(".mark.is-wrong .badge")).to_have_text("SUMMA")


def test_reading_is_told_while_it_lasts(visit: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    done = threading.Event()

    def read(self: Proofreader, image: object, wanted: Sequence[Region]) -> Report:
        done.wait(PATIENCE / 1000)
        return Report(tuple(Line(wanted=one.text, read=one.text, match=True, likeness=1.0) for one in wanted))

    monkeypatch.setattr(Proofreader, "read", read)
    page = opened(visit)
    summer(page)
    page.locator("#regions-paint").click()
    expect(page.locator("#regions-easel .what")).to_have_text("Proofreading the picture")
    done.set()
    expect(page.locator(".mark.is-right")).to_have_count(1)


def test_a_reload_in_the_middle_finds_boxes_and_job(visit: Visit) -> None:
    page = opened(visit)
    summer(page)
    visit.engine.hold("painting")
    page.locator("#regions-paint").click()
    expect(page.locator("#regions-easel .what")).to_have_text("Painting")
    page.reload()
    show(page)
    expect(page.locator("#regions-easel .what")).to_have_text("Painting")
    expect(page.locator("#regions-written .will")).to_contain_text('the text "SUMMER" at the bottom')
    visit.engine.release()
    expect(page.locator(".mark.is-right")).to_have_count(1)
    assert len(visit.history.newest(9)) == 1


def test_a_template_a_reload_and_a_template_of_ones_own(visit: Visit) -> None:
    page = opened(visit)
    page.locator(".template button").first.click()
    expect(page.locator(".board .box")).to_have_count(2)
    expect(page.locator("#regions-shape label").filter(has_text="3:4").locator("input")).to_be_checked()
    expect(page.locator("#regions-scene textarea")).to_have_value("a rocket in the middle, on a black background")
    page.locator("#regions-boxes .text").first.fill("SUN")
    page.reload()
    show(page)
    expect(page.locator(".board .box")).to_have_count(2)
    expect(page.locator("#regions-boxes .text").first).to_have_value("SUN")
    expect(page.locator("#regions-shape label").filter(has_text="3:4").locator("input")).to_be_checked()
    page.locator("#regions-keep button").first.click()
    page.locator("#regions-name input, #regions-name textarea").fill("Mine")
    page.locator("#regions-keep-do").click()
    expect(page.locator(".template")).to_have_count(7)
    page.locator(".template .forget").click()
    expect(page.locator(".template")).to_have_count(6)


def test_settings_of_a_picture_bring_its_boxes_back(visit: Visit) -> None:
    page = opened(visit)
    summer(page)
    page.locator("#regions-paint").click()
    expect(page.locator(".mark")).to_have_count(1)
    page.locator("#regions-boxes [aria-label='Delete']").click()
    expect(page.locator(".board .box")).to_have_count(0)
    page.locator("#regions-shelf").get_by_text("Use settings").click()
    expect(page.locator("#regions-boxes .text")).to_have_value("SUMMER")


def test_what_is_missing_is_said_and_the_boxes_stay(visit: Visit) -> None:
    page = opened(visit)
    page.locator("#regions-paint").click()
    expect(page.locator("#regions-complaint .complaint")).to_contain_text("There is no text box")
    page.locator("#regions-boxes .more").click()
    page.locator("#regions-paint").click()
    expect(page.locator("#regions-complaint .complaint")).to_contain_text("Box 1 has no text")
    assert len(boxes(page)) == 1


def test_narrow_a_finger_draws_and_moves(visit: Visit) -> None:
    page = opened(visit, NARROW)
    touch = page.context.new_cdp_session(page)
    paper = page.locator(".paper").bounding_box()

    def swipe(*spots: tuple[float, float]) -> None:
        kinds = ["touchStart", *["touchMove"] * (len(spots) - 1)]
        for kind, (x, y) in zip(kinds, spots, strict=True):
            point = {"x": paper["x"] + x * paper["width"], "y": paper["y"] + y * paper["height"]}
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [point]})
        touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

    swipe((0.02, 0.02), (0.5, 0.2), (0.98, 0.27))
    expect(page.locator(".board .box")).to_have_count(1)
    page.keyboard.type("HI")
    page.keyboard.press("Enter")
    swipe((0.5, 0.12), (0.5, 0.4), (0.5, 0.62))
    assert boxes(page)[0]["box"] == [0, 0.5, 1, 0.75]
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW[0]
    expect(page.locator("#regions-paint")).to_be_in_viewport(ratio=1)
    assert page.locator(".paper").bounding_box()["y"] < page.locator("#regions-scene").bounding_box()["y"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_stands_in_anybodys_way(visit: Visit, scheme: str) -> None:
    page = opened(visit, scheme=scheme)
    page.locator(".template button").first.click()
    expect(page.locator(".board .box")).to_have_count(2)
    page.locator("#regions-boxes .text").first.click()
    # Letters on the canvas have the colour that a person gives them.
    assert barriers(page, besides=".lettering") == []
