"""What this processor computes in and why, and the miniature's time per picture in float32 and in bfloat16.

    python -m tests.benchmarks.processor [--rounds 5] [--json]

Pictures are painted in turn in both, medians are given. The choice is made by `machines.find`: bfloat16 where it
multiplies clearly faster and the model is wide enough for products to be what takes the time.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from statistics import median

import torch

from glmimage import checkpoint, machines
from glmimage.engine import Engine
from glmimage.events import Result
from glmimage.models import Stack
from glmimage.request import Request

REQUEST = Request(prompt='a soft 3D cat at the top left and the word "HELLO", on a blue background', seed=7)


def seconds(engine: Engine) -> float:
    start = time.perf_counter()
    assert any(isinstance(event, Result) for event in engine.run(REQUEST, previews=False))
    return time.perf_counter() - start


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.processor", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    options = parser.parse_args(argv)
    wide, narrow = machines.find("cpu"), machines.find("cpu", width=256)
    torch.set_num_threads(wide.threads)
    folder = checkpoint.find(checkpoint.MINIATURE)
    engines = {name: Engine(Stack.load(folder, dtype=getattr(torch, name))) for name in ("float32", "bfloat16")}
    times: dict[str, list[float]] = {name: [] for name in engines}
    for number in range(options.rounds + 1):
        for name, engine in engines.items():
            taken = seconds(engine)
            # The first warms up.
            if number:
                times[name].append(taken)
    report = {
        "processor": wide.name,
        "threads": wide.threads,
        "large models": wide.dtype,
        "miniature": narrow.dtype,
        **{f"picture_{name}_s": round(median(taken), 3) for name, taken in times.items()},
    }
    if options.json:
        print(json.dumps(report))
    else:
        print("\n".join(f"{name:<20}{value}" for name, value in report.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
