"""What single codes tell, on a tokenizer whose codes say everything and on one whose codes say nothing."""

import numpy as np
import pytest
import torch

from glmimage.train import probe as probing
from glmimage.train import release
from glmimage.train.layout import Scene, labels
from glmimage.train.probe import probe
from glmimage.train.world import SMALL
from tests.stickers import discs


@pytest.fixture(scope="module")
def model():
    return release.build_parts(release.TINY, ["a cat on a blue background"], 3).vision_language_encoder


def told_by(classes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Codes that are this function of a scene's classes."""
    drawn: list[Scene] = []
    monkeypatch.setattr(probing, "render", lambda scene, art: drawn.append(scene))
    monkeypatch.setattr(probing, "true_codes", lambda model, picture: classes(labels(drawn[-1])))


def test_codes_that_say_the_ground_are_found_to(model, monkeypatch: pytest.MonkeyPatch):
    torch.manual_seed(0)
    told_by(lambda grid: np.where((grid[0] == 0) & (grid[3] == 0), grid[5], 20), monkeypatch)
    found = probe(model, discs(), SMALL, 60, 30)
    assert found["ground"] == 1
    assert found["thing"] < 0.5
    assert 2 <= found["codes_used"] <= 11
    assert 1 < found["perplexity"] <= found["codes_used"]


def test_codes_that_say_nothing_are_found_to(model, monkeypatch: pytest.MonkeyPatch):
    told_by(lambda grid: np.zeros_like(grid[0]), monkeypatch)
    found = probe(model, discs(), SMALL, 60, 30)
    assert found["codes_used"] == 1
    assert found["perplexity"] == 1
    assert found["ground"] < 0.6
