"""Stage 4: the prior (the text model of `GlmImageForConditionalGeneration`), on prompts and the codes of exercises.

A sequence is the released layout: prompt ids, the preview grid's codes, the target grid's codes; with references their
codes come first and there is no preview. Positions are built by hand (`get_rope_index` lays out only prompts and
sources); the loss is ours (upstream's `labels=` reshapes wrongly). Every visit to an exercise gets new wording. The
tokenizer's vision tower and quantizer stay as stage 2 left them.

The preview grid repeats the target grid by whole numbers: it is 16 x 16 for any square picture, so at 256 px each code
stands there twice along each axis. (Codes of the enlarged picture, as upstream's recipe suggests, are finer than the
target here: four times as many to get right before the first target code, each of which tells less. What repeats is
easy, so it weighs half, where the makers weigh the preview more.) Where it is no
multiple, what is left over repeats the last row and column: with fractions, 19 columns for 12, every shape is a map of
its own to learn by heart, and repetitions cost 14 of the 47 nats of an unseen picture.
"""

from __future__ import annotations

import random
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import GlmImageForConditionalGeneration, GlmImageProcessor

from glmimage.geometry import PRIOR_CELL, Grid, Size, preview_cells
from glmimage.prior import filled, positions
from glmimage.prompting import PromptIds, prompt_ids
from glmimage.train.edits import WHOLE, Sample
from glmimage.train.exercises import CELLS, Exercises
from glmimage.train.layout import SQUARE, Scene
from glmimage.train.looks import HEADS, NOWHERE, RESTING, cells, letters, missed, sides
from glmimage.train.loop import Metrics, Run, Schedule, mixed_precision
from glmimage.train.words import columns
from glmimage.train.world import WORLDS

FULL_EVERY, FULL_LATER = 5, 2
"""Other steps leave out the rows of the preview that only repeat, at 256 px every second: half the time. A run that
goes on from a finished checkpoint has more of the sequences that are drawn, where every sixteenth repetition was none.
"""
FLASH_FROM = 256
"""Tokens; shorter sequences are faster with plain products on a CPU."""
FEWEST, USUAL = 4, 3 * CELLS
"""Exercises that a batch has at least; codes of one of the size that most have. Of longer ones there are fewer, so that
steps at 512 px take no longer."""
COPY_WEIGHT = 0.5
"""Of a code that repeats an earlier one of the preview, or that of an edited picture in its place. (The target repeats
the preview, too, but it is what is painted.)"""
GROUND_WEIGHT = 0.3
NEIGHBOURS = {1: ((1, -1), (2, -1)), 2: ((1, 0), (0, 1))}
"""Layer: (rows up, columns left) of what the heads of its first key head look at in the beginning. The code that is
predicted stands one column right of the query."""
LOOK = 2.0
"""What each frequency adds to the score of such a place."""
SLOWEST = 0.4
"""Rotary frequencies above this, in radians a cell, can tell a cell from its neighbour."""
START_WEIGHT = 6.0
"""Of the first cell of a sticker that is new, or in an edit a word: what stands where is decided there, and the rest
follows."""
LATE_WEIGHT, BOXED_WEIGHT = 4.0, 2.0
"""The same of words in other pictures, once all else weighs the same; of those in boxes, whose place is asked for.
At 1 more of them never came; at 6 half of the boxed ones came too early. At 2 in all, unsure priors (other shapes, two
lines) gave the right place 0.3 to 0.8, and what did not begin there began in the last row, where half of it fits, or
nowhere. Training's words are at times a cell late (`world.LATE`), so that what did not begin may still come."""
TIGHT, TIGHT_SPARE = 2.0, 2
"""Times the former, where fewer columns than these are free right of the word: what begins late there loses its last
letters, which was more than half of all misspelled words. (With boxed words at 3 and 6 fewer came right.)"""
END_WEIGHT = 2.0
"""Of ground right of or below a sticker or a letter: where they end. At the weight of ground they come twice."""
LETTER_WEIGHT = 4.0
"""Of the upper half of a letter: few cells, and copying them from the prompt is what is learned last."""
EVEN_FROM = 0.4
"""Share of the run from which all codes but first cells (`START_WEIGHT`) and the rest of new words (`SPELLING_WEIGHT`)
count the same; a run that goes on from a finished checkpoint has them so throughout. Weights make what is rare learned
sooner, and for ever likelier than it is: letters where one should be kept, stickers where one should be gone. First
cells stay too likely on purpose: with all even, what had not begun where it was most likely to begin never came."""
LOOK_WEIGHT = 0.2
"""Of each kind of `looks`, beside the codes' loss."""
SPELLING_WEIGHT = 4.0
"""Of a new word from its second cell to the one after it, once all else weighs the same: what a letter looks like in
which ink on which ground is learned late. It makes no beginning likelier, and no word longer."""
HARD = 3.0
"""How often an exercise with several words, with one in a box, with another word or with kept subjects comes in a run
that goes on from a finished checkpoint, compared with others: what is learned last."""
SHAPED = 2.5
"""The same of pictures that are no square: a quarter of the world's, with four times as many missing words."""


