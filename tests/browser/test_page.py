"""The page in a real browser, over a fake engine that stops where a test wants to look.

No request may leave this machine and no script may fail: the fixture checks both after every test.
"""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from app.history import History
from app.serve import Options, Studio
from glmimage import metadata
from glmimage.checkpoint import write_defaults
from glmimage.errors import RequestError
from glmimage.request import Defaults
from tests.fakes import DEFAULTS, FakeEngine

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = playwright.expect

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium found; install Debian's package 'chromium'")

PATIENCE = 60_000
"""Milliseconds that a busy machine may take; nothing waits longer than it must."""
WIDE, NARROW = (1440, 900), (390, 844)
PROMPT = 'a rocket and the word "MOON" on a black background'


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    expect.set_options(timeout=PATIENCE)
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"], timeout=3 * PATIENCE)
        yield browser
        browser.close()


@dataclass(eq=False)
class Visit:
    """A running studio and the pages opened on it."""

    engine: FakeEngine
    studio: Studio
    browser: Any
    strangers: list[str]
    faults: list[str]

    def open(self, size: tuple[int, int] = WIDE, scheme: str = "light") -> Any:
        context = self.browser.new_context(
            viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, accept_downloads=True
        )
        context.set_default_timeout(PATIENCE)
        context.route(re.compile(r"^(?!http://127\.0\.0\.1[:/])https?:"), self._stranger)
        page = context.new_page()
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("console", lambda line: self.faults.append(line.text) if line.type == "error" else None)
        page.goto(self.studio.url)
        expect(page.locator("#paint")).to_be_visible()
        expect(page.locator(".status")).to_be_visible()
        return page

    def _stranger(self, route: Any) -> None:
        self.strangers.append(route.request.url)
        route.abort()

    @property
    def history(self) -> History:
        return self.studio.worker.history


@pytest.fixture
def make_visit(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Visit]]:
    made: list[Visit] = []

    def make(load: Callable[[FakeEngine], FakeEngine] = lambda engine: engine) -> Visit:
        engine = FakeEngine()
        folder = tmp_path / "checkpoint"
        folder.mkdir()
        write_defaults(folder, DEFAULTS)
        options = Options(port=7900, checkpoint=str(folder), data_dir=tmp_path / "data", open_browser=False)
        made.append(Visit(engine, Studio.open(options, lambda: load(engine), lambda text: None), browser, [], []))
        return made[-1]

    yield make
    for visit in made:
        for context in list(browser.contexts):
            context.close()
        visit.engine.release()
        visit.studio.close()
        assert visit.strangers == [], "a request left this machine"
        assert visit.faults == [], "a script of the page failed"


@pytest.fixture
def visit(make_visit: Callable[..., Visit]) -> Visit:
    return make_visit()


def paint(page: Any, prompt: str = PROMPT) -> None:
    page.locator("#prompt textarea").fill(prompt)
    page.locator("#paint").click()


def finished(page: Any, frames: int = 1) -> None:
    expect(page.locator(".frame:not(.is-live)")).to_have_count(frames)
    expect(page.locator(".progress.is-busy")).to_have_count(0)


def loaded(page: Any, selector: str) -> bool:
    """Whether the picture is really there, not only its element."""
    return bool(page.locator(selector).first.evaluate("image => image.decode().then(() => image.naturalWidth > 0)"))


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
    expect(page.locator("#seed input")).to_have_value(str(settings.paint_seed))


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


@pytest.mark.parametrize("stage", ["layout", "painting"])
def test_stop_ends_the_job(visit: Visit, stage: str) -> None:
    page = visit.open()
    visit.engine.hold(stage)
    paint(page)
    expect(page.locator(".progress.is-busy")).to_be_visible()
    page.locator("#stop").click()
    expect(page.locator(".progress.is-busy")).to_have_count(0)
    expect(page.locator("#stop")).to_be_hidden()
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
    page.locator("#count label").filter(has_text=str(count)).click()
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
    page.locator("#paint").click()
    expect(page.locator(".complaint")).to_have_text("The prompt is empty; say what the picture should show.")
    visit.engine.fault = RequestError("The sky is too blue; choose another.")
    paint(page)
    expect(page.locator(".complaint")).to_have_text("The sky is too blue; choose another.")
    expect(page.locator("#prompt textarea")).to_have_value(PROMPT)
    visit.engine.fault = None
    page.locator("#advanced button").first.click()
    page.locator("#temperature input, #temperature textarea").fill("warm")
    page.locator("#paint").click()
    expect(page.locator(".complaint")).to_contain_text("'warm' is not a number")
    page.locator("#temperature input, #temperature textarea").fill("")
    page.locator("#paint").click()
    finished(page)
    expect(page.locator(".complaint")).to_have_count(0)


