"""The page in a real browser, over a fake engine that stops where a test wants to look."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from app import presets
from app.words import CATALOGUE
from glmimage import metadata
from glmimage.errors import RequestError
from glmimage.request import Defaults
from tests.browser.visits import NARROW, PATIENCE, PROMPT, WIDE, Visit, barriers, browsed, expect, loaded, paint
from tests.fakes import FakeEngine

pytestmark = browsed


def finished(page: Any, frames: int = 1) -> None:
    expect(page.locator(".frame:not(.is-live)")).to_have_count(frames)
    expect(page.locator(".progress.is-busy")).to_have_count(0)


def test_a_prompt_becomes_a_picture_before_the_persons_eyes(visit: Visit) -> None:
    page = visit.open()
    visit.engine.hold("layout")
    paint(page)
    expect(page.locator(".written mark")).to_have_text("MOON")
    expect(page.locator(".what")).to_have_text("Sketching the layout")
    expect(page.locator(".count")).to_have_text("1/320")
    assert loaded(page, ".sheet.is-sketch img")
    visit.engine.hold("painting")
    expect(page.locator(".what")).to_have_text("Painting")
    expect(page.locator(".count")).to_have_text("1/8")
    assert loaded(page, ".sheet.is-paint img")
    visit.engine.release()
    finished(page)
    assert loaded(page, ".sheet img")
    expect(page.locator(".said")).to_have_text(PROMPT)
    (picture,) = visit.history.newest(9)
    settings = metadata.read(picture.path)
    assert settings is not None
    assert settings.request.prompt == PROMPT
    expect(page.locator("#create-seed input")).to_have_value(str(settings.paint_seed))


def test_the_page_is_up_before_the_engine(make_visit: Callable[..., Visit]) -> None:
    ready = threading.Event()

    def slowly(engine: FakeEngine) -> FakeEngine:
        ready.wait(PATIENCE / 1000)
        return engine

    visit = make_visit(slowly)
    page = visit.open()
    expect(page.locator(".status")).to_have_text("Loading miniature…")
    paint(page)
    expect(page.locator(".what")).to_have_text("Waiting for miniature to load")
    ready.set()
    finished(page)
    expect(page.locator(".status")).to_have_text("miniature")


def test_a_reload_finds_the_running_job_and_the_draft(visit: Visit) -> None:
    page = visit.open()
    visit.engine.hold("painting")
    paint(page)
    expect(page.locator(".what")).to_have_text("Painting")
    page.locator("#prompt textarea").fill("something that is not asked for yet")
    page.reload()
    expect(page.locator(".what")).to_have_text("Painting")
    assert loaded(page, ".sheet.is-paint img")
    expect(page.locator("#prompt textarea")).to_have_value("something that is not asked for yet")
    visit.engine.release()
    finished(page)


def test_a_closed_browser_loses_nothing_and_another_sees_the_same(visit: Visit) -> None:
    first = visit.open()
    visit.engine.hold("painting")
    paint(first)
    expect(first.locator(".what")).to_have_text("Painting")
    second = visit.open()
    expect(second.locator(".what")).to_have_text("Painting")
    first.context.close()
    visit.engine.release()
    finished(second)


@pytest.mark.parametrize("stage", ["layout", "glyphs", "painting", "decoding"])
def test_stop_ends_the_job(visit: Visit, stage: str) -> None:
    page = visit.open()
    visit.engine.hold(stage)
    paint(page)
    expect(page.locator(".what")).to_have_text(CATALOGUE[f"stage.{stage}"][0])
    page.locator("#create-stop").click()
    expect(page.locator(".progress.is-busy")).to_have_count(0)
    expect(page.locator("#create-stop")).to_be_hidden()
    expect(page.locator(".complaint")).to_have_count(0)
    assert visit.history.newest(1) == []


def test_clicks_queue_up_and_one_is_taken_out(visit: Visit) -> None:
    page = visit.open()
    visit.engine.hold("layout")
    for prompt in ("first", "second", "third"):
        paint(page, prompt)
        expect(page.locator("#prompt textarea")).to_have_value(prompt)
    expect(page.locator(".waiting li span")).to_have_text(["second", "third"])
    page.locator(".waiting li").filter(has_text="second").get_by_text("Remove").click()
    expect(page.locator(".waiting li span")).to_have_text(["third"])
    visit.engine.release()
    finished(page, 2)
    assert [request.prompt for request in visit.engine.requests] == ["first", "third"]
    assert visit.engine.most_running == 1


@pytest.mark.parametrize(("size", "count"), [(WIDE, 2), (WIDE, 4), (NARROW, 4)])
def test_several_pictures_have_a_sheet_each(visit: Visit, size: tuple[int, int], count: int) -> None:
    page = visit.open(size)
    page.locator("#create-count label").filter(has_text=str(count)).click()
    visit.engine.hold("painting", 1)
    paint(page)
    expect(page.locator(".count")).to_have_text(f"1/8 · picture 2 of {count}")
    expect(page.locator(".sheet")).to_have_count(count)
    visit.engine.release()
    finished(page, count)
    stage = page.locator(".stage").bounding_box()
    for sheet in page.locator(".sheet").all():
        box = sheet.bounding_box()
        assert stage["x"] <= box["x"]
        assert box["x"] + box["width"] <= stage["x"] + stage["width"]
        assert box["width"] == pytest.approx(box["height"], abs=2)
    expect(page.locator(".facts")).to_contain_text(f"{count} pictures")
    page.locator(".sheet").nth(1).click()
    expect(page.locator(".sheet")).to_have_count(1)
    expect(page.locator(".facts")).to_contain_text("256 × 256")


def test_what_went_wrong_is_said_beside_the_prompt(visit: Visit) -> None:
    page = visit.open()
    page.locator("#create-paint").click()
    expect(page.locator(".complaint")).to_have_text("The prompt is empty; say what the picture should show.")
    visit.engine.fault = RequestError("The sky is too blue; choose another.")
    paint(page)
    expect(page.locator(".complaint")).to_have_text("The sky is too blue; choose another.")
    expect(page.locator("#prompt textarea")).to_have_value(PROMPT)
    visit.engine.fault = None
    page.locator("#create-advanced button").first.click()
    page.locator("#create-temperature textarea").fill("warm")
    page.locator("#create-paint").click()
    expect(page.locator(".complaint")).to_contain_text("'warm' is not a number")
    page.locator("#create-temperature textarea").fill("")
    page.locator("#create-paint").click()
    finished(page)
    expect(page.locator(".complaint")).to_have_count(0)


def fill_desk(page: Any, tab: str, picture: Path) -> None:
    """With all that a request of that tab needs."""
    easel = page.locator(f"#{tab}-easel input[type=file]")
    match tab:
        case "create":
            page.locator("#prompt textarea").fill(PROMPT)
            expect(page.locator("#create-styles .tile").first).to_be_visible()
        case "regions":
            page.locator("#regions-boxes .more").click()
            page.keyboard.type("SUMMER")
            page.locator("#regions-scene textarea").fill("a cat")
            expect(page.locator("#regions-written .will")).to_contain_text('a cat, the text "SUMMER"')
        case "edit":
            easel.set_input_files(picture)
            expect(page.locator("#edit-easel .canvas img")).to_be_visible()
            page.locator("#edit-instruction textarea").fill("make it green")
        case "style":
            easel.set_input_files(picture)
            expect(page.locator("#style-easel .is-main img")).to_be_visible()
            page.get_by_role("button", name="Ink").click()
            expect(page.get_by_role("button", name="Ink")).to_have_attribute("aria-pressed", "true")
        case "subjects":
            easel.set_input_files(picture)
            page.locator("#subject-name-0").locator("input, textarea").fill("Mia")
            expect(page.locator("#subject-0 .portrait img")).to_have_attribute("alt", "Mia")
            page.locator("#subjects-prompt textarea").fill("Mia sleeps")


def on_desk(page: Any, tab: str) -> list[Any]:
    """All that a person has put there; a seed that is not kept changes with every click."""
    found: list[Any] = page.locator(f"#tab-{tab}").evaluate(
        f"""tab => [...tab.querySelectorAll(
          '.desk :is(textarea, select, input:not([type=file]), [aria-pressed]), :is(.slot, .portrait, .canvas) img')]
          .filter(one => !one.closest('#{tab}-seed'))
          .map(one => [one.value, one.checked, one.ariaPressed, one.getAttribute('src')])"""
    )
    return found


@pytest.mark.parametrize("tab", ["create", "regions", "edit", "style", "subjects"])
def test_a_job_that_fails_is_one_line_and_the_desk_stays(visit: Visit, tab: str, tmp_path: Path) -> None:
    Image.new("RGB", (256, 192), "red").save(tmp_path / "a.png")
    page = visit.open()
    page.locator(f"#tab-{tab}-button").click()
    fill_desk(page, tab, tmp_path / "a.png")
    complaint = page.locator(f"#{tab}-complaint .complaint")
    before = on_desk(page, tab)
    for fault, said in (
        (RequestError("The sky is too blue; choose another."), "The sky is too blue; choose another."),
        (KeyError("layers.7.weight\nmore"), "An unexpected fault while painting (KeyError)"),
    ):
        visit.engine.fault = fault
        page.locator(f"#{tab}-paint").click()
        expect(complaint).to_contain_text(said)
        expect(complaint).to_have_count(1)
        assert "\n" not in complaint.inner_text()
        assert "layers" not in page.locator("body").inner_text()
        expect(page.locator(f"#{tab}-stop")).to_be_hidden()
        assert on_desk(page, tab) == before
    assert visit.history.newest(1) == []
    visit.engine.fault = None
    page.locator(f"#{tab}-paint").click()
    expect(page.locator(f"#{tab}-shelf .frame[data-act=choose]")).to_have_count(1)
    expect(complaint).to_have_count(0)
    first, _, again = visit.engine.requests
    assert (again.task, again.prompt, again.references) == (first.task, first.prompt, first.references)


def test_settings_of_an_older_picture_make_it_again(visit: Visit) -> None:
    page = visit.open()
    page.locator("#create-shape label").filter(has_text="16:9").click()
    page.locator("#create-seed input").fill("4711")
    expect(page.locator("#create-lock input")).to_be_checked()
    paint(page)
    finished(page)
    page.locator("#create-shape label").filter(has_text="1:1").click()
    page.locator("#create-seed input").fill("5")
    paint(page, "another")
    finished(page, 2)
    page.locator(".frame").nth(1).click()
    expect(page.locator(".said")).to_have_text(PROMPT)
    page.get_by_text("Use settings").click()
    expect(page.locator("#prompt textarea")).to_have_value(PROMPT)
    expect(page.locator("#create-seed input")).to_have_value("4711")
    expect(page.locator("#create-shape label").filter(has_text="16:9").locator("input")).to_be_checked()
    page.locator("#create-paint").click()
    finished(page, 3)
    newest, _, oldest = visit.history.newest(9)
    with Image.open(newest.path) as again, Image.open(oldest.path) as before:
        assert again.tobytes() == before.tobytes()


def test_a_typed_seed_counts_however_fast_one_paints(visit: Visit) -> None:
    page = visit.open()
    page.locator("#prompt textarea").fill(PROMPT)
    # In one go of the page's own thread, as no test from outside would be fast enough.
    page.evaluate(
        """async () => {
            const seed = document.querySelector("#create-seed input");
            Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set.call(seed, "4711");
            seed.dispatchEvent(new Event("input", { bubbles: true }));
            await new Promise((resume) => setTimeout(resume));
            document.querySelector("#create-paint").click();
        }"""
    )
    finished(page)
    (request,) = visit.engine.requests
    assert request.seed == 4711
    expect(page.locator("#create-seed input")).to_have_value("4711")
    expect(page.locator("#create-lock input")).to_be_checked()


def test_a_seed_that_is_not_kept_changes_and_the_dice_keeps_it(visit: Visit) -> None:
    page = visit.open()
    seed = page.locator("#create-seed input")
    before = seed.input_value()
    paint(page)
    finished(page)
    expect(seed).not_to_have_value(before)
    before = seed.input_value()
    page.locator("#create-dice").click()
    expect(seed).not_to_have_value(before)
    expect(page.locator("#create-lock input")).to_be_checked()
    before = seed.input_value()
    page.locator("#create-paint").click()
    finished(page, 2)
    expect(seed).to_have_value(before)


def test_an_example_is_one_click(visit: Visit) -> None:
    page = visit.open()
    offered = [example for example in presets.read_examples() if example.task == "text"]
    expect(page.locator("#create-easel .card")).to_have_count(len(offered))
    wanted = page.locator("#create-easel .card > span:last-child").first.inner_text()
    # Whoever clicks twice wants it once, too.
    page.locator("#create-easel .card").first.dblclick()
    finished(page)
    expect(page.locator("#prompt textarea")).to_have_value(wanted)
    assert [one.prompt for one in visit.engine.requests] == [wanted]


def test_the_download_is_the_stored_file(visit: Visit) -> None:
    page = visit.open()
    paint(page)
    finished(page)
    with page.expect_download() as download:
        page.get_by_text("Download").click()
    (picture,) = visit.history.newest(9)
    assert download.value.suggested_filename == picture.path.name
    assert Path(download.value.path()).read_bytes() == picture.path.read_bytes()


def test_the_download_has_pixels_alone_where_the_browser_was_told_so(visit: Visit) -> None:
    page = visit.open()
    paint(page)
    finished(page)
    (picture,) = visit.history.newest(9)
    link = page.locator("#create-shelf a[download]")
    page.get_by_role("tab", name="Gallery").click()
    page.locator(".shot img").click()
    page.locator(".viewer .strip").check()
    page.keyboard.press("Escape")
    page.get_by_role("tab", name="Create").click()

    def said() -> str:
        return str(link.evaluate("one => getComputedStyle(one, '::after').content"))

    assert "pixels only" in said(), "what will be downloaded is said before"
    with page.expect_download() as download:
        link.click()
    bare = Path(download.value.path())
    assert metadata.read_texts(bare) == {}
    with Image.open(bare) as sent, Image.open(picture.path) as stored:
        assert sent.tobytes() == stored.tobytes()
    page.get_by_role("tab", name="Gallery").click()
    page.locator(".shot img").click()
    page.locator(".viewer .strip").uncheck()
    page.keyboard.press("Escape")
    page.get_by_role("tab", name="Create").click()
    assert said() == "none"
    with page.expect_download() as download:
        link.click()
    assert Path(download.value.path()).read_bytes() == picture.path.read_bytes()


def test_a_bare_download_of_a_picture_that_is_gone_says_so(visit: Visit) -> None:
    page = visit.open()
    paint(page)
    finished(page)
    page.evaluate("window.atelier.bare(true)")
    (picture,) = visit.history.newest(9)

    def lose(route: Any) -> None:
        # Not before the click: the page may notice at any time, and then there is no link.
        if '"bare"' in (route.request.post_data or ""):
            picture.path.unlink()
        route.continue_()

    page.route("**/component_server/", lose)
    page.locator("#create-shelf a[download]").click()
    expect(page.locator("#create-complaint [role=alert]")).to_contain_text("no longer there")


def test_ctrl_enter_paints(visit: Visit) -> None:
    page = visit.open()
    page.locator("#prompt textarea").fill("a cat")
    page.keyboard.press("Control+Enter")
    finished(page)
    expect(page.locator("#prompt textarea")).to_have_value("a cat")


@pytest.mark.parametrize("tab", ["regions", "edit", "style", "subjects"])
def test_the_keys_are_the_same_on_every_tab(visit: Visit, tab: str) -> None:
    page = visit.open()
    page.locator(f"#tab-{tab}-button").evaluate("tab => tab.click()")
    expect(page.locator(".welcome:visible, .paper:visible").first).to_be_visible()
    page.keyboard.press("Control+Enter")
    expect(page.locator(".complaint:visible")).to_have_count(1)
    assert visit.engine.requests == [], "something is missing"
    page.locator("#tab-create-button").evaluate("tab => tab.click()")
    visit.engine.hold("painting")
    paint(page)
    expect(page.locator("#create-easel .what")).to_have_text("Painting")
    page.locator(f"#tab-{tab}-button").evaluate("tab => tab.click()")
    expect(page.locator(f"#{tab}-stop")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator(f"#{tab}-stop")).to_be_hidden()
    assert visit.history.newest(1) == []


def test_a_prompt_is_text_and_never_markup(visit: Visit) -> None:
    page = visit.open()
    prompt = '<img src=x onerror="document.title=1"> ${1+1} {{value}} "<b>&"'
    paint(page, prompt)
    finished(page)
    expect(page.locator(".said")).to_have_text(prompt)
    expect(page.locator(".written mark")).to_have_count(2)


def test_narrow_the_picture_comes_first_and_paint_stays_in_reach(visit: Visit) -> None:
    page = visit.open(NARROW)
    paint(page)
    finished(page)
    tops = [page.locator(part).bounding_box()["y"] for part in ("#create-easel", "#prompt", "#create-shelf")]
    assert tops == sorted(tops)
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW[0]
    page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    expect(page.locator("#create-paint")).to_be_in_viewport(ratio=1)
    page.locator(".strip").scroll_into_view_if_needed()
    strip, bar = page.locator(".strip").bounding_box(), page.locator(".actions").bounding_box()
    assert strip["y"] + strip["height"] <= bar["y"], "the bar hides nothing at the end of the page"


def test_a_large_checkpoints_many_sizes_fit_the_desk(make_visit: Callable[..., Visit]) -> None:
    def large(engine: FakeEngine) -> FakeEngine:
        engine.defaults = Defaults(name="large")
        return engine

    page = make_visit(large).open()
    expect(page.locator("#create-side label")).to_have_count(8)
    expect(page.locator("#create-side label").filter(has_text="1024").locator("input")).to_be_checked()
    desk = page.locator("#tab-create .desk").bounding_box()
    for chip in page.locator("#create-side label").all():
        box = chip.bounding_box()
        assert box["x"] + box["width"] <= desk["x"] + desk["width"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_stands_in_anybodys_way(visit: Visit, scheme: str) -> None:
    page = visit.open(scheme=scheme)
    page.locator("#create-advanced button").first.click()
    visit.engine.hold("painting")
    paint(page)
    paint(page, "second")
    expect(page.locator(".waiting li")).to_have_count(1)
    page.locator("#prompt textarea").fill("")
    page.locator("#create-paint").click()
    expect(page.locator(".complaint")).to_be_visible()
    assert barriers(page) == []
    expect(page.locator("body")).to_have_class(re.compile("dark") if scheme == "dark" else re.compile("^(?!.*dark)"))
