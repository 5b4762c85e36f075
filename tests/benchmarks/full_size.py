"""The released model at full size with random weights in NF4, on the processor: what it takes, and what was planned.

    python -m tests.benchmarks.full_size [--layers N] [--json] [--part prior|decoder|vae|quantize]

Packed bytes and scales are filled at random, layer by layer, so that no unquantized copy is ever made. Each part runs
in a process of its own: the prompt and a few codes of the prior, one guided decoder step at 512 px, the VAE's decoder
in tiles. Measured is the process's peak of resident memory in each stage less that of the interpreter with its
libraries; predicted is the `cpu` plan's. `--layers` builds fewer of them, for a quick look. `--part quantize` writes a
decoder in bfloat16 and then its copy in NF4 as `python -m glmimage quantize` does, whose peak must stay below the bf16
size and 2 GB; it is not among the parts that run by themselves, as it needs 20 GB of disk. Linux only.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bitsandbytes
import torch
from bitsandbytes.functional import QuantState, get_4bit_type
from diffusers import AutoencoderKL, GlmImageTransformer2DModel
from torch import nn
from transformers import GlmImageConfig, GlmImageForConditionalGeneration

from glmimage import checkpoint, convert, flow, latents, machines, memory, quantize, weights
from glmimage.decoder import Conditions, Painter
from glmimage.footprint import Footprint, Job
from glmimage.geometry import Size
from glmimage.memory import GIB, Plan
from glmimage.models import pack
from glmimage.prior import generate_prior
from glmimage.prompting import PromptIds
from glmimage.weights import Architecture

RELEASE = "zai-org/GLM-Image"
JOB = Job(size=Size(512, 512), steps=50)
CODES = 8
"""That the prior draws."""
MOST = 22 * GIB
"""Of the host's memory, that no part may pass."""
TILE = 32
"""Latents a side, 256 px: at 512 px the planner would take the picture whole where it fits."""
Part = str
COMPONENTS: dict[Part, tuple[str, ...]] = {
    "prior": ("prior", "embedding"),
    "decoder": ("decoder", "modulation"),
    "vae": ("vae",),
}
"""What each part has in memory; the vision tower sees references alone and is not built."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One stage: bytes that it took at its peak beside the interpreter, and that were predicted."""

    stage: str
    measured: int
    predicted: int
    seconds: float


# --- weights ----------------------------------------------------------------------------------------------------------


def configs(layers: int | None) -> dict[str, dict[str, Any]]:
    """The released configuration, or with fewer layers."""
    table: dict[str, dict[str, Any]] = json.loads(weights.TABLE.read_text(encoding="utf-8"))[RELEASE]["configs"]
    if layers:
        table["vision_language_encoder"]["text_config"]["num_hidden_layers"] = layers
        table["transformer"]["num_layers"] = layers
    return table


def architecture(layers: int | None) -> Architecture:
    if not layers:
        return weights.read(RELEASE)
    texts = tuple((part, json.dumps(config)) for part, config in configs(layers).items())
    return weights.from_configs(RELEASE, texts, weights.read(RELEASE).defaults)


def fill(model: Any, quantized: Sequence[str], generator: torch.Generator, *, few_rows: bool = False) -> None:
    """Gives a model on the meta device its weights: those layers in NF4, all else in bfloat16."""
    names = set(quantized)
    for name, module in list(model.named_modules()):
        if name in names:
            layer = _random_linear(module, generator, few_rows=few_rows)
            parent, _, own = name.rpartition(".")
            setattr(model.get_submodule(parent), own, layer)
            continue
        for own, parameter in list(module.named_parameters(recurse=False)):
            value = torch.empty(parameter.shape, dtype=torch.bfloat16)
            if parameter.ndim > 1:
                value.normal_(0, 0.02, generator=generator)
            else:
                value.fill_(1.0 if own == "weight" else 0.0)
            setattr(module, own, nn.Parameter(value, requires_grad=False))
    model.eval()


