"""Requests: what is refused, what is filled in, and that JSON gives back the same."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from glmimage.errors import RequestError
from glmimage.request import Defaults, Layout, Reference, Region, Request, Sampling

DEFAULTS = Defaults(width=256, height=256, steps=20, guidance=1.5, min_side=128, max_side=512, name="small")


def full() -> Request:
    return Request(
        prompt='a cat “你好” "x"',
        width=200,
        height=300,
        count=3,
        seed=7,
        layout_seed=1,
        paint_seed=2,
        steps=5,
        guidance=2,
        references=(Reference(path="a.png", role="the cat", name="Mia"),),
        regions=(Region(text="HI", box=(0, 0, 1, 0.5), color="red", style="bold", align="left"),),
        sampling=Sampling(temperature=1, top_p=0.5, top_k=9),
        task="subjects",
        mask="mask.png",
        content=1,
        keep=True,
        region_strength=3,
        layout=Layout(preview=((1, 2), (3, 4)), target=[[5] * 6] * 9),
    )


def test_json_gives_back_the_same() -> None:
    sized = replace(full(), layout=Layout(target=((5,) * 6,) * 9)).resolve(DEFAULTS)
    for request in (Request(prompt="a"), full(), sized):
        assert Request.from_json(json.loads(json.dumps(request.to_json()))) == request


def test_json_of_older_versions_is_read() -> None:
    stored = {
        "prompt": "a",
        "seed": 4,
        "references": [{"path": "a.png", "role": "the cat"}],
        "regions": [{"text": "HI", "box": [0, 0, 1, 1], "color": "red"}],
        "sampling": {"temperature": None, "top_p": None, "top_k": None},
    }
    request = Request.from_json(stored)
    assert (request.task, request.mask, request.content, request.region_strength) == ("text", None, 0.0, 1.0)
    assert request.layout is None
    assert request.keep is False, "as it was painted"
    assert (request.references[0].name, request.regions[0].style, request.regions[0].align) == ("", "", "centre")


@pytest.mark.parametrize(
    "wrong",
    [
        {"prompt": ""},
        {"prompt": " \n"},
        {"prompt": 3},
        {"prompt": "\ud800"},
        {"prompt": "a" * 20_001},
        {"width": 0},
        {"width": 1.5},
        {"width": 1000, "height": 100},
        {"count": 0},
        {"count": True},
        {"count": 65},
        {"seed": -1},
        {"seed": 2**53},
        {"layout_seed": "1"},
        {"steps": 0},
        {"steps": 1001},
        {"guidance": -0.1},
        {"guidance": float("nan")},
        {"guidance": "1"},
        {"references": ["a.png"]},
        {"references": None},
        {"sampling": None},
        {"task": "paint"},
        {"task": None},
        {"mask": " ", "references": (Reference(path="a.png"),)},
        {"mask": "mask.png"},
        {"content": 0.5},
        {"content": 1.1, "references": (Reference(path="a.png"),)},
        {"content": "all"},
        {"region_strength": -1},
        {"region_strength": 10.5},
        {"layout": ((1,),)},
    ],
)
def test_request_refuses(wrong: dict[str, Any]) -> None:
    with pytest.raises(RequestError) as caught:
        Request(**{"prompt": "a", **wrong})
    message = str(caught.value)
    assert message.endswith(".")
    assert "\n" not in message


@pytest.mark.parametrize(
    "wrong",
    [{"temperature": 0}, {"temperature": float("inf")}, {"top_p": 0}, {"top_p": 1.1}, {"top_k": -1}, {"top_k": 1.0}],
)
def test_sampling_refuses(wrong: dict[str, Any]) -> None:
    with pytest.raises(RequestError):
        Sampling(**wrong)


@pytest.mark.parametrize("box", [(0, 0, 0, 1), (0.5, 0, 0.4, 1), (-0.1, 0, 1, 1), (0, 0, 1), (0, 0, 1, 1.01), "abcd"])
def test_region_refuses_boxes(box: Any) -> None:
    with pytest.raises(RequestError):
        Region(text="a", box=box)


@pytest.mark.parametrize("wrong", [{"align": "middle"}, {"style": 3}, {"text": " "}])
def test_region_refuses(wrong: dict[str, Any]) -> None:
    with pytest.raises(RequestError):
        Region(**{"text": "a", "box": (0, 0, 1, 1), **wrong})


@pytest.mark.parametrize(
    "wrong",
    [{}, *({"target": grid} for grid in (3, (), ((),), ((1, 2), (3,)), ((-1,),), ((True,),), ((1.0,),), ("12",)))],
)
def test_layout_refuses(wrong: dict[str, Any]) -> None:
    with pytest.raises(RequestError):
        Layout(**wrong)


def test_a_layout_has_one_size() -> None:
    target = Layout(target=((1,) * 6,) * 5)
    assert str(Request(prompt="a", layout=target).resolve(DEFAULTS).size) == "192x160"
    assert str(Request(prompt="a", layout=target, width=190).resolve(DEFAULTS).size) == "192x160"
    with pytest.raises(RequestError, match="5 rows of 6 codes, a picture of 256x160 has 5 of 8"):
        Request(prompt="a", layout=target, width=256).resolve(DEFAULTS)
    preview = Layout(preview=((1,) * 16,) * 16)
    assert str(Request(prompt="a", layout=preview).resolve(DEFAULTS).size) == "256x256"
    with pytest.raises(RequestError, match="preview"):
        Request(prompt="a", layout=preview, width=192).resolve(DEFAULTS)


def test_what_keeps_something_of_its_source_has_its_size() -> None:
    source = (Reference(path="a.png"),)
    assert not Request(prompt="a", references=source).follows_source
    assert Request(prompt="a", references=source, mask="m.png", width=64).follows_source
    assert Request(prompt="a", references=source, content=0.2).follows_source
    assert Request(prompt="a", references=source, task="edit").follows_source
    assert not Request(prompt="a", references=source, task="edit", width=64).follows_source
    assert not Request(prompt="a", references=source, task="subjects").follows_source


def test_reference_needs_a_path() -> None:
    with pytest.raises(RequestError):
        Reference(path=" ")


@pytest.mark.parametrize(
    "data",
    [
        [],
        {},
        {"prompt": "a", "colour": 1},
        {"prompt": "a", "references": [{}]},
        {"prompt": "a", "references": {}},
        {"prompt": "a", "regions": [{"text": "x"}]},
        {"prompt": "a", "sampling": 3},
        {"prompt": "a", "layout": 3},
        {"prompt": "a", "layout": {}},
        {"prompt": "a", "layout": {"codes": [[1]]}},
    ],
)
def test_from_json_refuses(data: Any) -> None:
    with pytest.raises(RequestError):
        Request.from_json(data)


def test_resolve_fills_and_snaps() -> None:
    resolved = Request(prompt="a", width=200).resolve(DEFAULTS)
    assert (resolved.width, resolved.height, resolved.steps, resolved.guidance) == (192, 256, 20, 1.5)
    assert resolved.resolve(DEFAULTS) == resolved
    assert str(resolved.size) == "192x256"


@pytest.mark.parametrize("size", [(96, 128), (544, 512), (160, 600)])
def test_resolve_refuses_sides_out_of_range(size: tuple[int, int]) -> None:
    with pytest.raises(RequestError, match="between 128 and 512"):
        Request(prompt="a", width=size[0], height=size[1]).resolve(DEFAULTS)


def test_resolve_refuses_a_shape_too_long() -> None:
    with pytest.raises(RequestError, match="4:1"):
        Request(prompt="a", width=1024, height=128).resolve(DEFAULTS)
    # Only one side is given: the other is the default's.
    with pytest.raises(RequestError, match="4:1"):
        Request(prompt="a", width=1056).resolve(DEFAULTS)


def test_unresolved_size() -> None:
    with pytest.raises(RequestError):
        _ = Request(prompt="a").size


def test_seeds() -> None:
    free, locked = Request(prompt="a", seed=5), Request(prompt="a", seed=5, layout_seed=1, paint_seed=2)
    assert [free.layout_seed_of(index) for index in range(3)] == [5, 6, 7]
    assert [free.paint_seed_of(index) for index in range(3)] == [5, 6, 7]
    assert {locked.layout_seed_of(index) for index in range(3)} == {1}
    assert {locked.paint_seed_of(index) for index in range(3)} == {2}
    last = Request(prompt="a", seed=2**53 - 1)
    assert last.layout_seed_of(1) == 0