def to_preview(codes: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Target codes [..., h, w] as the preview shows them: (codes [..., *grid], new [*grid], bool).

    See `geometry.preview_cells`. `new` is False where a code repeats its left or upper neighbour.
    """
    rows, cols = map(torch.tensor, preview_cells((codes.shape[-2], codes.shape[-1]), grid))
    new_row, new_col = (torch.cat([torch.ones(1), places.diff()]) > 0 for places in (rows, cols))
    return codes[..., rows[:, None], cols], new_row[:, None] & new_col


def _seen(new: Tensor, count: int, *, full: bool) -> tuple[Tensor, Tensor]:
    """(codes that stand in the sequence, those of them that are told), as sorted numbers among all `count` codes.

    Without the preview's rows that only repeat, what follows a left-out row does not follow the code before it, and the
    first code of it is not told.
    """
    if full:
        return torch.arange(count), torch.arange(count)
    rows = new.any(dim=1)
    cells = torch.arange(new.numel()).view(new.shape)
    told = new.clone()
    told[1:, 0] &= rows[:-1]
    target = torch.arange(new.numel(), count)
    return torch.cat([cells[rows].flatten(), target]), torch.cat([cells[told], target[1:]])


def hidden_states(model: GlmImageForConditionalGeneration, ids: Tensor, places: Tensor) -> Tensor:
    """The text model's forward for complete sequences: ids [B, L], places [3, B, L] -> [B, L, C].

    Sequences of a batch are padded at their ends; causal attention keeps the padding out.
    """
    return _states_and_looks(model, ids, places)[0]


def _states_and_looks(
    model: GlmImageForConditionalGeneration, ids: Tensor, places: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """`hidden_states`, and queries, scaled, and keys [2, B, H, L, D] of the layer before the middle one and of that."""
    text = model.model.language_model
    hidden = text.embed_tokens(ids)
    cos, sin = text.rotary_emb(hidden, places)
    cos, sin = cos[:, None], sin[:, None]
    looking, looked_at = [], []
    for number, layer in enumerate(text.layers):
        attention = layer.self_attn
        normed = _norm(layer.input_layernorm, hidden)
        query, key, value = (
            module(normed).unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)
            for module in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        query, key = _turn(query, cos, sin), _turn(key, cos, sin)
        groups = attention.num_key_value_groups
        if number in (len(text.layers) // 2 - 1, len(text.layers) // 2):
            looking.append(query * attention.scaling)
            looked_at.append(key.repeat_interleave(groups, 1))
        mixed = F.scaled_dot_product_attention(
            query.to(value.dtype),
            key.to(value.dtype).repeat_interleave(groups, 1),
            value.repeat_interleave(groups, 1),
            is_causal=True,
            scale=attention.scaling,
        )
        mixed = attention.o_proj(mixed.transpose(1, 2).flatten(2))
        hidden = hidden + _norm(layer.post_self_attn_layernorm, mixed)
        mixed = layer.mlp(_norm(layer.post_attention_layernorm, hidden))
        hidden = hidden + _norm(layer.post_mlp_layernorm, mixed)
    return _norm(text.norm, hidden), torch.stack(looking), torch.stack(looked_at)


class _RMSNorm(torch.autograd.Function):
    """GlmImageRMSNorm in a third of the passes through memory, which is what a small model's step waits for.

    Under autocast its result, and what it keeps for the way back, are in autocast's type.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        kind = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
        x = x.float()
        power = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_()
        scale = power.div_(x.shape[-1]).add_(epsilon).rsqrt_()
        normed = x * scale
        ctx.save_for_backward(normed.to(kind), scale, weight)
        told: Tensor = (normed * weight).to(kind)
        return told

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        normed, scale, weight = ctx.saved_tensors
        grad, normed = grads[0].float(), normed.float()
        along = grad * normed
        of_weight = along.flatten(0, -2).sum(0)
        along = (along * weight).mean(-1, keepdim=True)
        return (grad * weight).sub_(normed.mul_(along)).mul_(scale), of_weight, None


def _norm(module: nn.Module, x: Tensor) -> Tensor:
    normed: Tensor = _RMSNorm.apply(x, module.weight, module.variance_epsilon)  # type: ignore[no-untyped-call]
    return normed


def _turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    rotary = cos.shape[-1]
    turning, fixed = x[..., :rotary], x[..., rotary:]
    left, right = turning.chunk(2, dim=-1)
    return torch.cat([turning * cos + torch.cat([-right, left], dim=-1) * sin, fixed], dim=-1)


@torch.no_grad()
def start_codes(model: GlmImageForConditionalGeneration) -> None:
    """Codes of near meaning start near: the codebook's vectors, turned at random, plus what is drawn already.

    The head starts as the embedding, so that to repeat a code is an identity from the first step.
    """
    codebook = F.normalize(model.model.vqmodel.quantize.embedding.weight, dim=-1)
    embedding = model.model.language_model.embed_tokens.weight[: len(codebook)]
    generator = torch.Generator().manual_seed(0)
    turn = torch.nn.init.orthogonal_(torch.empty(codebook.shape[1], embedding.shape[1]), generator=generator)
    embedding += (codebook @ turn) * embedding.norm(dim=-1).mean()
    model.lm_head.weight[: len(codebook)] = embedding


@torch.no_grad()
def start_neighbours(model: GlmImageForConditionalGeneration) -> None:
    """Gives a few heads a place to look at, relative to the code that the position predicts: see `NEIGHBOURS`.

    A query's and a key's biases meet in the rotary turn: with q = a e^(-i w d) and k = a for the frequencies w of an
    axis, the score is largest where the positions differ by d on it.
    """
    text = model.model.language_model
    config = model.config.text_config
    width, rates = text.layers[0].self_attn.head_dim, text.rotary_emb.inv_freq
    sections = config.rope_parameters["mrope_section"]
    axes = torch.cat([torch.full((count,), index % 3) for index, count in enumerate(sections)])
    quick = (rates > SLOWEST) & (axes > 0)
    bias = (LOOK / text.layers[0].self_attn.scaling) ** 0.5
    for number, offsets in NEIGHBOURS.items():
        attention = text.layers[number].self_attn
        queries, keys = (
            module.bias.view(-1, width)[:, : 2 * len(rates)].unflatten(1, (2, -1))
            for module in (attention.q_proj, attention.k_proj)
        )
        keys[0] = 0
        keys[0, 0, quick] = bias
        for head, (row, column) in enumerate(offsets[: attention.num_key_value_groups]):
            turn = rates * torch.tensor([0.0, row, column])[axes]
            queries[head] = torch.stack([turn.cos(), -turn.sin()]) * bias * quick


def _size(grid: Grid) -> Size:
    return Size(grid[1] * PRIOR_CELL, grid[0] * PRIOR_CELL)


def _alike(each: Sample) -> Hashable:
    """Target grids are laid out together; as many references of about as many codes make about as long a sequence."""
    return each.scene.grid, len(each.references), round(_length(each) / CELLS)


def _length(each: Sample) -> int:
    """Codes of a sequence: the preview's rows that repeat left out."""
    grid, preview = each.scene.grid, _size(each.scene.grid).preview_grid
    before = sum(rows * cols for rows, cols in (picture.grid for picture in each.references))
    return grid[0] * grid[1] + (before or min(grid[0], preview[0]) * preview[1])


def _worth(each: Sample) -> float:
    several = len(each.scene.words) > 1 or any(word.box for word in each.scene.words)
    hard = several or each.task in ("word", "subjects")
    return (HARD if hard else 1.0) * (SHAPED if each.scene.grid != SQUARE else 1.0)


def cell_weights(each: Sample, *, even: bool) -> Tensor:
    """[h, w]: how much it matters to get the code of each cell; `even`: see `EVEN_FROM`."""
    scene, grid = each.scene, torch.from_numpy(each.labels())
    if even:
        weight = torch.ones(scene.grid)
    else:
        full = F.pad((grid[0] > 0) | (grid[3] > 0), (1, 0, 1, 0))
        weight = torch.where(full[1:, :-1] | full[:-1, 1:], END_WEIGHT, GROUND_WEIGHT)
        weight[grid[0] > 0] = 1.0
        # The lower half of a letter follows from its upper half; those have the odd labels.
        weight[grid[3] > 0] = 1.0
        weight[grid[3] % 2 == 1] = LETTER_WEIGHT
    before = each.references[0] if each.task in WHOLE else Scene(scene.ground, ())
    for word in scene.words:
        if word not in before.words:
            if even:
                weight[word.row : word.row + 2, word.col : word.col + columns(word.text) + 1] = SPELLING_WEIGHT
            spare = scene.grid[1] - word.col - columns(word.text)
            late = BOXED_WEIGHT if word.box else LATE_WEIGHT * (TIGHT if spare < TIGHT_SPARE else 1)
            weight[word.row, word.col] = late if even and each.task not in WHOLE else START_WEIGHT
    for thing in scene.things:
        if thing not in before.things:
            weight[thing.row, thing.col] = START_WEIGHT
    return weight


@dataclass(frozen=True, slots=True, eq=False)
class _Batch:
    """Sequences [B, L], padded at their ends, and the K codes of each that are told."""

    ids: Tensor
    places: Tensor
    """[3, B, L]."""
    at: Tensor
    """[B, K]: where the state stands that predicts each."""
    wanted: Tensor
    weights: Tensor
    parts: Mapping[str, Tensor]
    """Name in the log -> which of the told codes it is about, bool [B, K]."""
    looks: Mapping[str, Tensor]
    """What is looked for (`HEADS`), or "no NAME" for `RESTING` -> where in the sequence it is for each of the told
    codes, or `NOWHERE`, [B, K]."""


@dataclass(frozen=True, slots=True, eq=False)
class _Drawing:
    """The N codes that follow the prompts of B exercises: the preview's, if there is one, then the picture's."""

    codes: Tensor
    weights: Tensor
    repeats: Tensor
    """Which of them only repeat what stands before, bool [B, N]."""
    free: Tensor
    """The same of the preview's, which nobody looks for, bool [N]."""
    kept: Tensor
    told: Tensor
    """See `_seen`."""
    parts: Mapping[str, Tensor]
    """As those of `_Batch`, of all N."""
    said: Mapping[str, Tensor]
    """`RESTING` -> which token of the prompt's text says it, or `NOWHERE`, [B, N]."""
    origins: Tensor
    """Which code of the references, or else of the preview, each is copied from, or `NOWHERE`, [B, N]."""


def _batch(
    data: Exercises,
    processor: GlmImageProcessor,
    rng: random.Random,
    kind: random.Random,
    count: int,
    pad: int,
    *,
    full: bool,
    even: bool,
) -> _Batch:
    """`count`: exercises of the usual length; `kind`: see `Exercises.batch`; `full`: with the preview's rows that only
    repeat; `even`: all codes weigh the same."""
    rows = data.batch(rng, lambda each: min(count, max(FEWEST, count * USUAL // _length(each))), kind)
    samples = [data.samples[row] for row in rows]
    target = data.stacked_codes(rows)
    weights = torch.stack([cell_weights(each, even=even) for each in samples])
    texts = [data.prompt(row, rng) for row in rows]
    found = [_said(processor, each.scene, text) for each, text in zip(samples, texts, strict=True)]
    said = {name: torch.stack([each[name] for each in found]) for name in RESTING}
    references = [data.codes[row][1:] for row in rows]
    if samples[0].references:
        drawing = _after_references(samples, references, target, weights, said)
    else:
        drawing = _after_preview(target, weights, said, full=full)
    size = _size(samples[0].scene.grid)
    prompts = [
        prompt_ids(processor, text, size, [each.grid for each in sample.references])
        for text, sample in zip(texts, samples, strict=True)
    ]
    return _sequences(prompts, references, drawing, pad, even=even)


def _after_references(
    samples: Sequence[Sample],
    references: Sequence[Sequence[Tensor]],
    target: Tensor,
    weights: Tensor,
    said: Mapping[str, Tensor],
) -> _Drawing:
    """Of pictures whose references show what is where, so that they have no preview."""
    repeats = torch.stack(
        [
            pictures[0] == new if each.task in WHOLE else torch.zeros(new.shape, dtype=torch.bool)
            for each, pictures, new in zip(samples, references, target, strict=True)
        ]
    ).flatten(1)
    every = torch.arange(repeats.shape[1])
    return _Drawing(
        codes=target.flatten(1),
        weights=weights.flatten(1),
        repeats=repeats,
        free=torch.zeros(len(every), dtype=torch.bool),
        kept=every,
        told=every,
        parts={"kept": repeats, "changed": ~repeats},
        said={name: each.flatten(1) for name, each in said.items()},
        origins=torch.stack([cells(each) for each in samples]).flatten(1),
    )


def _after_preview(target: Tensor, weights: Tensor, said: Mapping[str, Tensor], *, full: bool) -> _Drawing:
    """Of pictures that the preview shows before."""
    count, *grid = target.shape
    shape = _size((grid[0], grid[1])).preview_grid
    new = to_preview(target, shape)[1]
    codes, weights, *tokens = (
        torch.cat([to_preview(each, shape)[0].flatten(1), each.flatten(1)], dim=1)
        for each in (target, weights, *said.values())
    )
    free = torch.cat([~new.flatten(), torch.zeros(target[0].numel(), dtype=torch.bool)])
    origins = torch.full((free.numel(),), NOWHERE)
    origins[new.numel() :] = _first_cells((grid[0], grid[1]), shape)
    kept, told = _seen(new, free.numel(), full=full)
    preview = torch.arange(free.numel()) < new.numel()
    return _Drawing(
        codes=codes,
        weights=weights,
        repeats=free.expand(count, -1),
        free=free,
        kept=kept,
        told=told,
        parts={"preview": (preview & ~free).expand(count, -1), "target": ~preview.expand(count, -1)},
        said={name: each.masked_fill(free, NOWHERE) for name, each in zip(said, tokens, strict=True)},
        origins=origins.expand(count, -1),
    )


def _sequences(
    prompts: Sequence[PromptIds], references: Sequence[Sequence[Tensor]], drawing: _Drawing, pad: int, *, even: bool
) -> _Batch:
    """Each prompt, its pictures filled in, and the drawing after it."""
    kept, told = drawing.kept, drawing.told
    count, codes = drawing.codes.shape
    ends = torch.tensor([len(prompt.ids) for prompt in prompts])
    # To the next multiple of 8, so that a compiled forward meets few lengths.
    length = -(-int(ends.max()) // 8) * 8 + len(kept)
    ids = torch.full((count, length), pad)
    places = torch.zeros((3, count, length), dtype=torch.long)
    looks = {name: each.clone() for name, each in drawing.said.items()}
    looks["cell"] = torch.full_like(drawing.origins, NOWHERE)
    for name, each in drawing.said.items():
        # Where no word is in a box, the head for beginnings is free to serve something else.
        idle = (each == NOWHERE).all(dim=1, keepdim=True) & (name == "begin")
        looks[f"no {name}"] = torch.where((each == NOWHERE) & ~drawing.free & ~idle, ends[:, None] - 1, NOWHERE)
    for index, (prompt, pictures) in enumerate(zip(prompts, references, strict=True)):
        front, end = len(prompt.ids), len(prompt.ids) + len(kept)
        ids[index, :front] = filled(prompt, pictures)
        ids[index, front:end] = drawing.codes[index, kept]
        places[:, index, :end] = positions(prompt)[:, torch.cat([torch.arange(front), front + kept])]
        shown = (torch.tensor(prompt.ids) == prompt.image_token).nonzero().flatten()
        stands = shown if len(shown) else front + torch.searchsorted(kept, torch.arange(codes))
        known = drawing.origins[index] != NOWHERE
        looks["cell"][index, known] = stands[drawing.origins[index, known]]
        if len(shown):  # The text comes after the end of the last picture.
            for name, each in drawing.said.items():
                looks[name][index, each[index] != NOWHERE] += int(shown[-1]) + 2
    weights = drawing.weights if even else drawing.weights * torch.where(drawing.repeats, COPY_WEIGHT, 1.0)
    return _Batch(
        ids=ids,
        places=places,
        # The state before each code predicts it.
        at=ends[:, None] - 1 + torch.searchsorted(kept, told),
        wanted=drawing.codes[:, told],
        weights=weights[:, told],
        parts={name: chosen[:, told] for name, chosen in drawing.parts.items()},
        looks={name: wanted[:, told] for name, wanted in looks.items()},
    )


def _said(processor: GlmImageProcessor, scene: Scene, text: str) -> dict[str, Tensor]:
    """`looks.letters` and `looks.sides` for the prompt's own tokens, [h, w] each."""
    offsets = processor.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True).offset_mapping
    rows, cols, begins = sides(scene, text, offsets)
    return {"letter": letters(scene, text, offsets), "row": rows, "column": cols, "begin": begins}


def _first_cells(grid: Grid, preview: Grid) -> Tensor:
    """[h * w]: of each cell of the target the first that shows it in the preview; `NOWHERE` where none does."""
    shown, new = to_preview(torch.arange(grid[0] * grid[1]).view(grid), preview)
    first = torch.full((grid[0] * grid[1],), NOWHERE)
    first[shown[new]] = new.flatten().nonzero().flatten()
    return first


def train_prior(
    model: GlmImageForConditionalGeneration,
    processor: GlmImageProcessor,
    work: Path,
    schedule: Schedule,
    shares: Mapping[int, float],
    *,
    fresh: bool = True,
    compiled: bool = False,
) -> Run:
    """`shares`: level of the world -> share of training."""
    model.train()
    data = Exercises(work, shares, WORLDS, _alike, latents=False, worth=(lambda each: 1.0) if fresh else _worth)
    model.model.visual.requires_grad_(False)
    model.model.vqmodel.requires_grad_(False)
    text = model.model.language_model
    run = Run("prior", work, {"text": text, "lm_head": model.lm_head}, schedule)
    if not run.resume() and fresh:
        start_codes(model)
        start_neighbours(model)
    forward = torch.compile(_states_and_looks, dynamic=True) if compiled else _states_and_looks
    pad = model.config.text_config.pad_token_id

    def loss_of(step: int, done: float) -> tuple[Tensor, Metrics]:
        rng, kind = random.Random(step), random.Random(f"kind {run.step}")
        full = run.step % (FULL_EVERY if fresh else FULL_LATER) == 0
        even = done >= EVEN_FROM or not fresh
        batch = _batch(data, processor, rng, kind, schedule.batch, pad, full=full, even=even)
        run.batch = {
            **{name: getattr(batch, name) for name in ("ids", "places", "at", "wanted", "weights")},
            **{f"look {name}": places for name, places in batch.looks.items()},
        }
        backend = SDPBackend.FLASH_ATTENTION if batch.ids.shape[1] >= FLASH_FROM else SDPBackend.MATH
        with mixed_precision(), sdpa_kernel(backend):
            hidden, looking, looked_at = forward(model, batch.ids, batch.places)
            at = batch.at[..., None].expand(-1, -1, hidden.shape[-1])
            logits = model.lm_head(hidden.gather(1, at))
        losses = F.cross_entropy(logits.float().flatten(0, 1), batch.wanted.flatten(), reduction="none")
        losses = losses.view(batch.wanted.shape)
        missing = {}
        for name, places in batch.looks.items():
            layer, head = HEADS[name.removeprefix("no ")]
            missing[name] = missed(looking[layer, :, head], looked_at[layer, :, head], batch.at, places)
        parts = {name: losses[chosen].mean().item() for name, chosen in batch.parts.items() if chosen.any()}
        parts |= {f"look_{name}": missing[name].item() for name, at in batch.looks.items() if (at != NOWHERE).any()}
        loss = (losses * batch.weights).sum() / batch.weights.sum()
        return loss + LOOK_WEIGHT * sum(missing.values()), parts

    run.train(loss_of, log_every=30)
    run.load_average()
    return run
