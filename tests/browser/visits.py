"""A studio over a fake engine and the browsers that visit it; conftest.py offers them as fixtures.

No request may leave this machine and no script may fail: the fixture checks both after every test.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe

from app.choice import Choice
from app.history import History
from app.presets import ROOT
from app.serve import Options, Studio
from glmimage.checkpoint import write_defaults
from glmimage.events import Line, Report
from glmimage.proofread import Proofreader
from glmimage.request import Region
from tests.fakes import DEFAULTS, PORT, FakeEngine

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = playwright.expect

BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
"""The first one does the same in a seventh less time: it has no window to draw."""
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)
browsed = pytest.mark.skipif(CHROMIUM is None, reason="no chromium found; install Debian's package 'chromium'")

PATIENCE = 60_000
"""Milliseconds that a busy machine may take; nothing waits longer than it must."""
WIDE, NARROW = (1440, 900), (390, 844)
PROMPT = 'a rocket and the word "MOON" on a black background'
STILL = "*, *::before { transition: none !important; animation: none !important; }"
"""A colour that is on its way to another would be measured half-way."""


def barriers(page: Any, *, besides: str = ".no-such") -> list[str]:
    """What keeps somebody from reading or using what the page shows (axe-core's rules), one "rule: element" each.

    `besides`: a selector of what is left out.
    """
    page.add_style_tag(content=STILL)
    found = Axe().run(page, {"exclude": [[besides]]}).response["violations"]
    return [f"{rule['id']}: {node['html']}" for rule in found for node in rule["nodes"]]


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

    def open(self, size: tuple[int, int] = WIDE, scheme: str = "light", *, touch: bool = False) -> Any:
        context = self.browser.new_context(
            viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, has_touch=touch, accept_downloads=True
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
def make_visit(browser: Any, tmp_path: Path, reader: list[str]) -> Iterator[Callable[..., Visit]]:
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


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the proofreader finds in what the fake engine paints, picture by picture; the last for all that follow."""
    found = ["SUMMER"]

    def read(_: Proofreader, image: object, wanted: Sequence[Region | str]) -> Report:
        seen = found.pop(0) if len(found) > 1 else found[0]
        texts = [item if isinstance(item, str) else item.text for item in wanted]
        return Report(
            tuple(Line(wanted=text, read=seen, match=text == seen, likeness=float(text == seen)) for text in texts)
        )

    monkeypatch.setattr(Proofreader, "read", read)
    return found
