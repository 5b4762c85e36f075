"""What references cost: block-causal keys and values, kept, against recomputing them and against full attention.

    python -m tests.benchmarks.references [--json] [--checkpoint miniature] [--rounds 3] [--timed 256 512]

Three ways to paint from references of the picture's own size, over the same blocks:

- kept: each reference goes through the layers once, alone; its keys and values are kept (the makers' way);
- recomputed: the same, in every step;
- full: references and picture in one sequence, all tokens attend to all, in every step.

FLOPs are of a whole picture (both guidance branches, only one of which sees references): by formula, and as torch's
`FlopCounterMode` counts them on the meta device, at the checkpoint's and at the released size. Seconds are measured on
the checkpoint's decoder: the median of `--rounds`, the three ways in turn. `ratio` is full / kept.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median

import torch
from diffusers import GlmImageTransformer2DModel
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from glmimage import checkpoint
from glmimage.errors import GLMImageError
from glmimage.geometry import Size
from glmimage.models import Stack
from glmimage.quantize import hush
from glmimage.train.decoder import _block, rotary

WAYS = ("kept", "recomputed", "full")
SIDES = (256, 512)
COUNTS = (1, 2, 3, 4)
GLYPHS = 8
RELEASED = {"num_layers": 30, "attention_head_dim": 128, "num_attention_heads": 32, "text_embed_dim": 1472}
RELEASED_SIDE, RELEASED_STEPS = 1024, 50
FEED_FORWARD = 4
"""Its inner width / the model's."""


@dataclass(frozen=True, slots=True)
class Row:
    model: str
    side: int
    references: int
    steps: int
    formula: dict[str, float]
    """Way -> FLOPs of a picture."""
    counted: dict[str, float]
    seconds: dict[str, float] | None
    """Of a picture; None where it was not painted."""

    @property
    def ratio(self) -> float:
        return self.counted["full"] / self.counted["kept"]


class Painting:
    """One step's and one reference's way through the layers; embeddings and projections are the same in all ways."""

    def __init__(self, decoder: GlmImageTransformer2DModel, side: int, references: int) -> None:
        self.decoder, self.references = decoder, references
        size = Size(side, side)
        latents = torch.empty(1, decoder.config.in_channels, *size.latent_grid, device=decoder.device)
        self.rotary = tuple(table.to(decoder.device) for table in rotary(decoder, latents))
        rows, columns = size.patch_grid
        width = decoder.config.num_attention_heads * decoder.config.attention_head_dim
        # Seeded where there are numbers; the meta device has none.
        generator = None if decoder.device.type == "meta" else torch.Generator().manual_seed(0)

        def tokens(count: int) -> Tensor:
            return torch.randn(1, count, width, generator=generator, device=decoder.device)

        self.image, self.glyphs, self.nothing = tokens(rows * columns), tokens(GLYPHS), tokens(0)
        self.shown = [tokens(rows * columns) for _ in range(references)]
        self.temb = torch.zeros(1, decoder.config.time_embed_dim, device=decoder.device)

    def remember(self) -> list[tuple[Tensor, Tensor]]:
        """Every layer's keys and values of all references, each of which sees itself alone."""
        kept: list[list[tuple[Tensor, Tensor]]] = [[] for _ in self.decoder.transformer_blocks]
        for shown in self.shown:
            image = shown
            for layer, block in zip(kept, self.decoder.transformer_blocks, strict=True):
                image, _, _, key, value = _block(block, image, self.nothing, self.temb, *self.rotary)
                layer.append((key, value))
        return [(torch.cat([k for k, _ in layer], 2), torch.cat([v for _, v in layer], 2)) for layer in kept]

    def step(self, kept: Sequence[tuple[Tensor, Tensor]]) -> None:
        image, glyphs = self.image, self.glyphs
        for block, front in zip(self.decoder.transformer_blocks, kept, strict=True):
            image, glyphs, *_ = _block(block, image, glyphs, self.temb, *self.rotary, front)

    def joint_step(self, references: bool = True) -> None:
        """Full attention; without references it is the unconditional branch of every way."""
        tokens = [self.image, *(self.shown if references else ())]
        image, glyphs = torch.cat(tokens, 1), self.glyphs
        cos, sin = (torch.cat([table] * len(tokens)) for table in self.rotary)
        for block in self.decoder.transformer_blocks:
            image, glyphs, *_ = _block(block, image, glyphs, self.temb, cos, sin)

    def parts(self) -> dict[str, Callable[[], object]]:
        kept = self.remember()
        return {
            "references": self.remember,
            "step": lambda: self.step(kept),
            "joint": self.joint_step,
            "bare": lambda: self.joint_step(references=False),
        }