def test_settings_of_an_older_picture_make_it_again(visit: Visit) -> None:
    page = visit.open()
    page.locator("#shape label").filter(has_text="16:9").click()
    page.locator("#seed input").fill("4711")
    expect(page.locator("#lock input")).to_be_checked()
    paint(page)
    finished(page)
    page.locator("#shape label").filter(has_text="1:1").click()
    page.locator("#seed input").fill("5")
    paint(page, "another")
    finished(page, 2)
    page.locator(".frame").nth(1).click()
    expect(page.locator(".said")).to_have_text(PROMPT)
    page.get_by_text("Use settings").click()
    expect(page.locator("#prompt textarea")).to_have_value(PROMPT)
    expect(page.locator("#seed input")).to_have_value("4711")
    expect(page.locator("#shape label").filter(has_text="16:9").locator("input")).to_be_checked()
    page.locator("#paint").click()
    finished(page, 3)
    newest, _, oldest = visit.history.newest(9)
    with Image.open(newest.path) as again, Image.open(oldest.path) as before:
        assert again.tobytes() == before.tobytes()


def test_a_seed_that_is_not_kept_changes_and_the_dice_keeps_it(visit: Visit) -> None:
    page = visit.open()
    seed = page.locator("#seed input")
    before = seed.input_value()
    paint(page)
    finished(page)
    expect(seed).not_to_have_value(before)
    before = seed.input_value()
    page.locator("#dice").click()
    expect(seed).not_to_have_value(before)
    expect(page.locator("#lock input")).to_be_checked()
    before = seed.input_value()
    page.locator("#paint").click()
    finished(page, 2)
    expect(seed).to_have_value(before)


def test_an_example_is_one_click(visit: Visit) -> None:
    page = visit.open()
    expect(page.locator(".card")).to_have_count(4)
    wanted = page.locator(".card span").first.inner_text()
    page.locator(".card").first.click()
    finished(page)
    expect(page.locator("#prompt textarea")).to_have_value(wanted)
    assert visit.engine.requests[0].prompt == wanted


def test_the_download_is_the_stored_file(visit: Visit) -> None:
    page = visit.open()
    paint(page)
    finished(page)
    with page.expect_download() as download:
        page.get_by_text("Download").click()
    (picture,) = visit.history.newest(9)
    assert download.value.suggested_filename == picture.path.name
    assert Path(download.value.path()).read_bytes() == picture.path.read_bytes()


def test_ctrl_enter_paints(visit: Visit) -> None:
    page = visit.open()
    page.locator("#prompt textarea").fill("a cat")
    page.keyboard.press("Control+Enter")
    finished(page)
    expect(page.locator("#prompt textarea")).to_have_value("a cat")


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
    tops = [page.locator(part).bounding_box()["y"] for part in ("#easel", "#prompt", "#shelf")]
    assert tops == sorted(tops)
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW[0]
    page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    expect(page.locator("#paint")).to_be_in_viewport(ratio=1)
    page.locator(".strip").scroll_into_view_if_needed()
    strip, bar = page.locator(".strip").bounding_box(), page.locator("#actions").bounding_box()
    assert strip["y"] + strip["height"] <= bar["y"], "the bar hides nothing at the end of the page"


CONTRAST = """() => {
  const parse = (text) => { const n = text.match(/[\\d.]+/g).map(Number); return {rgb: n.slice(0, 3), a: n[3] ?? 1}; };
  const light = (rgb) => rgb.map((v) => v / 255).map((v) => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const ground = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor);
    if (c.a === 1) return c.rgb; } return parse(getComputedStyle(document.documentElement).backgroundColor).rgb; };
  const low = [];
  for (const e of document.querySelectorAll('#top *, #room *')) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !e.checkVisibility() || parseFloat(getComputedStyle(e).fontSize) === 0) continue;
    const [a, b] = [light(parse(getComputedStyle(e).color).rgb), light(ground(e))].sort((x, y) => y - x);
    const ratio = (a + .05) / (b + .05);
    if (ratio < 4.5) low.push(`${e.className}: ${e.textContent.slice(0, 30)} ${ratio.toFixed(2)}`);
  }
  return low;
}"""


def test_a_large_checkpoints_many_sizes_fit_the_desk(make_visit: Callable[..., Visit]) -> None:
    def large(engine: FakeEngine) -> FakeEngine:
        engine.defaults = Defaults(name="large")
        return engine

    page = make_visit(large).open()
    expect(page.locator("#side label")).to_have_count(8)
    expect(page.locator("#side label").filter(has_text="1024").locator("input")).to_be_checked()
    desk = page.locator("#desk").bounding_box()
    for chip in page.locator("#side label").all():
        box = chip.bounding_box()
        assert box["x"] + box["width"] <= desk["x"] + desk["width"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_enough_contrast(visit: Visit, scheme: str) -> None:
    page = visit.open(scheme=scheme)
    page.locator("#advanced button").first.click()
    visit.engine.hold("painting")
    paint(page)
    paint(page, "second")
    expect(page.locator(".waiting li")).to_have_count(1)
    page.locator("#prompt textarea").fill("")
    page.locator("#paint").click()
    expect(page.locator(".complaint")).to_be_visible()
    # A colour that is on its way to another would be measured half-way.
    page.add_style_tag(content="*, *::before { transition: none !important; }")
    assert page.evaluate(CONTRAST) == []
    expect(page.locator("body")).to_have_class(re.compile("dark") if scheme == "dark" else re.compile("^(?!.*dark)"))
