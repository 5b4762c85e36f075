"""Stage 1: the VAE (`AutoencoderKL`, 8x, 16 channels), on crops of sticker posters.

Loss: absolute error, absolute error of the gradients (edges matter for lettering), a little KL. The latents handed to
the decoder's stage are normalised by their measured mean and spread, which become the config's `latents_mean`,
`latents_std`.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor

from glmimage.train.art import Art
from glmimage.train.loop import Metrics, Run, Schedule, mixed_precision, scene_rng
from glmimage.train.world import SIDE, SMALL, World, render, sample_scene

CROP = 128
AFTER_VAE = 10_000
"""The first step whose pictures the decoder half alone learns from."""
KL = 3e-4
LATENT_NOISE = 0.1
"""Spread of noise on the latents in training: a decoder that shrugs at it shrugs at a diffusion model's small errors
too."""


def pictures(split: str, start: int, count: int, art: Art, world: World = SMALL) -> Tensor:
    """`count` pictures of a world of squares from scene `start` on: [count, 3, 256, 256], float32 in -1..1."""
    stack = np.stack([render(sample_scene(scene_rng(split, start + i), world=world), art) for i in range(count)])
    return torch.from_numpy(stack).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def reconstruction_loss(made: Tensor, wanted: Tensor) -> Tensor:
    """Absolute error of pixels and of both differences between neighbours."""
    error = made - wanted
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    return error.abs().mean() + edges


@torch.no_grad()
def start_linear(vae: AutoencoderKL) -> None:
    """Starts as a linear autoencoder of 8 x 8 means: residual branches silent, all else orthogonal.

    Upstream's random start shrinks colours below the biases on their way through thirty normalised layers; training
    then stays at the error of one gray for a thousand steps.
    """
    for name, module in vae.named_modules():
        if isinstance(module, ResnetBlock2D):
            _silence(module.conv2)
            if module.conv_shortcut is not None:
                _centre(module.conv_shortcut)
        elif isinstance(module, torch.nn.Conv2d) and "upsamplers" in name:
            torch.nn.init.dirac_(module.weight)
            _no_bias(module)
        elif isinstance(module, torch.nn.Conv2d) and "downsamplers" in name:
            _silence(module)
            for tap in ((0, 0), (0, 1), (1, 0), (1, 1)):
                module.weight[:, :, tap[0], tap[1]] = torch.eye(module.out_channels) / 4
    for coder in (vae.encoder, vae.decoder):
        _centre(coder.conv_in)
        _centre(coder.conv_out)
    channels = vae.config.latent_channels
    vae.encoder.conv_out.weight[channels:] = 0
    vae.encoder.conv_out.bias[channels:] = -5.0


def _no_bias(module: torch.nn.Conv2d) -> None:
    if module.bias is not None:
        torch.nn.init.zeros_(module.bias)


def _silence(module: torch.nn.Conv2d) -> None:
    torch.nn.init.zeros_(module.weight)
    _no_bias(module)


def _centre(module: torch.nn.Conv2d) -> None:
    """Orthogonal in the middle of the kernel, nearly nothing around it."""
    middle = module.kernel_size[0] // 2
    module.weight.mul_(0.1)
    module.weight[:, :, middle, middle] = torch.nn.init.orthogonal_(torch.empty(module.weight.shape[:2]))
    _no_bias(module)


def train_vae(
    vae: AutoencoderKL, work: Path, art: Art, schedule: Schedule, world: World = SMALL, *, fresh: bool = True
) -> Run:
    # Contiguous, not channels_last: the backward pass of GroupNorm is 20 times slower there.
    vae.train()
    if fresh:
        start_linear(vae)
    run = Run("vae", work, {"vae": vae}, schedule)
    run.resume()

    def loss_of(step: int, done: float) -> tuple[Tensor, Metrics]:
        generator = torch.Generator().manual_seed(step)
        batch = _crops(step, schedule.batch, art, world, generator)
        run.batch = {"pixels": batch}
        with mixed_precision():
            posterior = vae.encode(batch).latent_dist
            latents = posterior.mean + torch.exp(0.5 * posterior.logvar) * torch.randn(
                posterior.mean.shape, generator=generator
            )
            latents = latents + LATENT_NOISE * torch.randn(latents.shape, generator=generator)
            made = vae.decode(latents).sample
        rebuilt = reconstruction_loss(made.float(), batch)
        kl = 0.5 * (posterior.mean.float() ** 2 + posterior.logvar.float().exp() - 1 - posterior.logvar.float()).mean()
        metrics = {"rebuilt": rebuilt.item(), "kl": kl.item(), "psnr": _psnr(made, batch)}
        return rebuilt + KL * kl, metrics

    run.train(loss_of)
    run.load_average()
    measured = measure_latents(vae, art, world)
    (work / "latents.json").write_text(json.dumps(measured), encoding="utf-8")
    return run


def train_vae_decoder(vae: AutoencoderKL, work: Path, art: Art, schedule: Schedule, world: World = SMALL) -> Run:
    """The decoder half alone, on: the latents stay as they are, so what was trained on them stays right."""
    run = Run("vae_decoder", work, {"vae_decoder": vae.decoder}, schedule)
    run.resume()

    def loss_of(step: int, done: float) -> tuple[Tensor, Metrics]:
        generator = torch.Generator().manual_seed(step)
        batch = _crops(AFTER_VAE + step, schedule.batch, art, world, generator)
        run.batch = {"pixels": batch}
        with mixed_precision():
            with torch.no_grad():
                latents = vae.encode(batch).latent_dist.mean
            made = vae.decode(latents + LATENT_NOISE * torch.randn(latents.shape, generator=generator)).sample
        rebuilt = reconstruction_loss(made.float(), batch)
        return rebuilt, {"psnr": _psnr(made, batch)}

    run.train(loss_of)
    run.load_average()
    return run


def _crops(step: int, count: int, art: Art, world: World, generator: torch.Generator) -> Tensor:
    """[count, 3, CROP, CROP] on the grid of the latents, each of another picture."""
    crops = []
    for picture in pictures("train", step * count, count, art, world):
        top, left = (8 * torch.randint(0, (SIDE - CROP) // 8 + 1, (2,), generator=generator)).tolist()
        crops.append(picture[:, top : top + CROP, left : left + CROP])
    return torch.stack(crops)


def _psnr(made: Tensor, wanted: Tensor) -> float:
    return float(-10 * torch.log10(((made.detach().float().clamp(-1, 1) - wanted) ** 2).mean() / 4))


@torch.no_grad()
def measure_latents(vae: AutoencoderKL, art: Art, world: World = SMALL, count: int = 128) -> dict[str, list[float]]:
    """Mean and spread of each latent channel over whole training pictures, as the VAE's config names them."""
    vae.eval()
    batches = (pictures("train", start, 16, art, world) for start in range(0, count, 16))
    found = torch.cat([vae.encode(batch).latent_dist.mean for batch in batches])
    mean, spread = found.mean((0, 2, 3)), found.std((0, 2, 3))
    return {
        "latents_mean": [round(value, 5) for value in mean.tolist()],
        "latents_std": [round(value, 5) for value in spread.tolist()],
    }
