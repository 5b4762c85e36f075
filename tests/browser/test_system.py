"""The System tab in a real browser, over the real miniature: what is loaded, and how, is changed by hand."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app import choice as choices
from app.choice import Choice
from app.library import Library, Preset
from app.serve import Options, Studio
from glmimage import download, metadata
from glmimage.checkpoint import read_defaults, write_defaults
from glmimage.download import Transfer
from glmimage.pictures import LARGEST_FILE
from tests.browser.visits import NARROW, PATIENCE, PORT, WIDE, barriers, browsed, expect
from tests.fake_hub import HUB_ID, LICENCE, FakeHub, point_to

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


@pytest.fixture
def held(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Half of the weights are loaded, and the rest once this is set."""
    gate, report = threading.Event(), studio.worker.report

    def follow(transfer: Transfer) -> None:
        report(transfer)
        if transfer.doing == "loading" and transfer.done >= transfer.total / 2:
            assert gate.wait(3 * SECONDS)

    ready(studio)
    monkeypatch.setattr(download, "REPORT_EVERY", 0.0)
    monkeypatch.setattr(studio.worker, "report", follow)
    yield gate
    gate.set()


def choose(page: Any, checkpoint: str) -> None:
    page.locator("#system-checkpoint textarea, #system-checkpoint input").fill(checkpoint)
    page.locator("#system-load").click()


def half_loaded(page: Any, name: str) -> None:
    """The page says so in its head and on the tab."""
    expect(page.locator(".status")).to_contain_text(re.compile(rf"Loading {name}… .+ · 5\d %"))
    progress = page.locator("#system-progress")
    expect(progress.get_by_role("progressbar")).to_have_attribute("aria-valuenow", re.compile(r"5\d"))
    filled, whole = (progress.locator(one).bounding_box()["width"] for one in (".bar i", ".bar"))
    assert 0.4 < filled / whole < 0.7


def painted(studio: Studio, page: Any) -> str:
    """Which checkpoint the picture says that it is from."""
    before = len(studio.worker.history.newest(9))
    page.locator("#tab-create-button").click()
    page.locator("#prompt textarea").fill("a cat")
    page.locator("#create-paint").click()
    expect(page.locator("#create-shelf .frame[data-act=choose]")).to_have_count(before + 1, timeout=3 * PATIENCE)
    return metadata.read(studio.worker.history.newest(1)[0].path).checkpoint


def test_a_folder_is_loaded_before_ones_eyes_and_paints(
    studio: Studio, page: Any, held: threading.Event, tiny: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny, tmp_path / "mine")
    write_defaults(folder, replace(read_defaults(tiny), name="mine"))
    choose(page, str(folder))
    half_loaded(page, "mine")
    expect(page.locator("#system-halt")).to_be_visible()
    held.set()
    expect(page.locator(".status.is-ready")).to_contain_text("mine")
    expect(page.locator("#system-halt")).to_be_hidden()
    assert painted(studio, page) == "mine"


def test_a_load_is_stopped_and_what_was_there_paints_on(
    studio: Studio, page: Any, held: threading.Event, tiny: Path
) -> None:
    choose(page, str(tiny))
    half_loaded(page, "tiny")
    page.locator("#system-halt").click()
    held.set()
    expect(page.locator("#system-complaint .complaint")).to_have_text("Loading was stopped; miniature goes on.")
    expect(page.locator(".status.is-ready")).to_contain_text("miniature")
    assert painted(studio, page) == "miniature"


