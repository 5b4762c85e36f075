"""Sizes and grids, against numbers worked out by hand and against the upstream processor's."""

from __future__ import annotations

import pytest

from glmimage.errors import RequestError
from glmimage.geometry import Grid, Size, preview_cells


@pytest.mark.parametrize(
    ("asked", "snapped"),
    [
        ((256, 256), (256, 256)),
        ((250, 270), (256, 256)),
        ((48, 80), (64, 96)),
        ((47, 79), (32, 64)),
        ((1, 1), (32, 32)),
        ((1024, 256), (1024, 256)),
    ],
)
def test_snap(asked: tuple[int, int], snapped: tuple[int, int]) -> None:
    assert Size.snap(*asked) == Size(*snapped)


@pytest.mark.parametrize("size", [(0, 32), (-32, 32), (1056, 256), (1, 5), (256, 1030), (140, 33)])
def test_snap_refuses(size: tuple[int, int]) -> None:
    with pytest.raises(RequestError):
        Size.snap(*size)


def test_grids_are_rows_by_columns() -> None:
    size = Size(512, 256)
    assert size.prior_grid == (8, 16)
    assert size.patch_grid == (16, 32)
    assert size.latent_grid == (32, 64)
    # sqrt(1/2) * 16 = 11.31, sqrt(2) * 16 = 22.63
    assert size.preview_grid == (11, 22)
    assert Size(1024, 1024).preview_grid == (16, 16)


def test_preview_grid_is_the_processors() -> None:
    from transformers import GlmImageProcessor

    shape = GlmImageProcessor._get_target_shape
    for width in range(32, 1025, 96):
        for height in range(32, 1025, 32):
            size = Size(width, height)
            assert (*size.prior_grid, *size.preview_grid) == shape(None, height, width), size


@pytest.mark.parametrize("text", ["256x128", " 256 X 128 ", "256×128"])
def test_parse(text: str) -> None:
    assert Size.parse(text) == Size(256, 128)


@pytest.mark.parametrize("text", ["", "256", "x", "256x", "-1x5", "1e3x4", "99999999x1"])
def test_parse_refuses(text: str) -> None:
    with pytest.raises(RequestError, match="WIDTHxHEIGHT"):
        Size.parse(text)


@pytest.mark.parametrize(
    ("held", "grid", "rows", "columns"),
    [
        ((2, 2), (4, 4), [0, 0, 1, 1], [0, 0, 1, 1]),
        ((2, 3), (4, 7), [0, 0, 1, 1], [0, 0, 1, 1, 2, 2, 2]),
        # As often along both axes: once, for the sake of the columns.
        ((2, 3), (4, 4), [0, 1, 1, 1], [0, 1, 2, 2]),
        ((4, 4), (2, 2), [0, 2], [0, 2]),
        ((4, 2), (2, 4), [0, 2], [0, 0, 1, 1]),
    ],
)
def test_a_preview_repeats_by_whole_numbers_or_leaves_out(
    held: Grid, grid: Grid, rows: list[int], columns: list[int]
) -> None:
    assert preview_cells(held, grid) == (rows, columns)
