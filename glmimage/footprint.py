"""What one run takes on the device beside the weights, and how long its stages take.

Every byte count follows the tensors of our own stages (`prior.py`, `decoder.py`, `latents.py`, `references.py`) at the
moment when most of them are alive; tests count the live tensors of the real code, on the released configuration, and
hold these formulae to it. Buffers inside kernels are those of bitsandbytes 0.50, as its sources have them. Seconds are
operations and bytes over the machine's figures: limits, with the losses that `Machine` states.

B pictures in one batch of layouts, N tokens of the picture in the decoder, T of its glyphs, R of all references.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from glmimage.errors import RequestError
from glmimage.geometry import PATCH, PRIOR_CELL, Size
from glmimage.machines import Machine
from glmimage.prompting import quoted
from glmimage.quantize import Format
from glmimage.request import LARGEST_COUNT, LARGEST_STEPS, Defaults, Request
from glmimage.weights import Architecture, Component

TEXT_TOKENS, GLYPH_TOKENS = 256, 128
"""Of a prompt, at least."""
GUESSES = 16
"""Most codes that the prior takes in beside the one just drawn."""
TILE_OVERLAP = 16
"""Latents that neighbouring tiles share, as in `latents.py`."""
_CONVOLVED = 3
"""Times the widest tensor: what a processor's convolutions lay out anew, before and after (measured in bfloat16)."""
_CONVOLUTION_KERNELS = 128 * 2**20
"""Bytes of compiled kernels that a processor keeps for the VAE's convolutions: measured were 70 MiB with AVX-512, 30 to
280 with AMX, nothing with `ONEDNN_PRIMITIVE_CACHE_CAPACITY=0`, which is slower."""
_INT8_LAUNCHES = 3
"""LLM.int8() runs about three times the kernels of a plain product."""
_CONVOLUTIONS = 0.7
"""Of the speed of matrix products."""
_UNHIDDEN = 0.1
"""Of the time that streamed weights travel: what the computing beside it does not hide (tabulated)."""
_ONE_FORWARD = 2
"""Operations of a weight and a row: a product and a sum."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """What is to be made, as far as it matters for memory and time."""

    size: Size
    references: tuple[Size, ...] = ()
    """As the models see them: multiples of 32."""
    count: int = 1
    steps: int = 50
    guided: bool = True
    text_tokens: int = TEXT_TOKENS
    """Of the prompt; a page of text has about 500."""
    glyph_tokens: int = GLYPH_TOKENS
    """Bytes of all quoted words and one more for each."""

    def __post_init__(self) -> None:
        for name, value, most in (("count", self.count, LARGEST_COUNT), ("number of steps", self.steps, LARGEST_STEPS)):
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
                raise RequestError(f"The {name} {value!r} is not a whole number between 1 and {most}.")

    @classmethod
    def of(cls, request: Request, references: tuple[Size, ...]) -> Job:
        """A resolved request; `references` are the sizes of its pictures (see `reference_size`)."""
        steps, guidance = request.steps, request.guidance
        assert steps is not None, "the request is resolved"
        assert guidance is not None, "the request is resolved"
        # About a token for three bytes, in any language; a glyph token is a byte.
        text = len(request.prompt.encode()) // 3
        glyphs = sum(len(string.encode()) + 1 for string in quoted(request.prompt))
        return cls(
            size=request.size,
            references=references,
            count=request.count,
            steps=steps,
            guided=guidance > 1,
            text_tokens=max(text, TEXT_TOKENS),
            glyph_tokens=max(glyphs, GLYPH_TOKENS),
        )

    @classmethod
    def usual(cls, defaults: Defaults) -> Job:
        """A picture as a checkpoint makes them by default."""
        size = Size(defaults.width, defaults.height)
        return cls(size=size, steps=defaults.steps, guided=defaults.guidance > 1)

    @property
    def drawn(self) -> int:
        """Codes that the prior draws: the preview grid, which edits have none of, and the target."""
        rows, columns = self.size.prior_grid
        preview = self.size.preview_grid
        return rows * columns + (0 if self.references else preview[0] * preview[1])

    @property
    def prompt_tokens(self) -> int:
        """The text, the size marks, and each reference's codes between two marks."""
        return self.text_tokens + 9 + sum(_cells(size, PRIOR_CELL) + 2 for size in self.references)

    @property
    def tokens(self) -> int:
        return _cells(self.size, PATCH)

    @property
    def branches(self) -> tuple[int, ...]:
        """Glyph tokens of each guidance branch; the unconditional one has an end token alone."""
        return (self.glyph_tokens, 1) if self.guided else (self.glyph_tokens,)

    def to_json(self) -> dict[str, Any]:
        return {
            "size": str(self.size),
            "references": [str(size) for size in self.references],
            "count": self.count,
            "steps": self.steps,
            "guided": self.guided,
            "text_tokens": self.text_tokens,
            "glyph_tokens": self.glyph_tokens,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Job:
        references = tuple(Size.parse(size) for size in data["references"])
        return cls(**{**data, "size": Size.parse(data["size"]), "references": references})


def _cells(size: Size, side: int) -> int:
    return (size.width // side) * (size.height // side)


def reference_size(size: Size, sides: tuple[int, int]) -> Size:
    """What a reference of `size` pixels is brought to, in steps of 32.

    Its short side goes up to the first of `sides`, then its long one down to the second.
    """
    scale = max(1.0, sides[0] / min(size.width, size.height))
    scale = min(scale, sides[1] / max(size.width, size.height))
    return Size(*(max(1, round(side * scale / PRIOR_CELL)) * PRIOR_CELL for side in (size.width, size.height)))


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes and seconds of one job for one architecture on one machine."""

    of: Architecture
    machine: Machine
    job: Job

    # --- bytes --------------------------------------------------------------------------------------------------------

    def packed(self, component: Component, format: Format) -> bool:
        """Whether 4-bit weights are multiplied as they are, as the prior's few rows are where the processor can."""
        return component.name == "prior" and format in ("nf4", "nf4-dq") and self.machine.packs

    def weights(self, component: Component, format: Format) -> int:
        """All of a component's, as they lie in memory."""
        return component.bytes(format, self.machine.itemsize, packed=self.packed(component, format))

    def block(self, component: Component, format: Format) -> int:
        return component.block.bytes(format, self.machine.itemsize, packed=self.packed(component, format))

    def code_rows(self) -> int:
        """The codes' rows of an embedding that stays on the host: they are on the device while codes are drawn."""
        return self.of.codes * self.of.prior_width * self.machine.itemsize

    def _quantized(self, format: Format, matrix: tuple[int, int], rows: int, *, packed: bool = False) -> int:
        """What a product with a matrix [out, in] of that format takes beside its input and its output."""
        (out, inner), size, kind = matrix, self.machine.itemsize, self.machine.kind
        if format == "bf16":
            return 0
        if packed:
            # The kernel works in bfloat16: the input and the product, where they are something else.
            return 0 if size == 2 else rows * 2 * (inner + out)
        if format == "int8":
            # The input in float16 and in int8, the product in int32 and once more where outliers are added.
            product = rows * (3 * inner + (4 + size) * out)
            # Without kernels of their own, the weight and the input become float32, and so does the product, twice.
            return product if not self.machine.unified else product + 4 * out * inner + rows * (4 * inner + 8 * out)
        # Many rows: the whole weight in the dtype of the input, and the scales of nf4-dq as numbers. On Apple's devices
        # this is a chain of 32-bit operations.
        whole = out * inner * (12 if kind == "mps" else size)
        return whole + (out * inner // 64 * 8 if format == "nf4-dq" else 0)

    def _attention(self, heads: int, queries: int, keys: int) -> int:
        """Scores that stand in memory: on Apple's devices they may; elsewhere the kernels keep a tile of them."""
        return heads * queries * keys * self.machine.itemsize if self.machine.kind == "mps" else 0

    def vision(self) -> int:
        """The tower and the quantizer, for the largest reference."""
        of, size = self.of, self.machine.itemsize
        tokens = max((_cells(side, PRIOR_CELL) for side in self.job.references), default=0)
        tower = max(4 * of.vision_positions * of.vision_width, tokens * size * 2 * of.vision_intermediate)
        codebook = of.codes * of.code_dim * size
        quantizer = tokens * size * 3 * of.code_dim + max(2 * codebook, codebook + 3 * tokens * of.codes * size)
        tower += tokens * size * 5 * of.vision_width
        return max(tower + self._attention(1, tokens, tokens), quantizer) if tokens else 0

    def encode(self) -> int:
        """The VAE's encoder, for the largest reference, whole."""
        pixels = max((side.width * side.height for side in self.job.references), default=0)
        width = max(channels / 4**level for level, channels in enumerate(self.of.vae_channels))
        layouts, kernels = self._convolutions()
        taken = int(pixels * (self.machine.itemsize * (5 + layouts) * width + 3 * (4 + self.machine.itemsize)))
        return taken + kernels if pixels else 0

    def _convolutions(self) -> tuple[int, int]:
        """(times the widest tensor, bytes) that convolutions take beside their inputs and outputs."""
        return (_CONVOLVED, _CONVOLUTION_KERNELS) if self.machine.kind == "cpu" else (0, 0)

    def prior_cache(self, pictures: int) -> int:
        """Keys and values, and the rotary tables."""
        of, size = self.of, self.machine.itemsize
        tokens = self.job.prompt_tokens + self.job.drawn - 1
        table = (of.prior_heads + 2 * of.prior_kv_heads) * of.prior_head_dim * 2 * size
        return tokens * (pictures * self.kv_token + table)

    @property
    def kv_token(self) -> int:
        return self.of["prior"].blocks * 2 * self.of.prior_kv_heads * self.of.prior_head_dim * self.machine.itemsize

    def prefill(self, format: Format) -> int:
        """All of the prompt in one go, for one picture."""
        return max(self._prior_rows(self.job.prompt_tokens, format), self._laid_down(format)) + self._attention(
            self.of.prior_heads, self.job.prompt_tokens, self.job.prompt_tokens
        )

    def draw(self, pictures: int, format: Format) -> int:
        """One pass with all the guesses that there can be, and the draw."""
        rows = pictures * (1 + GUESSES)
        logits = rows * self.of.vocabulary * (self.machine.itemsize + 8) + pictures * self.of.vocabulary * 4
        return self._prior_rows(rows, format) + logits

    def _prior_rows(self, rows: int, format: Format) -> int:
        """At the widest point of a layer, the feed-forward."""
        of, size = self.of, self.machine.itemsize
        mixed = (of.prior_heads + 2 * of.prior_kv_heads) * of.prior_head_dim
        inner = rows * of.prior_intermediate * size
        gate_up, down = (2 * of.prior_intermediate, of.prior_width), (of.prior_width, of.prior_intermediate)
        packed = self.packed(of["prior"], format)
        widest = max(
            4 * inner,
            2 * inner + self._quantized(format, gate_up, rows, packed=packed),
            3 * inner + self._quantized(format, down, rows, packed=packed),
        )
        return rows * size * (4 * of.prior_width + mixed) + widest

    def _laid_down(self, format: Format) -> int:
        """In float32 a processor reads weights column by column: the largest is laid down anew, through a copy."""
        if format != "bf16" or self.machine.kind != "cpu" or self.machine.dtype != "float32":
            return 0
        return 2 * 2 * self.of.prior_intermediate * self.of.prior_width * 4

    def glyphs(self) -> int:
        of, size, tokens = self.of, self.machine.itemsize, self.job.glyph_tokens
        return tokens * size * (3 * of.glyph_intermediate + 7 * of.glyph_width) + tokens * tokens * 8 * (size + 4)

    def modulations(self, timesteps: int) -> int:
        """AdaLN vectors of all layers: twelve a layer as they come, and four of them once more, plus one."""
        of, size = self.of, self.machine.itemsize
        return timesteps * of.decoder_width * size * (16 * of["decoder"].blocks + 3)

    def painter(self) -> int:
        """What stays over the steps: modulations, projected codes and glyphs, and the buffers of keys and values."""
        of, job, size = self.of, self.job, self.machine.itemsize
        row = of.decoder_width * size
        references = sum(_cells(side, PATCH) for side in job.references)
        total = self.modulations(job.steps)
        total += (job.tokens + sum(job.branches) + len(job.branches)) * row + job.tokens * of.decoder_head_dim * 4
        for number, glyphs in enumerate(job.branches):
            seen = references if number == 0 else 0
            layers = of["decoder"].blocks if seen else 1
            total += row * (2 * layers * (seen + job.tokens + glyphs) + job.tokens + glyphs)
        return total

    def reference_keys(self, format: Format) -> int:
        """One reference through the decoder, the largest."""
        tokens = max((_cells(side, PATCH) for side in self.job.references), default=0)
        if not tokens:
            return 0
        row = self.of.decoder_width * self.machine.itemsize
        projected = (8 + self.machine.itemsize) * self.of.decoder_width
        return (
            tokens * (6 * row + projected + 4 * self.of.decoder_head_dim)
            + self._feed(tokens, format)
            + self.modulations(1)
            + self._attention(self.of.decoder_width // self.of.decoder_head_dim, tokens, tokens)
        )

    def step(self, format: Format) -> int:
        """One step: both guidance branches go through the layers together."""
        of, job = self.of, self.job
        row = of.decoder_width * self.machine.itemsize
        projected = (8 + self.machine.itemsize) * of.decoder_width
        rows = len(job.branches) * job.tokens
        # Streams, what a layer projects from them, the normalised rows; patches; what the last branch attended to.
        total = rows * (2 * row + projected) + sum(job.branches) * (row + projected)
        total += job.tokens * (row + 64 * 6) + 2 * (job.tokens + job.branches[-1]) * row
        seen = sum(_cells(side, PATCH) for side in job.references) + job.tokens + job.glyph_tokens
        heads = of.decoder_width // of.decoder_head_dim
        return total + self._feed(rows, format) + self._attention(heads, job.tokens + job.glyph_tokens, seen)

    def _feed(self, rows: int, format: Format) -> int:
        of, size = self.of, self.machine.itemsize
        inner, row = rows * of.decoder_intermediate * size, rows * of.decoder_width * size
        up = (of.decoder_intermediate, of.decoder_width)
        down = (of.decoder_width, of.decoder_intermediate)
        # `linears.py` folds the GELU into the product in float32 on a processor.
        fused = format == "bf16" and self.machine.kind == "cpu" and self.machine.dtype == "float32"
        return inner + max(
            0 if fused else inner,
            self._quantized(format, up, rows),
            row + self._quantized(format, down, rows),
        )

    def decode(self, tile: int) -> int:
        """The VAE's decoder, whole (tile 0) or in tiles of that many latents a side."""
        pixels = self.job.size.width * self.job.size.height
        rows, columns = self.job.size.latent_grid
        scale = 2 ** (len(self.of.vae_channels) - 1)
        piece = min(tile, rows) * min(tile, columns) * scale**2 if tile else pixels
        # At the end of a level its input is three times there, upsampled: as itself, normalised and activated.
        inputs = [*self.of.vae_channels[1:], self.of.vae_channels[-1]]
        width = max(channels / 4**level for level, channels in enumerate(inputs))
        pasted = 4 * (3 + 1 + 1) * pixels + 2 * 3 * 4 * piece if tile else 0
        layouts, kernels = self._convolutions()
        return int(piece * self.machine.itemsize * (3 + layouts) * width) + pasted + kernels

    # --- seconds ------------------------------------------------------------------------------------------------------

    def prior_seconds(self, format: Format, pictures: int, streamed: int = 0) -> tuple[float, float]:
        """(prefill, all codes) of all pictures in batches of `pictures`, none guessed; `streamed` bytes move a pass."""
        prior, machine = self.of["prior"], self.machine
        batches = -(-self.job.count // pictures)
        prompt = self.job.prompt_tokens
        work = _ONE_FORWARD * prior.count / machine.flops
        prefill = self._streaming(prompt * work + self._unpack(prior, format), streamed)
        cache = self.kv_token * (prompt + self.job.drawn / 2)
        read = (self.weights(prior, format) + pictures * cache) / machine.bandwidth
        if machine.unified:
            # Without kernels that multiply packed weights, they are unpacked for every code.
            read += self._unpack(prior, format)
        read += prior.blocks * machine.launch * (_INT8_LAUNCHES if format == "int8" else 1)
        one = self._streaming(max(read, pictures * work), streamed)
        return batches * prefill, batches * (self.job.drawn - 1) * one

    def _unpack(self, component: Component, format: Format) -> float:
        """Writing and reading the weights as numbers."""
        if format not in ("nf4", "nf4-dq") or self.packed(component, format):
            return 0.0
        numbers = component.blocks * component.block.quantizable + component.rest.quantizable
        return 2 * numbers * self.machine.itemsize / self.machine.bandwidth

    def step_seconds(self, format: Format, streamed: int = 0) -> float:
        rows = sum(self.job.tokens + glyphs for glyphs in self.job.branches)
        references = sum(_cells(side, PATCH) for side in self.job.references)
        pairs = 0
        for number, glyphs in enumerate(self.job.branches):
            own = self.job.tokens + glyphs
            pairs += own * (own + (references if number == 0 else 0))
        return self._forward_seconds(rows, pairs, format, streamed)

    def reference_seconds(self, format: Format, streamed: int = 0) -> float:
        """All references of one picture, each alone."""
        tokens = [_cells(side, PATCH) for side in self.job.references]
        return sum(self._forward_seconds(count, count * count, format, streamed) for count in tokens)

    def _forward_seconds(self, rows: int, pairs: int, format: Format, streamed: int) -> float:
        of, machine, decoder = self.of, self.machine, self.of["decoder"]
        numbers = decoder.blocks * decoder.block.count
        work = (_ONE_FORWARD * numbers * rows + 4 * of.decoder_width * decoder.blocks * pairs) / machine.flops
        work += self._unpack(decoder, format)
        if format == "int8":
            # Inputs and products pass through memory in other formats too (`_quantized`).
            inner = 4 * 2 * of.decoder_width + 2 * of.decoder_intermediate
            work += decoder.blocks * rows * 7 * inner / machine.bandwidth
        return self._streaming(max(work, decoder.blocks * machine.launch), streamed)

    def _streaming(self, work: float, streamed: int) -> float:
        """Seconds of a pass whose weights travel while it works."""
        travel = streamed / self.machine.link
        return max(work, travel) + _UNHIDDEN * travel

    def decode_seconds(self, tile: int) -> float:
        pixels = self.job.size.width * self.job.size.height
        rows, columns = self.job.size.latent_grid
        share = 1.0
        if tile:
            share = _tiles(rows, tile) * _tiles(columns, tile) * min(tile, rows) * min(tile, columns) / (rows * columns)
        return pixels * share * self.of.vae_decode_flops / (self.machine.flops * _CONVOLUTIONS)

    def seeing_seconds(self) -> tuple[float, float]:
        """(vision tower, VAE's encoder) for all references."""
        pixels = sum(side.width * side.height for side in self.job.references)
        vision = _ONE_FORWARD * self.of["vision"].count * pixels / PRIOR_CELL**2 / self.machine.flops
        return vision, pixels * self.of.vae_encode_flops / (self.machine.flops * _CONVOLUTIONS)

    def glyph_seconds(self) -> float:
        return _ONE_FORWARD * self.of["glyphs"].count * (self.job.glyph_tokens + 1) / self.machine.flops

    def modulation_seconds(self) -> float:
        """The AdaLN layers read their weights once for all steps."""
        modulation = self.of["modulation"]
        work = _ONE_FORWARD * modulation.count * (self.job.steps + len(self.job.references)) / self.machine.flops
        return work + modulation.bytes(modulation.stored, self.machine.itemsize) / self.machine.bandwidth


def _tiles(length: int, tile: int) -> int:
    """As `latents.py` lays them."""
    overlap = min(TILE_OVERLAP, tile // 2)
    return 1 if length <= tile else -(-(length - overlap) // (tile - overlap))
