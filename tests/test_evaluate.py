"""The evaluation asks as the studio does, for what training never asks, and reports what it promises."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glmimage import checkpoint
from glmimage.engine import Engine
from glmimage.errors import TrainingError
from glmimage.request import Request
from glmimage.train import evaluate as evaluation
from glmimage.train.art import Art
from glmimage.train.evaluate import SCORES, TASKS, cases, interval, request_of, table
from glmimage.train.layout import render
from glmimage.train.marking import Marker
from glmimage.train.world import FULL, SMALL, TASKED
from tests.stickers import discs


@pytest.fixture(scope="module")
def art() -> Art:
    return discs()


def test_cases_are_the_same_and_go_through_the_kinds_and_languages():
    assert cases(3) == cases(3)
    for task, kinds in TASKS.items():
        made = cases(4 * len(kinds), task, FULL)
        assert {case.sample.task for case in made} == set(kinds)
        assert {(case.sample.task, case.sample.language) for case in made} == {
            (kind, language) for kind in kinds for language in ("en", "zh")
        }
    with pytest.raises(TrainingError, match="no task"):
        cases(1, "edit", SMALL)


def test_requests_are_the_studios(art: Art, tmp_path: Path):
    for task in TASKS:
        for case in cases(10, task, FULL):
            request = request_of(case, art, tmp_path)
            rows, cols = case.scene.grid
            assert (request.task, request.width, request.height) == (task, 32 * cols, 32 * rows)
            for reference, scene in zip(request.references, case.sample.references, strict=True):
                assert np.array_equal(np.asarray(Image.open(reference.path)), render(scene, art))
            for word in case.scene.words:
                if task in ("text", "regions"):
                    assert word.text in request.prompt
    for case, place in zip(cases(2, "regions", TASKED), (", column ", "，第"), strict=True):
        regions = request_of(case, art, tmp_path)
        assert place in regions.prompt
        assert [region.text for region in regions.regions] == [word.text for word in case.scene.words]
    for case in cases(10, "subjects", replace(TASKED, languages=("en",))):
        prompt = request_of(case, art, tmp_path).prompt
        for number in range(1, 1 + len(case.sample.references)):
            said = ("picture {}", "image {}", ("first", "second", "third")[number - 1] + " picture")
            assert any(words.format(number) in prompt for words in said)


@pytest.mark.parametrize("task", list(TASKS))
def test_a_whole_evaluation_of_a_tiny_model(tiny: Path, art: Art, tmp_path: Path, monkeypatch, task: str):
    report = evaluation.evaluate(
        Engine.load(str(tiny)),
        art,
        tmp_path,
        task=task,
        cases=5,
        world=TASKED,
        sheet=tmp_path / "sheet.png",
        threads=1,
        steps=1,
    )
    assert set(report) == {*SCORES, "cases", "intervals", "ceilings", "kinds", "reasons"}
    assert json.loads(json.dumps(report)) == json.loads(json.dumps(report))
    for score, owner in SCORES.items():
        assert (report[score] is None) == (score in report["reasons"])
        if owner != task:
            assert report[score] is None
    assert report["word_accuracy_zh"] is None
    assert "no Chinese" in report["reasons"]["word_accuracy_zh"] or task != "text"
    for score, (low, high) in report["intervals"].items():
        assert low <= report[score] <= high
    assert set(report["kinds"]) == (set(TASKS[task]) if task in ("edit", "style") else set())
    assert table(report).startswith("5 cases a task")
    assert Image.open(tmp_path / "sheet.png").width > 300
    # The second time the ceilings are those that were kept.
    monkeypatch.setattr(evaluation, "round_trip", None)
    again = evaluation.evaluate(
        Engine.load(str(tiny)), art, tmp_path, task=task, cases=5, world=TASKED, threads=1, steps=1
    )
    assert again == report


def test_a_picture_is_painted_again_until_its_words_read_right(tiny: Path, art: Art, tmp_path: Path, monkeypatch):
    seeds: list[int] = []
    run = Engine.run

    def counted(self: Engine, request: Request, *rest, **more):
        seeds.append(request.seed)
        return run(self, request, *rest, **more)

    monkeypatch.setattr(Engine, "run", counted)
    engine = Engine.load(str(tiny))
    told = {"task": "regions", "cases": 1, "world": TASKED, "threads": 1, "steps": 1}
    for attempts, painted in ((1, 1), (3, 3)):
        seeds.clear()
        evaluation.evaluate(engine, art, tmp_path, attempts=attempts, **told)
        assert len(set(seeds)) == len(seeds) == painted, "random weights write nothing"


def test_one_thing_is_asked_for_and_marked_alone(tiny: Path, art: Art, tmp_path: Path):
    made = evaluation.cases_with("octopus", 6, SMALL)
    assert all("octopus" in case.prompt for case in made)
    assert {thing.kind for case in made for thing in case.scene.things} == {"octopus"}
    alone = evaluation.cases_with("octopus", 6, SMALL, "ink")
    assert all([(thing.kind, thing.style) for thing in case.scene.things] == [("octopus", "ink")] for case in alone)
    report = evaluation.evaluate(
        Engine.load(str(tiny)), art, tmp_path, cases=2, world=SMALL, threads=1, steps=1, thing="octopus", style="ink"
    )
    assert report["things"] is not None
    for asked in ({"task": "edit"}, {"language": "zh"}):
        with pytest.raises(TrainingError, match="leave out --task and --language"):
            evaluation.evaluate(Engine.load(str(tiny)), art, tmp_path, world=TASKED, thing="octopus", **asked)
    with pytest.raises(TrainingError, match="say which: --thing cat"):
        evaluation.evaluate(Engine.load(str(tiny)), art, tmp_path, world=TASKED, style="ink")
    with pytest.raises(TrainingError, match="no art for the thing 'dragon'"):
        evaluation.cases_with("dragon", 1, SMALL)


def test_an_unknown_task_is_one_sentence(tiny: Path, art: Art, tmp_path: Path):
    with pytest.raises(TrainingError, match="choose one of: text, regions, edit, style, subjects, all"):
        evaluation.evaluate(Engine.load(str(tiny)), art, tmp_path, task="poem", world=TASKED)
    for sheet, said in (("sheet", r"name it \.png"), ("gone/sheet.png", "make it, or name another")):
        with pytest.raises(TrainingError, match=said):
            evaluation.evaluate(Engine.load(str(tiny)), art, tmp_path, world=TASKED, sheet=tmp_path / sheet)
    with pytest.raises(TrainingError, match="not told in 'fr'; choose one of: en, zh"):
        evaluation.evaluate(Engine.load(str(tiny)), art, tmp_path, task="text", world=FULL, language="fr")


def test_ceilings_belong_to_one_vae(tiny: Path, art: Art, tmp_path: Path):
    from glmimage.models import Stack

    vae = Stack.load(tiny).vae
    marker = Marker(art, SMALL, threads=1)
    first = evaluation.Ceilings(vae, marker, tmp_path)
    first.of(cases(1, world=SMALL)[0].sample)
    first.save()
    assert evaluation.Ceilings(vae, marker, tmp_path).kept == first.kept
    vae.decoder.conv_out.bias.data += 1
    assert not evaluation.Ceilings(vae, marker, tmp_path).kept


def test_intervals_of_known_shares():
    assert interval([1.0] * 50 + [0.0] * 50) == (0.4038, 0.5962)
    assert interval([]) == (0.0, 1.0)
    assert interval([20.0, 22.0]) == pytest.approx((21 - 1.96 / 2**0.5, 21 + 1.96 / 2**0.5), abs=1e-3)


def test_the_card_says_what_was_measured() -> None:
    folder = checkpoint.find("miniature")
    measured = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    card = (folder / "README.md").read_text(encoding="utf-8")
    english, chinese = measured["en"], measured["zh"]
    for name, (low, high) in english["intervals"].items():
        digits = 1 if name.endswith("psnr") else 3
        score, low, high, best = (
            f"{each:.{digits}f}" for each in (english[name], low, high, english["ceilings"][name])
        )
        assert f"| {name.replace('_', ' ')} | {score} | {low} to {high} | {best} |" in card
    said = {"style": "by name", "style_reference": "after a second picture"}
    assert all(f"{said.get(kind, kind)} {score:.2f}" in card for kind, score in english["kinds"].items())
    low, high = chinese["intervals"]["word_accuracy"]
    assert (
        f"things {chinese['things']:.3f}, styles {chinese['styles']:.3f}, backgrounds {chinese['backgrounds']:.3f},"
        f" words {chinese['word_accuracy']:.3f} ({low:.3f} to {high:.3f}), NED {chinese['ned']:.3f}"
    ) in card