def whole(parts: dict[str, float], steps: int) -> dict[str, float]:
    """A picture's cost by way, from the costs of its parts."""
    return {
        "kept": parts["references"] + steps * (parts["step"] + parts["bare"]),
        "recomputed": steps * (parts["references"] + parts["step"] + parts["bare"]),
        "full": steps * (parts["joint"] + parts["bare"]),
    }


def formula(decoder: GlmImageTransformer2DModel, side: int, references: int) -> dict[str, float]:
    """FLOPs of the parts: 2 a multiplication of matrices' elements; modulations and norms left out."""
    config = decoder.config
    width, layers = config.num_attention_heads * config.attention_head_dim, config.num_layers
    tokens = side * side // 256
    linear = layers * 2 * (4 + 2 * FEED_FORWARD) * width**2
    pair = layers * 4 * width

    def cost(queries: int, keys: int) -> float:
        return float(linear * queries + pair * queries * keys)

    own, others = tokens + GLYPHS, references * tokens
    return {
        "references": references * cost(tokens, tokens),
        "step": cost(own, own + others),
        "joint": cost(own + others, own + others),
        "bare": cost(own, own),
    }


def on_meta(config: dict[str, object]) -> GlmImageTransformer2DModel:
    with torch.device("meta"):
        return GlmImageTransformer2DModel(**config)


def count(decoder: GlmImageTransformer2DModel, side: int, references: int) -> dict[str, float]:
    """FLOPs of the parts as torch counts them."""
    found = {}
    with torch.no_grad():
        for name, run in Painting(decoder, side, references).parts().items():
            with FlopCounterMode(display=False) as counter:
                run()
            found[name] = float(counter.get_total_flops())
    return found


def measure(decoder: GlmImageTransformer2DModel, side: int, references: int, rounds: int) -> dict[str, float]:
    """Seconds of the parts: medians, all parts in turn in every round; the first round warms up."""
    times: dict[str, list[float]] = {}
    with torch.no_grad():
        parts = Painting(decoder, side, references).parts()
        for number in range(rounds + 1):
            for name, run in parts.items():
                start = time.perf_counter()
                run()
                if number:
                    times.setdefault(name, []).append(time.perf_counter() - start)
    return {name: median(values) for name, values in times.items()}


def rows(name: str, rounds: int, timed: Sequence[int]) -> list[Row]:
    stack = Stack.load(checkpoint.find(name), device="cpu")
    config = {key: value for key, value in dict(stack.decoder.config).items() if not key.startswith("_")}
    steps, found = stack.defaults.steps, []
    cases = [(stack.defaults.name or name, config, side, steps) for side in SIDES]
    for model, shape, side, taken in (*cases, ("released", RELEASED, RELEASED_SIDE, RELEASED_STEPS)):
        meta = on_meta(shape)
        for references in COUNTS:
            seconds = None if side not in timed else measure(stack.decoder, side, references, rounds)
            found.append(
                Row(
                    model,
                    side,
                    references,
                    taken,
                    whole(formula(meta, side, references), taken),
                    whole(count(meta, side, references), taken),
                    seconds and whole(seconds, taken),
                )
            )
    return found


def table(found: Sequence[Row]) -> str:
    lines = [f"{'':24}{'TFLOP a picture':>32}{'':>8}{'seconds a picture':>32}"]
    heads = "".join(f"{way:>11}" for way in WAYS)
    lines.append(f"{'model':10}{'side':>5}{'refs':>6}   {heads}{'ratio':>8}{heads}{'ratio':>8}")
    for row in found:
        flops = "".join(f"{row.counted[way] / 1e12:11.3f}" for way in WAYS)
        timed = ""
        if row.seconds:
            timed = "".join(f"{row.seconds[way]:11.2f}" for way in WAYS)
            timed += f"{row.seconds['full'] / row.seconds['kept']:8.2f}"
        lines.append(f"{row.model:10}{row.side:5}{row.references:6}   {flops}{row.ratio:8.2f}{timed}")
    most = max(abs(row.counted[way] / row.formula[way] - 1) for row in found for way in WAYS)
    lines.append(f"The formula and torch's count differ by {most:.1%} at most.")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    words = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    words.add_argument("--checkpoint", default=checkpoint.MINIATURE)
    words.add_argument("--rounds", type=int, default=3)
    words.add_argument("--timed", type=int, nargs="*", choices=SIDES, default=SIDES, help="sides that are also timed")
    words.add_argument("--threads", type=int, default=0, help="of PyTorch (all cores)")
    words.add_argument("--json", action="store_true")
    options = words.parse_args(argv)
    hush()
    if options.threads:
        torch.set_num_threads(options.threads)
    try:
        found = rows(options.checkpoint, max(1, options.rounds), options.timed)
    except GLMImageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(json.dumps([asdict(row) | {"ratio": row.ratio} for row in found]) if options.json else table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
