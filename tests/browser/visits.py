"""A studio over a fake engine and the browsers that visit it; conftest.py offers them as fixtures.

No request may leave this machine and no script may fail: the fixture checks both after every test.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from app.choice import Choice
from app.history import History
from app.presets import ROOT
from app.serve import Options, Studio
from glmimage.checkpoint import write_defaults
from tests.fakes import DEFAULTS, FakeEngine

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = playwright.expect

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
browsed = pytest.mark.skipif(CHROMIUM is None, reason="no chromium found; install Debian's package 'chromium'")

PATIENCE = 60_000
"""Milliseconds that a busy machine may take; nothing waits longer than it must."""
WIDE, NARROW = (1440, 900), (390, 844)
PORT = 10_000 + os.getpid() % 20_000
"""Of this run, so that two do not meet between finding a free port and taking it."""
PROMPT = 'a rocket and the word "MOON" on a black background'
CONTRAST = """() => {
  const parse = (text) => { const n = text.match(/[\\d.]+/g).map(Number); return {rgb: n.slice(0, 3), a: n[3] ?? 1}; };
  const light = (rgb) => rgb.map((v) => v / 255).map((v) => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const ground = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor);
    if (c.a === 1) return c.rgb; } return parse(getComputedStyle(document.documentElement).backgroundColor).rgb; };
  const low = [];
  for (const e of document.querySelectorAll('#top *, .room *')) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !e.checkVisibility() || parseFloat(getComputedStyle(e).fontSize) === 0) continue;
    const [a, b] = [light(parse(getComputedStyle(e).color).rgb), light(ground(e))].sort((x, y) => y - x);
    const ratio = (a + .05) / (b + .05);
    if (ratio < 4.5) low.push(`${e.className}: ${e.textContent.slice(0, 30)} ${ratio.toFixed(2)}`);
  }
  return low;
}"""
"""Texts of the page, or of the part `.room` stands for, that are too faint."""


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
        expect(page.locator("#create-paint")).to_be_visible()
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
        options = Options(
            port=PORT, choice=Choice(checkpoint=str(folder)), data_dir=tmp_path / "data", open_browser=False
        )
        made.append(
            Visit(engine, Studio.open(options, lambda choice: load(engine), lambda text: None), browser, [], [])
        )
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


def knowing(engine: FakeEngine) -> FakeEngine:
    """With the miniature's world, for `make_visit`."""
    engine.world = json.loads((ROOT / "assets" / "miniature" / "world.json").read_text(encoding="utf-8"))
    return engine


def paint(page: Any, prompt: str = PROMPT) -> None:
    page.locator("#prompt textarea").fill(prompt)
    page.locator("#create-paint").click()


def loaded(page: Any, selector: str) -> bool:
    """Whether the picture is really there, not only its element."""
    return bool(page.locator(selector).first.evaluate("image => image.decode().then(() => image.naturalWidth > 0)"))
