"""The diffusion decoder: prior codes, glyphs and references to latents.

Our own forward pass over the submodules of diffusers' `GlmImageTransformer2DModel` (which is loaded unmodified and owns
the weights), with the loop of `GlmImagePipeline` around it. Equal results, less work:

- once a run: rotary table, glyph and prior projections, the AdaLN modulations of every step (they depend on timestep
  and size only, so both guidance branches share them; references sit at t = 0 and have their own);
- keys and values live in buffers made once; each reference runs once, alone, and its keys and values stay at the front
  of them, while the target's are written behind in every step and layer;
- both guidance branches go through the layers together; modulation is folded into the LayerNorm kernel, and the last
  layer leaves out the glyph stream, whose result nobody reads;
- a rotary pair is one complex number. That reorders the numbers of a head, in queries and keys alike, which their dot
  product does not see.

Knows nothing of the prior, of pixels or of prompts.

Axes: B pictures, C latent channels, H W latent rows and columns, N image tokens (H/2 x W/2), T glyph tokens,
R tokens of all references, S steps, L layers, D width, h heads, d width of a head.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from diffusers import GlmImageTransformer2DModel
from torch import Tensor

from glmimage import flow
from glmimage.errors import Stopped
from glmimage.geometry import LATENT, PRIOR_CELL, Size
from glmimage.linears import linear
from glmimage.regions import Ties
from glmimage.source import Source


class PaintedReference(Protocol):
    """What the decoder reads of a `references.PreparedReference`."""

    @property
    def codes(self) -> Tensor: ...  # [h, w] int64, one code for 32 x 32 pixels
    @property
    def latents(self) -> Tensor: ...  # [1, C, H, W] normalised


class Layers(Protocol):
    """Has the transformer's layers in place, one after the other; `residency.Residency` where they come and go."""

    def blocks(self) -> Iterator[Any]: ...  # every block, in order
    def modulations(self) -> Iterator[Any]: ...  # the same, for their AdaLN layers alone


class _InPlace:
    """All layers are where they are needed."""

    def __init__(self, decoder: GlmImageTransformer2DModel) -> None:
        self._decoder = decoder

    def blocks(self) -> Iterator[Any]:
        return iter(self._decoder.transformer_blocks)

    modulations = blocks


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Conditions:
    """All that the decoder paints from."""

    codes: Tensor
    """[B, rows, columns] int64: the prior's target grid, one code for 32 x 32 pixels."""
    glyphs: Tensor
    """[1, T, text width]: `glyphs.encode_glyphs` of the quoted strings; every picture has the same."""
    empty_glyphs: Tensor
    """[1, T', text width]: the same of no string, for the unconditional branch."""
    references: Sequence[PaintedReference] = ()
    guidance: float = 1.5
    """1 and below: no unconditional branch."""
    ties: Ties | None = None
    """Which patches the glyphs belong to; None: upstream's attention."""

    @property
    def size(self) -> Size:
        rows, columns = self.codes.shape[1:]
        return Size(columns * PRIOR_CELL, rows * PRIOR_CELL)


class Step(NamedTuple):
    """One Euler step is done."""

    number: int
    """Counted from 1."""
    total: int
    latents: Tensor
    """[B, C, H, W] float32, normalised, at this step's end."""
    clean: Tensor
    """[B, C, H, W] float32: the finished latents as predicted in this step."""


@torch.no_grad()
def denoise(
    decoder: GlmImageTransformer2DModel,
    scheduler_config: Mapping[str, Any],
    conditions: Conditions,
    noise: Tensor,
    *,
    steps: int,
    source: Source | None = None,
    stop: threading.Event | None = None,
    layers: Layers | None = None,
) -> Iterator[Step]:
    """Paints: yields a `Step` after every step, the last one holds the finished latents.

    noise [B, C, H, W]: standard normal, one draw a picture; layers None: all are in place. A source may leave out some
    of the steps, and holds the latents that stay its own.
    Raises Stopped at the next step once `stop` is set.
    With equal weights, codes and noise the latents are those of `GlmImagePipeline`.
    """
    grid = conditions.size.patch_grid
    timesteps, sigmas = flow.schedule(steps, grid[0] * grid[1], scheduler_config)
    if source is not None:
        skipped = source.skipped(steps)
        timesteps, sigmas = timesteps[skipped:], sigmas[skipped:]
    noise = noise.to(decoder.device, torch.float32)
    latents = noise if source is None else source.start(noise, float(sigmas[0]))
    painter = Painter(decoder, conditions, timesteps, stop, layers)
    for step, (sigma, sigma_next) in enumerate(zip(sigmas[:-1].tolist(), sigmas[1:].tolist(), strict=True)):
        if stop is not None and stop.is_set():
            raise Stopped
        velocity = painter.velocity(latents, step)
        clean = flow.clean_estimate(latents, velocity, sigma)
        latents = flow.euler_step(latents, velocity, sigma, sigma_next)
        if source is not None:
            clean, latents = source.hold(clean, noise, 0.0), source.hold(latents, noise, sigma_next)
        yield Step(step + 1, len(timesteps), latents, clean)


