"""Scenes encoded once: latents and codes, in shards that the prior's and the decoder's stages read.

A shard is a safetensors file of `SHARD` consecutive scenes of the "train" split; the scenes themselves are drawn
again from their index. Written atomically, so that a run that was cut off goes on with the next missing shard.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers.models.glm_image.modeling_glm_image import GlmImageVisionModel, GlmImageVQVAE

from glmimage.errors import TrainingError
from glmimage.train.art import Art
from glmimage.train.loop import scene_rng
from glmimage.train.tokenizer import encode, halve, to_pixels
from glmimage.train.world import Scene, render, sample_scene

SHARD = 1024
_CHUNK = 32
Encode = Callable[[list[np.ndarray]], dict[str, Tensor]]


@torch.no_grad()
def latents_of(vae: AutoencoderKL, pictures: list[np.ndarray]) -> dict[str, Tensor]:
    """`latents` [B, 16, 32, 32] bfloat16, not normalised."""
    with torch.autocast("cpu", torch.bfloat16):
        return {"latents": vae.encode(to_pixels(pictures)).latent_dist.mean.bfloat16()}


@torch.no_grad()
def codes_of(visual: GlmImageVisionModel, vqvae: GlmImageVQVAE, pictures: list[np.ndarray]) -> dict[str, Tensor]:
    """`codes` [B, 8, 8], int16."""
    with torch.autocast("cpu", torch.bfloat16):
        codes = encode(visual, vqvae, to_pixels([halve(picture) for picture in pictures]))
    return {"codes": codes.to(torch.int16)}


def write_shards(kind: str, encode: Encode, work: Path, art: Art, shards: range) -> None:
    """Encodes the shards of a kind ("latents" or "codes") that are not there yet."""
    for number in shards:
        path = work / f"{kind}-{number:04d}.safetensors"
        if path.exists():
            continue
        parts: list[dict[str, Tensor]] = []
        for start in range(number * SHARD, (number + 1) * SHARD, _CHUNK):
            scenes = [sample_scene(scene_rng("train", index)) for index in range(start, start + _CHUNK)]
            parts.append(encode([render(scene, art) for scene in scenes]))
        partial = path.with_suffix(".partial")
        save_file({key: torch.cat([part[key] for part in parts]).contiguous() for key in parts[0]}, partial)
        partial.replace(path)
        print(f"encoded {path.name}", flush=True)


def _shards(work: Path, kind: str) -> dict[int, Path]:
    return {int(path.stem.split("-")[1]): path for path in sorted(work.glob(f"{kind}-*.safetensors"))}


class EncodedScenes:
    """All shards of a work folder, in memory."""

    def __init__(self, work: Path, *, latents: bool) -> None:
        codes = _shards(work, "codes")
        found = _shards(work, "latents") if latents else {}
        numbers = [number for number in codes if not latents or number in found]
        if not numbers:
            raise TrainingError(
                f"There are no encoded scenes in {work}; run the stages vae, tokenizer and scenes first."
            )
        shards = [load_file(codes[number]) for number in numbers]
        self.indices = [number * SHARD + offset for number in numbers for offset in range(SHARD)]
        self.codes = torch.cat([shard["codes"] for shard in shards]).long()
        latent = [load_file(found[number])["latents"] for number in numbers] if latents else []
        self.latents = torch.cat(latent) if latents else torch.empty(0)

    def __len__(self) -> int:
        return len(self.indices)

    def scene(self, row: int) -> Scene:
        return sample_scene(scene_rng("train", self.indices[row]))
