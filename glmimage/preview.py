"""Rough pictures of unfinished work: codes as coloured cells, latents as colours. No decoding, so they cost nothing.

Both need colours that belong to the checkpoint, fitted once and kept in memory:
- latents to RGB: least squares between the latents and the colours of small pictures of coloured shapes on plain
  grounds, which the VAE encodes;
- code to RGB: the decoder is shown a small grid of nothing but one code at full noise, and the mean of what it would
  paint is that code's colour. (Grids of mixed random codes come out muddy: nothing in them is like a picture.) A few
  hundred codes are tried; ridge regression on the decoder's code embedding gives the colours of all, and keeps the
  noise of single trials small.
Knows nothing of prompts or of the prior.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from glmimage import flow, latents
from glmimage.decoder import Conditions, Layers, Painter
from glmimage.geometry import LATENT, Grid
from glmimage.glyphs import encode_glyphs

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

    from glmimage.models import Stack
    from glmimage.residency import Residency

LONGEST = 512
"""Longest side of a preview in pixels."""
NEUTRAL = (200, 200, 200)
"""Cells that are not drawn yet."""

_TRIALS = 256
_TRIALS_AT_ONCE = 64
_TRIAL_CELLS = 2
"""Side of a trial's grid; 64 px, so that all trials together cost a decoder as little as a few steps."""
_RIDGE = 0.01
"""Share of the mean variance of the embedding that is added to its diagonal."""


@dataclass(frozen=True, slots=True, eq=False)
class Palette:
    """The colours of one checkpoint."""

    codes: NDArray[np.uint8]
    """[K, 3]: the colour of each code."""
    latents: Tensor
    """[C + 1, 3] float32 on the CPU: colours in -1..1 = latents @ this[:-1] + this[-1]."""


def palette(stack: Stack, residency: Residency) -> Palette:
    """The stack's colours, fitted at the first call, outside of any stage; deterministic."""
    kept = stack.kept.get("palette")
    if not isinstance(kept, Palette):
        with residency.stage("glyphs"):
            empty_glyphs = encode_glyphs(stack, ())
        with residency.stage("decoding"):
            matrix = _fit_latents(stack.vae)
        with residency.stage("painting"):
            codes = _fit_codes(stack, residency, empty_glyphs, matrix)
        kept = stack.kept["palette"] = Palette(codes, matrix)
    return kept


def codes_to_picture(
    colours: Palette, codes: Sequence[int], grid: Grid, under: Image.Image | None = None
) -> Image.Image:
    """The codes drawn so far, row by row, as coloured cells of a grid (rows, columns).

    The rest is neutral, or shows `under` (an earlier, finished sketch) faded.
    """
    rows, columns = grid
    cells = np.empty((rows * columns, 3), dtype=np.uint8)
    cells[:] = NEUTRAL
    drawn = len(codes)
    cells[:drawn] = colours.codes[np.asarray(codes, dtype=np.int64)]
    size = _fit_size(columns, rows)
    picture = Image.fromarray(cells.reshape(rows, columns, 3)).resize(size, Image.Resampling.NEAREST)
    if under is None or drawn == rows * columns:
        return picture
    faded = Image.blend(under.resize(size, Image.Resampling.NEAREST), Image.new("RGB", size, NEUTRAL), 0.5)
    mask = (np.arange(rows * columns) < drawn).reshape(rows, columns)
    return Image.composite(picture, faded, Image.fromarray(mask).convert("L").resize(size, Image.Resampling.NEAREST))


def latents_to_picture(colours: Palette, normalised: Tensor) -> Image.Image:
    """A small RGB picture of normalised latents [C, H, W] or [1, C, H, W]; best of the predicted clean ones."""
    normalised = normalised[0] if normalised.dim() == 4 else normalised
    mixed = _mix(colours.latents, normalised.float().cpu().permute(1, 2, 0))
    rows, columns = mixed.shape[:2]
    return latents.to_picture(mixed.permute(2, 0, 1)).resize(_fit_size(columns, rows), Image.Resampling.BICUBIC)


