"""Stage 5: the decoder (`GlmImageTransformer2DModel`) and its glyph encoder, by flow matching on encoded scenes.

The picture is given by its codes and the glyphs of its word; there is no prompt. Advice that was measured, and
followed:

1. The embedding of a code starts as the mean of the latents that the code stands for (4 x 4 x 16 numbers, as many as
   the decoder is wide), so that the look of each code need not be learned from noise.
2. Lettering codes are hidden from some pictures and stand for wrong letters in others, so that the glyph tokens learn
   to carry the letters (a prior that misspells is then put right); a read-out of the middle block (training only)
   tells each cell's letter and thing.
3. Cells with something in them weigh more than plain ground.
4. Modulations and output start at zero (upstream does not).
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, GlmImageTransformer2DModel
from torch import Tensor, nn
from transformers import T5EncoderModel

from glmimage.flow import add_noise, shift_sigmas, velocity_target
from glmimage.train.loop import Metrics, Run, Schedule
from glmimage.train.scenes import EncodedScenes
from glmimage.train.world import CLASSES, GRID, labels

UNCONDITIONAL = 0.07
"""Share of batches without codes and glyphs, for guidance."""
HIDE_LETTERS = 0.25
"""Share of pictures with a word whose lettering codes are hidden."""
MISSPELL = 0.35
"""Share of pictures with a word whose lettering codes are those of others of its letters."""
READ_OUT = 0.3
GROUND_WEIGHT = 0.3
BYTE_OFFSET, END = 3, 1
"""Of `ByT5Tokenizer`."""


def rotary(decoder: GlmImageTransformer2DModel, latents: Tensor) -> tuple[Tensor, Tensor]:
    """cos, sin [N, head_dim] for latents [B, C, H, W]."""
    tables: tuple[Tensor, Tensor] = decoder.rope(latents)
    return tables


def _turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    left, right = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-right, left], dim=-1) * sin


def _block(block: Any, image: Tensor, glyphs: Tensor, temb: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """Upstream's `GlmImageTransformerBlock.forward` in out-of-place operations (its own writes into queries and keys in
    place, which autograd pays for)."""
    parts = block.norm1.linear(temb)[:, None].chunk(12, dim=-1)
    shift_a, cshift_a, scale_a, cscale_a, gate_a, cgate_a, shift_m, cshift_m, scale_m, cscale_m, gate_m, cgate_m = parts
    attention = block.attn1
    count = glyphs.shape[1]
    width = (image.shape[-1],)
    x = torch.cat(
        [
            F.layer_norm(glyphs, width, eps=1e-5) * (1 + cscale_a) + cshift_a,
            F.layer_norm(image, width, eps=1e-5) * (1 + scale_a) + shift_a,
        ],
        dim=1,
    )
    heads = attention.heads
    query, key, value = (
        layer(x).unflatten(-1, (heads, -1)).transpose(1, 2)
        for layer in (attention.to_q, attention.to_k, attention.to_v)
    )
    query = F.layer_norm(query, query.shape[-1:], eps=1e-5)
    key = F.layer_norm(key, key.shape[-1:], eps=1e-5)
    query = torch.cat([query[:, :, :count], _turn(query[:, :, count:], cos, sin)], dim=2).to(value.dtype)
    key = torch.cat([key[:, :, :count], _turn(key[:, :, count:], cos, sin)], dim=2).to(value.dtype)
    mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
    mixed = attention.to_out[0](mixed)
    image = image + mixed[:, count:] * gate_a
    glyphs = glyphs + mixed[:, :count] * cgate_a
    image = image + block.ff(F.layer_norm(image, width, eps=1e-5) * (1 + scale_m) + shift_m) * gate_m
    glyphs = glyphs + block.ff(F.layer_norm(glyphs, width, eps=1e-5) * (1 + cscale_m) + cshift_m) * cgate_m
    return image, glyphs


def velocity(
    decoder: GlmImageTransformer2DModel,
    latents: Tensor,
    codes: Tensor,
    shown: Tensor,
    glyphs: Tensor,
    timesteps: Tensor,
    block: Any = _block,
) -> tuple[Tensor, Tensor]:
    """Upstream's forward for training: (velocity [B, C, H, W], hidden state after the middle block [B, N, D]).

    `codes` [B, H/4, W/4]; `shown` of the same shape, 0 where a code is hidden, 1 elsewhere; `timesteps` [B], as
    conditioned.
    """
    batch, channels, height, width = latents.shape
    cos, sin = rotary(decoder, latents)
    embedded = decoder.prior_token_embedding(codes) * shown[..., None]
    embedded = embedded.repeat_interleave(2, 1).repeat_interleave(2, 2).flatten(1, 2)
    image = decoder.image_projector(latents) + decoder.prior_projector(embedded)
    size = torch.tensor([[height * 8.0, width * 8.0]]).expand(batch, -1)
    temb = decoder.time_condition_embed(timesteps, size, torch.zeros_like(size), image.dtype)
    text = decoder.glyph_projector(glyphs)
    middle = image
    for index, layer in enumerate(decoder.transformer_blocks):
        image, text = block(layer, image, text, temb, cos, sin)
        if index == len(decoder.transformer_blocks) // 2:
            middle = image
    out = decoder.proj_out(decoder.norm_out(image, temb))
    out = out.view(batch, height // 2, width // 2, channels, 2, 2).permute(0, 3, 1, 4, 2, 5)
    return out.reshape(batch, channels, height, width), middle


class ReadOut(nn.Module):
    """Letter and thing of each patch, from the middle block."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.letter = nn.Linear(width, CLASSES["letter"])
        self.thing = nn.Linear(width, CLASSES["thing"])

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        hidden = F.layer_norm(hidden, hidden.shape[-1:])
        return self.letter(hidden), self.thing(hidden)


