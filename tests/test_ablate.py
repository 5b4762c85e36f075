"""Ablations run from end to end on tiny models, and their tables say what was measured."""

import json
import random
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from glmimage.errors import TrainingError
from glmimage.models import Stack
from glmimage.train import ablate as ablations
from glmimage.train import tokenizer
from glmimage.train.ablate import Table, ablate, fit
from glmimage.train.release import TINY
from tests.stickers import discs


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    # As many layers as `prior.NEIGHBOURS` names.
    monkeypatch.setattr(ablations, "REDUCED", replace(TINY, prior_layers=3))
    few = {"SCENES": 16, "HELD_OUT": 8, "DRAWN": 1, "PAINTED": 4, "CODEBOOK_STEPS": 2, "PROBED": (8, 8)}
    for name, value in few.items():
        monkeypatch.setattr(ablations, name, value)
    schedule = replace(ablations.SCHEDULES["tokenizer"], batch=4)
    monkeypatch.setattr(ablations, "SCHEDULES", {"tokenizer": schedule})
    monkeypatch.setattr(tokenizer, "QUANTIZE_FROM", 1)
    monkeypatch.setattr(tokenizer, "merge_grounds", partial(tokenizer.merge_grounds, count=128))


@pytest.mark.parametrize(
    ("name", "figures"),
    [
        (
            "codes",
            {
                "loss",
                "loss of stickers",
                "steps",
                "thing told by a code",
                "letter told by a code",
                "codes used",
                "perplexity",
            },
        ),
        ("preview", {"a sticker in its place", "the right thing in its place", "steps"}),
        ("embeddings", {"loss", "loss of stickers", "steps"}),
        ("conditions", {"words", "ned", "kept, dB"}),
    ],
)
def test_an_ablation_from_end_to_end(small: None, tiny, name: str, figures: set[str]):
    table = ablate(name, Stack.load(tiny), discs(), minutes=0.001)
    assert set().union(*table.arms.values()) == figures
    assert all(len(values) == 2 for arm in table.arms.values() for values in arm.values())
    assert json.loads(json.dumps(table.to_json()))["arms"] == table.arms
    assert table.to_markdown().count("\n") == 4 + len(table.arms)


def test_an_unknown_ablation_is_one_sentence(tiny):
    with pytest.raises(TrainingError, match="choose one of: codes, preview, embeddings, conditions"):
        ablate("lunch", Stack.load(tiny), discs(), 1)


def test_fitting_lasts_its_processor_time_and_learns():
    class Line(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(3))

    model, draws = Line(), []

    def loss_of(rng: random.Random) -> torch.Tensor:
        draws.append(rng.random())
        return ((model.weight - 1) ** 2).sum()

    assert fit(model, loss_of, 0.2, seed=1) == len(draws) == len(set(draws))
    assert model.weight.min() > 0.02


def test_a_table_gives_means_and_spread():
    told = Table("x", "a minute", {"with": {"words": [0.5, 0.7]}, "without": {"words": [0.1, 0.1], "dB": [20.0, 21.0]}})
    lines = told.to_markdown().splitlines()
    assert lines[2:] == [
        "| | words | dB |",
        "|---|---|---|",
        "| with | 0.600 (0.500 to 0.700) | - |",
        "| without | 0.100 (0.100 to 0.100) | 20.500 (20.000 to 21.000) |",
    ]
