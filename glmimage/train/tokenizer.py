"""Stage 2: the semantic tokenizer (`GlmImageVisionModel` + `GlmImageVQVAE`), trained for meaning, then frozen.

From each single quantised code, small heads tell what stands in the cell: thing, style, which part of the sticker,
letter, colour of lettering, ground; a last head redraws the cell. So a code carries what the prior and the decoder
need (X-Omni's semantic codes, in small). Pictures are seen halved, as upstream's image processor gives them: 8 x 8
codes.

In the end the many codes of plain ground become one a colour: which of its near-twins a cell of ground gets tells
nothing, but the prior would have to guess it in every cell.

Departures from upstream's `GlmImageVQVAEVectorQuantizer`, in training only: the codebook follows a moving average of
what is assigned to it (its loss trains the encoder alone), starts from k-means, and codes that fall out of use are
re-seeded.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers.models.glm_image.modeling_glm_image import GlmImageVisionModel, GlmImageVQVAE

from glmimage.errors import TrainingError
from glmimage.train.art import Art
from glmimage.train.layout import ALL_CLASSES
from glmimage.train.loop import Metrics, Run, Schedule, mixed_precision, scene_rng
from glmimage.train.world import GROUNDS, LABELS, SMALL, World, labels, render, sample_scene

WEIGHTS = {"thing": 1.5, "style": 1.2, "part": 0.7, "letter": 3.0, "ink": 0.5, "ground": 0.15, "redrawn": 0.5}
DIRECT = 0.5
"""Weight of the same heads on the features before they are squeezed into a code: the tower learns sooner what to look
at."""
EMPTY_CELL = 0.1
"""Weight of a cell with nothing but ground."""
QUANTIZE_FROM = 250
STARTED_FROM, CELLS = 40, 1500
"""Batches that the codebook starts from, and cells of each at most."""
REVIVE_EVERY = 60


def patches(pixels: Tensor, side: int) -> Tensor:
    """Cuts pictures [B, 3, H, W] into [B, N, 3*side*side], in upstream's order: channel, row, column."""
    return F.unfold(pixels, side, stride=side).transpose(1, 2)


def features(visual: GlmImageVisionModel, pixels: Tensor) -> Tensor:
    """The vision tower's forward for a batch of equally large pictures: [B, 3, H, W] in -1..1 -> [B, h, w, D].

    Upstream packs pictures and attends to them one at a time; here they are one batch. Equal in result.
    """
    projection = visual.patch_embed.proj
    side = projection.kernel_size[0]
    height, width = pixels.shape[-2] // side, pixels.shape[-1] // side
    hidden = F.linear(patches(pixels, side), projection.weight.flatten(1), projection.bias)
    table = visual.embeddings.position_embedding.weight
    grid = round(table.shape[0] ** 0.5)
    table_CHW = table.view(grid, grid, -1).permute(2, 0, 1)[None]
    if (height, width) != (grid, grid):
        table_CHW = F.interpolate(table_CHW.float(), size=(height, width), mode="bilinear", align_corners=False)
    hidden = hidden + table_CHW.flatten(2).transpose(1, 2)
    batch, count, dim = hidden.shape
    for block in visual.blocks:
        attention = block.attn
        qkv = attention.qkv(block.norm1(hidden)).view(batch, count, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)
        # The fused CPU kernel's backward pass is slower than plain matrix products on few tokens.
        with sdpa_kernel(SDPBackend.MATH if count <= 128 else SDPBackend.FLASH_ATTENTION):
            mixed = F.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2])
        hidden = hidden + attention.proj(mixed.transpose(1, 2).reshape(batch, count, dim))
        hidden = hidden + block.mlp(block.norm2(hidden))
    shaped: Tensor = hidden.view(batch, height, width, dim)
    return shaped


def code_vectors(vqvae: GlmImageVQVAE, hidden: Tensor) -> Tensor:
    """Unit vectors before quantisation: [B, h, w, D] -> [B, h, w, code_dim]."""
    convolution = vqvae.quant_conv
    return F.normalize(F.linear(hidden, convolution.weight.flatten(1), convolution.bias).float(), dim=-1)


