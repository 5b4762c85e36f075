"""Previews: colours fitted to a checkpoint, cells where codes are, neutral where none are yet."""

from __future__ import annotations

import copy
import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image

from glmimage import latents, preview
from glmimage.residency import Residency

if TYPE_CHECKING:
    from glmimage.models import Stack

COLOURS = preview.Palette(np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], dtype=np.uint8), torch.zeros(17, 3))


def at(picture: Image.Image, x: float, y: float) -> object:
    """The pixel at fractions of the width and height."""
    return picture.getpixel((int(x * picture.width), int(y * picture.height)))


def test_cells_are_coloured_and_the_rest_is_neutral() -> None:
    picture = preview.codes_to_picture(COLOURS, [0, 1, 2], (2, 2))
    assert picture.size == (512, 512)
    assert at(picture, 0.25, 0.25) == (255, 0, 0)
    assert at(picture, 0.75, 0.25) == (0, 255, 0)
    assert at(picture, 0.25, 0.75) == (0, 0, 255)
    assert at(picture, 0.75, 0.75) == preview.NEUTRAL


def test_nothing_drawn_is_neutral() -> None:
    picture = preview.codes_to_picture(COLOURS, [], (3, 5))
    assert picture.getcolors() == [(picture.width * picture.height, preview.NEUTRAL)]


@pytest.mark.parametrize("grid", [(1, 4), (4, 1), (8, 8), (64, 16)])
def test_cells_are_square(grid: tuple[int, int]) -> None:
    picture = preview.codes_to_picture(COLOURS, [], grid)
    assert picture.width * grid[0] == picture.height * grid[1]
    assert 256 < max(picture.size) <= 512


def test_the_sketch_shines_through_until_the_grid_is_full() -> None:
    under = preview.codes_to_picture(COLOURS, [0] * 16, (4, 4))
    half = preview.codes_to_picture(COLOURS, [1, 1], (2, 2), under)
    assert at(half, 0.75, 0.25) == (0, 255, 0)
    red, green, blue = at(half, 0.25, 0.75)
    assert red > green == blue, "the sketch is red, but faded"
    full = preview.codes_to_picture(COLOURS, [1] * 4, (2, 2), under)
    assert full.getcolors() == [(full.width * full.height, (0, 255, 0))]


def test_latents_are_mixed_linearly() -> None:
    matrix = torch.zeros(17, 3)
    matrix[0, 0], matrix[1, 1] = 1.0, 1.0
    matrix[-1] = torch.tensor([0.0, 0.0, 1.0])
    z = torch.zeros(1, 16, 2, 4)
    z[:, 0, :, :2], z[:, 0, :, 2:] = 1.0, -1.0
    picture = preview.latents_to_picture(preview.Palette(COLOURS.codes, matrix), z)
    assert picture.size == (512, 256)
    assert at(picture, 0.1, 0.5) == (255, 128, 255)
    assert at(picture, 0.9, 0.5) == (0, 128, 255)


def test_a_linear_vae_is_found_exactly(tiny_stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where latents are a linear image of the colours, the fitted map gives those colours back."""
    mix = torch.randn(3, 16, generator=torch.Generator().manual_seed(0))

    def encode(vae: object, pixels: torch.Tensor) -> torch.Tensor:
        small = torch.nn.functional.avg_pool2d(pixels, 8)
        return torch.einsum("bchw,cd->bdhw", small, mix) + 0.3

    monkeypatch.setattr(latents, "encode", encode)
    matrix = preview._fit_latents(tiny_stack.vae)
    colours = torch.rand(5, 3) * 2 - 1
    torch.testing.assert_close((colours @ mix + 0.3) @ matrix[:-1] + matrix[-1], colours, rtol=0, atol=0.02)


def test_codes_take_the_colours_that_the_decoder_paints(tiny_stack: Stack) -> None:
    """A decoder that only passes on its code embedding: codes with opposite embeddings get opposite colours."""
    decoder = copy.deepcopy(tiny_stack.decoder)
    for name, parameter in decoder.named_parameters():
        if "norm1.linear" in name or "norm_out.linear" in name:
            torch.nn.init.zeros_(parameter)
    weight = decoder.prior_token_embedding.weight
    with torch.no_grad():
        weight[::2] = torch.ones(weight.shape[1]) * 3
        weight[1::2] = -weight[::2]
    stack = dataclasses.replace(tiny_stack, decoder=decoder, kept={})
    colours = preview.palette(stack, Residency.of(stack)).codes.astype(int)
    assert colours.shape == (64, 3)
    assert (colours[::2] == colours[0]).all()
    assert (colours[1::2] == colours[1]).all()
    assert np.abs(colours[0] - colours[1]).max() > 0


def test_the_palette_is_fitted_once_and_the_same_again(tiny_stack: Stack) -> None:
    residency = Residency.of(tiny_stack)
    tiny_stack.kept.pop("palette", None)
    first = preview.palette(tiny_stack, residency)
    assert preview.palette(tiny_stack, residency) is first
    tiny_stack.kept.pop("palette")
    second = preview.palette(tiny_stack, residency)
    assert np.array_equal(first.codes, second.codes)
    assert torch.equal(first.latents, second.latents)
    assert first.codes.dtype == np.uint8
    assert torch.isfinite(first.latents).all()
