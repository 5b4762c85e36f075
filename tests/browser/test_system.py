"""The System tab in a real browser, over the real miniature: what is loaded, and how, is changed by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app import choice as choices
from app.choice import Choice
from app.serve import Options, Studio
from tests.browser.visits import PATIENCE, PORT, WIDE, browsed, expect

pytestmark = browsed
SECONDS = PATIENCE / 1000


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    options = Options(port=PORT, data_dir=tmp_path / "data", open_browser=False)
    made = Studio.open(options, None, lambda text: None)
    yield made
    made.close()


@pytest.fixture
def page(studio: Studio, browser: Any) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": WIDE[0], "height": WIDE[1]})
    context.set_default_timeout(PATIENCE)
    yield open_tab(context, studio)
    context.close()


def open_tab(context: Any, studio: Studio) -> Any:
    page = context.new_page()
    page.goto(studio.url)
    page.locator("#tab-system-button").click()
    expect(page.locator("#system-checkpoint textarea, #system-checkpoint input")).not_to_have_value("")
    return page


def ready(studio: Studio) -> None:
    assert studio.worker.wait(lambda now: now.readiness == "ready", 3 * SECONDS)


def test_another_number_of_bits_is_loaded_shown_and_kept(studio: Studio, page: Any) -> None:
    expect(page.locator("#system-plan .peaks li")).to_have_count(8)
    expect(page.locator("#system-plan")).to_contain_text("Prior and decoder are lossless")
    page.locator("#system-bits label").filter(has_text="4 bits").click()
    page.locator("#system-load").click()
    expect(page.locator("#system-plan")).to_contain_text("Prior and decoder are in 4 bits")
    expect(page.locator("#system-plan details").first).to_contain_text("nf4")
    ready(studio)
    assert choices.read(studio.worker.history.storage.root) == Choice(bits=4)
    # Another page, and the next start, begin with it.
    other = open_tab(page.context, studio)
    expect(other.locator("#system-bits label").filter(has_text="4 bits").locator("input")).to_be_checked()


def test_what_cannot_be_loaded_says_why_and_what_was_there_paints_on(studio: Studio, page: Any, tmp_path: Path) -> None:
    ready(studio)
    field = page.locator("#system-checkpoint textarea, #system-checkpoint input")
    field.fill(str(tmp_path / "nowhere"))
    page.locator("#system-load").click()
    expect(page.locator("#system-complaint .complaint")).to_contain_text("miniature goes on. There is no checkpoint")
    expect(field).to_have_value(str(tmp_path / "nowhere"))
    page.locator("#system-memory textarea, #system-memory input").fill("much")
    page.locator("#system-load").click()
    expect(page.locator("#system-complaint .complaint")).to_contain_text("'much' is not a number of GiB")
    ready(studio)
    page.locator("#tab-create-button").click()
    page.locator("#prompt textarea").fill("a cat")
    page.locator("#create-paint").click()
    assert studio.worker.wait(lambda now: "create" in now.last, 3 * SECONDS)
    assert studio.worker.snapshot().last["create"].state == "done"
    page.locator("#tab-system-button").click()
    expect(page.locator("#system-jobs .jobs li")).to_contain_text("a cat")


def test_a_cache_is_cleared_and_nothing_else(studio: Studio, page: Any) -> None:
    storage = studio.worker.history.storage
    for folder in (storage.encoded, storage.inputs):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "file").write_bytes(b"x" * 2**20)
    page.reload()
    page.locator("#tab-system-button").click()
    button = page.get_by_role("button", name="Clear: Encoded references")
    button.click()
    expect(button).to_have_count(0)
    assert not list(storage.encoded.iterdir())
    assert (storage.inputs / "file").exists()