class DecoderData:
    """Encoded scenes as batches whose words have equal lengths (upstream pads glyphs with zeros that nothing masks)."""

    def __init__(self, scenes: EncodedScenes, vae: AutoencoderKL) -> None:
        self.scenes = scenes
        self.mean = torch.tensor(vae.config.latents_mean).view(1, -1, 1, 1)
        self.spread = torch.tensor(vae.config.latents_std).view(1, -1, 1, 1)
        self.texts, grids = [], []
        for row in range(len(scenes)):
            scene = scenes.scene(row)
            self.texts.append(scene.word.text if scene.word else "")
            grids.append(labels(scene)[[0, 3]].astype(np.int16))
        self.things, self.letters = torch.from_numpy(np.stack(grids)).unbind(1)
        self.by_length: dict[int, list[int]] = {}
        for row, text in enumerate(self.texts):
            self.by_length.setdefault(len(text), []).append(row)

    def rows(self, rng: random.Random, count: int) -> list[int]:
        lengths = sorted(self.by_length)
        length = rng.choices(lengths, [len(self.by_length[length]) for length in lengths])[0]
        return rng.choices(self.by_length[length], k=count)

    def latents(self, rows: list[int]) -> Tensor:
        return (self.scenes.latents[rows].float() - self.mean) / self.spread

    def glyph_ids(self, rows: list[int]) -> Tensor:
        return torch.tensor([[byte + BYTE_OFFSET for byte in self.texts[row].encode()] + [END] for row in rows])

    def mean_looks(self, codes: int) -> tuple[Tensor, Tensor]:
        """Mean normalised latents [codes, 256] of the cell that each code stands for, and how often it was seen."""
        sums, seen = torch.zeros(codes, 256), torch.zeros(codes)
        for start in range(0, len(self.scenes), 256):
            rows = list(range(start, min(start + 256, len(self.scenes))))
            cells = self.latents(rows).unflatten(2, (GRID, 4)).unflatten(4, (GRID, 4))
            flat = self.scenes.codes[rows].flatten()
            sums.index_add_(0, flat, cells.permute(0, 2, 4, 1, 3, 5).reshape(-1, 256))
            seen += torch.bincount(flat, minlength=codes)
        return sums / seen.clamp(min=1)[:, None], seen


def start_codes(decoder: GlmImageTransformer2DModel, data: DecoderData) -> None:
    """Point 1 of this file's advice; where the widths differ, a random projection keeps the distances."""
    table = decoder.prior_token_embedding.weight
    looks, _ = data.mean_looks(len(table))
    if looks.shape[1] != table.shape[1]:
        looks = looks @ torch.randn(looks.shape[1], table.shape[1]) / looks.shape[1] ** 0.5
    with torch.no_grad():
        table.copy_(looks)


def misspelled(codes: Tensor, lettering: Tensor, chosen: Sequence[bool], generator: torch.Generator) -> Tensor:
    """Codes [B, h, w] in which each column of a chosen picture's word repeats a random column of that word.

    Ink and ground stay right, as in what a prior gets wrong. `lettering` is [B, h, w], bool.
    """
    codes = codes.clone()
    for index, wrong in enumerate(chosen):
        rows, cols = lettering[index].any(1).nonzero()[:, 0], lettering[index].any(0).nonzero()[:, 0]
        if wrong and len(cols):
            taken = cols[torch.randint(len(cols), (len(cols),), generator=generator)]
            codes[index, rows[:, None], cols] = codes[index, rows[:, None], taken]
    return codes


def sample_sigmas(count: int, generator: torch.Generator) -> Tensor:
    """60 % logit-normal, 40 % uniform, before any shift: [count] in 0..1."""
    bell = torch.sigmoid(torch.randn(count, generator=generator))
    flat = torch.rand(count, generator=generator)
    return torch.where(torch.rand(count, generator=generator) < 0.6, bell, flat).clamp(1e-3, 1.0)


