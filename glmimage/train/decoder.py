"""Stage 5: the decoder (`GlmImageTransformer2DModel`) and its glyph encoder, by flow matching on encoded exercises.

The picture is given by its codes, the glyphs of its words and its references; there is no prompt. Each reference goes
through the same layers at t = 0, alone and without glyphs, and the picture attends to its keys and values
(block-causal): both are trained together. Advice that was measured, and followed:

1. The embedding of a code starts as the mean of the latents that the code stands for (4 x 4 x 16 numbers, as many as
   the decoder is wide), so that the look of each code need not be learned from noise.
2. Lettering codes are hidden from some pictures and stand for wrong letters in others, so that the glyph tokens learn
   to carry the letters (a prior that misspells is then put right); a read-out of the middle block (training only)
   tells each cell's letter and thing.
3. Cells with something in them weigh more than plain ground.
4. Modulations and output start at zero (upstream does not).
5. Half of the batches are strips: the few rows of a picture around a word. Letters stand in a twentieth of a
   picture's cells, so that the same time teaches several times as many. Stickers, which strips cut, count in whole
   pictures alone: a decoder that learned them in parts as well took a cat's face, which scores hardly showed.
6. A run that goes on from a finished checkpoint learns letters from pictures, and all else in whole pictures from what
   that checkpoint, or one before it, says (Li and Hoiem 2016, "Learning without forgetting"): the same in the mean,
   without the noise of flow matching, which in a thousand steps took more from stickers' faces than it gave. Where
   the work folder has codes that a prior drew (`drafts.py`), nearly half of the batches are these.
7. Two heads are shown the glyph of each letter (guided attention, as the prior's in `looks.py`): codes of some letters
   in some inks stand for several, and what the prior misspells is right among the glyphs, but which glyph a cell's is
   must be counted from where its word begins, and the loss of the flow teaches that last.
8. From some edited pictures the codes of what stays are hidden, so that it is taken from the reference.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, GlmImageTransformer2DModel
from torch import Tensor, nn
from transformers import T5EncoderModel

from glmimage.flow import add_noise, shift_sigmas, velocity_target
from glmimage.geometry import Grid
from glmimage.prompting import quoted
from glmimage.train.drafts import Drafts
from glmimage.train.edits import WHOLE, Sample
from glmimage.train.exercises import CELLS, Exercises
from glmimage.train.layout import ALL_CLASSES, SQUARE, Scene
from glmimage.train.loop import Metrics, Run, Schedule, mixed_precision, text_tensor
from glmimage.train.words import LETTERS, columns
from glmimage.train.world import WORLDS, labels

UNCONDITIONAL = 0.07
"""Share of batches without codes and glyphs, for guidance."""
HIDE_LETTERS = 0.1
"""Share of pictures with a word whose lettering codes are hidden."""
MISSPELL, MISSPELL_LETTER = 0.15, 0.4
"""Share of pictures with a word in which some lettering codes are those of others of its letters, and of their letters:
as a prior gets them wrong, so that the glyphs correct it. (At 0.35, all letters and 0.25 hidden, before glyphs could
tell letters apart, the decoder stopped believing codes before it could read: of 42 words 16 were right before, 1
after.)"""
HIDE_SOME, HIDE_CELL = 0.3, 0.3
"""Share of pictures with a word from which some lettering codes are hidden, and of their letters' cells: what the
neighbours leave open, the glyphs must say."""
STRIPS = 0.3
"""Share of batches that are strips, and the rows of one."""
STRIP_ROWS = (2, 3, 4)
HIDE_KEPT = 0.25
"""Share of edited pictures in which the codes of unchanged cells are hidden."""
READ_OUT = 0.3
READ_FROM = 200
"""Steps after which the read-out teaches a finished decoder whose glyph encoder begins anew: it begins anew, too, and
what it says before it can read turns everything that was learned (loss of the flow 0.10 to 0.23 in 80 steps; at a low
rate it could not after 200, and the distance from the teacher rose by a third). One that keeps its glyphs is not taught
by it."""
GROUND_WEIGHT, LETTER_WEIGHT = 0.3, 2.0
LETTER_HEADS = ((4, 2), (2, 1))
"""Heads that are shown the glyph of each letter: a fourth and half of the layers down, the third and the second head.
Of a decoder that was shown none they were those that looked there most, with -log of 2.6 and 5 of their attention."""
LOOK_WEIGHT = 0.2
"""Of that, beside the loss of the flow."""
KEPT_WEIGHT = 5.0
"""Times the weight of what is taught by the checkpoint that a run goes on from: what it differs by is small beside the
noise that letters are learned with. At 1, stickers from true codes were 19.2 dB after 1,500 steps (19.9 before); at 5,
with new glyphs besides, 19.7 after 3,500: believed, not measured alone."""
APART = 0.5
"""See `begin_anew`: how far each glyph is from the mean of all, in lengths of that mean."""
DRAFTED, DRAFTED_BLIND, DRAFTED_SPAN = 0.45, 0.3, 0.6
"""Share of batches that are drafts, where there are any; of these without codes and glyphs; and how much of the way
from noise they are taught on, most near its beginning, where what is painted is decided."""
GUIDANCE = 1.5
"""That drafts are painted with, the miniature's own."""
REPAINTED = ("background", "style", "style_reference")
"""Tasks of which too little stays for that."""
PAD, END, BYTE_OFFSET = 0, 1, 3
"""Of `ByT5Tokenizer`."""


