"""The autoregressive prior: a prompt's ids to the picture's codes, drawn one after another.

Our own forward pass over the submodules of transformers' `GlmImageForConditionalGeneration` (which is loaded unmodified
and owns the weights) and our own sampling loop. Its draws are those of `generate()` for one picture in float32 with the
same seed and every id outside the codebook forbidden; what it leaves out of that path:

- caches that grow, position tensors and rotary tables made anew for each token: all are made once, before the first;
- three products for queries, keys and values: one, over weights that the three modules then share (no copy is kept);
- weights read row by row: on a CPU they are laid down column by column (same values, same shape), which a product with
  a single row reads twice as fast once they outgrow the cache;
- sorting the whole vocabulary for top-p: the few hundred best codes settle it, unless rounding could;
- logits of ids that are never drawn, the check for an end token, and the forward pass after the last code: the count is
  exact by construction;
- one prefill per picture: a batch shares it, and each picture draws from its own generator;
- passes through the weights for codes that can be guessed: a code often repeats a neighbour, the preview or the
  reference. Guesses go through the model together, each place draws from its own logits as ever, and the first wrong
  guess ends the pass: the codes are the same, right or wrong (speculative decoding, Leviathan et al. 2023, where the
  draft is a copy and the draw's noise is fixed).

Knows nothing of pixels; the codes of references come in as numbers.

Axes: B pictures, T prompt tokens, N codes to draw, L all tokens, C width, H query heads, K key/value heads, G = H/K,
D width of a head, A = H + 2K heads of queries, keys and values together, V vocabulary of the head, S codes that one
pass takes in.
"""

from __future__ import annotations

import threading
from bisect import bisect
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glmimage.errors import RequestError, Stopped
from glmimage.events import PriorTokens
from glmimage.geometry import Grid, preview_cells
from glmimage.models import Stack
from glmimage.prompting import PromptIds
from glmimage.request import Sampling

Linear = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Draft:
    """The codes drawn so far."""

    step: int
    """Codes drawn of `total`, in every picture of the batch."""
    total: int
    codes_BN: Tensor
    """[B, step] int64, preview grid first; a view that later steps do not change."""
    grids: tuple[Grid, ...]
    """What is drawn, first to last: (preview, target), or (target,) with references."""


def generate_prior(
    stack: Stack,
    prompt: PromptIds,
    generators: Sequence[torch.Generator],
    *,
    references: Sequence[Tensor] = (),
    sampling: Sampling | None = None,
    known: Sequence[int] = (),
    hidden_NT: Tensor | None = None,
    stop: threading.Event | None = None,
    layers: Callable[[], Iterator[Any]] | None = None,
) -> Generator[Draft, None, tuple[PriorTokens, ...]]:
    """Draws the codes of one picture for each generator (on the stack's device) and yields after every code.

    `references` are the code grids [h, w] that `prompt` was laid out for. `known` are the first codes, where they are
    given, or -1 where one is to be drawn; each takes its draw from the generator all the same, so that the codes that a
    generator drew, given to it again, are followed by the same ones. `hidden_NT` (bool) says which tokens of the prompt
    are hidden from what draws each code; from the first, which the prompt's last token draws, nothing is. `layers` has
    the model's layers in place one after the other, where they come and go (`residency`). Returns one `PriorTokens` a
    picture.
    Raises Stopped when `stop` is set, RequestError where the prompt is too long for the model.
    """
    rule = _rule(stack, sampling or Sampling())
    _check_length(stack, prompt)
    _check_stop(stop)
    run = _Run(stack, prompt, references, len(generators), layers, hidden_NT)
    guesses = _Guesses(prompt, references, known)
    total, done = prompt.count, 0
    codes_BN = torch.empty(len(generators), total, dtype=torch.long, device=stack.device)
    noise_BV = torch.empty(len(generators), run.vocabulary, device=stack.device)
    logits_BSV = run.prefill()
    while True:
        for logits_BV in logits_BSV.unbind(1):
            _check_stop(stop)
            drawn_B = _draw(logits_BV, rule, noise_BV, generators)
            if done < len(known) and known[done] >= 0:
                drawn_B = torch.full_like(drawn_B, known[done])
            right = guesses.judge(codes_BN, done, drawn_B)
            codes_BN[:, done] = drawn_B
            done += 1
            yield Draft(done, total, codes_BN[:, :done], prompt.drawn)
            if not right:
                break
        if done == total:
            break
        _check_stop(stop)
        ahead = guesses.write(codes_BN, done)
        logits_BSV = run.step(codes_BN[:, done - 1 : done + ahead], done - 1)
    return tuple(_tokens(codes, prompt.drawn) for codes in codes_BN)


