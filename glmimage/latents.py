"""Pictures, tensors and the VAE's latents.

Latents are normalised per channel, (z - latents_mean) / latents_std, as the decoder sees them; tensors of pictures are
in -1..1, [B, 3, H, W]. Follows `GlmImagePipeline` and diffusers' `VaeImageProcessor`. Large pictures are decoded in
overlapping tiles of our own: diffusers' `enable_tiling()` alone changes nothing at 1024 px.
Knows nothing of the decoder or of files.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image
from torch import Tensor

from glmimage.errors import CheckpointError

WHOLE = 1024 * 1024 // 64
"""Most latents (H x W) decoded in one piece; a megapixel takes about 3 GiB in bfloat16."""
TILE = 64
"""Side of a tile in latents, 512 px."""
OVERLAP = 16
"""Latents that neighbouring tiles share; within them one fades into the other."""


def to_tensor(picture: Image.Image) -> Tensor:
    """[1, 3, H, W] float32 in -1..1 from an RGB picture of that size."""
    pixels = np.array(picture.convert("RGB"), dtype=np.float32) / 255.0
    return torch.from_numpy(pixels).permute(2, 0, 1)[None] * 2 - 1


def to_picture(pixels: Tensor) -> Image.Image:
    """An RGB picture from [3, H, W] or [1, 3, H, W] in -1..1; values outside are clipped, not numbers become black."""
    pixels = pixels[0] if pixels.dim() == 4 else pixels
    scaled = (pixels.detach().float() / 2 + 0.5).nan_to_num(0.0).clamp(0, 1).permute(1, 2, 0)
    return Image.fromarray((scaled * 255).round().to(torch.uint8).cpu().numpy())


@torch.no_grad()
def encode(vae: AutoencoderKL, pixels: Tensor) -> Tensor:
    """Normalised latents [B, C, H/8, W/8] of pixels [B, 3, H, W] in -1..1; the most likely ones, nothing is drawn."""
    mean, std = _statistics(vae)
    encoded: Tensor = vae.encode(pixels.to(vae.device, vae.dtype)).latent_dist.mode()
    return (encoded - mean) / std


@torch.no_grad()
def decode(vae: AutoencoderKL, latents: Tensor, *, whole: int = WHOLE, tile: int = TILE) -> Tensor:
    """Pixels [B, 3, 8H, 8W], about -1..1, of normalised latents [B, C, H, W].

    whole: most latents (H x W) that are decoded in one piece; beyond, in tiles of `tile` x `tile` latents, which differ
    slightly from the whole (the VAE's group norms see a tile only) but fade into each other.
    """
    mean, std = _statistics(vae)
    latents = latents.to(vae.device, vae.dtype) * std + mean
    if latents.shape[-2] * latents.shape[-1] <= whole:
        return _decode(vae, latents)
    return _decode_tiles(vae, latents, tile)


def _decode(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    pixels: Tensor = vae.decode(latents, return_dict=False)[0]
    return pixels


def _decode_tiles(vae: AutoencoderKL, latents: Tensor, tile: int) -> Tensor:
    pictures, _, rows, columns = latents.shape
    scale = 2 ** (len(vae.config.block_out_channels) - 1)
    height, width = min(tile, rows), min(tile, columns)
    overlap = min(OVERLAP, tile // 2)
    total = torch.zeros(pictures, 3, rows * scale, columns * scale, device=latents.device)
    weight = torch.zeros(rows * scale, columns * scale, device=latents.device)
    # A ramp at every edge; where no neighbour fades in, dividing by the summed weight undoes it.
    ramps = [_ramp(side * scale, overlap * scale, latents.device) for side in (height, width)]
    mask = ramps[0][:, None] * ramps[1]
    for top in _starts(rows, height, overlap):
        for left in _starts(columns, width, overlap):
            pixels = _decode(vae, latents[..., top : top + height, left : left + width]).float()
            down = slice(top * scale, (top + height) * scale)
            across = slice(left * scale, (left + width) * scale)
            total[..., down, across] += pixels * mask
            weight[down, across] += mask
    return total / weight


def _starts(length: int, tile: int, overlap: int) -> Iterator[int]:
    """First index of each of the evenly spread tiles that cover `length` and share at least `overlap`."""
    count = 1 if length <= tile else -(-(length - overlap) // (tile - overlap))
    for index in range(count):
        yield round(index * (length - tile) / max(count - 1, 1))


def _ramp(length: int, fade: int, device: torch.device) -> Tensor:
    """Rises from above 0 to 1 over `fade`, stays, falls the same way."""
    rise = (torch.arange(length, device=device) + 1.0) / (fade + 1)
    return torch.minimum(rise, rise.flip(0)).clamp(max=1)


def _statistics(vae: AutoencoderKL) -> tuple[Tensor, Tensor]:
    """latents_mean and latents_std, [1, C, 1, 1] in the VAE's dtype."""
    values = vae.config.latents_mean, vae.config.latents_std
    if any(value is None or len(value) != vae.config.latent_channels for value in values):
        raise CheckpointError(
            "The checkpoint's vae/config.json needs latents_mean and latents_std of"
            f" {vae.config.latent_channels} numbers each; add them or get the checkpoint again."
        )
    mean, std = (torch.tensor(value, device=vae.device, dtype=vae.dtype).view(1, -1, 1, 1) for value in values)
    return mean, std