class _Stream(NamedTuple):
    """AdaLN vectors of one stream (image or glyphs), [S, D] each; scales are stored as 1 + scale."""

    shift_attention: Tensor
    scale_attention: Tensor
    gate_attention: Tensor
    shift_feed: Tensor
    scale_feed: Tensor
    gate_feed: Tensor

    def at(self, step: int) -> _Stream:
        return _Stream(*(vectors[step] for vectors in self))


class _Modulations(NamedTuple):
    """What timestep and size do to every layer, for S timesteps."""

    layers: list[tuple[_Stream, _Stream]]
    """(image, glyphs) of each layer."""
    scale_out: Tensor
    shift_out: Tensor


def modulations(
    decoder: GlmImageTransformer2DModel, timesteps: Tensor, size: Size, layers: Layers | None = None
) -> _Modulations:
    """The AdaLN vectors of every layer for timesteps [S] as the model is conditioned on them (t - 1)."""
    device, dtype = decoder.device, decoder.dtype
    count = timesteps.numel()
    target = torch.tensor([[size.height, size.width]], device=device, dtype=dtype).expand(count, 2)
    crop = torch.zeros_like(target)
    embedding = decoder.time_condition_embed(timesteps.to(device), target, crop, dtype)
    vectors = []
    for block in (layers or _InPlace(decoder)).modulations():
        # The twelve in upstream's order: shift, scale, gate of attention, then of feed-forward; image before glyphs.
        parts = block.norm1.linear(embedding).chunk(12, dim=1)
        streams = []
        for first in (0, 1):
            shift_a, scale_a, gate_a, shift_f, scale_f, gate_f = parts[first::2]
            streams.append(_Stream(shift_a, 1 + scale_a, gate_a, shift_f, 1 + scale_f, gate_f))
        vectors.append((streams[0], streams[1]))
    scale, shift = decoder.norm_out.linear(embedding).chunk(2, dim=1)
    return _Modulations(vectors, 1 + scale, shift)


