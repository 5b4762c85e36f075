"""What was chosen of a checkpoint and a plan, kept for the next start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from app import choice as choices
from app.choice import Choice
from glmimage.errors import RequestError


def test_a_choice_comes_back(tmp_path: Path) -> None:
    assert choices.read(tmp_path) is None
    choice = Choice(checkpoint="zai-org/GLM-Image", bits=4, offload="stream", memory=7.5)
    choices.write(tmp_path / "data", choice)
    assert choices.read(tmp_path / "data") == choice


@pytest.mark.parametrize("text", ["", "[]", "{", '{"bits": 5}', '{"offload": "sometimes"}', '{"colour": 1}'])
def test_a_file_that_says_nothing_useful_is_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / choices.FILE).write_text(text)
    assert choices.read(tmp_path) is None


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"bits": 3}, "Weights cannot have 3 bits"),
        ({"memory": -1.0}, "-1 GiB"),
        ({"offload": "sometimes"}, "sometimes"),
        ({"checkpoint": " "}, "No checkpoint is named"),
    ],
)
def test_what_cannot_be_is_one_sentence(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(RequestError, match=said):
        Choice(**wrong)


def test_what_a_checkpoint_is_is_known_before_it_is_loaded(tmp_path: Path) -> None:
    assert Choice().expected().name == "miniature"
    assert Choice(checkpoint=str(tmp_path / "gone")).expected().name == str(tmp_path / "gone")
