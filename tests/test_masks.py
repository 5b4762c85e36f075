"""Masks from strokes: what is painted is white and nothing else, and nonsense from a browser is one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.masks import MOST_STROKES, Mask, paintable
from app.words import Words
from glmimage.errors import RequestError


def level(mask: Mask, size: tuple[int, int] = (200, 100)) -> np.ndarray:
    return np.asarray(mask.draw(size))


def test_a_dab_is_a_round_spot() -> None:
    drawn = level(Mask().painted("[[0, 100, 500, 250]]"))
    assert drawn.shape == (100, 200)
    assert drawn[50, 100] == 255
    ys, xs = np.nonzero(drawn)
    assert (xs.min(), xs.max(), ys.min(), ys.max()) == (90, 110, 40, 60), "a tenth of the width across"
    assert drawn[41, 91] == 0, "no square"
    assert set(np.unique(drawn)) == {0, 255}


def test_a_stroke_joins_its_points_and_the_eraser_takes_away() -> None:
    line = [0, 50, 100, 250, 900, 250]
    assert (level(Mask().painted(json.dumps([line])))[50, 20:180] == 255).all()
    drawn = level(Mask().painted(json.dumps([line, [1, 80, 500, 0, 500, 500]])))
    assert (drawn[:, 95:105] == 0).all()
    assert drawn[50, 30] == drawn[50, 170] == 255


def test_a_stored_mask_goes_on(tmp_path: Path) -> None:
    Image.new("L", (20, 10), 255).save(tmp_path / "mask.png")
    base = Mask(base=str(tmp_path / "mask.png"))
    assert (level(base) == 255).all()
    drawn = level(base.painted("[[1, 100, 500, 250]]"))
    assert drawn[50, 100] == 0
    assert drawn[5, 5] == 255
    assert base.painted("null") == Mask(), "wiping wipes everything"


def test_kept_by_content_and_not_when_blank(tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    Image.new("RGB", (64, 48)).save(picture)
    mask = Mask().painted("[[0, 200, 500, 300]]")
    kept = mask.keep(picture, tmp_path / "data")
    assert kept == mask.keep(picture, tmp_path / "data")
    with Image.open(kept) as stored:
        assert stored.size == (64, 48)
        assert stored.tobytes() == mask.draw((64, 48)).tobytes()
    for nothing in (Mask(), Mask().painted("[[1, 200, 500, 300]]"), Mask().painted("[[0, 20, -3000, 300]]")):
        with pytest.raises(RequestError, match="Nothing is marked"):
            nothing.keep(picture, tmp_path / "data")


@pytest.mark.parametrize(
    "told",
    [
        *("", "{}", "7", "[[]]", "[[0]]", "[[0, 50]]", "[[0, 50, 1]]", '[[0, 50, "a", 2]]', "[" * 100_000),
        *("[[0, 0, 5, 5]]", "[[0, 5000, 5, 5]]", "[[0, 50, 1e9, 5]]", "[[0, 50, NaN, 5]]", "[[0, 50, Infinity, 5]]"),
    ],
)
def test_nonsense_is_a_sentence(told: str) -> None:
    with pytest.raises(RequestError, match="paint them again"):
        Mask().painted(told)


def test_there_is_an_end_to_strokes() -> None:
    with pytest.raises(RequestError, match="too many"):
        Mask().painted(json.dumps([[0, 10, 5, 5]] * (MOST_STROKES + 1)))


def test_what_was_painted_is_shown_again(tmp_path: Path) -> None:
    html = paintable(tmp_path / "a.png", (200, 100), Mask().painted("[[0, 50, 10, 20], [1, 60, 1, 2, 3, 4]]"), Words())
    assert 'viewBox="0 0 1000 500"' in html
    assert '<polyline points="10,20 10,20" stroke-width="50" stroke="white"/>' in html
    assert '<polyline points="1,2 3,4 3,4" stroke-width="60" stroke="black"/>' in html
