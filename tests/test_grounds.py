"""Grounds: every cell is one of the numbered tiles, in every shape, and words can be read on them."""

import numpy as np
import pytest

from glmimage.train import grounds
from glmimage.train.world import FULL

TWO_TONE = ("red above yellow", "blue beside pink")


@pytest.mark.parametrize("ground", [*grounds.GROUNDS, *grounds.LANDSCAPES, *TWO_TONE])
def test_equal_labels_are_equal_cells(ground: str) -> None:
    seen: dict[int, bytes] = {}
    for rows, cols in FULL.grids:
        tiles, picture = grounds.tiles_of(ground, (rows, cols)), grounds.paint(ground, (rows, cols))
        assert tiles.shape == (rows, cols)
        assert picture.shape == (rows * 32, cols * 32, 3)
        assert 0 <= tiles.min() <= tiles.max() < grounds.TILES
        cells = picture.reshape(rows, 32, cols, 32, 3).transpose(0, 2, 1, 3, 4)
        for at, tile in np.ndenumerate(tiles):
            assert seen.setdefault(int(tile), cells[at].tobytes()) == cells[at].tobytes()


def test_every_tile_of_a_landscape_is_used_and_looks_different() -> None:
    for name, landscape in grounds.LANDSCAPES.items():
        tiles = np.concatenate([grounds.tiles_of(name, grid).ravel() for grid in FULL.grids])
        assert len(np.unique(tiles)) == sum(band.period for band in landscape.bands.values())
        assert len({grounds._tiles()[tile].tobytes() for tile in np.unique(tiles)}) == len(np.unique(tiles))


def test_a_landscape_goes_on_seamlessly_after_its_period() -> None:
    for name in grounds.LANDSCAPES:
        picture = grounds.paint(name, (8, 16)).astype(int)
        period = grounds.PERIOD * 32
        assert (picture[:, :period] == picture[:, period : 2 * period]).all()
        jumps = np.abs(picture[:, 1:] - picture[:, :-1]).max(2)
        # No more changes from one pixel column to the next where strips meet than elsewhere.
        assert (jumps[:, period - 1] > 40).sum() <= (jumps[:, : period - 1] > 40).sum(0).max()


def test_two_tones_meet_in_the_middle_in_their_order() -> None:
    above, beside = (grounds.paint(ground, (8, 12)) for ground in TWO_TONE)
    assert (above[:128] == grounds.GROUNDS["red"]).all()
    assert (above[128:] == grounds.GROUNDS["yellow"]).all()
    assert (beside[:, :192] == grounds.GROUNDS["blue"]).all()
    assert (beside[:, 192:] == grounds.GROUNDS["pink"]).all()


def test_lettering_contrasts_with_both_tones_and_every_band() -> None:
    assert "yellow" not in grounds.contrasting("black above yellow")
    assert set(grounds.contrasting("red beside blue")) == set(grounds.contrasting("red")) & set(
        grounds.contrasting("blue")
    )
    for name in grounds.LANDSCAPES:
        assert len(grounds.contrasting(name)) >= 2
