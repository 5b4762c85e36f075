"""The engine against diffusers' `GlmImagePipeline`: same weights, same process, alternating; medians.

    python -m tests.benchmarks.against_diffusers [--json] [--checkpoint miniature] [--rounds 5]

Both sides get the same prompt, seed, steps and guidance. A decoder step is measured between two steps of a run, so what
either side prepares once stays out of it, but is in the whole picture. `ratios` are diffusers' time / ours: above 1 we
are faster. Peak memory is what a whole picture adds to the process.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, GlmImagePipeline
from transformers.utils import logging as transformers_logging

from glmimage import latents
from glmimage.checkpoint import MINIATURE
from glmimage.decoder import Conditions, denoise
from glmimage.engine import Engine
from glmimage.errors import GLMImageError
from glmimage.events import Preview, Result
from glmimage.geometry import Size
from glmimage.glyphs import encode_glyphs
from glmimage.prior import generate_prior
from glmimage.prompting import prompt_ids, quoted
from glmimage.request import Request

PROMPT = 'a soft 3D cat in the top left and a flat star in the bottom right on a blue background, with the word "HELLO"'
SEED = 7
STEPS_TIMED = 6
"""Decoder steps of one timed run; the first, which warms caches, is left out."""


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of both sides."""

    name: str
    unit: str
    diffusers: float | None
    ours: float
    ratio: float | None = None
    """Time of diffusers / time of ours."""


class Sides:
    """The engine, and the pipeline around the very same modules."""

    def __init__(self, checkpoint: str) -> None:
        self.engine = Engine.load(checkpoint)
        self.stack = stack = self.engine.stack
        self.pipeline = GlmImagePipeline(
            tokenizer=stack.glyph_tokenizer,
            processor=stack.processor,
            text_encoder=stack.glyph_encoder,
            vision_language_encoder=stack.prior,
            vae=stack.vae,
            transformer=stack.decoder,
            scheduler=FlowMatchEulerDiscreteScheduler.from_config(stack.scheduler_config),
        )
        self.pipeline.set_progress_bar_config(disable=True)

    # --- prior ---

    def their_prior(self, size: Size) -> float:
        generator = torch.Generator(self.stack.device).manual_seed(SEED)
        with torch.no_grad():
            return self.timed(
                lambda: self.pipeline.generate_prior_tokens(
                    PROMPT, height=size.height, width=size.width, generator=generator
                )
            )

    def our_prior(self, size: Size) -> float:
        def draw() -> None:
            ids = prompt_ids(self.stack.processor, PROMPT, size)
            for _ in generate_prior(self.stack, ids, [torch.Generator(self.stack.device).manual_seed(SEED)]):
                pass

        return self.timed(draw)

    # --- decoder ---

    def codes(self, size: Size) -> torch.Tensor:
        generator = torch.Generator().manual_seed(SEED)
        return torch.randint(0, self.stack.codes, (1, *size.prior_grid), generator=generator)

    def noise(self, size: Size) -> torch.Tensor:
        generator = torch.Generator().manual_seed(SEED)
        return torch.randn(1, self.stack.decoder.config.in_channels, *size.latent_grid, generator=generator)

    def their_step(self, size: Size) -> float:
        moments: list[float] = []

        def note(pipeline: object, index: int, timestep: object, values: dict[str, object]) -> dict[str, object]:
            self.wait()
            moments.append(time.perf_counter())
            return values

        self.pipeline(
            prompt=PROMPT,
            height=size.height,
            width=size.width,
            num_inference_steps=STEPS_TIMED,
            prior_token_ids=self.codes(size)
            .repeat_interleave(2, 1)
            .repeat_interleave(2, 2)
            .flatten(1)
            .to(self.stack.device),
            latents=self.noise(size),
            output_type="latent",
            callback_on_step_end=note,
        )
        return (moments[-1] - moments[0]) / (len(moments) - 1)

    def our_step(self, size: Size) -> float:
        conditions = Conditions(
            codes=self.codes(size),
            glyphs=encode_glyphs(self.stack, quoted(PROMPT)),
            empty_glyphs=encode_glyphs(self.stack, ()),
        )
        moments = []
        stack = self.stack
        for _ in denoise(stack.decoder, stack.scheduler_config, conditions, self.noise(size), steps=STEPS_TIMED):
            self.wait()
            moments.append(time.perf_counter())
        return (moments[-1] - moments[0]) / (len(moments) - 1)

    # --- VAE ---

    def their_vae(self, size: Size) -> float:
        vae = self.stack.vae
        z = self.noise(size).to(vae.device, vae.dtype)
        with torch.no_grad():
            return self.timed(lambda: vae.decode(z, return_dict=False))

    def our_vae(self, size: Size) -> float:
        return self.timed(lambda: latents.decode(self.stack.vae, self.noise(size)))

    # --- whole picture ---

    def their_picture(self, size: Size) -> float:
        defaults = self.engine.defaults
        return self.timed(
            lambda: self.pipeline(
                prompt=PROMPT,
                height=size.height,
                width=size.width,
                num_inference_steps=defaults.steps,
                guidance_scale=defaults.guidance,
                generator=torch.Generator().manual_seed(SEED),
            )
        )

    def our_picture(self, size: Size) -> float:
        def paint() -> None:
            assert any(isinstance(event, Result) for event in self.engine.run(self.request(size), previews=False))

        return self.timed(paint)

    def first_preview(self, size: Size) -> float:
        start = time.perf_counter()
        events = self.engine.run(self.request(size))
        next(event for event in events if isinstance(event, Preview))
        return time.perf_counter() - start

    def request(self, size: Size) -> Request:
        return Request(prompt=PROMPT, width=size.width, height=size.height, seed=SEED)

    # --- measuring ---

    def timed(self, job: Callable[[], object]) -> float:
        start = time.perf_counter()
        job()
        self.wait()
        return time.perf_counter() - start

    def wait(self) -> None:
        if self.stack.device.type == "cuda":
            torch.cuda.synchronize()

    def memory(self, job: Callable[[], object]) -> float:
        """Megabytes that `job` adds at its peak."""
        gc.collect()
        if self.stack.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            job()
            return (torch.cuda.max_memory_allocated() - before) / 2**20
        with _resident_peak() as peak:
            job()
        return (max(peak) - peak[0]) / 2**20