def _tokens(codes_N: Tensor, grids: tuple[Grid, ...]) -> PriorTokens:
    parts = codes_N.cpu().split([rows * columns for rows, columns in grids])
    grid_codes = [part.view(grid).numpy() for part, grid in zip(parts, grids, strict=True)]
    return PriorTokens(target=grid_codes[-1], preview=grid_codes[0] if len(grids) == 2 else None)


def _check_stop(stop: threading.Event | None) -> None:
    if stop is not None and stop.is_set():
        raise Stopped


def _check_length(stack: Stack, prompt: PromptIds) -> None:
    most = stack.prior.config.text_config.max_position_embeddings
    if len(prompt.ids) + prompt.count > most:
        raise RequestError(
            f"The prompt with its references takes {len(prompt.ids)} tokens and the picture {prompt.count}, more than"
            f" the {most} that the model holds; shorten the prompt, or use fewer references or a smaller picture."
        )


# --- positions --------------------------------------------------------------------------------------------------------


def positions(prompt: PromptIds) -> Tensor:
    """[3, L] int64: time, row, column of every token of the prompt and of every code to draw.

    Text counts on in all three; a grid keeps its start as time and adds row and column to it; what follows a grid
    starts at its start + max(rows, columns). Follows `GlmImageModel.get_rope_index`.
    """
    blocks: list[Tensor] = []
    start = 0
    left = iter(prompt.references)
    for is_image, run in groupby(prompt.ids, lambda id: id == prompt.image_token):
        count = len(list(run))
        if not is_image:
            blocks.append(torch.arange(start, start + count).expand(3, -1))
            start += count
            continue
        grid = next(left)
        assert grid[0] * grid[1] == count, "markers stand between the references"
        blocks.append(_grid_positions(start, grid))
        start += max(grid)
    for grid in prompt.drawn:
        blocks.append(_grid_positions(start, grid))
        start += max(grid)
    return torch.cat(blocks, dim=1)


def _grid_positions(start: int, grid: Grid) -> Tensor:
    rows, columns = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    return torch.stack([torch.zeros_like(rows), rows, columns]).flatten(1) + start


# --- drawing ----------------------------------------------------------------------------------------------------------


class _Rule(NamedTuple):
    temperature: float
    top_k: int
    top_p: float


def _rule(stack: Stack, sampling: Sampling) -> _Rule:
    """What is asked for, else what the checkpoint says, else what `generate()` would take."""
    config = stack.prior.generation_config

    def first(asked: float | None, name: str, library: float) -> float:
        stored = getattr(config, name, None)
        return asked if asked is not None else stored if stored is not None else library

    return _Rule(
        temperature=float(first(sampling.temperature, "temperature", 1.0)),
        top_k=int(first(sampling.top_k, "top_k", 50)),
        top_p=float(first(sampling.top_p, "top_p", 1.0)),
    )


_BEST = 256
"""Codes that top-p looks at first; a whole sort costs five times as much on a CPU."""
_ROUNDING = 1e-5
"""Far above the rounding error of a sum of float32 probabilities, far below any probability that matters."""


