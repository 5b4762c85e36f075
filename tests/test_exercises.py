"""Shards of exercises, and how often each of them comes."""

import random
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import nn

from glmimage.errors import TrainingError
from glmimage.train import exercises, world
from glmimage.train.edits import Sample
from glmimage.train.exercises import Exercises, exercise, write_shards
from glmimage.train.world import FULL, SMALL, WORLDS
from tests.stickers import discs


def blank(pictures) -> torch.Tensor:
    return torch.zeros((len(pictures), 8, 8), dtype=torch.int16)


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(exercises, "SHARD", 64)
    write_shards("codes", blank, tmp_path, discs(), SMALL, range(2))
    return tmp_path


def drawn(data: Exercises, count: int = 200) -> Counter[bool]:
    rng = random.Random(0)
    rows = [row for _ in range(count) for row in data.batch(rng, lambda each: 16, rng)]
    return Counter(bool(data.samples[row].scene.words) for row in rows)


def test_processes_that_step_together_take_other_exercises_of_one_kind(work: Path):
    data = Exercises(work, {1: 1.0}, {1: SMALL}, lambda each: len(each.scene.words), latents=False)
    kinds = set()
    for step in range(20):
        first, second = (
            data.batch(random.Random(f"{step} {process}"), lambda each: 16, random.Random(step)) for process in range(2)
        )
        assert first != second
        (kind,) = {len(data.samples[row].scene.words) for row in first + second}
        kinds.add(kind)
    assert len(kinds) > 1


def test_a_shard_that_is_there_is_left_and_a_missing_one_is_made(work: Path, capsys):
    (work / "codes-1-0001.safetensors").unlink()
    before = (work / "codes-1-0000.safetensors").stat().st_mtime_ns
    write_shards("codes", blank, work, discs(), SMALL, range(2))
    assert (work / "codes-1-0000.safetensors").stat().st_mtime_ns == before
    data = Exercises(work, {1: 1.0}, {1: SMALL}, lambda each: each.scene.grid, latents=False)
    assert len(data) == 128
    assert data.stacked_codes([0, 127]).shape == (2, 8, 8)


def test_a_shard_of_other_weights_is_made_anew(work: Path, capsys: pytest.CaptureFixture[str]):
    first, second = (exercises.digest_of(nn.Linear(2, 2)) for _ in range(2))
    assert first != second

    def encoded(by: str) -> int:
        write_shards("codes", blank, work, discs(), SMALL, range(2), by)
        return capsys.readouterr().out.count("encoded")

    capsys.readouterr()
    (work / "codes-1-0001.safetensors").unlink()
    assert encoded(first) == 1, "of a shard that does not say it nothing is known"
    assert encoded(first) == 0
    write_shards("codes", blank, work, discs(), SMALL, range(2, 3), second)
    with pytest.raises(TrainingError, match=r"codes-1-0001.*by other weights.*--shards 1:2"):
        Exercises(work, {1: 1.0}, {1: SMALL}, lambda each: each.scene.grid, latents=False)
    capsys.readouterr()
    assert encoded(second) == 1


def test_a_level_without_exercises_is_refused(work: Path):
    with pytest.raises(TrainingError, match=r"no encoded exercises of level 2 in .* \(--level 2\) first"):
        Exercises(work, {1: 0.5, 2: 0.5}, WORLDS, lambda each: each.scene.grid, latents=False)


def test_what_an_exercise_shows_does_not_depend_on_how_it_is_said():
    languages = set()
    for index in range(60):
        first = exercise(FULL, index)
        for seed in range(4):
            each = exercise(FULL, index, random.Random(4 * index + seed))
            assert (each.task, each.scene, each.references) == (first.task, first.scene, first.references)
            languages.add(each.language)
    assert languages == {"en", "zh"}


def test_what_is_worth_more_comes_more_often(work: Path):
    def of(worth) -> Counter[bool]:
        return drawn(Exercises(work, {1: 1.0}, {1: SMALL}, lambda each: 0, latents=False, worth=worth))

    def worded(each: Sample) -> float:
        return 4.0 if each.scene.words else 1.0

    plain, weighted = of(lambda each: 1.0), of(worded)
    ratio = (weighted[True] / weighted[False]) / (plain[True] / plain[False])
    assert 3 < ratio < 5


def test_shards_of_a_world_that_draws_otherwise_now_are_refused_and_made_anew(
    work: Path, monkeypatch: pytest.MonkeyPatch
):
    def load() -> Exercises:
        return Exercises(work, {1: 1.0}, {1: SMALL}, lambda each: each.scene.grid, latents=False)

    load()
    monkeypatch.setattr(world, "LATE", 1.0)
    with pytest.raises(TrainingError, match=r"codes-1-0000.*--level 1 --shards 0:1"):
        load()
    write_shards("codes", blank, work, discs(), SMALL, range(2))
    load()