def _mix(matrix: Tensor, values: Tensor) -> Tensor:
    """Colours [..., 3] in -1..1 of latents [..., C]."""
    return values @ matrix[:-1] + matrix[-1]


def _fit_size(columns: int, rows: int) -> tuple[int, int]:
    """(width, height) of whole cells with the longer side near LONGEST."""
    cell = max(1, LONGEST // max(columns, rows))
    return columns * cell, rows * cell


def _fit_latents(vae: AutoencoderKL) -> Tensor:
    pixels = _shapes(torch.Generator().manual_seed(0))
    encoded = latents.encode(vae, pixels).float().cpu().movedim(1, -1).flatten(0, -2)
    wanted = F.avg_pool2d(pixels, LATENT).movedim(1, -1).flatten(0, -2)
    return _ridge(encoded, wanted, 1e-3)


def _shapes(generator: torch.Generator) -> Tensor:
    """[B, 3, 128, 128] in -1..1: boxes and discs of any colour on plain grounds, as sharp as drawn pictures are."""
    side = 128
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    pictures = (torch.rand(24, 3, 1, 1, generator=generator) * 2 - 1).repeat(1, 1, side, side)
    for picture in pictures:
        for number in range(6):
            down, across, height, width = torch.rand(4, generator=generator).tolist()
            y, x = (rows - down * side).abs() / (8 + 40 * height), (columns - across * side).abs() / (8 + 40 * width)
            inside = torch.maximum(x, y) < 1 if number % 2 else x**2 + y**2 < 1
            picture[:, inside] = torch.rand(3, 1, generator=generator) * 2 - 1
    return pictures


def _fit_codes(stack: Stack, layers: Layers, empty_glyphs: Tensor, matrix: Tensor) -> NDArray[np.uint8]:
    decoder = stack.decoder
    generator = torch.Generator().manual_seed(0)
    embedding = decoder.prior_token_embedding.weight.detach().float().cpu()
    count, side = embedding.shape[0], _TRIAL_CELLS
    tried = torch.randperm(count, generator=generator)[:_TRIALS]
    timesteps, sigmas = flow.schedule(1, 4 * side * side, stack.scheduler_config)
    seen = []
    with torch.no_grad():
        for codes in tried.split(_TRIALS_AT_ONCE):
            grids = codes.view(-1, 1, 1).expand(-1, side, side)
            conditions = Conditions(codes=grids, glyphs=empty_glyphs, empty_glyphs=empty_glyphs, guidance=1.0)
            noise = torch.randn(len(codes), decoder.config.in_channels, 4 * side, 4 * side, generator=generator)
            noise = noise.to(decoder.device)
            velocity = Painter(decoder, conditions, timesteps, layers=layers).velocity(noise, 0)
            clean = flow.clean_estimate(noise, velocity, float(sigmas[0])).cpu()
            seen.append(_mix(matrix, clean.mean((2, 3))))
    colours = _mix(_ridge(embedding[tried], torch.cat(seen), _RIDGE), embedding)
    scaled = (colours / 2 + 0.5).nan_to_num(0.5).clamp(0, 1)
    return (scaled * 255).round().to(torch.uint8).numpy()


def _ridge(inputs: Tensor, wanted: Tensor, strength: float) -> Tensor:
    """[in + 1, out]: least squares with a penalty relative to the inputs' variance; the last row is the offset."""
    mean_in, mean_out = inputs.mean(0), wanted.mean(0)
    centred = (inputs - mean_in).double()
    gram = centred.T @ centred
    penalty = strength * gram.diagonal().mean() + 1e-9
    gram.diagonal().add_(penalty)
    weights = torch.linalg.solve(gram, centred.T @ (wanted - mean_out).double()).float()
    return torch.cat([weights, (mean_out - mean_in @ weights)[None]])
