"""Exercises encoded once: codes and latents of all their pictures, in shards that the prior and the decoder learn from.

A shard is a safetensors file of `SHARD` consecutive exercises of the "train" split of one world; it holds a tensor for
each picture, named "exercise.picture" with the wanted picture first and the references in their order after it. The
exercises themselves are drawn again from their index. Written atomically, so that a run that was cut off goes on with
the next missing shard.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers.models.glm_image.modeling_glm_image import GlmImageVisionModel, GlmImageVQVAE

from glmimage.errors import TrainingError
from glmimage.train.art import Art
from glmimage.train.edits import Sample, sample
from glmimage.train.layout import SQUARE, Scene, render
from glmimage.train.loop import mixed_precision, scene_rng, store
from glmimage.train.tokenizer import encode, halve, to_pixels
from glmimage.train.world import GRAMMARS, World

SHARD = 1024
_CHUNK = 32
CELLS = SQUARE[0] * SQUARE[1]
"""Of the usual picture: what a batch holds is counted in such pictures."""
FEWEST = 8
"""Exercises that must be alike for batches to be made of them."""
Encode = Callable[[list[np.ndarray]], Tensor]


@torch.no_grad()
def latents_of(vae: AutoencoderKL, pictures: list[np.ndarray]) -> Tensor:
    """[B, 16, H/8, W/8] bfloat16, not normalised, of equally large pictures."""
    with mixed_precision():
        latents: Tensor = vae.encode(to_pixels(pictures)).latent_dist.mean.bfloat16()
    return latents


@torch.no_grad()
def codes_of(visual: GlmImageVisionModel, vqvae: GlmImageVQVAE, pictures: list[np.ndarray]) -> Tensor:
    """[B, H/32, W/32], int16, of equally large pictures."""
    with mixed_precision():
        codes = encode(visual, vqvae, to_pixels([halve(picture) for picture in pictures]))
    return codes.to(torch.int16)


def exercise(world: World, index: int, voice: random.Random | None = None) -> Sample:
    """Exercise `index` of a world's training; `voice` words it anew, in any of the world's languages.

    What it shows does not depend on how it is said: encoded exercises are taught in other words and languages.
    """
    language = (voice or random.Random(index)).choice(world.languages)
    return sample(scene_rng("train", index), world, language=language, voice=voice)


def pictures_of(each: Sample) -> tuple[Scene, ...]:
    """The wanted picture, then the references."""
    return each.scene, *each.references


def digest_of(*modules: nn.Module) -> str:
    """Tells weights from others."""
    digest = hashlib.sha256()
    for module in modules:
        for weight in module.state_dict().values():
            digest.update(weight.contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def write_shards(kind: str, encode: Encode, work: Path, art: Art, world: World, shards: range, by: str = "") -> None:
    """Encodes the shards of a kind ("latents" or "codes") that are not there, are of exercises drawn otherwise, or were
    encoded by other weights than those of the digest `by`."""
    for number in shards:
        path = work / f"{kind}-{world.level}-{number:04d}.safetensors"
        if path.exists() and _is_current(path, world, number, by):
            continue
        tensors: dict[str, Tensor] = {}
        for start in range(0, SHARD, _CHUNK):
            by_grid: dict[tuple[int, int], list[tuple[str, Scene]]] = {}
            for offset in range(start, start + _CHUNK):
                for place, scene in enumerate(pictures_of(exercise(world, number * SHARD + offset))):
                    by_grid.setdefault(scene.grid, []).append((f"{offset}.{place}", scene))
            for alike in by_grid.values():
                encoded = encode([render(scene, art) for _, scene in alike])
                # Cloned: a view would keep the whole batch.
                tensors |= {name: part.clone() for (name, _), part in zip(alike, encoded, strict=True)}
        store(tensors, path, {"drawn": _drawn(world, number), "by": by})
        print(f"encoded {path.name}", flush=True)


def _drawn(world: World, number: int) -> str:
    """What tells a world's drawing from that of another version: a digest of the shard's first exercises."""
    first = [pictures_of(exercise(world, number * SHARD + offset)) for offset in range(_CHUNK)]
    return hashlib.sha256(repr(first).encode()).hexdigest()


def _is_current(path: Path, world: World, number: int, by: str = "") -> bool:
    """Whether a shard's codes or latents are of the exercises that the world draws now, and, where both say it, of the
    same weights."""
    about = _about(path)
    said = about.get("by", "")
    return about.get("drawn") == _drawn(world, number) and ("" in (by, said) or by == said)


def _about(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return file.metadata() or {}


def _shards(work: Path, kind: str, world: World) -> dict[int, Path]:
    """Raises TrainingError for one of exercises that are drawn otherwise now, or encoded by other weights than the
    last."""
    found = work.glob(f"{kind}-{world.level}-*.safetensors")
    shards = {int(path.stem.rsplit("-", 1)[1]): path for path in sorted(found)}
    by = next((said for path in reversed(shards.values()) if (said := _about(path).get("by", ""))), "")
    for number, path in shards.items():
        if not _is_current(path, world, number, by):
            raise TrainingError(
                f"{path} was encoded when the world drew other exercises, or by other weights than further shards; run"
                f" the stage exercises again (--level {world.level} --shards {number}:{number + 1}), or delete it."
            )
    return shards


class Exercises:
    """All encoded exercises of some worlds, in memory, and batches of such as are alike.

    `shares`: how much of training each world gets; `worth`: how often one of its exercises comes, compared with others.
    `alike` tells which exercises can be in one batch.
    """

    def __init__(
        self,
        work: Path,
        shares: Mapping[int, float],
        worlds: Mapping[int, World],
        alike: Callable[[Sample], Hashable],
        *,
        latents: bool,
        worth: Callable[[Sample], float] = lambda each: 1.0,
    ) -> None:
        self.samples: list[Sample] = []
        self.codes: list[tuple[Tensor, ...]] = []
        """[h, w] int16 each: wanted picture, references."""
        self.latents: list[tuple[Tensor, ...]] = []
        """[16, H, W] bfloat16 each, not normalised."""
        self._origins: list[tuple[World, int]] = []
        weights: list[float] = []
        for level, share in shares.items():
            before = len(self.samples)
            self._load(work, worlds[level], latents)
            if len(self.samples) == before:
                raise TrainingError(
                    f"There are no encoded exercises of level {level} in {work}; run the stage exercises (--level"
                    f" {level}) first, or ask for other --levels."
                )
            worths = [worth(each) for each in self.samples[before:]]
            weights += [share * each / sum(worths) for each in worths]
        buckets: dict[Hashable, list[int]] = {}
        for row, each in enumerate(self.samples):
            buckets.setdefault(alike(each), []).append(row)
        self._buckets = [rows for rows in buckets.values() if len(rows) >= FEWEST] or list(buckets.values())
        self._weights = [[weights[row] for row in rows] for rows in self._buckets]
        self._chances = [sum(each) for each in self._weights]

    def _load(self, work: Path, world: World, latents: bool) -> None:
        codes = _shards(work, "codes", world)
        found = _shards(work, "latents", world) if latents else codes
        for number in sorted(codes.keys() & found.keys()):
            tensors = load_file(codes[number])
            others = load_file(found[number]) if latents else {}
            for offset in range(SHARD):
                each = exercise(world, number * SHARD + offset)
                names = [f"{offset}.{place}" for place in range(1 + len(each.references))]
                self.samples.append(each)
                self.codes.append(tuple(tensors[name] for name in names))
                if latents:
                    self.latents.append(tuple(others[name] for name in names))
                self._origins.append((world, number * SHARD + offset))

    def __len__(self) -> int:
        return len(self.samples)

    def batch(self, rng: random.Random, size: Callable[[Sample], int], kind: random.Random) -> list[int]:
        """Rows of exercises that are alike, some perhaps twice; `size` tells how many such as one of them.

        `kind` decides which alike: where several processes take a step together, equal in all of them, since each waits
        for the one with the longest sequences.
        """
        bucket = kind.choices(range(len(self._buckets)), self._chances)[0]
        rows = self._buckets[bucket]
        return rng.choices(rows, self._weights[bucket], k=size(self.samples[rows[0]]))

    def prompt(self, row: int, voice: random.Random) -> str:
        """The exercise in new words."""
        each, world = self.samples[row], self._origins[row][0]
        if not each.references:
            return GRAMMARS[voice.choice(world.languages)].caption(each.scene, voice)[0]
        return exercise(*self._origins[row], voice).prompt

    def stacked_codes(self, rows: Sequence[int], place: int = 0) -> Tensor:
        """[B, h, w] int64 of one picture of each row."""
        return torch.stack([self.codes[row][place] for row in rows]).long()

    def stacked_latents(self, rows: Sequence[int], place: int = 0) -> Tensor:
        """[B, 16, H, W] float32, not normalised."""
        return torch.stack([self.latents[row][place] for row in rows]).float()