def rotary(grid: tuple[int, int], width: int, theta: float, device: torch.device) -> Tensor:
    """[N, 1, d/2] complex64: how each patch turns the pairs of a head; its row the first half, its column the rest."""
    quarter = width // 4
    # On the CPU and in float32 like upstream, so that the angles are the very same numbers.
    frequencies = 1.0 / theta ** (torch.arange(0, width // 2, 2, dtype=torch.float32)[:quarter] / (width // 2))
    rows, columns = (torch.outer(torch.arange(side).float(), frequencies) for side in grid)
    angles = torch.cat([rows[:, None].expand(*grid, quarter), columns[None, :].expand(*grid, quarter)], dim=-1).reshape(
        -1, 1, 2 * quarter
    )
    return torch.complex(angles.cos(), angles.sin()).to(device)


def _pairs(x: Tensor) -> Tensor:
    """Halves of each head as complex numbers: [..., d] to [..., d/2]."""
    if x.dtype not in (torch.float32, torch.float64):
        x = x.float()
    half = x.shape[-1] // 2
    return torch.complex(x[..., :half], x[..., half:])


def _put(out: Tensor, pairs: Tensor, rotation: Tensor | None = None) -> None:
    """Writes (rotated) pairs as plain numbers, in the order real, imaginary, real, ..., into a buffer [..., d]."""
    if out.dtype == pairs.real.dtype:
        target = torch.view_as_complex(out.unflatten(-1, (-1, 2)))
        if rotation is None:
            target.copy_(pairs)
        else:
            torch.mul(pairs, rotation, out=target)
    else:
        out.copy_(torch.view_as_real(pairs if rotation is None else pairs * rotation).flatten(-2))


class _Branch:
    """One guidance branch (or one reference): a block of pictures that attend to themselves and to the references.

    Holds the buffers for queries [B, N + T, h, d] and for keys and values [L or 1, B, R + N + T, h, d]. With references
    every layer has its own, as the front is kept from step to step; without, all layers share one. Where glyphs are
    tied to patches, the buffers are wider than d: what stands there once and for all adds the bias to the dot products.
    """

    def __init__(
        self, keys: Tensor, values: Tensor, queries: Tensor, width: int, image: slice, glyphs: slice, tokens: int
    ) -> None:
        self.wide = keys, values, queries
        self.keys, self.values, self.queries = (buffer[..., :width] for buffer in self.wide)
        self.width = width
        self.image, self.glyphs = image, glyphs
        """Rows of the branch in the image stream and in the glyph stream."""
        self.tokens = tokens
        """N."""

    @classmethod
    def allocate(
        cls,
        decoder: GlmImageTransformer2DModel,
        sizes: tuple[int, int, int, int],
        image_row: int,
        glyph_row: int,
        ties: Ties | None,
    ) -> _Branch:
        """sizes = B, R, N, T."""
        pictures, references, tokens, glyphs = sizes
        heads, width = decoder.config.num_attention_heads, decoder.config.attention_head_dim
        layers = decoder.config.num_layers if references else 1
        wide = width
        if ties is not None:
            wide += -(-2 * len(ties.patches_SN) // _ALIGNMENT) * _ALIGNMENT
        shape = (layers, pictures, references + tokens + glyphs, heads, wide)
        keys, values = (torch.empty(shape, device=decoder.device, dtype=decoder.dtype) for _ in range(2))
        queries = torch.empty((pictures, tokens + glyphs, heads, wide), device=decoder.device, dtype=decoder.dtype)
        if ties is not None:
            _write_ties(keys, values, queries, width, ties)
        return cls(
            keys,
            values,
            queries,
            width,
            slice(image_row, image_row + pictures * tokens),
            slice(glyph_row, glyph_row + pictures * glyphs),
            tokens,
        )

    def reference(self, start: int, tokens: int) -> _Branch:
        """The part of the buffers where a reference of `tokens` tokens writes; it sees nothing else."""
        part = slice(start, start + tokens)
        queries = self.queries.new_empty((1, tokens, *self.queries.shape[2:]))
        keys, values = self.keys[:, :1, part], self.values[:, :1, part]
        return _Branch(keys, values, queries, self.width, slice(0, tokens), slice(0, 0), tokens)

    def share_references(self, end: int) -> None:
        """Gives every picture the references that the first one holds."""
        for buffer in (self.keys, self.values):
            buffer[:, 1:, :end] = buffer[:, :1, :end]

    def layer(self, index: int) -> int:
        return index if self.keys.shape[0] > 1 else 0

    def write(self, index: int, image: _Projected, glyphs: _Projected | None, rotation: Tensor) -> None:
        """Puts this layer's keys, values and queries where `attend` reads them; glyphs None = there are none."""
        keys, values = self.keys[self.layer(index)], self.values[self.layer(index)]
        own = slice(keys.shape[1] - self.queries.shape[1], None)
        keys, values = keys[:, own], values[:, own]
        for projected, tokens, rows, turn in (
            (image, slice(0, self.tokens), self.image, rotation),
            (glyphs, slice(self.tokens, None), self.glyphs, None),
        ):
            if projected is None or rows.start == rows.stop:
                continue
            shape = (keys.shape[0], -1, *keys.shape[2:])
            pairs_shape = (*shape[:3], shape[3] // 2)
            _put(keys[:, tokens], projected.keys[rows].view(pairs_shape), turn)
            values[:, tokens] = projected.values[rows].view(shape)
            if projected.queries is not None:
                _put(self.queries[:, tokens], projected.queries[rows].view(pairs_shape), turn)

    def attend(self, index: int, image_only: bool) -> Tensor:
        """[B, N + T (or N), D]."""
        keys, values, queries = self.wide
        keys, values = keys[self.layer(index)], values[self.layer(index)]
        queries = queries[:, : self.tokens] if image_only else queries
        scale = None if queries.shape[-1] == self.width else self.width**-0.5
        attended = F.scaled_dot_product_attention(
            queries.transpose(1, 2), keys.transpose(1, 2), values.transpose(1, 2), scale=scale
        )
        return attended[..., : self.width].transpose(1, 2).flatten(2)


_ALIGNMENT = 8
"""What the fast attention kernels want the width of a head to be a multiple of."""


def _write_ties(keys: Tensor, values: Tensor, queries: Tensor, width: int, ties: Ties) -> None:
    """Fills the columns beyond a head's width: for each string one pair with which its patches meet its tokens, and one
    the other way round. The scale of the dot products, which comes after, is undone."""
    strings, tokens = ties.patches_SN.shape
    for buffer in (keys, values, queries):
        buffer[..., width:] = 0
    patches, glyphs = (side.t()[:, None].to(keys) for side in (ties.patches_SN, ties.tokens_ST))
    there, back = slice(width, width + strings), slice(width + strings, width + 2 * strings)
    own = keys[:, :, keys.shape[2] - queries.shape[1] :]
    queries[:, :tokens, :, there], own[:, :, tokens:, :, there] = patches, glyphs * width**0.5
    queries[:, tokens:, :, back], own[:, :, :tokens, :, back] = glyphs, patches * width**0.5


class _Projected(NamedTuple):
    """Queries and keys [rows, h, d/2] complex and not yet rotated, values [rows, h, d]."""

    queries: Tensor | None
    keys: Tensor
    values: Tensor


class Painter:
    """Everything of one run that stays the same over its steps, and the forward pass that uses it."""

    def __init__(
        self,
        decoder: GlmImageTransformer2DModel,
        conditions: Conditions,
        timesteps: Tensor,
        stop: threading.Event | None = None,
        layers: Layers | None = None,
    ) -> None:
        """timesteps [S]: the unshifted whole numbers of `flow.schedule`."""
        self._decoder = decoder
        self._through = layers or _InPlace(decoder)
        self._guidance = conditions.guidance
        self._grid = conditions.size.patch_grid
        self._pictures = pictures = conditions.codes.shape[0]
        tokens = self._grid[0] * self._grid[1]
        self._rotation = self._rotary(self._grid)
        self._modulations = modulations(decoder, timesteps - 1, conditions.size, self._through)

        texts = [conditions.glyphs]
        self._priors = [self._project_codes(conditions.codes)]
        if conditions.guidance > 1:
            texts.append(conditions.empty_glyphs)
            self._priors.append(self._project_dropped())
        self._glyphs = torch.cat(
            [decoder.glyph_projector(text.to(decoder.device, decoder.dtype)[0]).repeat(pictures, 1) for text in texts]
        )
        rows = [reference.latents.shape[-2] * reference.latents.shape[-1] // 4 for reference in conditions.references]
        self._branches = []
        glyph_row = 0
        for number, text in enumerate(texts):
            sizes = (pictures, sum(rows) if number == 0 else 0, tokens, text.shape[1])
            ties = conditions.ties if number == 0 else None
            self._branches.append(_Branch.allocate(decoder, sizes, number * pictures * tokens, glyph_row, ties))
            glyph_row += pictures * text.shape[1]

        start = 0
        for reference, count in zip(conditions.references, rows, strict=True):
            if stop is not None and stop.is_set():
                raise Stopped
            self._remember(reference, self._branches[0].reference(start, count))
            start += count
        self._branches[0].share_references(start)

    def velocity(self, latents: Tensor, step: int) -> Tensor:
        """The guided velocity [B, C, H, W] in float32 at latents [B, C, H, W] and step `step` of the timesteps."""
        decoder = self._decoder
        patches = self._patches(latents)
        image = torch.cat([(patches + prior).flatten(0, 1) for prior in self._priors])
        image = self._layers(image, self._glyphs.clone(), self._branches, self._rotation, self._modulations, step)
        scale, shift = self._modulations.scale_out[step], self._modulations.shift_out[step]
        predicted = linear(decoder.proj_out, _normalise(image, decoder.norm_out.norm, shift, scale)).float()
        predicted = predicted.unflatten(0, (len(self._branches), self._pictures, -1))
        guided = predicted[0]
        if len(self._branches) == 2:
            guided = predicted[1] + self._guidance * (predicted[0] - predicted[1])
        side = decoder.config.patch_size
        guided = guided.unflatten(2, (-1, side, side)).unflatten(1, self._grid)
        velocity: Tensor = guided.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)
        return velocity

    def _layers(
        self,
        image: Tensor,
        glyphs: Tensor,
        branches: list[_Branch],
        rotation: Tensor,
        vectors: _Modulations,
        step: int,
        *,
        remember: bool = False,
    ) -> Tensor:
        """Runs the streams (image [rows, D], glyphs [rows, D], changed in place) through all layers; gives the image's.

        remember: only the keys and values are wanted, so the last layer ends with them.
        """
        for index, block in enumerate(self._through.blocks()):
            last = index + 1 == len(vectors.layers)
            image_at, glyphs_at = (stream.at(step) for stream in vectors.layers[index])
            projected_image = self._project(block, image, image_at, queries=not (last and remember))
            projected_glyphs = self._project(block, glyphs, glyphs_at, queries=not last) if len(glyphs) else None
            for branch in branches:
                branch.write(index, projected_image, projected_glyphs, rotation)
            if last and remember:
                continue
            for branch in branches:
                attended = branch.attend(index, image_only=last)
                mixed = linear(block.attn1.to_out[0], attended.flatten(0, 1)).view(attended.shape)
                _add_gated(image[branch.image], mixed[:, : branch.tokens], image_at.gate_attention)
                if not last:
                    _add_gated(glyphs[branch.glyphs], mixed[:, branch.tokens :], glyphs_at.gate_attention)
            _feed_forward(block, image, image_at)
            if len(glyphs) and not last:
                _feed_forward(block, glyphs, glyphs_at)
        return image

    def _project(self, block: Any, stream: Tensor, at: _Stream, *, queries: bool) -> _Projected:
        attention = block.attn1
        normed = _normalise(stream, block.norm1.norm, at.shift_attention, at.scale_attention)
        shape = (stream.shape[0], attention.heads, -1)
        return _Projected(
            _pairs(_plain_norm(linear(attention.to_q, normed).view(shape), attention.norm_q)) if queries else None,
            _pairs(_plain_norm(linear(attention.to_k, normed).view(shape), attention.norm_k)),
            linear(attention.to_v, normed).view(shape),
        )

    def _remember(self, reference: PaintedReference, branch: _Branch) -> None:
        """Runs one reference at t = 0, alone and without text, and leaves its keys and values in the buffers."""
        rows, columns = reference.latents.shape[-2:]
        prior = self._project_codes(reference.codes[None])
        image = (self._patches(reference.latents) + prior)[0]
        size = Size(columns * LATENT, rows * LATENT)
        vectors = modulations(self._decoder, torch.zeros(1), size, self._through)
        rotation = self._rotary((rows // 2, columns // 2))
        self._layers(image, image[:0], [branch], rotation, vectors, 0, remember=True)

    def _patches(self, latents: Tensor) -> Tensor:
        """[B, C, H, W] to [B, N, D]; the same for both branches."""
        decoder = self._decoder
        side = decoder.config.patch_size
        latents = latents.to(decoder.device, decoder.dtype)
        pictures, channels, rows, columns = latents.shape
        patches = latents.reshape(pictures, channels, rows // side, side, columns // side, side)
        patches = patches.permute(0, 2, 4, 1, 3, 5).reshape(pictures, -1, channels * side * side)
        projected = linear(decoder.image_projector.proj, patches.flatten(0, 1))
        return projected.view(pictures, -1, projected.shape[-1])

    def _project_codes(self, codes: Tensor) -> Tensor:
        """Codes [B, rows, columns] to [B, N, D]: each is projected once and stands for 2 x 2 tokens."""
        decoder = self._decoder
        embedded = decoder.prior_token_embedding(codes.to(decoder.device))
        projected: Tensor = decoder.prior_projector(embedded)
        return projected.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2).flatten(1, 2)

    def _project_dropped(self) -> Tensor:
        """[1, 1, D]: what every token of the unconditional branch gets in place of its code."""
        weight = self._decoder.prior_token_embedding.weight
        dropped: Tensor = self._decoder.prior_projector(torch.zeros_like(weight[:1]))
        return dropped[None]

    def _rotary(self, grid: tuple[int, int]) -> Tensor:
        rope = self._decoder.rope
        return rotary(grid, rope.dim, rope.theta, self._decoder.device)


def _normalise(x: Tensor, norm: Any, shift: Tensor, scale: Tensor) -> Tensor:
    """LayerNorm(x) * scale + shift in one kernel; upstream's norms here have no weights of their own."""
    return F.layer_norm(x, x.shape[-1:], scale, shift, norm.eps)


def _plain_norm(x: Tensor, norm: Any) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], None, None, norm.eps)


def _add_gated(stream: Tensor, addend: Tensor, gate: Tensor) -> None:
    stream.view(addend.shape).addcmul_(addend, gate)


def _feed_forward(block: Any, stream: Tensor, at: _Stream) -> None:
    normed = _normalise(stream, block.norm2, at.shift_feed, at.scale_feed)
    activation, _, out = block.ff.net
    stream.addcmul_(linear(out, linear(activation.proj, normed, gelu=True)), at.gate_feed)
