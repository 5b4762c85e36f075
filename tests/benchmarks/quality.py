"""What 8 and 4 bits cost on the miniature: scores end to end, the prior's codes, and pictures from equal codes.

    python -m tests.benchmarks.quality [--cases 50] [--checkpoint miniature] [--work FOLDER] [--steps N] [--json]

For each format of prior and decoder, on the prompts of the evaluation:
- things, styles, backgrounds and words, as `glmimage.train evaluate` marks them;
- codes: of all places of the layouts that the unquantized prior drew, the share where the quantized prior, shown the
  codes before, holds the same one for the best;
- psnr: of pictures that the quantized decoder paints from the unquantized prior's codes and the same noise, against the
  unquantized decoder's, in dB, the mean over pictures.
The figures are this processor's: rounding differs from kernel to kernel (see `glmimage/quantize.py`).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from glmimage import checkpoint, prior, quantize
from glmimage.engine import Engine
from glmimage.errors import GLMImageError
from glmimage.events import PriorTokens, Result, plain_codes
from glmimage.machines import cache_folder
from glmimage.models import Stack
from glmimage.prompting import prompt_ids
from glmimage.quantize import Format, Formats
from glmimage.request import Layout, Request
from glmimage.train.art import load_art
from glmimage.train.evaluate import add, cases, mean, request_of
from glmimage.train.marking import Marker, Marks, psnr

FORMATS: tuple[Format, ...] = ("bf16", "int8", "nf4", "nf4-dq")
SCORES = ("things", "styles", "backgrounds", "word_accuracy", "ned")


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One format of prior and decoder; None where there is nothing to compare, as with itself."""

    format: Format
    scores: dict[str, float | None]
    codes: float | None
    psnr: float | None


def engine_of(folder: Path, format: Format) -> Engine:
    return Engine(Stack.load(folder, formats=Formats(prior=format, decoder=format)))


def layout_of(tokens: PriorTokens) -> Layout:
    assert tokens.preview is not None
    return Layout(preview=plain_codes(tokens.preview), target=plain_codes(tokens.target))


def painted(engine: Engine, request: Request) -> Result:
    return next(event for event in engine.run(request, previews=False) if isinstance(event, Result))


@torch.inference_mode()
def best_codes(stack: Stack, made: Result) -> torch.Tensor:
    """[N]: the code that the prior holds for the best at every place of a finished layout, shown those before it."""
    prompt = prompt_ids(stack.processor, made.request.prompt, made.request.size)
    assert made.prior.preview is not None
    codes = torch.from_numpy(np.concatenate([made.prior.preview.ravel(), made.prior.target.ravel()]))[None]
    run = prior._Run(stack, prompt, (), 1)
    logits = torch.cat([run.prefill(), run.step(codes[:, :-1], 0)], dim=1)
    return logits[0].argmax(-1)


def measure(folder: Path, work: Path, count: int, steps: int | None) -> Iterator[Row]:
    """A row as soon as it is there, the unquantized first."""
    art = load_art(work)
    marker, asked = Marker(art), cases(count)
    requests = [replace(request_of(case, art, work), steps=steps) for case in asked]
    originals: list[Result] = []
    bests: list[torch.Tensor] = []
    for format in FORMATS:
        engine = engine_of(folder, format)
        marks: Marks = {}
        agreed, alike = [], []
        for index, (case, request) in enumerate(zip(asked, requests, strict=True)):
            made = painted(engine, request)
            add(marks, marker.mark(np.asarray(made.image), case.sample))
            if format == "bf16":
                originals.append(made)
                bests.append(best_codes(engine.stack, made))
                continue
            original = originals[index]
            agreed.append(float((best_codes(engine.stack, original) == bests[index]).float().mean()))
            again = replace(request, layout=layout_of(original.prior))
            alike.append(psnr(np.asarray(painted(engine, again).image), np.asarray(original.image)))
        yield Row(
            format=format,
            scores={score: mean(marks.get(score, [])) for score in SCORES},
            codes=mean(agreed),
            psnr=mean(alike),
        )


def line(row: Row) -> str:
    scores = "".join(f"{_number(row.scores[score]):>15}" for score in SCORES)
    return f"{row.format:<8}{scores}{_number(row.codes):>8}{_number(row.psnr, 1):>8}"


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.quality", description=__doc__.split("\n")[0])
    parser.add_argument("--checkpoint", default=checkpoint.MINIATURE)
    parser.add_argument("--cases", type=int, default=50)
    parser.add_argument("--steps", type=int, help="of the decoder, in place of the checkpoint's own")
    parser.add_argument("--work", type=Path, help="where the rendered art is kept (the trainings' folder)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    options = parser.parse_args(argv)
    quantize.hush()
    work: Path = options.work or cache_folder() / "train"
    work.mkdir(parents=True, exist_ok=True)
    rows = []
    try:
        if not options.json:
            print(f"{'':<8}{''.join(f'{score:>15}' for score in SCORES)}{'codes':>8}{'psnr':>8}", flush=True)
        for row in measure(checkpoint.find(options.checkpoint), work, options.cases, options.steps):
            rows.append(row)
            if not options.json:
                print(line(row), flush=True)
    except GLMImageError as error:
        print(error, file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps({"cases": options.cases, "rows": [asdict(row) for row in rows]}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
