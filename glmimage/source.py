"""What a picture keeps of the one it is made from: all outside a mask, what its layout left alone, and how far its
painting starts from it.

Outside the mask the codes are the source's own, the latents follow the source's (noised to each step's sigma), and at
last its own pixels are put back, with a seam in which one fades into the other: beyond the seam they are equal to the
bit. Where a code tells all that its cell shows, cells that the layout left alone are treated the same without a mask. A
share of the early steps can be left out by starting at their end from the source's own latents, as in image to
image (Meng et al. 2022, SDEdit). Knows no prompt and no layers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from glmimage import flow
from glmimage.errors import PictureError
from glmimage.geometry import LATENT, PRIOR_CELL
from glmimage.models import Stack
from glmimage.pictures import read_file, read_picture
from glmimage.references import PreparedReference, fit
from glmimage.request import Request

SEAM = 8
"""Pixels outside the mask in which the new picture fades into the source."""
_SHAPE = 0.02
"""Most relative difference of a mask's shape from its picture's."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Source:
    """The picture that is changed, as the prior, the decoder and the finished picture follow it."""

    reference: PreparedReference
    picture: Image.Image
    """RGB, of the reference's size."""
    share: Tensor
    """[H, W] float32 on the CPU: how much of each pixel is the new picture's, 0..1; 1 everywhere without a mask."""
    content: float
    """Share of the early steps that is left out."""

    def known_codes(self) -> list[int]:
        """The prior's codes row by row, -1 where one is to be drawn: those of cells that the new picture leaves alone
        are the source's."""
        free = _any(self.share, PRIOR_CELL)
        return torch.where(free, -1, self.reference.codes.cpu()).flatten().tolist()

    def keeping(self, codes: NDArray[np.int64]) -> Source:
        """This source, which also stays wherever a layout [H/32, W/32] of its size has the source's own codes.

        Not in cells that touch a changed one: the code of a thing's edge says little of the ground behind it. Where
        most codes change, a new ground does not end at the picture's sides.
        """
        changed = (torch.from_numpy(codes) != self.reference.codes.cpu()).float()
        beyond = float(changed.mean() > 0.5)
        near = F.max_pool2d(F.pad(changed, (1, 1, 1, 1), value=beyond)[None], 3, stride=1)[0]
        pixels = near.repeat_interleave(PRIOR_CELL, 0).repeat_interleave(PRIOR_CELL, 1)
        return replace(self, share=torch.minimum(self.share, _soften(pixels)))

    def skipped(self, steps: int) -> int:
        """How many of the steps are left out; the last one never."""
        return min(round(self.content * steps), steps - 1)

    def start(self, noise: Tensor, sigma: float) -> Tensor:
        """The latents [B, C, H/8, W/8] that the painting starts from at sigma; at 1 that is the noise."""
        return flow.add_noise(self._latents(noise), noise, sigma)

    def hold(self, latents: Tensor, noise: Tensor, sigma: float) -> Tensor:
        """The latents at sigma with the source's, noised as far, wherever the new picture leaves a latent alone."""
        free = _any(self.share, LATENT).to(latents.device)
        return torch.where(free, latents, flow.add_noise(self._latents(noise), noise, sigma))

    def put_back(self, painted: Image.Image) -> Image.Image:
        """The painted picture with the source's pixels outside the mask."""
        share = self.share.numpy()[..., None]
        old, new = (np.asarray(picture, dtype=np.float32) for picture in (self.picture, painted))
        mixed = (old + (new - old) * share).round().astype(np.uint8)
        return Image.fromarray(np.where(share > 0, mixed, np.asarray(self.picture)))

    def _latents(self, like: Tensor) -> Tensor:
        return self.reference.latents.to(like.device, torch.float32)


def read_source(stack: Stack, request: Request, reference: PreparedReference) -> Source:
    """The first reference of a request that has a mask or keeps content. Raises PictureError."""
    path = request.references[0].path
    upright = read_picture(read_file(Path(path)), path)
    picture = fit(upright, stack, path)
    share = torch.ones(picture.height, picture.width)
    if request.mask is not None:
        share = _soften(read_mask(request.mask, upright.size, picture.size))
    return Source(reference=reference, picture=picture, share=share, content=request.content)


def read_mask(path: str, shape: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """[H, W] float32, 1 where the picture may change (light and opaque) and 0 elsewhere, at `size` (width, height).

    Raises PictureError for what is no picture, has another shape than the picture of `shape` pixels, or marks nothing.
    """
    mask = read_picture(read_file(Path(path)), path, ground="black").convert("L")
    if abs(mask.width * shape[1] / (mask.height * shape[0]) - 1) > _SHAPE:
        raise PictureError(
            f"The mask has {mask.width}x{mask.height} pixels, another shape than its picture of {shape[0]}x{shape[1]};"
            " draw it on that picture."
        )
    light = torch.from_numpy(np.asarray(mask.resize(size, Image.Resampling.BILINEAR)) >= 128).float()
    if not light.any():
        raise PictureError("The mask marks nothing; paint white over what may change.")
    return light


def _soften(mask: Tensor) -> Tensor:
    """1 inside the mask [H, W], falling to 0 within SEAM pixels around it; exactly 0 beyond."""
    wide = F.max_pool2d(mask[None, None], SEAM + 1, stride=1, padding=SEAM // 2)
    return F.avg_pool2d(wide, SEAM + 1, stride=1, padding=SEAM // 2, count_include_pad=False)[0, 0]


def _any(share: Tensor, side: int) -> Tensor:
    """[H / side, W / side] bool: whether anything of a square is the new picture's."""
    return F.max_pool2d(share[None, None], side)[0, 0] > 0