def rotary(decoder: GlmImageTransformer2DModel, latents: Tensor) -> tuple[Tensor, Tensor]:
    """cos, sin [N, head_dim] for latents [B, C, H, W]."""
    tables: tuple[Tensor, Tensor] = decoder.rope(latents)
    return tables


def _turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    left, right = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-right, left], dim=-1) * sin


def _block(
    block: Any,
    image: Tensor,
    glyphs: Tensor,
    temb: Tensor,
    cos: Tensor,
    sin: Tensor,
    front: tuple[Tensor, Tensor] | None = None,
    mask: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Upstream's `GlmImageTransformerBlock.forward` in out-of-place operations (its own writes into queries and keys in
    place, which autograd pays for).

    `front`: keys and values [B, heads, R, head_dim] of references; `mask` [B, 1, 1, R + T + N], False for padding.
    Returns both streams and their own queries, keys and values, glyphs first.
    """
    parts = block.norm1.linear(temb)[:, None].chunk(12, dim=-1)
    shift_a, cshift_a, scale_a, cscale_a, gate_a, cgate_a, shift_m, cshift_m, scale_m, cscale_m, gate_m, cgate_m = parts
    attention = block.attn1
    count = glyphs.shape[1]
    width = (image.shape[-1],)
    x = F.layer_norm(image, width, eps=1e-5) * (1 + scale_a) + shift_a
    if count:
        x = torch.cat([F.layer_norm(glyphs, width, eps=1e-5) * (1 + cscale_a) + cshift_a, x], dim=1)
    heads = attention.heads
    query, key, value = (
        layer(x).unflatten(-1, (heads, -1)).transpose(1, 2)
        for layer in (attention.to_q, attention.to_k, attention.to_v)
    )
    query = F.layer_norm(query, query.shape[-1:], eps=1e-5)
    key = F.layer_norm(key, key.shape[-1:], eps=1e-5)
    query = torch.cat([query[:, :, :count], _turn(query[:, :, count:], cos, sin)], dim=2).to(value.dtype)
    key = torch.cat([key[:, :, :count], _turn(key[:, :, count:], cos, sin)], dim=2).to(value.dtype)
    keys, values = key, value
    if front is not None:
        keys, values = torch.cat([front[0], key], dim=2), torch.cat([front[1], value], dim=2)
    mixed = F.scaled_dot_product_attention(query, keys, values, attn_mask=mask).transpose(1, 2).flatten(2)
    mixed = attention.to_out[0](mixed)
    image = image + mixed[:, count:] * gate_a
    image = image + block.ff(F.layer_norm(image, width, eps=1e-5) * (1 + scale_m) + shift_m) * gate_m
    if count:
        glyphs = glyphs + mixed[:, :count] * cgate_a
        glyphs = glyphs + block.ff(F.layer_norm(glyphs, width, eps=1e-5) * (1 + cscale_m) + cshift_m) * cgate_m
    return image, glyphs, query, key, value


class _Stream:
    """A picture on its way through the layers."""

    def __init__(
        self,
        decoder: GlmImageTransformer2DModel,
        latents: Tensor,
        codes: Tensor,
        shown: Tensor | None,
        times: Tensor,
        whole: Grid | None = None,
    ) -> None:
        batch = len(latents)
        height, width = whole or latents.shape[2:]
        self.cos, self.sin = rotary(decoder, latents)
        embedded = decoder.prior_token_embedding(codes)
        if shown is not None:
            embedded = embedded * shown[..., None]
        embedded = embedded.repeat_interleave(2, 1).repeat_interleave(2, 2).flatten(1, 2)
        self.image = decoder.image_projector(latents) + decoder.prior_projector(embedded)
        size = torch.tensor([[height * 8.0, width * 8.0]]).expand(batch, -1)
        self.temb = decoder.time_condition_embed(times, size, torch.zeros_like(size), self.image.dtype)


def velocity(
    decoder: GlmImageTransformer2DModel,
    latents: Tensor,
    codes: Tensor,
    shown: Tensor,
    glyphs: Tensor,
    timesteps: Tensor,
    block: Any = _block,
    *,
    glyphs_there: Tensor | None = None,
    references: Sequence[tuple[Tensor, Tensor]] = (),
    whole: Grid | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Upstream's forward for training: (velocity [B, C, H, W], hidden state after the middle block [B, N, D], log of
    the attention that `LETTER_HEADS` give each glyph from each patch [2, B, N, T]).

    `codes` [B, H/4, W/4]; `shown` of the same shape, 0 where a code is hidden, 1 elsewhere; `timesteps` [B], as
    conditioned; `glyphs_there` [B, T] bool, False for padding; `references` latents [B, C, h, w] and codes each;
    `whole`: (rows, columns) in latents of the picture that these are a part of. It is painted as in a whole picture.
    """
    batch, channels, height, width = latents.shape
    target = _Stream(decoder, latents, codes, shown, timesteps, whole)
    aside = [_Stream(decoder, *reference, None, torch.zeros(batch)) for reference in references]
    text = decoder.glyph_projector(glyphs)
    nothing = text[:, :0]
    mask = None
    if glyphs_there is not None:
        before = sum(stream.image.shape[1] for stream in aside)
        mask = F.pad(glyphs_there, (0, target.image.shape[1]), value=True)
        mask = torch.cat([mask.new_ones(batch, before), mask], dim=1)[:, None, None]
    middle, attention = target.image, list[Tensor]()
    count = len(decoder.transformer_blocks)
    heads = {count // part: head % decoder.config.num_attention_heads for part, head in LETTER_HEADS}
    for index, layer in enumerate(decoder.transformer_blocks):
        kept: list[tuple[Tensor, Tensor]] = []
        for stream in aside:
            stream.image, _, _, key, value = block(layer, stream.image, nothing, stream.temb, stream.cos, stream.sin)
            kept.append((key, value))
        front = None
        if kept:
            front = torch.cat([key for key, _ in kept], dim=2), torch.cat([value for _, value in kept], dim=2)
        target.image, text, query, key, _ = block(
            layer, target.image, text, target.temb, target.cos, target.sin, front, mask
        )
        if index in heads:
            attention.append(_to_glyphs(query, key, front, mask, text.shape[1], heads[index]))
        if index == count // 2:
            middle = target.image
    out = decoder.proj_out(decoder.norm_out(target.image, target.temb))
    out = out.view(batch, height // 2, width // 2, channels, 2, 2).permute(0, 3, 1, 4, 2, 5)
    return out.reshape(batch, channels, height, width), middle, torch.stack(attention)


def _to_glyphs(
    query: Tensor, key: Tensor, front: tuple[Tensor, Tensor] | None, mask: Tensor | None, count: int, head: int
) -> Tensor:
    """Log of a head's attention from each patch to each of `count` glyphs, [B, N, T]; for the others see `_block`."""
    asking, keys = query[:, head, count:].float(), key[:, head].float()
    before = 0
    if front is not None:
        before = front[0].shape[2]
        keys = torch.cat([front[0][:, head].float(), keys], dim=1)
    scores = asking @ keys.mT / keys.shape[-1] ** 0.5
    if mask is not None:
        scores = scores.masked_fill(~mask[:, 0], -torch.inf)
    attention: Tensor = scores.log_softmax(-1)[..., before : before + count]
    return attention


def spelled_by(scene: Scene, texts: Sequence[str]) -> Tensor:
    """[h, w]: which of the glyphs of `texts` spells the letter of a cell, counted from the last one, which is 1 (in a
    batch padding stands in front); 0 where there is no letter, or none of a word that is not among the texts."""
    begins: dict[str, int] = {}
    count = 0
    for text, ids in zip(texts, _glyph_ids(texts), strict=False):
        count += len(ids)
        begins.setdefault(text, count - len(text.encode()) - 1)
    found = torch.zeros(scene.grid, dtype=torch.long)
    for word in scene.words:
        if word.text in begins:
            place, col = begins[word.text], word.col
            for letter in word.text:
                # Of a character of several bytes the last one.
                place += len(letter.encode())
                found[word.row : word.row + 2, col : col + columns(letter)] = count - place + 1
                col += columns(letter)
    return found


def glyph_embeddings(encoder: T5EncoderModel, texts: Sequence[Sequence[str]]) -> tuple[Tensor, Tensor | None]:
    """`glyphs.encode_glyphs` for a batch: ([B, T, D], which of them are there [B, T]; None = all).

    Padding stands in front and is masked (upstream's, which is not, occurs in no batch of one).
    """
    rows = [row for strings in texts for row in _glyph_ids(strings)]
    longest = max(len(row) for row in rows)
    ids = torch.tensor([row + [PAD] * (longest - len(row)) for row in rows])
    there = torch.tensor([[True] * len(row) + [False] * (longest - len(row)) for row in rows])
    found = encoder(ids, attention_mask=there.long()).last_hidden_state
    joined = [
        torch.cat([each[kept] for each, kept in zip(found_rows, there_rows, strict=True)])
        for found_rows, there_rows in zip(
            found.split([max(1, len(strings)) for strings in texts]),
            there.split([max(1, len(strings)) for strings in texts]),
            strict=True,
        )
    ]
    most = max(len(each) for each in joined)
    padded = torch.stack([F.pad(each, (0, 0, most - len(each), 0)) for each in joined])
    if all(len(each) == most for each in joined):
        return padded, None
    return padded, torch.stack([torch.arange(most) >= most - len(each) for each in joined])


def _glyph_ids(strings: Sequence[str]) -> list[list[int]]:
    """A row for each string; no strings are an empty one. See `glyphs.encode_glyphs`."""
    front = [PAD] * ((max(1, len(strings)) + 1) % 2)
    return [front + [byte + BYTE_OFFSET for byte in text.encode()] + [END] for text in strings or [""]]


class ReadOut(nn.Module):
    """Letter and thing of each patch, from the middle block."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.letter = nn.Linear(width, ALL_CLASSES["letter"])
        self.thing = nn.Linear(width, ALL_CLASSES["thing"])
        for layer in (self.letter, self.thing):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        hidden = F.layer_norm(hidden, hidden.shape[-1:])
        return self.letter(hidden), self.thing(hidden)


def alike(each: Sample) -> Hashable:
    """What one batch can hold."""
    return each.scene.grid, tuple(reference.grid for reference in each.references)


class DecoderData:
    """Encoded exercises with normalised latents and what the read-out should say."""

    def __init__(self, exercises: Exercises, vae: AutoencoderKL) -> None:
        self.exercises = exercises
        self.mean = torch.tensor(vae.config.latents_mean).view(1, -1, 1, 1)
        self.spread = torch.tensor(vae.config.latents_std).view(1, -1, 1, 1)

    def latents(self, rows: Sequence[int], place: int = 0) -> Tensor:
        """[B, 16, H, W] of one picture of each row: 0 the wanted one, then the references."""
        return (self.exercises.stacked_latents(rows, place) - self.mean) / self.spread

    def labels(self, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Letters and things of the wanted pictures, [B, h, w] int64 each."""
        grids = torch.from_numpy(np.stack([labels(self.exercises.samples[row].scene) for row in rows]))
        return grids[:, 3], grids[:, 0]

    def mean_looks(self, codes: int) -> Tensor:
        """Mean normalised latents [codes, 256] of the cell that each code stands for."""
        sums, seen = torch.zeros(codes, 256), torch.zeros(codes)
        for row in range(len(self.exercises)):
            (height, width), latents = self.exercises.samples[row].scene.grid, self.latents([row])[0]
            cells = latents.unflatten(1, (height, 4)).unflatten(3, (width, 4)).permute(1, 3, 0, 2, 4)
            flat = self.exercises.codes[row][0].flatten().long()
            sums.index_add_(0, flat, cells.reshape(-1, 256))
            seen += torch.bincount(flat, minlength=codes)
        return sums / seen.clamp(min=1)[:, None]


def start_codes(decoder: GlmImageTransformer2DModel, data: DecoderData) -> None:
    """Point 1 of this file's advice; where the widths differ, a random projection keeps the distances."""
    table = decoder.prior_token_embedding.weight
    looks = data.mean_looks(len(table))
    if looks.shape[1] != table.shape[1]:
        looks = looks @ torch.randn(looks.shape[1], table.shape[1]) / looks.shape[1] ** 0.5
    with torch.no_grad():
        table.copy_(looks)


def misspelled(
    codes: Tensor, letters: Tensor, chosen: Sequence[bool], generator: torch.Generator, share: float = 1.0
) -> Tensor:
    """Codes [B, h, w] in which that share of a chosen picture's letters are random ones of their line.

    Ground and mostly ink stay right, as in what a prior gets wrong. `letters` are `Sample.labels`' [B, h, w], of which
    upper halves are odd.
    """
    wrong = codes.clone()
    for index in (index for index, each in enumerate(chosen) if each):
        upper = letters[index] % 2 == 1
        for row in upper.any(1).nonzero()[:, 0].tolist():
            columns = upper[row].nonzero()[:, 0]
            taken = columns[torch.randint(len(columns), (len(columns),), generator=generator)]
            taken = torch.where(torch.rand(len(columns), generator=generator) < share, taken, columns)
            wrong[index, row : row + 2].index_copy_(1, columns, codes[index, row : row + 2, taken])
    return wrong


def sample_sigmas(count: int, generator: torch.Generator) -> Tensor:
    """60 % logit-normal, 40 % uniform, before any shift: [count] in 0..1."""
    bell = torch.sigmoid(torch.randn(count, generator=generator))
    flat = torch.rand(count, generator=generator)
    return torch.where(torch.rand(count, generator=generator) < 0.6, bell, flat).clamp(1e-3, 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class _Batch:
    clean: Tensor
    codes: Tensor
    shown: Tensor
    texts: list[tuple[str, ...]]
    references: list[tuple[Tensor, Tensor]]
    letters: Tensor
    things: Tensor
    spelled: Tensor
    """See `spelled_by`, [B, h, w]."""
    whole: Grid
    """In latents, of the pictures or of those that strips are cut from."""
    drafted: bool = False

    @property
    def strips(self) -> bool:
        return tuple(self.clean.shape[2:]) != self.whole

    def tensors(self) -> dict[str, Tensor]:
        """All that the loss is computed from, by name; texts as a JSON list."""
        named = {"clean": self.clean, "codes": self.codes, "shown": self.shown}
        named["texts"] = text_tensor(json.dumps(self.texts))
        for number, (latents, codes) in enumerate(self.references, 1):
            named |= {f"reference-{number}.latents": latents, f"reference-{number}.codes": codes}
        return {**named, "letters": self.letters, "things": self.things, "spelled": self.spelled}


def _batch(
    data: DecoderData,
    rng: random.Random,
    kind: random.Random,
    generator: torch.Generator,
    pictures: int,
    *,
    blind: bool,
) -> _Batch:
    """Exercises whose pictures, references counted, have about as many cells as so many usual `pictures`."""
    exercises = data.exercises
    if not blind and kind.random() < STRIPS:
        return _strips(data, rng, kind, generator, pictures)
    rows = exercises.batch(
        rng,
        lambda each: _count(
            pictures, _cells(each.scene.grid, *(() if blind else (other.grid for other in each.references)))
        ),
        kind,
    )
    clean, codes = data.latents(rows), exercises.stacked_codes(rows)
    whole = clean.shape[2], clean.shape[3]
    letters, things = data.labels(rows)
    shown = torch.ones(codes.shape)
    if blind:
        return _Batch(
            clean, codes, shown.zero_(), [()] * len(rows), [], letters, things, torch.zeros_like(letters), whole
        )
    codes = _spoiled(codes, shown, letters, generator)
    places = range(1, 1 + len(exercises.samples[rows[0]].references))
    references = [(data.latents(rows, place), exercises.stacked_codes(rows, place)) for place in places]
    hide = torch.rand(len(rows), generator=generator) < HIDE_KEPT
    for index, row in enumerate(rows):
        each = exercises.samples[row]
        if each.task in WHOLE and each.task not in REPAINTED and hide[index]:
            shown[index, ~torch.from_numpy(each.changed())] = 0
    texts = [quoted(exercises.prompt(row, rng)) for row in rows]
    scenes = [exercises.samples[row].scene for row in rows]
    spelled = torch.stack([spelled_by(scene, each) for scene, each in zip(scenes, texts, strict=True)])
    return _Batch(clean, codes, shown, texts, references, letters, things, spelled, whole)


def _strips(
    data: DecoderData, rng: random.Random, kind: random.Random, generator: torch.Generator, pictures: int
) -> _Batch:
    """The rows around a word of each picture that has one, with all of that picture's words as glyphs.

    No references: those of edits are left out.
    """
    exercises, high = data.exercises, kind.choice(STRIP_ROWS)
    rows: list[int] = []
    while not rows:
        drawn = exercises.batch(rng, lambda each: _count(pictures, high * each.scene.grid[1]), kind)
        rows = [row for row in drawn if exercises.samples[row].scene.words]
    scenes = [exercises.samples[row].scene for row in rows]
    tops = []
    for scene in scenes:
        word = rng.choice(scene.words)
        tops.append(rng.randint(max(0, word.row + 2 - high), min(word.row, scene.grid[0] - high)))

    def cut(pictures: Tensor, cell: int = 1) -> Tensor:
        """[B, ..., rows, columns], so many to a cell, to the strips."""
        parts = [each[..., cell * top : cell * (top + high), :] for each, top in zip(pictures, tops, strict=True)]
        return torch.stack(parts)

    latents = data.latents(rows)
    letters, things = map(cut, data.labels(rows))
    codes = cut(exercises.stacked_codes(rows))
    shown = torch.ones(codes.shape)
    codes = _spoiled(codes, shown, letters, generator)
    texts = [tuple(word.text for word in rng.sample(scene.words, len(scene.words))) for scene in scenes]
    whole = latents.shape[2], latents.shape[3]
    spelled = cut(torch.stack([spelled_by(scene, each) for scene, each in zip(scenes, texts, strict=True)]))
    return _Batch(cut(latents, 4), codes, shown, texts, [], letters, things, spelled, whole)


def _spoiled(codes: Tensor, shown: Tensor, letters: Tensor, generator: torch.Generator) -> Tensor:
    """Codes [B, h, w] with some words misspelled; hides others in `shown`, whole or in part, in place."""
    fate, part = torch.rand(2, len(codes), generator=generator)
    lost = torch.rand(codes.shape, generator=generator) < HIDE_CELL
    lost &= (part < HIDE_SOME)[:, None, None]
    lost |= (fate < HIDE_LETTERS)[:, None, None]
    shown[(letters > 0) & lost] = 0
    return misspelled(codes, letters, (fate > 1 - MISSPELL).tolist(), generator, MISSPELL_LETTER)


def _cells(*grids: Grid) -> int:
    return sum(rows * cols for rows, cols in grids)


def _count(pictures: int, cells: int) -> int:
    """How many of so many `cells` are as much as usual `pictures`, at least two."""
    return max(2, pictures * CELLS // cells)


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """A decoder and the glyph encoder that it listens to: they learn, and teach, together."""

    decoder: GlmImageTransformer2DModel
    glyph_encoder: T5EncoderModel


def told(by: Pair, batch: _Batch, noisy: Tensor, times: Tensor, block: Any = _block) -> tuple[Tensor, Tensor, Tensor]:
    """`velocity` of noisy latents [B, C, H, W] at `times` [B] in 0..1, before the shift."""
    glyphs, there = glyph_embeddings(by.glyph_encoder, batch.texts)
    return velocity(
        by.decoder,
        noisy,
        batch.codes,
        batch.shown,
        glyphs,
        # The pipeline conditions on whole timesteps counted from 0.
        (times * 1000).round() - 1,
        block,
        glyphs_there=there,
        references=batch.references,
        whole=batch.whole,
    )


@torch.no_grad()
def _drafted(
    drafts: Drafts, teacher: Pair, generator: torch.Generator, count: int, block: Any, *, blind: bool
) -> tuple[_Batch, Tensor]:
    """Drafts on the teacher's way from noise, and that noise: `clean` is its first estimate, guided as pictures are
    painted."""
    drawn = drafts.some(count, generator)
    height, width = (4 * edge for edge in drawn.codes.shape[1:])
    noise = torch.randn((count, teacher.decoder.config.in_channels, height, width), generator=generator)
    shown, nothing = torch.ones(drawn.codes.shape), torch.zeros_like(drawn.codes)
    cells = drawn.letters, drawn.things, nothing
    seen = _Batch(noise, drawn.codes, shown, drawn.texts, [], *cells, (height, width), drafted=True)
    unseen = replace(seen, shown=torch.zeros_like(shown), texts=[()] * count)
    with mixed_precision():
        first, free = (told(teacher, each, noise, torch.ones(count), block)[0].float() for each in (seen, unseen))
    return replace(unseen if blind else seen, clean=noise - torch.lerp(free, first, GUIDANCE)), noise


def train_decoder(
    decoder: GlmImageTransformer2DModel,
    glyph_encoder: T5EncoderModel,
    vae: AutoencoderKL,
    scheduler: Mapping[str, Any],
    work: Path,
    schedule: Schedule,
    shares: Mapping[int, float],
    *,
    teacher: Pair | None = None,
    glyphs_anew: bool = False,
    compiled: bool = True,
) -> Run:
    """`shares`: level of the world -> share of training; a batch of `schedule.batch` pictures counts references.

    `teacher`: without one the decoder is new, and learns all from pictures.
    `glyphs_anew`: the glyph encoder begins at random, whatever it knew.
    """
    fresh = teacher is None
    decoder.train()
    glyph_encoder.eval()
    for parameter in glyph_encoder.parameters():
        parameter.requires_grad_(True)
    read_out = ReadOut(decoder.config.num_attention_heads * decoder.config.attention_head_dim)
    data = DecoderData(Exercises(work, shares, WORLDS, alike, latents=True), vae)
    if glyphs_anew:
        begin_anew(decoder, glyph_encoder)
    student = Pair(decoder, glyph_encoder)
    modules = {"decoder": decoder, "glyph_encoder": glyph_encoder, "read_out": read_out}
    drafts = Drafts.load(work) if teacher else None
    run = Run("decoder", work, modules, schedule)
    if not run.resume() and fresh:
        start_codes(decoder, data)
    # With and without references, glyphs to mask, and sizes that are equal by chance: more forms than the usual limit,
    # beyond which blocks run uncompiled.
    torch._dynamo.config.recompile_limit = 64
    block = torch.compile(_block, dynamic=True) if compiled else _block

    def loss_of(step: int, done: float) -> tuple[Tensor, Metrics]:
        rng, generator = random.Random(step), torch.Generator().manual_seed(step)
        kind = random.Random(f"kind {run.step}")
        drafted = drafts is not None and kind.random() < DRAFTED
        blind = kind.random() < (DRAFTED_BLIND if drafted else UNCONDITIONAL)
        if teacher and drafts and drafted:
            batch, noise = _drafted(drafts, teacher, generator, schedule.batch, block, blind=blind)
            times = 1 - DRAFTED_SPAN * torch.rand(len(batch.codes), generator=generator) ** 1.5
        else:
            batch = _batch(data, rng, kind, generator, schedule.batch, blind=blind)
            noise = torch.randn(batch.clean.shape, generator=generator)
            times = sample_sigmas(len(batch.clean), generator)
        sigmas = shift_sigmas(times, batch.whole[0] * batch.whole[1] // 4, scheduler)
        run.batch = {**batch.tensors(), "noise": noise, "times": times}
        noisy = add_noise(batch.clean, noise, sigmas)
        taught = teacher is not None and not batch.strips
        target = velocity_target(batch.clean, noise)
        with mixed_precision():
            if teacher and taught:
                with torch.no_grad():
                    said = told(teacher, batch, noisy, times, block)[0].float()
                target = torch.where(_pixels(batch.letters > 0), target, said)
            predicted, middle, attention = told(student, batch, noisy, times, block)
            reads = fresh or (glyphs_anew and run.step >= READ_FROM)
            read = read_out(middle if reads else middle.detach())
        weights = _weights(batch, taught=taught)
        error = (predicted.float() - target) ** 2
        per_picture = (error * weights).mean((1, 2, 3)) / weights.mean((1, 2, 3))
        loss = per_picture.mean()
        if drafted:
            return loss, {"drafts_blind" if blind else "drafts": loss.item()}
        metrics = {"flow": loss.item()}
        if blind:
            return loss, metrics
        metrics["flow_strips" if batch.strips else "flow_referenced" if batch.references else "flow_alone"] = (
            loss.item()
        )
        high = sigmas > 0.85
        if high.any():
            metrics["flow_high"] = per_picture[high].mean().item()
        for name, weight, part in (
            ("read", READ_OUT, _read_loss(read, batch)),
            ("look_letter", LOOK_WEIGHT, _look_loss(attention, batch)),
        ):
            if part is not None:
                metrics[name] = part.item()
                loss = loss + weight * part
        return loss, metrics

    run.train(loss_of, log_every=20)
    run.load_average()
    gate = swapped_word_gate(decoder.eval(), glyph_encoder, data)
    print("loss with another word / with the right one, lettering codes hidden:", round(gate["ratio"], 3), flush=True)
    return run


def _weights(batch: _Batch, *, taught: bool) -> Tensor:
    """Of each cell's latents in the loss of the flow, [B, 1, H, W]."""
    # Of a sticker that a strip cuts there is nothing to learn: it is whole in pictures.
    weights = torch.where(batch.things > 0, 0.0 if batch.strips else 1.0, GROUND_WEIGHT)
    if taught:
        weights = KEPT_WEIGHT * weights
    # Of drafts nobody knows which letters they should be.
    return _pixels(weights.masked_fill(batch.letters > 0, 0.0 if batch.drafted else LETTER_WEIGHT))


def _read_loss(said: tuple[Tensor, Tensor], batch: _Batch) -> Tensor:
    losses = (
        F.cross_entropy(each.float().flatten(0, 1), _patches(wanted).flatten())
        for each, wanted in zip(said, (batch.letters, batch.things), strict=True)
    )
    return torch.stack([*losses]).sum()


def _look_loss(attention: Tensor, batch: _Batch) -> Tensor | None:
    """Of `LETTER_HEADS`, from their attention's log [2, B, N, T]; None where the batch has no letter."""
    spelled = _patches(batch.spelled)
    there = spelled > 0
    if not there.any():
        return None
    glyph = (attention.shape[-1] - spelled[there]).expand(len(attention), -1)
    return F.nll_loss(attention[:, there].flatten(0, 1), glyph.flatten())


def _patches(cells: Tensor) -> Tensor:
    """[B, h, w] of cells as [B, 4 h w] of the decoder's patches."""
    return cells.repeat_interleave(2, 1).repeat_interleave(2, 2).flatten(1)


@torch.no_grad()
def begin_anew(decoder: GlmImageTransformer2DModel, encoder: T5EncoderModel) -> None:
    """Draws the glyph encoder and its projection at random; what the decoder was told by all glyphs in the mean stays,
    so that pictures change little while it learns to tell glyphs apart."""

    def said() -> Tensor:
        found: Tensor = decoder.glyph_projector(glyph_embeddings(encoder, [(LETTERS,)])[0][0, :-1])
        return found

    layers = [module for module in decoder.glyph_projector.modules() if isinstance(module, nn.Linear)]
    before = said().mean(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder.load_state_dict(T5EncoderModel(encoder.config).state_dict())
        for layer in layers:
            layer.reset_parameters()
    last, apart = layers[-1], said() - said().mean(0)
    last.weight *= APART * before.norm() / apart.norm(dim=-1).mean()
    last.bias.copy_(last.bias + before - said().mean(0))


def _pixels(cells: Tensor) -> Tensor:
    """[B, h, w] of cells as [B, 1, 4 h, 4 w] of their latents."""
    return cells.repeat_interleave(4, 1).repeat_interleave(4, 2)[:, None]


@torch.no_grad()
def swapped_word_gate(
    decoder: GlmImageTransformer2DModel, glyph_encoder: T5EncoderModel, data: DecoderData, sigma: float = 0.9
) -> dict[str, float]:
    """Loss in the cells of hidden lettering, with the right word and with another of the same length, and their ratio.

    Above 1.1 the glyph tokens carry the word (the gate before hours of training); not a number where no two exercises
    have words of one length.
    """
    totals = {"right": 0.0, "swapped": 0.0}
    for length in (3, 4, 5, 6):
        rows = [row for row, each in enumerate(data.exercises.samples) if _one_word(each) == length][:32]
        if len(rows) < 2:
            continue
        texts = [[word.text for word in data.exercises.samples[row].scene.words] for row in rows]
        generator = torch.Generator().manual_seed(length)
        clean = data.latents(rows)
        noise = torch.randn(clean.shape, generator=generator)
        letters = data.labels(rows)[0] > 0
        cells = _pixels(letters).float()
        for name, given in (("right", texts), ("swapped", texts[1:] + texts[:1])):
            glyphs, _ = glyph_embeddings(glyph_encoder, given)
            times = torch.full((len(rows),), sigma * 1000 - 1)
            codes = data.exercises.stacked_codes(rows)
            predicted, *_ = velocity(decoder, add_noise(clean, noise, sigma), codes, 1 - letters.float(), glyphs, times)
            error = (predicted - velocity_target(clean, noise)) ** 2
            totals[name] += float((error * cells).sum() / cells.sum() / clean.shape[1])
    return totals | {"ratio": totals["swapped"] / totals["right"] if totals["right"] else math.nan}


def _one_word(each: Sample) -> int:
    """The length of the only word of a usual picture without references, else 0."""
    usual = not each.references and each.scene.grid == SQUARE and len(each.scene.words) == 1
    return len(each.scene.words[0].text.encode()) if usual else 0
