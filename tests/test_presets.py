"""The preset files and what they make of a checkpoint's range."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import urllib.request
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import get_args

import pytest

from app import preset_list, presets
from app.library import Library
from app.presets import PresetError
from app.serve import Options, Studio
from app.words import Words
from glmimage.checkpoint import ASSETS, read_defaults
from glmimage.geometry import Size
from glmimage.prompting import quoted
from glmimage.request import Defaults, Request
from glmimage.tasks import language_of
from glmimage.train.release import MINIATURE
from glmimage.train.world import SIZED
from tests.fakes import PORT, FakeEngine

SMALL = Defaults(width=256, height=256, min_side=128, max_side=512, name="small")
LARGE = Defaults(name="large")
FIXED = Defaults(width=256, height=256, min_side=256, max_side=256, name="fixed")


@pytest.mark.parametrize("defaults", [SMALL, LARGE, FIXED], ids=lambda defaults: defaults.name)
def test_every_choice_is_a_size_that_the_checkpoint_makes(defaults: Defaults) -> None:
    sizes = presets.read_sizes()
    for shape in sizes.shapes:
        for side in sizes.sides_for(defaults):
            size = shape.fit(side, defaults)
            resolved = Request(prompt="a cat", width=size.width, height=size.height).resolve(defaults)
            assert resolved.size == size, "nothing is left to snap"


def test_shapes_keep_their_aspect_and_their_pixels() -> None:
    shape = presets.read_sizes().shape("16:9")
    size = shape.fit(1024, LARGE)
    assert size.width / size.height == pytest.approx(16 / 9, rel=0.05)
    assert size.width * size.height == pytest.approx(1024**2, rel=0.05)


def test_the_default_side_is_always_offered() -> None:
    odd = Defaults(width=320, height=320, min_side=256, max_side=400)
    assert presets.read_sizes().sides_for(odd) == (256, 320, 384)
    assert presets.default_side(SMALL) == 256


def test_the_miniature_is_asked_for_shapes_that_it_learned() -> None:
    defaults = read_defaults(ASSETS / "miniature")
    made = {shape.label: str(shape.fit(256, defaults)) for shape in presets.read_sizes().shapes}
    assert made | {"16:9": "384x256", "9:16": "256x384"} == made
    assert made | {"1:1": "256x256", "4:3": "256x192", "3:4": "192x256", "3:2": "384x256", "2:3": "256x384"} == made
    offered = [shape.label for shape in presets.read_sizes().shapes_for(defaults)]
    assert offered == ["1:1", "4:3", "3:4", "3:2", "2:3"], "of 16:9 it has none"
    assert presets.read_sizes().shapes_for(SMALL) == presets.read_sizes().shapes, "it does not say"
    strange = replace(defaults, sizes=(Size(512, 128),))
    assert [shape.label for shape in presets.read_sizes().shapes_for(strange)] == ["1:1"], "there is always one"
    larger = presets.Shape("4:3", 4, 3).fit(1024, defaults)
    assert larger == presets.Shape("4:3", 4, 3).fit(1024, replace(defaults, sizes=())), "it learned none so large"


def test_the_third_level_of_the_world_has_every_size_that_the_page_offers_of_it() -> None:
    defaults, sizes = replace(MINIATURE.defaults, max_pixels=512 * 512), presets.read_sizes()
    assert max(sizes.sides_for(defaults)) == defaults.max_side == 512
    offered = {shape.fit(side, defaults).prior_grid for side in sizes.sides_for(defaults) for shape in sizes.shapes}
    assert offered <= set(SIZED.grids)


@pytest.mark.parametrize("defaults", [SMALL, LARGE], ids=lambda defaults: defaults.name)
def test_a_made_size_leads_back_to_its_choice(defaults: Defaults) -> None:
    sizes = presets.read_sizes()
    for shape in sizes.shapes:
        for side in sizes.sides_for(defaults):
            size = shape.fit(side, defaults)
            again, its_side = sizes.nearest(size, defaults)
            assert again.fit(its_side, defaults) == size


def test_a_foreign_size_leads_to_the_nearest_choice() -> None:
    shape, side = presets.read_sizes().nearest(Size(250, 262), SMALL)
    assert (shape.label, side) == ("1:1", 256)


def test_every_task_has_short_examples_in_both_languages() -> None:
    examples = presets.read_examples()
    assert {example.task for example in examples} == set(get_args(presets.ExampleTask))
    # In Style nothing is typed.
    typed = [example for example in examples if example.task != "style"]
    assert {(one.task, language_of(one.prompt)) for one in typed} == set(
        itertools.product(("text", "regions", "edit", "subjects"), ("en", "zh"))
    )
    for example in examples:
        assert len(example.title("en")) < 120
        assert example.title("zh") != example.title("en")
        assert example.thumbnail is not None
        assert all(1 <= len(word) <= 8 for word in quoted(example.prompt))
        subjects = len(example.pictures) if example.task == "subjects" else 0
        assert len(example.names) == len(example.kinds) == subjects


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"shapes": [], "sides": [256], "counts": [1]}',
        '{"shapes": [{"label": "1:1", "width": 1}], "sides": [256], "counts": [1]}',
        '{"shapes": [{"label": "1:1", "width": 0, "height": 1}], "sides": [256], "counts": [1]}',
        '{"shapes": 3, "sides": [256], "counts": [1]}',
        '{"shapes": [{"label": "1:1", "width": Infinity, "height": 1}], "sides": [256], "counts": [1]}',
        f'{{"shapes": [{{"label": "1:1", "width": {10**400}, "height": 1}}], "sides": [256], "counts": [1]}}',
        "[" * 100_000,
    ],
)
def test_a_broken_file_is_named_in_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "sizes.json").write_text(text)
    with pytest.raises(PresetError, match=r"sizes\.json.*\.$"):
        presets.read_sizes(tmp_path)


def test_an_example_with_a_box_outside_the_picture_is_named(tmp_path: Path) -> None:
    one = {"task": "regions", "seed": 1, "regions": [{"text": "HI", "box": [0.5, 0, 1.5, 1]}]}
    (tmp_path / "examples.json").write_text(json.dumps({"examples": [one]}))
    with pytest.raises(PresetError, match=r"examples\.json.*The region box"):
        presets.read_examples(tmp_path)


def test_what_lacks_a_file_is_left_out(tmp_path: Path) -> None:
    one = {"prompt": "a cat", "seed": 1, "thumbnail": "assets/examples/no-such.webp"}
    other = {"prompt": "bluer", "seed": 1, "task": "edit", "pictures": ["assets/examples/no-such.webp"]}
    (tmp_path / "examples.json").write_text(json.dumps({"examples": [one, other]}))
    (example,) = presets.read_examples(tmp_path)
    assert (example.prompt, example.thumbnail) == ("a cat", None)


def test_broken_files_are_named_and_the_studio_starts_without_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(presets.FOLDER, tmp_path / "presets"))
    assert presets.usable(folder) == (presets.read_sizes(), presets.read_examples())
    assert list(presets.faults(folder)) == []
    for name in ("sizes.json", "examples.json"):
        (folder / name).write_text("{")
    sizes, examples = presets.usable(folder)
    assert examples == ()
    for defaults in (SMALL, LARGE, FIXED):
        for side in sizes.sides_for(defaults):
            size = sizes.shapes[0].fit(side, defaults)
            assert Request(prompt="a cat", width=size.width, height=size.height).resolve(defaults).size == size
    told = preset_list.html((), Library(tmp_path / "data", folder).faults(), Words("zh"))
    assert told.count('class="error"') == 2
    for name in ("sizes.json", "examples.json"):
        assert f"{name} 无法读取" in told

    monkeypatch.setattr(presets, "usable", partial(presets.usable, folder))
    options = Options(port=PORT, data_dir=tmp_path / "data", open_browser=False)
    studio = Studio.open(options, lambda choice: FakeEngine(), lambda text: None)
    try:
        with urllib.request.urlopen(studio.url, timeout=60) as answer:
            page = answer.read().decode()
        # An outline for each shape, and no other.
        assert re.findall(r'label:has\(\[value="([^"]+)"\]\)', page) == [shape.label for shape in sizes.shapes]
    finally:
        studio.close()


def test_an_example_has_its_own_seed_alone() -> None:
    seeded = presets.Example(seed=7).seeded(Request(prompt="a cat", seed=3, layout_seed=5))
    assert (seeded.seed, seeded.layout_seed_of(0), seeded.paint_seed_of(0)) == (7, 7, 7)
