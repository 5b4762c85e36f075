"""Tasks: the words are those of the training, subjects are found where a person would find them."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from glmimage import tasks
from glmimage.errors import RequestError
from glmimage.geometry import Size
from glmimage.prompting import quoted, region_words
from glmimage.request import Defaults, Layout, Reference, Region, Request, Sampling
from glmimage.tasks import find_subjects
from glmimage.train.instructions import INSTRUCTIONS
from glmimage.train.world import GRAMMARS

BASE = Request(
    prompt="old",
    width=128,
    height=192,
    count=2,
    seed=3,
    layout_seed=4,
    steps=5,
    guidance=2,
    sampling=Sampling(top_k=3),
    references=(Reference(path="old.png"),),
    regions=(Region(text="OLD", box=(0, 0, 1, 1)),),
    mask="old-mask.png",
    content=0.5,
    region_strength=2,
    layout=Layout(target=((1,),)),
    task="edit",
)
MIA = Reference(path="mia.png", name="Mia", role="cat")
ROBOT = Reference(path="robot.png", name="the red robot")


@pytest.mark.parametrize("cells", [True, False])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_clauses_are_the_words_of_each_box(cells: bool, language: str) -> None:
    boxes = (Region(text="HI", box=(0, 0, 1, 0.5), color="red"), Region(text="AND", box=(0.5, 0.5, 1, 1)))
    request = tasks.regions(replace(BASE, layout=None), "a cat and a dog", boxes, language)
    if cells:
        request = tasks.with_cells(request, Size(32, 64), Defaults(min_side=128))
    said = [request.prompt[first:last] for first, last in tasks.clauses(request)]
    assert said == [region_words(region, language) for region in request.regions]
    assert all((region.cell is not None) == cells for region in request.regions)
    assert tasks.clauses(tasks.text(BASE, "a cat")) == []
    assert tasks.clauses(replace(request, prompt=f"{request.prompt}, on blue")) == []


def test_the_base_carries_what_tasks_share() -> None:
    request = tasks.text(BASE, "a cat")
    assert (request.prompt, request.task) == ("a cat", "text")
    assert (request.references, request.regions, request.mask, request.content) == ((), (), None, 0.0)
    for name in ("size", "count", "seed", "layout_seed", "steps", "guidance", "sampling", "layout", "region_strength"):
        assert getattr(request, name) == getattr(BASE, name)


def test_regions_are_said_as_they_are_trained() -> None:
    boxes = (
        Region(text="HELLO", box=(0.05, 0.1, 0.6, 0.35), color="white"),
        Region(text='"YOU"', box=(0.5, 0.7, 1, 1)),
    )
    request = tasks.regions(BASE, "a cat on a blue background, ", boxes)
    assert request.prompt == f"a cat on a blue background, {region_words(boxes[0])} and {region_words(boxes[1])}"
    assert (request.task, request.regions) == ("regions", boxes)
    assert {'"YOU"', "HELLO"} <= set(quoted(request.prompt))
    assert tasks.regions(BASE, " ", boxes[:1]).prompt == region_words(boxes[0])
    chinese = Region(text="新年", box=(0, 0, 1, 0.25), color="红色")
    assert tasks.regions(BASE, "蓝色背景", (chinese,)).prompt == f"蓝色背景，{region_words(chinese, 'zh')}"
    assert tasks.regions(BASE, "a blue background", (chinese,), "en").prompt.startswith("a blue background, the text")
    with pytest.raises(RequestError, match="no text box"):
        tasks.regions(BASE, "a cat", ())


def test_lettering_is_said_only_where_it_is_asked_for() -> None:
    box = (0.05, 0.1, 0.6, 0.35)
    styled = Region(text="HI", box=box, color="red", style="bold", align="left")
    assert region_words(styled).startswith('the text "HI" in red bold letters, left-aligned, at the top left, from 5%')
    assert region_words(styled, "zh").startswith("red文字“HI”（bold字体，左对齐）位于左上角")
    assert region_words(Region(text="HI", box=box, style="bold")).startswith('the text "HI" in bold letters at the top')


def test_edit() -> None:
    request = tasks.edit(BASE, "a.png", "remove the cat", "mask.png")
    assert request.references == (Reference(path="a.png", role="picture"),)
    assert (request.prompt, request.mask, request.task) == ("remove the cat", "mask.png", "edit")
    assert tasks.edit(BASE, "a.png", "remove the cat").mask is None


@pytest.mark.parametrize("language", ["en", "zh"])
def test_style_is_said_as_it_is_trained(language: str) -> None:
    named = tasks.style(BASE, "a.png", "flat", language=language)
    assert named.prompt.replace("flat", "{style}") in INSTRUCTIONS["style"][language]
    assert (len(named.references), named.content) == (1, 0.0)
    shown = tasks.style(BASE, "a.png", style_picture="b.png", strength=0.7, language=language)
    assert shown.prompt in INSTRUCTIONS["style_reference"][language]
    assert [reference.path for reference in shown.references] == ["a.png", "b.png"]
    assert shown.content == 0.3


@pytest.mark.parametrize(
    "wrong",
    [{}, {"style_name": " "}, {"style_name": "flat", "style_picture": "b.png"}, {"style_name": "flat", "strength": 2}],
)
def test_style_refuses(wrong: dict[str, Any]) -> None:
    with pytest.raises(RequestError):
        tasks.style(BASE, "a.png", **wrong)


def test_subjects_are_worded_as_the_model_knows_them() -> None:
    prompt = 'Mia on the left and the red robot on the right, mia says "Mia", on a blue background'
    request = tasks.subjects(BASE, prompt, (MIA, ROBOT))
    assert request.prompt == (
        "the cat from picture 1 on the left and the red robot from picture 2 on the right,"
        ' the cat from picture 1 says "Mia", on a blue background'
    )
    assert (request.references, request.task) == ((MIA, ROBOT), "subjects")
    person = Reference(path="a.png", name="Ann Lee")
    assert tasks.subjects(BASE, "ann  lee in the snow", (person,)).prompt == "Ann Lee from picture 1 in the snow"
    cat = Reference(path="a.png", role="a cat")
    assert tasks.subjects(BASE, "a cat in the snow", (cat,)).prompt == "the cat from picture 1 in the snow"
    twice = "Mia from picture 1 and the red robot"
    assert tasks.subjects(BASE, twice, (MIA, ROBOT)).prompt == (
        "the cat from picture 1 and the red robot from picture 2"
    )
    chinese = (Reference(path="a.png", name="小咪", role="猫"), Reference(path="b.png", name="机器人"))
    assert tasks.subjects(BASE, "左边有小咪，机器人在右边", chinese).prompt == "左边有图1的猫，图2的机器人在右边"


@pytest.mark.parametrize("language", ["en", "zh"])
def test_subjects_are_said_as_in_training(language: str) -> None:
    noun = GRAMMARS[language].name("fox", random.Random(0))
    known = {GRAMMARS[language].pictured("fox", 2, random.Random(seed)) for seed in range(50)}
    assert tasks.pictured(Reference(path="a.png", name=noun), 2, language) in known


def test_the_longest_name_is_found_first() -> None:
    red, robot = Reference(path="a.png", name="red robot"), Reference(path="b.png", name="robot")
    prompt = "a red robot meets the Robot and robots"
    found = find_subjects(prompt, (robot, red))
    assert [(prompt[m.start : m.end], m.subject) for m in found.mentions] == [("a red robot", 1), ("the Robot", 0)]
    assert not found.faults


def test_what_does_not_fit_is_found_before_anything_runs() -> None:
    nameless = Reference(path="c.png")
    again = Reference(path="d.png", name="mia")
    found = find_subjects('a sign saying "the red robot" and Mia of the fifth picture', (MIA, ROBOT, nameless, again))
    assert (found.missing, found.unnamed, found.alike, found.unknown) == ((1,), (2,), (3,), ("fifth picture",))
    assert len(found.faults) == 4
    assert all(fault.endswith(".") for fault in found.faults)
    with pytest.raises(RequestError, match="Picture 2 has no name"):
        tasks.subjects(BASE, "Mia", (MIA, nameless, nameless))
    assert find_subjects("图9的猫", (MIA,)).unknown == ("图9",)
    assert find_subjects("第二张图里的猫和小咪", (MIA,)).unknown == ("第二张图",)
    assert find_subjects("a scene", ()).faults
    assert find_subjects("Mia " * 3, (MIA,) * 5).faults


def test_pictures_may_be_counted_by_hand() -> None:
    prompt = "the cat from picture 1 and the dog of the second picture"
    nameless = (Reference(path="a.png"), Reference(path="b.png"))
    found = find_subjects(prompt, nameless)
    assert not found.faults
    assert [mention.worded for mention in found.mentions] == [True, True]
    assert tasks.subjects(BASE, prompt, nameless).prompt == prompt