def test_a_hub_id_is_downloaded_before_ones_eyes_stopped_and_taken_up_again(
    studio: Studio, page: Any, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready(studio)
    with FakeHub(tiny).serving() as hub:
        point_to(hub, tmp_path / "cache", monkeypatch)
        hub.gate.clear()
        choose(page, HUB_ID)
        expect(page.locator(".status")).to_contain_text(f"Downloading {HUB_ID} (licence: {LICENCE})")
        expect(page.locator("#system-progress .bar")).to_be_visible()
        page.locator("#system-halt").click()
        hub.gate.set()
        expect(page.locator("#system-complaint .complaint")).to_have_text("Loading was stopped; miniature goes on.")
        assert studio.worker.look() is not None, "it was never let go of"
        choose(page, HUB_ID)
        expect(page.locator(".status.is-ready")).to_contain_text("tiny")
        assert painted(studio, page) == "tiny"


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


def test_own_presets_are_renamed_deleted_brought_back_and_carried_elsewhere(
    studio: Studio, page: Any, tmp_path: Path
) -> None:
    library = Library(studio.worker.history.storage.root)
    own = tmp_path / "data" / "presets"
    library.keep(Preset(kind="style", name={"en": "Mine"}, words={"en": "in my style"}))
    (own / "broken.json").write_text("{")
    page.reload()
    page.locator("#tab-system-button").click()
    section, names = page.locator("#system-presets"), page.locator("#system-presets input[data-change]")
    expect(section).to_contain_text("broken.json is left out: it is no JSON")
    expect(names).to_have_value("Mine")
    names.fill("Ours <b>")
    names.press("Enter")
    expect(page.get_by_label("Rename Ours <b>")).to_be_visible()
    assert [preset.title("en") for preset in library.presets("style") if preset.own] == ["Ours <b>"]
    section.get_by_role("button", name="Export all").click()
    with page.expect_download() as download:
        section.get_by_text("Download presets.json").click()
    section.get_by_role("button", name="Delete Ours <b>").click()
    expect(names).to_have_count(0)
    assert list(own.glob("*.json")) == [own / "broken.json"]
    section.get_by_role("button", name="Bring back").click()
    expect(names).to_have_value("Ours <b>")
    chooser = section.locator("input[type=file]")
    chooser.set_input_files(download.value.path())
    expect(names).to_have_count(2)
    (tmp_path / "other.json").write_text('{"kind": "style"}')
    chooser.set_input_files(tmp_path / "other.json")
    expect(section.get_by_role("alert")).to_contain_text("The preset cannot be used")
    expect(names).to_have_count(2)
    names.first.fill(" ")
    names.first.press("Enter")
    expect(section.get_by_role("alert")).to_contain_text("its name is empty")
    assert [preset.title("en") for preset in library.presets("style") if preset.own] == ["Ours <b>"] * 2


def test_a_file_that_is_too_large_is_not_sent_and_told(studio: Studio, page: Any, tmp_path: Path) -> None:
    large = tmp_path / "large.png"
    with large.open("wb") as file:
        file.truncate(LARGEST_FILE + 1)
    said = "The file has more than 200 MB; choose a smaller one."
    page.locator("#system-presets input[type=file]").set_input_files(large)
    expect(page.locator("#system-presets").get_by_role("alert")).to_have_text(said)
    page.locator("#tab-edit-button").click()
    page.locator("#tab-edit").locator(".slot input[type=file]").first.set_input_files(large)
    expect(page.locator("#edit-complaint .complaint")).to_have_text(said)
    page.locator("#tab-gallery-button").click()
    page.locator(".bring input").set_input_files(large)
    expect(page.get_by_text(said).locator("visible=true")).to_have_count(1)
    assert not [path for path in studio.worker.history.storage.arriving.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("size", "scheme"), [(WIDE, "light"), (WIDE, "dark"), (NARROW, "light"), (NARROW, "dark")], ids=str
)
def test_nothing_stands_in_anybodys_way(studio: Studio, browser: Any, size: tuple[int, int], scheme: str) -> None:
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, has_touch=size == NARROW
    )
    context.set_default_timeout(PATIENCE)
    page = open_tab(context, studio)
    expect(page.locator("#system-plan .peaks li")).to_have_count(8)
    page.locator("#system-plan details summary").first.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0], "nothing is cut off at the side"
    for part in ("machine", "plan", "jobs", "stored", "presets", "versions", "checkpoint", "load"):
        box = page.locator(f"#system-{part}").bounding_box()
        assert box["width"] > 0
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= size[0]
    light = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)")
    assert (sum(light) / 3 > 128) == (scheme == "light")
    assert barriers(page) == []
    context.close()