def nearest(vqvae: GlmImageVQVAE, vectors: Tensor) -> Tensor:
    """The code of each unit vector; the largest cosine is the smallest distance on the sphere."""
    codebook = F.normalize(vqvae.quantize.embedding.weight.float(), dim=-1)
    return (vectors.flatten(0, -2) @ codebook.T).argmax(-1).view(vectors.shape[:-1])


def encode(visual: GlmImageVisionModel, vqvae: GlmImageVQVAE, pixels: Tensor) -> Tensor:
    """Codes of pictures that are already at the tower's scale: [B, 3, H, W] in -1..1 -> [B, H/16, W/16], int64."""
    return nearest(vqvae, code_vectors(vqvae, features(visual, pixels)))


def halve(picture: np.ndarray) -> np.ndarray:
    """Half the size, as upstream's image processor does it (bicubic, Pillow)."""
    image = Image.fromarray(picture)
    return np.asarray(image.resize((image.width // 2, image.height // 2), Image.Resampling.BICUBIC))


def to_pixels(pictures: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


class Reader(nn.Module):
    """What a single vector tells: heads over one cell."""

    def __init__(self, dim: int, patch: int, width: int = 256) -> None:
        super().__init__()
        # Normalised to numbers of about 1: a unit vector of 32 would leave the heads almost without a signal at first.
        self.trunk = nn.Sequential(nn.LayerNorm(dim, elementwise_affine=False), nn.Linear(dim, width), nn.GELU())
        self.heads = nn.ModuleDict({name: nn.Linear(width, ALL_CLASSES[name]) for name in LABELS})
        self.redrawn = nn.Linear(width, 3 * patch * patch)

    def forward(self, vectors: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        hidden = self.trunk(vectors)
        return {name: head(hidden) for name, head in self.heads.items()}, self.redrawn(hidden)


class Codebook(nn.Module):
    """Moving averages behind the codebook."""

    def __init__(self, codes: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("counts", torch.zeros(codes))
        self.register_buffer("sums", torch.zeros(codes, dim))
        self.register_buffer("used", torch.zeros(codes))
        self.register_buffer("finished", torch.tensor(False))
        self.counts: Tensor
        self.sums: Tensor
        self.used: Tensor
        self.finished: Tensor
        """Whether the codes stay as they are: what is encoded with others is worth nothing."""

    @torch.no_grad()
    def start(self, weight: Tensor, vectors: Tensor, generator: torch.Generator, rounds: int = 8) -> None:
        """k-means on the sphere, from a random choice of `vectors`."""
        chosen = torch.randperm(len(vectors), generator=generator)[: len(weight)]
        weight.copy_(vectors[chosen.repeat(-(-len(weight) // len(chosen)))[: len(weight)]])
        for _ in range(rounds):
            nearest_code = torch.cat([(part @ weight.T).argmax(-1) for part in vectors.split(8192)])
            sums = torch.zeros_like(weight).index_add_(0, nearest_code, vectors)
            full = sums.norm(dim=-1) > 0
            weight[full] = F.normalize(sums[full], dim=-1)
        self.counts.copy_(torch.bincount(nearest_code, minlength=len(weight)).float().clamp(min=0.5))
        self.sums.copy_(weight * self.counts[:, None])

    @torch.no_grad()
    def follow(self, weight: Tensor, vectors: Tensor, codes: Tensor, decay: float = 0.99) -> None:
        counts = torch.bincount(codes, minlength=len(weight)).float()
        sums = torch.zeros_like(weight).index_add_(0, codes, vectors)
        self.used += counts
        self.counts.lerp_(counts, 1 - decay)
        self.sums.lerp_(sums, 1 - decay)
        moved = counts > 0
        weight[moved] = F.normalize(self.sums[moved], dim=-1)

    @torch.no_grad()
    def revive(self, weight: Tensor, vectors: Tensor, weights: Tensor, generator: torch.Generator) -> int:
        """Moves the codes that nothing was assigned to onto cells of the last batch, ground cells seldom."""
        dead = (self.used == 0).nonzero().flatten()
        self.used.zero_()
        dead = dead[: len(vectors) // 4]
        if len(dead):
            chosen = torch.multinomial(weights, len(dead), generator=generator)
            weight[dead] = vectors[chosen]
            self.counts[dead], self.sums[dead] = 0.5, 0.5 * vectors[chosen]
        return len(dead)


def batch_of(split: str, start: int, count: int, art: Art, world: World = SMALL) -> tuple[Tensor, Tensor]:
    """Pictures at the tower's scale and labels [count, len(LABELS), 8, 8] of scenes `start`..."""
    scenes = [sample_scene(scene_rng(split, index), world=world) for index in range(start, start + count)]
    pictures = [halve(render(scene, art)) for scene in scenes]
    return to_pixels(pictures), torch.from_numpy(np.stack([labels(scene) for scene in scenes]))


def cell_weights(grid: Tensor) -> Tensor:
    """1 where a sticker or a letter stands, little where there is only ground: [B, L, h, w] -> [B*h*w]."""
    return torch.where((grid[:, 0] > 0) | (grid[:, 3] > 0), 1.0, EMPTY_CELL).flatten()


@torch.no_grad()
def _seen(
    visual: GlmImageVisionModel,
    vqvae: GlmImageVQVAE,
    art: Art,
    world: World,
    batch: int,
    generator: torch.Generator,
) -> Tensor:
    """Vectors of cells of the first batches, few of them plain ground, for the codebook to start from: [cells, dim]."""
    found = []
    for start in range(0, STARTED_FROM * batch, batch):
        pixels, grid = batch_of("train", start, batch, art, world)
        with mixed_precision():
            vectors = code_vectors(vqvae, features(visual, pixels)).flatten(0, -2)
        found.append(vectors[torch.multinomial(cell_weights(grid), min(CELLS, len(vectors)), generator=generator)])
    return torch.cat(found)


def train_tokenizer(
    visual: GlmImageVisionModel,
    vqvae: GlmImageVQVAE,
    work: Path,
    art: Art,
    schedule: Schedule,
    world: World = SMALL,
    objectives: Mapping[str, float] = WEIGHTS,
) -> Run:
    """`world`: of square pictures; `objectives`: weight of what a code is to tell, nothing for what is not named."""
    visual.train()
    dim = vqvae.config.embed_dim
    vqvae.quantize.embedding.weight.requires_grad_(False)
    codebook = Codebook(vqvae.config.num_embeddings, dim)
    reader = Reader(dim, visual.config.patch_size)
    direct = Reader(visual.config.hidden_size, visual.config.patch_size)
    modules = {"visual": visual, "vqvae": vqvae, "reader": reader, "direct": direct, "codebook": codebook}
    run = Run("tokenizer", work, modules, schedule)
    if run.processes.num_processes > 1:
        raise TrainingError("The tokenizer's codebook follows the batches of one process; start this stage as one.")
    run.resume()
    weight = vqvae.quantize.embedding.weight.data

    def loss_of(step: int, done: float) -> tuple[Tensor, Metrics]:
        generator = torch.Generator().manual_seed(step)
        pixels, grid = batch_of("train", step * schedule.batch, schedule.batch, art, world)
        run.batch = {"pixels": pixels, "labels": grid}
        weights = cell_weights(grid)
        with mixed_precision():
            hidden = features(visual, pixels)
        vectors = code_vectors(vqvae, hidden).flatten(0, -2)
        metrics: dict[str, float] = {}
        if step < QUANTIZE_FROM:
            told, commitment = vectors, vectors.new_zeros(())
        else:
            if not codebook.counts.any():
                codebook.start(weight, _seen(visual, vqvae, art, world, schedule.batch, generator), generator)
            codes = nearest(vqvae, vectors.detach())
            quantized = weight[codes]
            commitment = ((quantized - vectors) ** 2).sum(-1).mean()
            told = vectors + (quantized - vectors).detach()
            codebook.follow(weight, vectors.detach(), codes)
            if step % REVIVE_EVERY == 0 and done < 0.8:
                metrics["revived"] = codebook.revive(weight, vectors.detach(), weights, generator) * 1.0
            metrics["commitment"] = commitment.item()
        with mixed_precision():
            said, redrawn = reader(told)
            said_directly, redrawn_directly = direct(hidden.flatten(0, -2))
        target = patches(pixels, visual.config.patch_size).flatten(0, 1)
        losses, hits = reading_losses(said, redrawn, grid, target, weights)
        losses_directly, _ = reading_losses(said_directly, redrawn_directly, grid, target, weights)
        loss = sum((share * losses[name] for name, share in objectives.items()), 0.25 * commitment)
        loss = loss + DIRECT * sum(share * losses_directly[name] for name, share in objectives.items())
        metrics |= {**hits, "redrawn": losses["redrawn"].item()}
        return loss, metrics

    if run.step < schedule.steps:
        codebook.finished.fill_(False)
    run.train(loss_of, log_every=60)
    visual.eval()
    if not codebook.finished:
        if "ground" in objectives:
            print("codes of plain ground merged:", merge_grounds(visual, vqvae, art, world), flush=True)
        codebook.finished.fill_(True)
        run.save()
    vqvae.quantize.embedding.weight.requires_grad_(True)
    return run


PURE = 0.9
"""Share of a code's cells that have to be plain ground of one colour, for it to be a code of that ground."""


@torch.no_grad()
def merge_grounds(
    visual: GlmImageVisionModel, vqvae: GlmImageVQVAE, art: Art, world: World = SMALL, count: int = 1536
) -> int:
    """Makes one code of all that stand for plain ground of one colour; returns how many codes that frees.

    The freed vectors are turned away from everything, so that no cell is nearest to them.
    """
    weight = vqvae.quantize.embedding.weight
    empty = torch.zeros(len(weight), ALL_CLASSES["ground"])
    seen, sums = torch.zeros(len(weight)), torch.zeros_like(weight)
    for start in range(0, count, 128):
        pixels, grid = batch_of("train", start, 128, art, world)
        vectors = code_vectors(vqvae, features(visual, pixels)).flatten(0, -2)
        codes = nearest(vqvae, vectors)
        plain = ((grid[:, 0] == 0) & (grid[:, 3] == 0)).flatten()
        empty.index_put_((codes[plain], grid[:, 5].flatten()[plain]), torch.ones(int(plain.sum())), accumulate=True)
        seen += torch.bincount(codes, minlength=len(weight))
        sums.index_add_(0, codes[plain], vectors[plain])
    pure = empty.amax(1) > PURE * seen.clamp(min=1)
    merged = torch.arange(len(weight))
    # The plain ones come first; a landscape's cells are of as many kinds as it has tiles.
    for ground in range(len(GROUNDS)):
        twins = (pure & (empty.argmax(1) == ground)).nonzero().flatten()
        if len(twins):
            kept = twins[empty[twins, ground].argmax()]
            merged[twins] = kept
            weight[kept] = F.normalize(sums[twins].sum(0), dim=-1)
    freed = merged != torch.arange(len(weight))
    weight[freed] = F.normalize(-weight[~freed].mean(0), dim=-1)
    return int(freed.sum())


def reading_losses(
    said: dict[str, Tensor], redrawn: Tensor, grid: Tensor, target: Tensor, weights: Tensor
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Weighted losses of each head, and how often it is right where there is something to tell."""
    losses = {"redrawn": (((redrawn.float() - target) ** 2).mean(-1) * weights).sum() / weights.sum()}
    hits: dict[str, float] = {}
    for index, name in enumerate(LABELS):
        wanted = grid[:, index].flatten()
        logits = said[name].float()
        losses[name] = (F.cross_entropy(logits, wanted, reduction="none") * weights).sum() / weights.sum()
        there = (grid[:, 0].flatten() == 0) & (grid[:, 3].flatten() == 0) if name == "ground" else wanted > 0
        if there.any():
            hits[name] = (logits.argmax(-1) == wanted)[there].float().mean().item()
    return losses, hits
