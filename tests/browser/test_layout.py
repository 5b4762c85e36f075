"""Texts in boxes, as a person lays them out: drawn, moved, resized, undone, painted, read."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest

from app.library import Library
from glmimage import metadata
from glmimage.events import Line, Report
from glmimage.proofread import Proofreader
from glmimage.request import Region
from tests.browser.visits import NARROW, PATIENCE, WIDE, Visit, barriers, browsed, expect

pytestmark = browsed


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


def swipe(page: Any, *spots: tuple[float, float]) -> None:
    """With a finger, over shares of the canvas; a second from spot to spot: after a fling a tap is none."""
    paper, screen = page.locator(".paper").bounding_box(), page.context.new_cdp_session(page)
    points = [{"x": paper["x"] + x * paper["width"], "y": paper["y"] + y * paper["height"]} for x, y in spots]
    events = [("touchMove", [point]) for point in points] + [("touchEnd", [])]
    events[0] = ("touchStart", [points[0]])
    for left, (kind, touched) in zip(range(len(points), -1, -1), events, strict=True):
        event = {"type": kind, "touchPoints": touched, "timestamp": time.time() - left}
        screen.send("Input.dispatchTouchEvent", event)


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


Acts = dict[str, Callable[[], object]]


def pointed(drag: Callable[..., None], press: Callable[[str], None]) -> Acts:
    """What a hand does to the board: it drags on the canvas and presses a tool."""
    return {
        "draw": lambda: drag((0.03, 0.03), (0.49, 0.26)),
        "move": lambda: drag((0.25, 0.125), (0.5, 0.5)),
        "resize": lambda: drag((0.75, 0.625), (0.99, 0.87)),
        "duplicate": lambda: press("Duplicate"),
        "delete": lambda: press("Delete"),
        "undo": lambda: press("Undo"),
    }


def by_mouse(page: Any) -> Acts:
    return pointed(partial(draw, page), lambda name: tool(page, name).click())


def by_finger(page: Any) -> Acts:
    def drag(start: tuple[float, float], end: tuple[float, float]) -> None:
        swipe(page, start, ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2), end)

    return pointed(drag, lambda name: tool(page, name).tap())


def tool(page: Any, name: str) -> Any:
    return page.locator(".board .tools").get_by_label(name, exact=True)


def by_keys(page: Any) -> Acts:
    """From the start of the page to the canvas by Tab alone."""

    def walk(selector: str) -> None:
        for _ in range(60):
            if page.evaluate("selector => document.activeElement.matches(selector)", selector):
                return
            page.keyboard.press("Tab")
        raise AssertionError(f"no way to {selector}")

    def press(*keys: str) -> Callable[[], object]:
        return lambda: [page.keyboard.press(key) for key in keys]

    def add() -> None:
        walk("#regions-boxes .more")
        page.keyboard.press("Enter")

    def place() -> None:
        walk(".board .box")
        press("ArrowLeft", "Shift+ArrowLeft", "Shift+ArrowLeft")()

    return {
        "draw": add,
        "place": place,
        "move": press("ArrowRight", "ArrowRight", "ArrowDown", "ArrowDown", "ArrowDown"),
        "resize": press("Shift+ArrowRight", "Shift+ArrowRight", "Shift+ArrowDown", "Shift+ArrowDown"),
        "duplicate": press("Control+d"),
        "delete": press("Delete"),
        "undo": press("Control+z"),
    }


@pytest.mark.parametrize(("hand", "size"), [(by_mouse, WIDE), (by_finger, NARROW), (by_keys, WIDE)])
def test_boxes_obey_mouse_finger_and_keys_alike(
    visit: Visit, hand: Callable[[Any], Acts], size: tuple[int, int]
) -> None:
    page = visit.open(size, touch=hand is by_finger)
    show(page)
    acts = hand(page)
    acts["draw"]()
    expect(page.locator(".board .box")).to_have_count(1)
    page.keyboard.type("ONE")
    if "place" in acts:
        acts["place"]()
    else:
        page.keyboard.press("Enter")
    assert [(box["text"], box["box"]) for box in boxes(page)] == [("ONE", [0, 0, 0.5, 0.25])]
    acts["move"]()
    assert [box["box"] for box in boxes(page)] == [[0.25, 0.375, 0.75, 0.625]]
    acts["resize"]()
    large = [0.25, 0.375, 1, 0.875]
    assert [box["box"] for box in boxes(page)] == [large]
    acts["duplicate"]()
    expect(page.locator(".board .box")).to_have_count(2)
    assert [(box["text"], box["box"]) for box in boxes(page)] == [("ONE", large), ("ONE", [0.25, 0.5, 1, 1])]
    acts["delete"]()
    expect(page.locator(".board .box")).to_have_count(1)
    assert [box["box"] for box in boxes(page)] == [large]
    acts["undo"]()
    expect(page.locator(".board .box")).to_have_count(2)
    assert [box["box"] for box in boxes(page)] == [large, [0.25, 0.5, 1, 1]]


def test_snapping_lets_go_with_alt_or_for_good(visit: Visit) -> None:
    page = opened(visit)
    start, end = (0.28, 0.31), (0.66, 0.57)
    page.keyboard.down("Alt")
    draw(page, start, end)
    page.keyboard.up("Alt")
    assert boxes(page)[0]["box"] == pytest.approx([*start, *end], abs=0.005)
    page.keyboard.press("Escape")
    page.keyboard.press("Delete")
    draw(page, start, end)
    assert boxes(page)[0]["box"] == [0.25, 0.25, 0.625, 0.625]
    page.keyboard.press("Escape")
    page.keyboard.press("Delete")
    page.get_by_label("Snap to the grid and to other boxes").click()
    draw(page, start, end)
    assert boxes(page)[0]["box"] == pytest.approx([*start, *end], abs=0.005)


def test_lettering_alignment_and_no_strength_reach_the_engine(visit: Visit) -> None:
    page = opened(visit)
    summer(page)
    row = page.locator("#regions-boxes .row")
    row.get_by_label("Lettering").select_option("neon")
    row.get_by_label("Left", exact=True).click()
    expect(row.get_by_label("Left", exact=True)).to_have_attribute("aria-pressed", "true")
    row.get_by_label("another colour").fill("teal")
    expect(page.locator("#regions-written .will")).to_contain_text(
        'the text "SUMMER" in teal neon letters, left-aligned'
    )
    assert page.locator(".board .lettering").evaluate("span => getComputedStyle(span).textAlign") == "left"
    page.locator("#regions-advanced button").first.click()
    strength = page.locator("#regions-strength input[type=range]")
    strength.focus()
    strength.press("Home")
    expect(page.locator("#regions-strength input[type=number]")).to_have_value("0")
    page.locator("#regions-paint").click()
    expect(page.locator(".mark")).to_have_count(1)
    (request,) = visit.engine.requests
    assert request.region_strength == 0
    assert request.regions == (Region(text="SUMMER", box=(0, 0.75, 1, 1), color="teal", style="neon", align="left"),)


def test_every_template_opens(visit: Visit) -> None:
    page = opened(visit)
    for preset in Library(visit.history.storage.root).presets("template"):
        page.locator(".template").get_by_role("button", name=preset.title("en")).click()
        expect(page.locator(".board .box")).to_have_count(len(preset.regions))
        texts = page.locator("#regions-boxes .text")
        for number, region in enumerate(preset.regions):
            expect(texts.nth(number)).to_have_value(region.text)
            expect(page.locator(".will")).to_contain_text(f'"{region.text}"')
        looks = [(box["box"], box["color"], box["style"], box["align"]) for box in boxes(page)]
        assert looks == [(list(one.box), one.color, one.style, one.align) for one in preset.regions]
        paper, ratio = page.locator(".paper").bounding_box(), preset.width / preset.height
        assert paper["width"] / paper["height"] == pytest.approx(ratio, rel=0.12), "the nearest shape"


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


def test_a_repaint_is_read_and_drawn_as_the_desk_says(visit: Visit, reader: list[str]) -> None:
    page = opened(visit)
    summer(page)
    page.locator("#regions-paint").click()
    expect(page.locator("#regions-shelf .frame[data-act=choose]")).to_have_count(1)
    reader[:] = ["SUMNER"]
    page.locator("#regions-advanced button").first.click()
    page.locator("#regions-strength input[type=number]").fill("2.5")
    page.keyboard.press("Tab")
    page.locator("#regions-shelf").get_by_role("button", name="Repaint").click()
    expect(page.locator("#regions-shelf .frame[data-act=choose]")).to_have_count(2)
    expect(page.locator(".mark")).to_contain_text("SUMNER")
    first, again = visit.engine.requests
    assert (first.region_strength, again.region_strength) == (1, 2.5)
    settings = metadata.read(visit.history.newest(1)[0].path)
    assert settings is not None
    assert settings.report is not None
    assert [line.read for line in settings.report.lines] == ["SUMNER"]


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


def test_a_stop_while_a_picture_is_read_keeps_it_and_tries_no_other(
    visit: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = threading.Event()

    def read(self: Proofreader, image: object, wanted: Sequence[Region]) -> Report:
        done.wait(PATIENCE / 1000)
        return Report(tuple(Line(wanted=one.text, read="SUMER", match=False, likeness=0.8) for one in wanted))

    monkeypatch.setattr(Proofreader, "read", read)
    page = opened(visit)
    summer(page)
    page.locator("#regions-tries label").filter(has_text="5").click()
    page.locator("#regions-paint").click()
    expect(page.locator("#regions-easel .what")).to_have_text("Proofreading the picture")
    page.locator("#regions-stop").click()
    assert visit.studio.worker.wait(lambda now: now.current is not None and now.current.stopping, PATIENCE / 1000)
    done.set()
    expect(page.locator(".mark.is-wrong .badge")).to_have_text("SUMER")
    expect(page.locator("#regions-stop")).to_be_hidden()
    (picture,) = visit.history.newest(9)
    settings = metadata.read(picture.path)
    assert settings is not None
    assert settings.report is not None
    assert [line.read for line in settings.report.lines] == ["SUMER"]
    assert visit.studio.worker.snapshot().last["regions"].state == "stopped"


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
    swipe(page, (0.02, 0.02), (0.5, 0.2), (0.98, 0.27))
    expect(page.locator(".board .box")).to_have_count(1)
    page.keyboard.type("HI")
    page.keyboard.press("Enter")
    swipe(page, (0.5, 0.12), (0.5, 0.4), (0.5, 0.62))
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
