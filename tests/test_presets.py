"""The preset files and what they make of a checkpoint's range."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest

from app import presets
from app.presets import PresetError
from glmimage.geometry import Size
from glmimage.prompting import quoted
from glmimage.request import Defaults, Request

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
    ],
)
def test_a_broken_file_is_named_in_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "sizes.json").write_text(text)
    with pytest.raises(PresetError, match=r"sizes\.json.*\.$"):
        presets.read_sizes(tmp_path)


def test_what_lacks_a_file_is_left_out(tmp_path: Path) -> None:
    one = {"prompt": "a cat", "seed": 1, "thumbnail": "assets/examples/no-such.webp"}
    other = {"prompt": "bluer", "seed": 1, "task": "edit", "pictures": ["assets/examples/no-such.webp"]}
    (tmp_path / "examples.json").write_text(json.dumps({"examples": [one, other]}))
    (example,) = presets.read_examples(tmp_path)
    assert (example.prompt, example.thumbnail) == ("a cat", None)