def _random_linear(plain: nn.Linear, generator: torch.Generator, *, few_rows: bool) -> nn.Module:
    rows, columns = plain.out_features, plain.in_features
    with torch.device("meta"):
        layer = bitsandbytes.nn.Linear4bit(
            columns, rows, bias=plain.bias is not None, compute_dtype=torch.bfloat16, quant_type="nf4"
        )
    count = rows * columns
    state = QuantState(
        absmax=torch.empty(count // quantize.BLOCK).uniform_(0.02, 0.05, generator=generator),
        shape=torch.Size((rows, columns)),
        code=get_4bit_type("nf4", device="cpu"),
        blocksize=quantize.BLOCK,
        quant_type="nf4",
        dtype=torch.bfloat16,
    )
    packed = torch.empty(count // 2, 1, dtype=torch.uint8).random_(0, 256, generator=generator)
    layer.weight = bitsandbytes.nn.Params4bit(
        packed, quant_state=state, quant_type="nf4", compress_statistics=False, bnb_quantized=True, module=layer
    )
    layer.quant_state = state
    if plain.bias is not None:
        layer.bias = nn.Parameter(torch.zeros(rows, dtype=torch.bfloat16), requires_grad=False)
    layer.eval()
    # As `models.py` decides.
    layer.support_avx512bf16_for_cpu = layer.support_avx512bf16_for_cpu and few_rows
    pack(layer)
    return layer


# --- measuring --------------------------------------------------------------------------------------------------------


def resident(line: str = "VmRSS") -> int:
    """Bytes of the process: now, or at the peak (VmHWM)."""
    for entry in Path("/proc/self/status").read_text().splitlines():
        if entry.startswith(line):
            return int(entry.split()[1]) * 1024
    raise OSError("this system does not tell a process its memory; run the benchmark on Linux")


def trim() -> None:
    """What the C library keeps of freed memory goes back, and the peak starts anew."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")


class Meter:
    """Peaks of stages beside what the process had when it was made."""

    def __init__(self, made: Plan, of: Architecture) -> None:
        trim()
        self.plan = made
        self.footprint = Footprint(of, made.machine, made.job)
        self.baseline = resident()
        self.rows: list[Row] = []

    @contextmanager
    def stage(self, stage: memory.Stage, components: Sequence[str], *, work: int | None = None) -> Iterator[None]:
        """Measures what is inside as a stage of the plan; `work` where it is done in another way than planned."""
        trim()
        start = time.perf_counter()
        yield
        seconds = time.perf_counter() - start
        need = next(need for need in self.plan.stages if need.stage == stage)
        own = sum(self.plan[component].bytes for component in components)
        predicted = own + need.cache + (need.work if work is None else work)
        measured = resident("VmHWM") - self.baseline
        assert measured < MOST, f"{memory.gib(measured)} are more than the benchmark may take"
        self.rows.append(
            Row(stage=memory.STAGES[stage], measured=measured, predicted=predicted, seconds=round(seconds, 2))
        )


def warm_up() -> None:
    """Libraries make their threads and tables at the first product, and those are no weights."""
    with torch.inference_mode():
        x = torch.ones(64, 128, dtype=torch.bfloat16)
        layer = _random_linear(nn.Linear(128, 64), torch.Generator(), few_rows=False)
        layer(x)
        layer(x[:1])
        nn.functional.scaled_dot_product_attention(*(x.view(1, 2, 32, 128),) * 3)
        nn.functional.conv2d(x.view(1, 1, 64, 128), torch.ones(4, 1, 3, 3, dtype=torch.bfloat16))


# --- the parts --------------------------------------------------------------------------------------------------------


def run_prior(meter: Meter, table: dict[str, dict[str, Any]], generator: torch.Generator) -> None:
    config = GlmImageConfig.from_dict(table["vision_language_encoder"])
    with torch.device("meta"):
        model = GlmImageForConditionalGeneration(config)
    text = model.model.language_model
    model.model.visual = model.model.vqmodel = nn.Identity()
    named = [name for name in quantize.quantized_linears("prior", model) if "language_model" in name]
    fill(model, named, generator, few_rows=True)
    text.rotary_emb = type(text.rotary_emb)(config=config.text_config)
    stack: Any = SimpleNamespace(prior=model, device=torch.device("cpu"), dtype=torch.bfloat16, codes=16384)
    prompt = PromptIds(
        ids=tuple(range(16400, 16400 + meter.plan.job.prompt_tokens)),
        drawn=(meter.plan.job.size.preview_grid, meter.plan.job.size.prior_grid),
        references=(),
        image_token=config.image_token_id,
    )
    components = COMPONENTS["prior"]
    drafts = generate_prior(stack, prompt, [torch.Generator().manual_seed(0)])
    with meter.stage("prefill", components):
        next(drafts)
    with meter.stage("tokens", components):
        drawn = sum(1 for _ in itertools.islice(drafts, CODES))
    assert drawn == CODES


def run_decoder(meter: Meter, table: dict[str, dict[str, Any]], generator: torch.Generator) -> None:
    with torch.device("meta"):
        model: Any = GlmImageTransformer2DModel.from_config(table["transformer"])
    fill(model, quantize.quantized_linears("decoder", model), generator)
    job = meter.plan.job
    width = model.config.text_embed_dim
    conditions = Conditions(
        codes=torch.randint(0, 16384, (1, *job.size.prior_grid), generator=generator),
        glyphs=torch.randn(1, job.glyph_tokens, width, generator=generator).bfloat16(),
        empty_glyphs=torch.randn(1, 1, width, generator=generator).bfloat16(),
        guidance=1.5,
    )
    noise = torch.randn(1, model.config.in_channels, *job.size.latent_grid, generator=generator)
    scheduler = json.loads(
        (checkpoint.ASSETS / checkpoint.MINIATURE / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8")
    )
    timesteps, _ = flow.schedule(job.steps, job.tokens, scheduler)
    with torch.inference_mode():
        with meter.stage("modulation", COMPONENTS["decoder"]):
            painter = Painter(model, conditions, timesteps)
        with meter.stage("step", COMPONENTS["decoder"]):
            velocity = painter.velocity(noise, 0)
    assert bool(velocity.isfinite().all())


def run_vae(meter: Meter, table: dict[str, dict[str, Any]], generator: torch.Generator) -> None:
    with torch.device("meta"):
        model: Any = AutoencoderKL.from_config({**table["vae"], "latents_mean": [0.0] * 16, "latents_std": [1.0] * 16})
    fill(model, (), generator)
    noise = torch.randn(1, 16, *meter.plan.job.size.latent_grid, generator=generator)
    with meter.stage("decode", COMPONENTS["vae"], work=meter.footprint.decode(TILE)):
        pixels = latents.decode(model, noise, whole=0, tile=TILE)
    assert pixels.shape[-2:] == (meter.plan.job.size.height, meter.plan.job.size.width)


def run_quantize(meter: Meter, table: dict[str, dict[str, Any]], generator: torch.Generator) -> None:
    with tempfile.TemporaryDirectory() as name:
        source, target = Path(name) / "source", Path(name) / "target"
        with torch.device("meta"):
            model: Any = GlmImageTransformer2DModel.from_config(table["transformer"])
        fill(model, (), generator)
        size = sum(parameter.nbytes for parameter in model.parameters())
        model.save_pretrained(source / "transformer", max_shard_size="4GB")
        del model
        target.mkdir()
        trim()
        start, before = time.perf_counter(), resident()
        convert._write("decoder", "nf4", source, target)
        measured = resident("VmHWM") - before
        seconds = round(time.perf_counter() - start, 2)
        meter.rows.append(
            Row(stage="quantize: decoder", measured=measured, predicted=size + 2 * 10**9, seconds=seconds)
        )


PARTS: dict[Part, Callable[[Meter, dict[str, dict[str, Any]], torch.Generator], None]] = {
    "prior": run_prior,
    "decoder": run_decoder,
    "vae": run_vae,
    "quantize": run_quantize,
}


def planned(of: Architecture) -> Plan:
    """By the planner, for this processor in bfloat16 with 4 bits and all the memory that may be taken."""
    machine = replace(machines.find("cpu"), dtype="bfloat16", device_memory=MOST, host_memory=MOST)
    return memory.plan(of, machine, JOB, {"prior": "nf4", "decoder": "nf4"})


def measure(part: Part, layers: int | None) -> list[Row]:
    """One part, in this process."""
    quantize.hush()
    of = architecture(layers)
    made = planned(of)
    if made.machine.threads:
        torch.set_num_threads(made.machine.threads)
    warm_up()
    meter = Meter(made, of)
    with torch.inference_mode():
        PARTS[part](meter, configs(layers), torch.Generator().manual_seed(0))
    return meter.rows


def apart(part: Part, layers: int | None) -> list[Row]:
    """One part, in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.full_size", "--part", part, "--json"]
    command += ["--layers", str(layers)] if layers else []
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return [Row(**row) for row in json.loads(done.stdout.splitlines()[-1])]


def line(row: Row) -> str:
    sizes = f"{row.measured / GIB:>9.2f} GiB{row.predicted / GIB:>9.2f} GiB"
    return f"{row.stage:<24}{sizes}{row.measured / row.predicted:>8.3f}{row.seconds:>9.1f} s"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.full_size", description=__doc__.split("\n")[0])
    parser.add_argument("--layers", type=int, help="build so many layers of prior and decoder (all)")
    parser.add_argument("--part", choices=tuple(PARTS), help="only this, in this process")
    parser.add_argument("--json", action="store_true", help="one JSON array instead of a table")
    options = parser.parse_args(argv)
    if not options.json:
        print(f"{'stage':<24}{'measured':>13}{'predicted':>13}{'ratio':>8}{'time':>11}", flush=True)
    rows = []
    for part in (options.part,) if options.part else tuple(COMPONENTS):
        for row in measure(part, options.layers) if options.part else apart(part, options.layers):
            rows.append(row)
            if not options.json:
                print(line(row), flush=True)
    if options.json:
        print(json.dumps([asdict(row) for row in rows]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