@contextmanager
def _resident_peak() -> Iterator[list[int]]:
    """Bytes this process holds, the first reading before the block and then every few milliseconds (Linux)."""
    readings = [_resident()]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.003):
            readings.append(_resident())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield readings
    finally:
        done.set()
        watcher.join()
        readings.append(_resident())


def _resident() -> int:
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
    except OSError:
        return 0


def alternate(rounds: int, theirs: Callable[[], float], ours: Callable[[], float]) -> tuple[float, float]:
    """Medians of both after one warm-up each; the order changes every round."""
    theirs(), ours()
    times: tuple[list[float], list[float]] = [], []
    for number in range(rounds):
        order = [(times[0], theirs), (times[1], ours)]
        for record, job in order if number % 2 == 0 else order[::-1]:
            record.append(job())
    return median(times[0]), median(times[1])


def measure(sides: Sides, rounds: int) -> Iterator[Row]:
    """Yields every figure as soon as it is there."""
    defaults = sides.engine.defaults
    usual = Size(defaults.width, defaults.height)
    tokens = prompt_ids(sides.stack.processor, PROMPT, usual).count

    theirs, ours = alternate(rounds, lambda: sides.their_prior(usual), lambda: sides.our_prior(usual))
    yield Row("prior", f"tokens/s, {usual}", tokens / theirs, tokens / ours, theirs / ours)
    for side in (256, 512):
        size = Size(side, side)
        theirs, ours = alternate(
            rounds, lambda size=size: sides.their_step(size), lambda size=size: sides.our_step(size)
        )
        yield Row(f"decoder_{side}", "ms/step with guidance", theirs * 1e3, ours * 1e3, theirs / ours)
    theirs, ours = alternate(rounds, lambda: sides.their_vae(usual), lambda: sides.our_vae(usual))
    yield Row("vae", f"ms, {usual}", theirs * 1e3, ours * 1e3, theirs / ours)
    theirs, ours = alternate(rounds, lambda: sides.their_picture(usual), lambda: sides.our_picture(usual))
    yield Row("picture", f"s, {usual}, {defaults.steps} steps", theirs, ours, theirs / ours)
    theirs, ours = (sides.memory(lambda job=job: job(usual)) for job in (sides.their_picture, sides.our_picture))
    yield Row("memory", "MiB added at the peak", theirs, ours)
    yield Row(
        "first_preview", "s (diffusers shows none)", None, median(sides.first_preview(usual) for _ in range(rounds))
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.against_diffusers", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--checkpoint", default=MINIATURE)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(argv)
    # Upstream's processor warns at every call of its own pipeline.
    transformers_logging.set_verbosity_error()
    rows = []
    try:
        sides = Sides(options.checkpoint)
        if not options.json:
            print(f"{'':<15}{'diffusers':>12}{'ours':>12}{'ratio':>8}  unit")
        for row in measure(sides, max(1, options.rounds)):
            rows.append(row)
            if not options.json:
                print(_line(row), flush=True)
    except GLMImageError as error:
        print(error, file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps(_object(rows, sides, options.rounds)))
    return 0


def _line(row: Row) -> str:
    theirs = "-" if row.diffusers is None else f"{row.diffusers:.2f}"
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
    return f"{row.name:<15}{theirs:>12}{row.ours:>12.2f}{ratio:>8}  {row.unit}"


def _object(rows: Sequence[Row], sides: Sides, rounds: int) -> dict[str, object]:
    return {
        "checkpoint": sides.engine.defaults.name,
        "device": str(sides.stack.device),
        "threads": torch.get_num_threads(),
        "rounds": rounds,
        "ratios": {row.name: round(row.ratio, 3) for row in rows if row.ratio is not None and row.name != "vae"},
        "figures": {
            row.name: {
                "unit": row.unit,
                "diffusers": None if row.diffusers is None else round(row.diffusers, 4),
                "ours": round(row.ours, 4),
            }
            for row in rows
        },
    }


if __name__ == "__main__":
    sys.exit(main())
