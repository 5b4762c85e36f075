"""Pictures and latents: parity with upstream's pipeline, round trips, and tiles without seams."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from diffusers.image_processor import VaeImageProcessor
from PIL import Image

from glmimage import latents
from glmimage.errors import CheckpointError

if TYPE_CHECKING:
    from glmimage.models import Stack


def noise_picture(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_tensors_equal_upstreams() -> None:
    picture = noise_picture(48, 32)
    processor = VaeImageProcessor(vae_scale_factor=8)
    tensor = latents.to_tensor(picture)
    torch.testing.assert_close(tensor, processor.preprocess(picture))
    assert np.array_equal(latents.to_picture(tensor), picture)
    wild = torch.randn(1, 3, 16, 24, generator=torch.Generator().manual_seed(0)) * 2
    assert np.array_equal(latents.to_picture(wild), processor.postprocess(wild, output_type="pil")[0])


def test_broken_numbers_become_black() -> None:
    assert latents.to_picture(torch.full((3, 2, 2), float("nan"))).getextrema() == ((0, 0),) * 3


def test_latents_are_normalised(tiny_stack: Stack) -> None:
    vae = tiny_stack.vae
    pixels = latents.to_tensor(noise_picture(64, 32))
    encoded = latents.encode(vae, pixels)
    assert encoded.shape == (1, 16, 4, 8)
    mean, std = (torch.tensor(value).view(1, -1, 1, 1) for value in (vae.config.latents_mean, vae.config.latents_std))
    with torch.no_grad():
        raw = vae.encode(pixels).latent_dist.mode()
        torch.testing.assert_close(encoded * std + mean, raw)
        torch.testing.assert_close(latents.decode(vae, encoded), vae.decode(raw).sample)


def test_small_pictures_are_one_tile(tiny_stack: Stack) -> None:
    z = torch.randn(1, 16, 8, 12, generator=torch.Generator().manual_seed(0))
    whole = latents.decode(tiny_stack.vae, z)
    torch.testing.assert_close(latents.decode(tiny_stack.vae, z, whole=8, tile=16), whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("rows", "columns"), [(40, 40), (16, 50), (33, 17)])
def test_tiles_equal_the_whole_without_group_norms(rows: int, columns: int) -> None:
    """Tiles differ from the whole by the norms' statistics and at tile edges only; without norms, only at edges."""
    torch.manual_seed(0)
    vae = AutoencoderKL(
        block_out_channels=(4, 4, 4, 4),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=16,
        norm_num_groups=1,
        latents_mean=[0.0] * 16,
        latents_std=[1.0] * 16,
        mid_block_add_attention=False,
    ).eval()
    for module in list(vae.decoder.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, torch.nn.GroupNorm):
                setattr(module, name, torch.nn.Identity())
    z = torch.randn(2, 16, rows, columns)
    whole = latents.decode(vae, z)
    tiled = latents.decode(vae, z, whole=1, tile=16)
    assert tiled.shape == whole.shape == (2, 3, rows * 8, columns * 8)
    difference = (tiled - whole).abs()
    assert difference.mean() < 0.05 * whole.std()


@pytest.mark.parametrize(("length", "tile", "overlap"), [(5, 8, 2), (8, 8, 2), (9, 8, 2), (128, 64, 16), (256, 64, 16)])
def test_starts_cover_everything(length: int, tile: int, overlap: int) -> None:
    tile = min(tile, length)
    starts = list(latents._starts(length, tile, overlap))
    assert starts[0] == 0
    assert starts[-1] + tile == length
    assert all(left < right <= left + tile - overlap for left, right in pairwise(starts))


def test_missing_statistics_are_named(tiny_stack: Stack) -> None:
    bare = AutoencoderKL.from_config({**tiny_stack.vae.config, "latents_std": None})
    with pytest.raises(CheckpointError, match="latents_std"):
        latents.decode(bare, torch.zeros(1, 16, 4, 4))