def train_decoder(
    decoder: GlmImageTransformer2DModel,
    glyph_encoder: T5EncoderModel,
    vae: AutoencoderKL,
    scheduler: Mapping[str, Any],
    work: Path,
    schedule: Schedule,
    *,
    fresh: bool = True,
    compiled: bool = True,
) -> Run:
    decoder.train()
    glyph_encoder.eval()
    for parameter in glyph_encoder.parameters():
        parameter.requires_grad_(True)
    read_out = ReadOut(decoder.config.num_attention_heads * decoder.config.attention_head_dim)
    data = DecoderData(EncodedScenes(work, latents=True), vae)
    modules = {"decoder": decoder, "glyph_encoder": glyph_encoder, "read_out": read_out}
    run = Run("decoder", work, modules, schedule)
    if not run.resume() and fresh:
        start_codes(decoder, data)
    block = torch.compile(_block, dynamic=True) if compiled else _block

    def loss_of(step: int, done: float) -> tuple[Tensor, Metrics]:
        rng, generator = random.Random(step), torch.Generator().manual_seed(step)
        blind = rng.random() < UNCONDITIONAL
        rows = data.rows(rng, schedule.batch)
        clean = data.latents(rows)
        letters, things = data.letters[rows].long(), data.things[rows].long()
        shown = torch.ones(letters.shape)
        codes = data.scenes.codes[rows]
        if blind:
            shown.zero_()
        else:
            fate = torch.rand(len(rows), generator=generator)
            shown[(letters > 0) & (fate < HIDE_LETTERS)[:, None, None]] = 0
            codes = misspelled(codes, letters > 0, (fate > 1 - MISSPELL).tolist(), generator)
        noise = torch.randn(clean.shape, generator=generator)
        times = sample_sigmas(len(rows), generator)
        sigmas = shift_sigmas(times, clean.shape[-1] * clean.shape[-2] // 4, scheduler)
        ids = torch.tensor([[END]] * len(rows)) if blind else data.glyph_ids(rows)
        with torch.autocast("cpu", torch.bfloat16):
            glyphs = glyph_encoder(ids).last_hidden_state
            # The pipeline conditions on whole timesteps counted from 0.
            conditioned = (times * 1000).round() - 1
            predicted, middle = velocity(
                decoder, add_noise(clean, noise, sigmas), codes, shown, glyphs, conditioned, block
            )
            said_letter, said_thing = read_out(middle)
        filled = torch.where((letters > 0) | (things > 0), 1.0, GROUND_WEIGHT)
        weights = filled.repeat_interleave(4, 1).repeat_interleave(4, 2)[:, None]
        error = (predicted.float() - velocity_target(clean, noise)) ** 2
        per_picture = (error * weights).mean((1, 2, 3)) / weights.mean((1, 2, 3))
        flow = per_picture.mean()
        metrics = {"flow": flow.item()}
        high = sigmas > 0.85
        if not blind and high.any():
            metrics["flow_high"] = per_picture[high].mean().item()
        loss = flow
        if not blind:
            wide_letters = letters.repeat_interleave(2, 1).repeat_interleave(2, 2).flatten()
            wide_things = things.repeat_interleave(2, 1).repeat_interleave(2, 2).flatten()
            read = F.cross_entropy(said_letter.float().flatten(0, 1), wide_letters)
            read = read + F.cross_entropy(said_thing.float().flatten(0, 1), wide_things)
            loss = loss + READ_OUT * read
            metrics["read"] = read.item()
        return loss, metrics

    run.train(loss_of, log_every=20)
    run.load_average()
    gate = swapped_word_gate(decoder.eval(), glyph_encoder, data)
    print("loss with another word / with the right one, lettering codes hidden:", round(gate["ratio"], 3), flush=True)
    return run


@torch.no_grad()
def swapped_word_gate(
    decoder: GlmImageTransformer2DModel, glyph_encoder: T5EncoderModel, data: DecoderData, sigma: float = 0.9
) -> dict[str, float]:
    """Loss in the cells of hidden lettering, with the right word and with another of the same length, and their ratio.

    Above 1.1 the glyph tokens carry the word (the gate before hours of training).
    """
    totals = {"right": 0.0, "swapped": 0.0}
    for length in (3, 4, 5, 6):
        rows = data.by_length[length][:32]
        generator = torch.Generator().manual_seed(length)
        clean = data.latents(rows)
        noise = torch.randn(clean.shape, generator=generator)
        letters = data.letters[rows].long() > 0
        cells = letters.repeat_interleave(4, 1).repeat_interleave(4, 2)[:, None].float()
        for name, given in (("right", rows), ("swapped", rows[1:] + rows[:1])):
            glyphs = glyph_encoder(data.glyph_ids(given)).last_hidden_state
            times = torch.full((len(rows),), sigma * 1000 - 1)
            predicted, _ = velocity(
                decoder, add_noise(clean, noise, sigma), data.scenes.codes[rows], 1 - letters.float(), glyphs, times
            )
            error = (predicted - velocity_target(clean, noise)) ** 2
            totals[name] += float((error * cells).sum() / cells.sum() / clean.shape[1])
    return totals | {"ratio": totals["swapped"] / totals["right"]}
