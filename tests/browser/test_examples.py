"""Every example of every tab over the real miniature: a click paints it, and it comes out as it is shown."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from app import presets
from app.presets import Example
from app.serve import Options, Studio
from app.wall import TASK_TABS
from glmimage.prompting import quoted
from glmimage.proofread import Proofreader
from glmimage.train.marking import psnr
from tests.browser.visits import PATIENCE, PORT, WIDE, browsed, expect

pytestmark = browsed
SECONDS = PATIENCE / 1000
ALIKE = 15.0
"""dB between a picture and its small one: they are the same but for rounding. Those of two seeds have 5 to 13."""
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


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: f"{example.task}: {example.prompt}")
def test_it_comes_out_as_it_is_shown(example: Example, studio: Studio, page: Any) -> None:
    tab = TASK_TABS.get(example.task, example.task)
    offered = [one for one in EXAMPLES if one.task == example.task]
    page.locator(f"#tab-{tab}-button").click()
    cards = page.locator(f"#{tab}-easel .card")
    expect(cards).to_have_count(len(offered))
    cards.nth(offered.index(example)).click()
    assert studio.worker.wait(lambda now: tab in now.last, 3 * SECONDS)
    (key,) = studio.worker.snapshot().last[tab].pictures
    picture = studio.worker.history.find(key)
    request = studio.worker.history.settings(picture).request
    assert (request.task, request.seed, len(request.references)) == (example.task, example.seed, len(example.pictures))
    with Image.open(picture.path) as opened:
        made = opened.convert("RGB")
    assert apart(made, example.thumbnail) > ALIKE
    assert Proofreader().read(made, quoted(example.prompt)).right