@torch.inference_mode()
def _draw(logits_BV: Tensor, rule: _Rule, noise_BV: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """[B] int64: one code a picture. Logits are float32 of the codebook alone, noise is as wide as the head.

    Order and comparisons are those of transformers' warpers: temperature, top-k, top-p. The draw is `multinomial`'s:
    the largest of probability / exponential noise; noise for the ids after the codebook is drawn and left.
    """
    scores = logits_BV if rule.temperature == 1.0 else logits_BV / rule.temperature
    if 0 < rule.top_k < scores.shape[-1]:
        scores = scores.masked_fill(scores < scores.topk(rule.top_k).values[:, -1:], -torch.inf)
    for noise, generator in zip(noise_BV, generators, strict=True):
        noise.exponential_(1, generator=generator)
    noise_BV = noise_BV[:, : scores.shape[-1]]
    if rule.top_p == 1.0:
        return (scores.softmax(-1) / noise_BV).argmax(-1)
    scores, order = _nucleus(scores, rule.top_p)
    best = (scores.softmax(-1) / noise_BV.gather(-1, order)).argmax(-1, keepdim=True)
    return order.gather(-1, best)[:, 0]


def _nucleus(scores_BV: Tensor, top_p: float) -> tuple[Tensor, Tensor]:
    """Scores and codes of the smallest set that holds `top_p` of the probability; -inf where a row's set is smaller."""
    if scores_BV.device.type == "cpu" and scores_BV.shape[-1] > 2 * _BEST:
        best, order = scores_BV.topk(_BEST)
        chances = (best - scores_BV.logsumexp(-1, keepdim=True)).exp_()
        upto = chances.cumsum(-1)
        # Upstream sums from the least probable up; the two sums can only disagree next to the limit.
        if bool((upto[:, -1] > top_p + _ROUNDING).all() and ((upto - top_p).abs() > _ROUNDING).all()):
            return best.masked_fill_(upto - chances > top_p, -torch.inf), order
    scores, order = scores_BV.sort()
    below = scores.softmax(-1).cumsum(-1) <= 1 - top_p
    below[:, -1] = False
    return scores.masked_fill_(below, -torch.inf), order


# --- guessing ---------------------------------------------------------------------------------------------------------

_LONGEST = 16
"""Guesses a pass: so few rows cost little more than one, as long as reading the weights is what takes the time."""
_WORTH = 0.3
"""Chance of being reached and right above which a guess is worth its row."""
_FORGET = 0.2
"""Of the record of a kind of guess, by each new one."""


class _Guess(NamedTuple):
    kind: str
    """Guesses of a kind share a record."""
    place: int = -1
    """Where the code stands that is repeated, among those drawn; or"""
    code: int = -1
    """the code itself."""


class _Guesses:
    """For every place a code that may come there, and how often such guesses were right."""

    def __init__(self, prompt: PromptIds, references: Sequence[Tensor], known: Sequence[int] = ()) -> None:
        self.guesses = _lay_out(prompt, references)
        for place, code in enumerate(known):
            if code >= 0:
                self.guesses[place] = _Guess("known", code=code)
        self.records = {guess.kind: 0.5 for guess in self.guesses if guess} | {"known": 1.0}

    def judge(self, codes_BN: Tensor, place: int, drawn_B: Tensor) -> bool:
        """Whether all pictures drew at `place` what is guessed there; keeps the record, used or not."""
        guess = self.guesses[place]
        if guess is None:
            return False
        right = bool((drawn_B == (codes_BN[:, guess.place] if guess.place >= 0 else guess.code)).all())
        self.records[guess.kind] += _FORGET * (right - self.records[guess.kind])
        return right

    def write(self, codes_BN: Tensor, place: int) -> int:
        """Writes guesses from `place` on for as long as they are worth it; returns how many. None for the last place,
        after which nothing is drawn."""
        chance, count = 1.0, 0
        for guess in self.guesses[place : min(place + _LONGEST, len(self.guesses) - 1)]:
            chance *= self.records[guess.kind] if guess else 0.0
            if guess is None or chance < _WORTH:
                break
            codes_BN[:, place + count] = codes_BN[:, guess.place] if guess.place >= 0 else guess.code
            count += 1
        return count


def _lay_out(prompt: PromptIds, references: Sequence[Tensor]) -> list[_Guess | None]:
    """One guess a place, where there is any.

    In a preview that is finer than the target, the cells that show one target cell repeat each other; the target
    repeats the preview, or the first reference of its shape; and a ground repeats itself everywhere.
    """
    guesses: list[_Guess | None] = []
    *_, (rows, columns) = prompt.drawn
    preview = prompt.drawn[0] if len(prompt.drawn) == 2 else None
    if preview:
        shown_row, shown_column = preview_cells((rows, columns), preview)
        for row, column in _cells(preview):
            here = row * preview[1] + column
            if row and shown_row[row] == shown_row[row - 1]:
                guesses.append(_Guess("same row", here - preview[1]))
            elif column and shown_column[column] == shown_column[column - 1]:
                guesses.append(_Guess("same column", here - 1))
            else:
                guesses.append(_neighbour(row, column, here, preview[1]))
    alike = next((codes.flatten().tolist() for codes in references if codes.shape == (rows, columns)), None)
    for row, column in _cells((rows, columns)):
        if preview:
            # The last that shows it, or where it is left out the one before.
            place = (bisect(shown_row, row) - 1) * preview[1] + bisect(shown_column, column) - 1
            guesses.append(_Guess("preview", place))
        elif alike:
            guesses.append(_Guess("reference", code=alike[row * columns + column]))
        else:
            guesses.append(_neighbour(row, column, row * columns + column, columns))
    return guesses


def _cells(grid: Grid) -> Iterator[tuple[int, int]]:
    return ((row, column) for row in range(grid[0]) for column in range(grid[1]))


def _neighbour(row: int, column: int, here: int, columns: int) -> _Guess | None:
    if column:
        return _Guess("left", here - 1)
    return _Guess("above", here - columns) if row else None


# --- forward pass -----------------------------------------------------------------------------------------------------


class _Layer(NamedTuple):
    """One layer's weights as this file reads them."""

    norm_in: Linear
    project: Linear
    """C -> A * D: queries, keys, values."""
    out: Linear
    norm_attended: Linear
    norm_between: Linear
    gate_up: Linear
    down: Linear
    norm_mixed: Linear


class _Run:
    """Caches, positions and rotary tables of one batch."""

    def __init__(
        self,
        stack: Stack,
        prompt: PromptIds,
        references: Sequence[Tensor],
        pictures: int,
        layers: Callable[[], Iterator[Any]] | None = None,
        hidden_NT: Tensor | None = None,
    ) -> None:
        model = stack.prior.model.language_model
        config = stack.prior.config.text_config
        attention = model.layers[0].self_attn
        self.heads = config.num_attention_heads
        self.shared = config.num_key_value_heads
        self.width = attention.head_dim
        self.scale = attention.scaling
        self.vocabulary = config.vision_vocab_size
        self.pictures = pictures
        # Of the text embedding, which may lie in host memory, a run needs the prompt's rows and the codes'.
        self.embedding = model.embed_tokens.weight
        self.code_embedding = self.embedding[: stack.codes].to(stack.device)
        made = None if layers else [_layer(layer) for layer in model.layers]
        self.layers: Callable[[], Iterable[_Layer]] = lambda: made or map(_layer, layers())  # type: ignore[misc]
        self.norm = _norm(model.norm)
        self.head = _head(stack)
        self.ids = filled(prompt, references).to(self.embedding.device)
        self.prompt_length = len(prompt.ids)
        self.hidden = None if hidden_NT is None else hidden_NT.to(stack.device)
        length = self.prompt_length + prompt.count - 1
        with torch.inference_mode():
            places = positions(prompt)[:, :length].to(stack.device)
            like = torch.empty(0, device=stack.device, dtype=stack.dtype)
            cosines, sines = model.rotary_emb(like, places[:, None])
            self.turn = _turn(cosines.shape[-1], self.width, stack.device)
            self.prompt_rotary = self._rotary(cosines[0, : self.prompt_length], sines[0, : self.prompt_length])
            self.drawn_rotary = self._rotary(cosines[0, self.prompt_length :], sines[0, self.prompt_length :])
            shape = (len(model.layers), pictures, 2 * self.shared, length, self.width)
            # One tensor for keys (first K) and values (last K), so that a token is written by one copy a layer.
            self.cache = torch.empty(shape, device=stack.device, dtype=stack.dtype)

    def _rotary(self, cosines: Tensor, sines: Tensor) -> tuple[Tensor, Tensor]:
        """[tokens, A, D] each: numbers that do not turn (values, and what lies beyond the rotary width) get 1 and 0."""
        tokens, rotary = cosines.shape
        cos = cosines.new_ones(tokens, self.heads + 2 * self.shared, self.width)
        sin = torch.zeros_like(cos)
        turning = self.heads + self.shared
        cos[:, :turning, :rotary] = cosines[:, None]
        # rotate_half's sign stands in the table, so that turning is a mere exchange of halves.
        sin[:, :turning, : rotary // 2] = -sines[:, None, : rotary // 2]
        sin[:, :turning, rotary // 2 : rotary] = sines[:, None, rotary // 2 :]
        return cos, sin

    def prefill(self) -> Tensor:
        """Runs the prompt once, fills every picture's cache, and returns the first logits [B, 1, codes]."""
        with torch.inference_mode():
            x = F.embedding(self.ids, self.embedding).to(self.code_embedding.device)
            cos, sin = self.prompt_rotary
            for layer, cache in zip(self.layers(), self.cache, strict=True):
                mixed = layer.project(layer.norm_in(x)).view(len(x), -1, self.width)
                mixed = torch.addcmul(mixed * cos, mixed.index_select(-1, self.turn), sin)
                queries, keys_values = mixed.transpose(0, 1).split([self.heads, 2 * self.shared])
                cache[:, :, : len(x)] = keys_values
                keys, values = keys_values[None].chunk(2, dim=1)
                attended = F.scaled_dot_product_attention(
                    queries[None], keys, values, is_causal=True, scale=self.scale, enable_gqa=True
                )
                x = self._rest(layer, x, attended[0].transpose(0, 1).reshape(len(x), -1))
            return self.head(self.norm(x[-1:])).float().expand(self.pictures, 1, -1)

    def step(self, codes_BS: Tensor, drawn: int) -> Tensor:
        """Takes the codes from number `drawn` (from 0) on in every picture; returns the logits after each, [B, S, V].

        What the cache holds of them counts until a later step overwrites it.
        """
        with torch.inference_mode():
            heads, shared = self.heads, self.shared
            pictures, count = codes_BS.shape
            place = self.prompt_length + drawn
            end = place + count
            cos, sin = (table[drawn : drawn + count] for table in self.drawn_rotary)
            # The G queries that share a key head stand in as query positions of that head.
            grouped = (pictures, shared, heads // shared * count, self.width)
            mask = None
            if count > 1 or self.hidden is not None:
                seen = torch.ones(count, end, dtype=torch.bool, device=codes_BS.device).tril(place)
                if self.hidden is not None:
                    seen[:, : self.prompt_length] &= ~self.hidden[drawn + 1 : drawn + 1 + count]
                mask = seen.repeat(heads // shared, 1)
            x = F.embedding(codes_BS, self.code_embedding).view(pictures * count, -1)
            for layer, cache in zip(self.layers(), self.cache, strict=True):
                mixed = layer.project(layer.norm_in(x)).view(pictures, count, -1, self.width)
                mixed = torch.addcmul(mixed * cos, mixed.index_select(-1, self.turn), sin).transpose(1, 2)
                cache[:, :, place:end] = mixed[:, heads:]
                past = cache[:, :, :end]
                attended = F.scaled_dot_product_attention(
                    mixed[:, :heads].reshape(grouped),
                    past[:, :shared],
                    past[:, shared:],
                    attn_mask=mask,
                    scale=self.scale,
                )
                attended = attended.view(pictures, heads, count, self.width).transpose(1, 2)
                x = self._rest(layer, x, attended.reshape(pictures * count, -1))
            return self.head(self.norm(x)).float().view(pictures, count, -1)

    @staticmethod
    def _rest(layer: _Layer, x: Tensor, attended: Tensor) -> Tensor:
        """What follows the attention in a layer, token by token."""
        x = x + layer.norm_attended(layer.out(attended))
        gate, up = layer.gate_up(layer.norm_between(x)).chunk(2, dim=-1)
        return x + layer.norm_mixed(layer.down(up * F.silu(gate)))


def filled(prompt: PromptIds, references: Sequence[Tensor]) -> Tensor:
    """[T] int64: the prompt's ids with the references' codes in their places."""
    ids = torch.tensor(prompt.ids)
    assert [tuple(codes.shape) for codes in references] == list(prompt.references), "the prompt is laid out for others"
    if references:
        ids[ids == prompt.image_token] = torch.cat([codes.flatten().long().cpu() for codes in references])
    return ids


def _turn(rotary: int, width: int, device: torch.device) -> Tensor:
    """[D] indices that exchange the halves of the rotary part."""
    half = rotary // 2
    order = [*range(half, rotary), *range(half), *range(rotary, width)]
    return torch.tensor(order, device=device)


def lay_down(model: Any) -> None:
    """Lays the weights down as runs read them, which the first run would do: for what moves the weights, before it."""
    for layer in model.model.language_model.layers:
        _layer(layer)
    if type(model.lm_head) is nn.Linear:
        _laid_down([model.lm_head.weight])


def _layer(layer: Any) -> _Layer:
    """One layer's weights; laid down for reading the first time, for as long as they stay where they are."""
    return _Layer(
        norm_in=_norm(layer.input_layernorm),
        project=_joined(layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj),
        out=_joined(layer.self_attn.o_proj),
        norm_attended=_norm(layer.post_self_attn_layernorm),
        norm_between=_norm(layer.post_attention_layernorm),
        gate_up=_joined(layer.mlp.gate_up_proj),
        down=_joined(layer.mlp.down_proj),
        norm_mixed=_norm(layer.post_mlp_layernorm),
    )


def _head(stack: Stack) -> Linear:
    """Logits of the codebook alone."""
    head, codes = stack.prior.lm_head, stack.codes
    if type(head) is not nn.Linear:
        return lambda x: head(x)[..., :codes]
    weight = _laid_down([head.weight])[:codes]
    return lambda x: F.linear(x, weight)


def _joined(*modules: nn.Module) -> Linear:
    """The modules' outputs side by side. Plain linear layers become one product, and their weights views of its weight.

    Modules of other kinds (quantized, with adapters) are called as they are.
    """
    plain = [module for module in modules if type(module) is nn.Linear]
    if len(plain) < len(modules):
        return modules[0] if len(modules) == 1 else lambda x: torch.cat([module(x) for module in modules], dim=-1)
    weight = _laid_down([module.weight for module in plain])
    biases: list[Tensor] = [module.bias for module in plain if module.bias is not None]
    if len(biases) < len(plain):
        assert not biases, "upstream gives all three a bias or none"
        return lambda x: F.linear(x, weight)
    bias = torch.cat(biases)
    return lambda x: F.linear(x, weight, bias)


@torch.no_grad()
def _laid_down(weights: Sequence[Tensor]) -> Tensor:
    """[sum of rows, columns]: the weights below one another in one piece of memory that they share from now on."""
    first = weights[0]
    rows = [len(weight) for weight in weights]
    by_column = first.device.type == "cpu" and first.dtype == torch.float32
    strides = (1, sum(rows)) if by_column else (first.shape[1], 1)
    starts = [first.data_ptr() + sum(rows[:index]) * strides[0] * first.itemsize for index in range(len(rows))]
    if all(
        weight.stride() == strides and weight.data_ptr() == start for weight, start in zip(weights, starts, strict=True)
    ):
        return first.data.as_strided((sum(rows), first.shape[1]), strides, first.storage_offset())
    joined = torch.cat([weight.data for weight in weights])
    if by_column:
        joined = joined.t().contiguous().t()
    for weight, part in zip(weights, joined.split(rows), strict=True):
        weight.data = part
    return joined


def _norm(module: nn.Module) -> Linear:
    """GlmImageRMSNorm in few calls."""
    weight, epsilon = module.weight, module.variance_epsilon
    assert isinstance(weight, Tensor)
    assert isinstance(epsilon, float)
    shape = weight.shape
    if weight.device.type == "cpu" and weight.dtype == torch.float32:
        # x / sqrt(mean(x^2) + e) = x * sqrt(C) / sqrt(|x|^2 + C e): half the time of F.rms_norm, which is a chain of
        # small operations on a CPU.
        scaled, rest = weight * len(weight) ** 0.5, torch.tensor((len(weight) * epsilon) ** 0.5)
        return lambda x: x / torch.hypot(torch.linalg.vector_norm(x, dim=-1, keepdim=True), rest) * scaled
    return lambda x: F.rms_norm(x, shape, weight, epsilon)
