"""The page over the real miniature: a click on an example paints it, and it comes out as it is shown; a sketch that is
picked is gone on with; what stands in a text box is read by the real proofreader."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from app import presets
from app.history import Picture
from app.presets import Example
from app.serve import Options, Studio
from app.wall import TASK_TABS
from glmimage import metadata
from glmimage.metadata import Settings
from glmimage.prompting import quoted
from glmimage.proofread import Proofreader
from glmimage.request import Region
from glmimage.train.grounds import GROUNDS
from glmimage.train.marking import ground_of, psnr
from tests.browser.visits import PATIENCE, PORT, WIDE, browsed, expect

pytestmark = browsed
SECONDS = PATIENCE / 1000
ALIKE = 15.0
"""dB between a picture and its small one: they are the same but for rounding. Those of two seeds have 5 to 13."""
INKED = 0.03
EXAMPLES = presets.read_examples()


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    options = Options(port=PORT, data_dir=tmp_path, open_browser=False)
    made = Studio.open(options, None, lambda text: None)
    assert made.worker.wait(lambda now: now.readiness == "ready", 3 * SECONDS)
    yield made
    made.close()


@pytest.fixture
def page(studio: Studio, browser: Any) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": WIDE[0], "height": WIDE[1]})
    context.set_default_timeout(PATIENCE)
    faults: list[str] = []
    page = context.new_page()
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(studio.url)
    yield page
    context.close()
    assert faults == []


def apart(picture: Image.Image, small: Path) -> float:
    with Image.open(small) as wanted:
        shrunk = picture.resize(wanted.size, Image.Resampling.LANCZOS)
        return psnr(np.asarray(shrunk), np.asarray(wanted.convert("RGB")))


def painted(studio: Studio, tab: str) -> tuple[Picture, Settings]:
    """What a tab's last job made, as it lies on the disk."""
    assert studio.worker.wait(lambda now: tab in now.last and now.current is None, 3 * SECONDS)
    (key,) = studio.worker.snapshot().last[tab].pictures
    picture = studio.worker.history.find(key)
    assert picture is not None
    settings = metadata.read(picture.path)
    assert settings is not None
    return picture, settings


def inked(picture: Image.Image, region: Region) -> float:
    """Share of a box's pixels that have the colour that its text is asked in."""
    left, top, right, bottom = region.box
    box = left * picture.width, top * picture.height, right * picture.width, bottom * picture.height
    inside = np.asarray(picture.crop(tuple(map(round, box)))).astype(int)
    return float((abs(inside - GROUNDS[region.color]).max(-1) < 50).mean())


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: f"{example.task}: {example.prompt}")
def test_it_comes_out_as_it_is_shown(example: Example, studio: Studio, page: Any) -> None:
    tab = TASK_TABS.get(example.task, example.task)
    offered = [one for one in EXAMPLES if one.task == example.task]
    page.locator(f"#tab-{tab}-button").click()
    cards = page.locator(f"#tab-{tab} [data-act=example]")
    expect(cards).to_have_count(len(offered))
    cards.nth(offered.index(example)).click()
    picture, settings = painted(studio, tab)
    request = settings.request
    assert (request.task, request.seed, len(request.references)) == (example.task, example.seed, len(example.pictures))
    with Image.open(picture.path) as opened:
        made = opened.convert("RGB")
    assert apart(made, example.thumbnail) > ALIKE
    assert [region.text for region in request.regions] == [region.text for region in example.regions]
    assert Proofreader().read(made, example.regions or quoted(example.prompt)).right
    asked = re.search(r"\b(?:on an? (\w+) background|background to (\w+))", example.prompt)
    assert not asked or ground_of(np.asarray(made)) in asked.groups()
    for region in example.regions:
        assert inked(made, region) > INKED, f"{region.text} is not {region.color}"


def test_texts_in_boxes_are_painted_and_what_is_said_of_them_is_in_the_file(studio: Studio, page: Any) -> None:
    page.locator("#tab-regions-button").click()
    expect(page.locator(".paper")).to_be_visible()
    for word in ("HELLO", "QUIXOTIC"):
        page.locator("#regions-boxes .more").press("Enter")
        page.keyboard.type(word)
    page.locator("#regions-scene textarea").fill("a cat at the bottom, on a blue background")
    expect(page.locator("#regions-written .will")).to_contain_text('the text "QUIXOTIC"')
    expect(page.locator("#regions-written .will")).to_contain_text("a cat at the bottom")
    page.locator("#regions-paint").click()
    picture, settings = painted(studio, "regions")
    assert [region.text for region in settings.request.regions] == ["HELLO", "QUIXOTIC"]
    assert settings.report is not None
    with Image.open(picture.path) as opened:
        assert settings.report == Proofreader().read(opened.convert("RGB"), settings.request.regions)
    marks = page.locator(".mark")
    expect(marks).to_have_count(2)
    for number, line in enumerate(settings.report.lines):
        wrong = f"Wanted {line.wanted}, reads {line.read or 'nothing to read'}"
        said = f"{line.wanted}: reads right" if line.match else wrong
        expect(marks.nth(number)).to_have_class(re.compile("is-right" if line.match else "is-wrong"))
        expect(marks.nth(number)).to_have_attribute("aria-label", said)


def test_a_picked_sketch_is_gone_on_with(studio: Studio, page: Any) -> None:
    page.locator("#prompt textarea").fill("a sun at the top right and a sailboat at the bottom left")
    page.locator("#create-sketch").click()
    expect(page.locator(".is-pick")).to_have_count(6, timeout=3 * PATIENCE)
    sketches = studio.worker.snapshot().sketched["create"].sketches
    assert len({sketch.layout.preview for sketch in sketches}) == 6
    page.locator(".is-pick").nth(2).click()
    expect(page.locator("#create-paint")).to_have_text("Paint 1 picked")
    page.locator("#create-paint").click()
    expect(page.locator("#create-shelf .frame[data-act=choose]")).to_have_count(1, timeout=3 * PATIENCE)
    picture, settings = painted(studio, "create")
    assert settings.prior is not None
    assert settings.prior.layout.preview == sketches[2].layout.preview
    assert settings.layout_seed == sketches[2].layout_seed
    rows, columns = settings.request.size.prior_grid
    assert settings.prior.target.shape == (rows, columns)
    with Image.open(picture.path) as opened:
        shown = np.asarray(opened.convert("RGB").resize(sketches[2].image.size, Image.Resampling.LANCZOS))
    likest = max(sketches, key=lambda sketch: psnr(np.asarray(sketch.image.convert("RGB")), shown))
    assert likest is sketches[2], "it looks like the one that was picked"
