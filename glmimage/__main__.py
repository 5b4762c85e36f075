"""The command line: `python -m glmimage paint "a cat on a blue background" -o picture.png`.

Arguments become a `Request`, events become progress bars and files; `fetch` downloads a checkpoint, `plan` says what of
one fits a machine, `quantize` writes a smaller copy, `read` reads a picture's words. Heavy imports wait until there is
something to do.
Exit codes: 0 done, 2 what was asked cannot be done (one line says why), 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, cast

from glmimage import arguments, quantize
from glmimage.errors import CheckpointError, GLMImageError, RequestError

if TYPE_CHECKING:
    from tqdm import tqdm

    from glmimage.engine import Engine
    from glmimage.events import Event
    from glmimage.fitting import Wishes
    from glmimage.machines import Machine
    from glmimage.memory import Offload
    from glmimage.request import Request

MISTAKE = 2
INTERRUPTED = 130
LARGEST_MEMORY = 16384
"""GiB that a machine may be said to have."""
MOST_REFERENCES = 16
BITS = ("auto", "16", "8", "4")
OFFLOADS = ("auto", "none", "stage", "stream")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line instead of argparse's usage and line."""
        self.exit(MISTAKE, f"{message}; see {self.prog} --help\n")


def main(argv: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    # No library of ours may phone home.
    for name in ("HF_HUB_DISABLE_TELEMETRY", "DISABLE_TELEMETRY", "DO_NOT_TRACK"):
        os.environ[name] = "1"
    quantize.hush()
    try:
        {"paint": _paint, "fetch": _fetch, "plan": _plan, "quantize": _quantize, "read": _read}[options.command](
            options
        )
    except GLMImageError as error:
        print(error, file=sys.stderr)
        return MISTAKE
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return INTERRUPTED
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m glmimage", description="Pictures from prompts, with GLM-Image.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    paint = commands.add_parser(
        "paint", help="paint pictures from a prompt", description="Paint pictures from a prompt."
    )
    arguments.add_paint(paint)
    paint.add_argument(
        "--checkpoint", default="miniature", metavar="NAME", help="miniature, a folder, or a hub id (miniature)"
    )
    paint.add_argument(
        "--bits", choices=BITS, default="auto", help="of prior and decoder; 16 is as they are stored (what fits)"
    )
    paint.add_argument(
        "--offload",
        choices=OFFLOADS,
        default="auto",
        help="keep weights off the device: none, all but a stage at a time, or the painter block by block (what fits)",
    )
    paint.add_argument(
        "--lora",
        action="append",
        default=[],
        metavar="FOLDER[:WEIGHT]",
        help="LoRA adapter in peft's format to paint with; may be repeated",
    )
    paint.add_argument("--memory", type=float, metavar="GIB", help="of the device that may be used (what is free)")
    paint.add_argument("--device", choices=("cpu", "cuda", "mps"), help="where to compute (the best there is)")
    read = commands.add_parser(
        "read",
        help="read the words in a picture",
        description="Read a picture's words, and compare them with those that it was asked to show.",
    )
    read.add_argument("picture", type=Path, metavar="PICTURE")
    read.add_argument(
        "--wanted", action="append", metavar="TEXT", help="what it should say; may be repeated (what its settings want)"
    )
    fetch = commands.add_parser(
        "fetch",
        help="download a checkpoint",
        description="Download a checkpoint, or go on with it, and check every file; a whole one costs one question.",
    )
    fetch.add_argument("checkpoint", metavar="ID", help="hub id such as zai-org/GLM-Image, perhaps with @REVISION")
    fetch.add_argument("--check", action="store_true", help="only say what is missing")
    plan = commands.add_parser(
        "plan",
        help="say what fits a machine",
        description="Say in how many bits a checkpoint fits a machine, what stands where, and how long a run takes."
        " Downloads nothing.",
    )
    plan.add_argument(
        "--checkpoint",
        default="zai-org/GLM-Image",
        metavar="NAME",
        help="miniature, a folder, or a hub id (zai-org/GLM-Image)",
    )
    plan.add_argument("--vram", type=float, metavar="GIB", help="free device memory; 0 is none (this machine's)")
    plan.add_argument("--ram", type=float, metavar="GIB", help="free host memory (this machine's)")
    plan.add_argument("--device", choices=("cuda", "rocm", "mps", "cpu"), help="kind of device (this machine's)")
    plan.add_argument("--gpu", metavar="NAME", help="card whose speeds to take, for example 'RTX 4090'; needs --vram")
    plan.add_argument("--size", metavar="WIDTHxHEIGHT", help="in pixels (the checkpoint's own size)")
    plan.add_argument("--references", type=int, default=0, metavar="N", help="pictures of that size to work from (0)")
    plan.add_argument("--count", type=int, default=1, metavar="N", help="pictures in one run (1)")
    plan.add_argument("--steps", type=int, metavar="N", help="steps of the painter (the checkpoint's own)")
    plan.add_argument("--bits", choices=BITS, default="auto", help="hold prior and decoder to them (the planner's own)")
    plan.add_argument(
        "--offload", choices=OFFLOADS, default="auto", help="hold the weights to none, stage or stream (the planner's)"
    )
    plan.add_argument("--json", action="store_true", help="print the plan as one JSON object")
    smaller = commands.add_parser(
        "quantize",
        help="write a checkpoint in 4 or 8 bits",
        description="Write a copy of a checkpoint whose weights take 4 or 8 bits, once, so that later starts are fast.",
    )
    smaller.add_argument("source", metavar="SRC", help="miniature, a folder, or a hub id")
    smaller.add_argument("target", type=Path, metavar="DST", help="folder to make")
    smaller.add_argument("--bits", type=int, choices=(4, 8), help="of prior and decoder: 4 is nf4, 8 is int8")
    for component in quantize.FOLDERS:
        smaller.add_argument(
            f"--{component}", choices=quantize.FORMATS, help=f"the format of the {component} (what --bits says)"
        )
    return parser


def _quantize(options: argparse.Namespace) -> None:
    formats = quantize.Formats.of_bits(options.bits) if options.bits else quantize.Formats()
    named = {name: getattr(options, name) for name in quantize.FOLDERS if getattr(options, name)}
    formats = replace(formats, **named)

    from glmimage import checkpoint
    from glmimage.download import Terminal
    from glmimage.hub import bytes_text

    with Terminal() as report:
        folder = checkpoint.find(options.source, report)
    from glmimage.convert import convert

    with closing(convert(folder, options.target, formats)) as steps:
        for step in steps:
            sizes = f"{bytes_text(step.before)} -> {bytes_text(step.after)}"
            print(f"{step.component:<8} {step.format:<7} {sizes}", flush=True)
    print(f"The quantized checkpoint is in {options.target}")


def _read(options: argparse.Namespace) -> None:
    from glmimage import metadata
    from glmimage.pictures import read_file, read_picture
    from glmimage.prompting import quoted
    from glmimage.proofread import Proofreader

    picture = read_picture(read_file(options.picture), str(options.picture))
    settings = metadata.read(options.picture)
    wanted = options.wanted
    if not wanted and settings is not None:
        wanted = settings.request.regions or quoted(settings.request.prompt)
    if not wanted:
        for piece in Proofreader().look(picture):
            print(piece.text)
        return
    report = Proofreader().read(picture, wanted)
    for line in report.lines:
        print(f"{line.likeness:4.0%}  wanted {line.wanted!r}  read {line.read!r}")


def _fetch(options: argparse.Namespace) -> None:
    from glmimage import checkpoint
    from glmimage.download import Terminal

    name = options.checkpoint
    if options.check:
        if lacking := checkpoint.check(name):
            raise CheckpointError(f"The checkpoint {name} is not whole; missing: {', '.join(lacking)}.")
        print(f"Nothing of {name} is missing.")
        return
    with Terminal() as report:
        folder = checkpoint.fetch(name, report)
    print(f"{name} is whole, in {folder}")


def _plan(options: argparse.Namespace) -> None:
    import json

    from glmimage import memory, weights
    from glmimage.fitting import Fitting
    from glmimage.footprint import Job, reference_size
    from glmimage.geometry import Size
    from glmimage.request import Request

    if not 0 <= options.references <= MOST_REFERENCES:
        raise RequestError(
            f"The number of references {options.references} is not between 0 and {MOST_REFERENCES}; use fewer."
        )
    size = Size.parse(options.size) if options.size is not None else None
    asked = Request(
        prompt="anything",
        width=size.width if size else None,
        height=size.height if size else None,
        count=options.count,
        steps=options.steps,
    )
    architecture = weights.read(options.checkpoint)
    machine = _machine(options, architecture.decoder_width)
    request = asked.resolve(architecture.defaults)
    references = (reference_size(request.size, architecture.reference_sides),) * options.references
    fitting = Fitting(architecture, machine, _wishes(options.bits, options.offload))
    plan = fitting.plan(Job.of(request, references))
    print(json.dumps(plan.to_json()) if options.json else memory.table(plan))


def _wishes(bits: str, offload: str, memory: float | None = None) -> Wishes:
    from glmimage.fitting import Wishes

    return Wishes(bits=None if bits == "auto" else int(bits), offload=cast("Offload", offload), memory=memory)


def _machine(options: argparse.Namespace, width: int) -> Machine:
    """This machine, or the one that the options describe; only the first imports torch."""
    from dataclasses import replace

    from glmimage import machines

    for name in ("vram", "ram"):
        amount = getattr(options, name)
        if amount is not None and not 0 <= amount <= LARGEST_MEMORY:
            raise RequestError(f"The --{name} {amount:g} is not a number of GiB between 0 and {LARGEST_MEMORY}.")
    if options.gpu is not None and options.vram is None:
        raise RequestError("Cards of one name differ in memory; say with --vram how many GiB are free.")
    host = None if options.ram is None else int(options.ram * 2**30)
    if options.vram:
        here: machines.Kind = "mps" if sys.platform == "darwin" else "cuda"
        kind: machines.Kind = options.device or machines.kind_of(options.gpu or "") or here
        host = machines.free_host_memory() if host is None else host
        if kind in ("mps", "cpu"):
            host = int(options.vram * 2**30)
        return machines.tabulated(kind, int(options.vram * 2**30), host, options.gpu or "")
    machine = machines.find(options.device if options.vram is None else "cpu", width=width)
    if host is None:
        return machine
    return replace(machine, host_memory=host, device_memory=host if machine.unified else machine.device_memory)


def _paint(options: argparse.Namespace) -> None:
    request = arguments.request_of(options)
    names = _names(options.output, request.count)

    bars = _Bars()
    try:
        from glmimage import checkpoint, tasks
        from glmimage.download import Terminal

        with Terminal() as report:
            folder = checkpoint.find(options.checkpoint, report)
        bars.show("loading", 0, 1)
        from glmimage.adapters import Adapter
        from glmimage.engine import Engine

        wishes = _wishes(options.bits, options.offload, options.memory)
        adapters = [Adapter.parse(text) for text in options.lora]
        engine = Engine.load(str(folder), device=options.device, wishes=wishes, adapters=adapters)
        request = tasks.with_cells(request, checkpoint.letter_of(engine.world), engine.defaults)
        bars.show("loading", 1, 1)
        # The first comes with the run, as it does on the page.
        for sentence in engine.workshop.sentences[1:]:
            bars.say(sentence, sys.stderr)
        _follow(_events(engine, request, options), names, bars, request.resolve(engine.defaults))
    finally:
        bars.close()


def _events(engine: Engine, request: Request, options: argparse.Namespace) -> Iterator[Event]:
    if options.sketches:
        return engine.sketch(request, previews=False)
    run = partial(engine.run, previews=False)
    if options.attempts == 1:
        return run(request)
    from glmimage.proofread import Proofreader, until_right

    return until_right(run, request, Proofreader(), attempts=options.attempts)


def _follow(events: Iterator[Event], names: Sequence[Path], bars: _Bars, request: Request) -> None:
    from glmimage.events import Note, Progress, Result, Sketch
    from glmimage.metadata import Settings, write, write_picture

    for event in events:
        match event:
            case Progress(stage, step, total, picture, pictures):
                bars.show(stage if pictures == 1 else f"{stage} {picture + 1}/{pictures}", step, total)
            case Note(text):
                bars.say(text, sys.stderr)
            case Result():
                name = names[event.index]
                write(event, name)
                read = [f"  reads {line.read!r}" for line in event.report.lines] if event.report else []
                made = f"seed {event.paint_seed}  {sum(event.seconds.values()):.1f} s{''.join(read)}"
                bars.say(f"{name}  {event.request.size}  {made}", sys.stdout)
            case Sketch():
                name, picked = names[event.index], event.pick(request)
                # What --layout-from goes on with.
                settings = Settings(
                    request=picked, index=0, layout_seed=event.layout_seed, paint_seed=picked.paint_seed_of(0)
                )
                write_picture(event.image, settings, name)
                bars.say(f"{name}  {request.size}  layout seed {event.layout_seed}", sys.stdout)


def _names(output: Path, count: int) -> list[Path]:
    """Where each picture goes; checked before anything is painted."""
    if output.suffix.lower() != ".png":
        raise RequestError(f"The picture {output} would not be a PNG; give it a name that ends in .png.")
    if not output.parent.is_dir():
        raise RequestError(f"There is no folder {output.parent} to put the picture in; make it first.")
    if count == 1:
        return [output]
    return [output.with_name(f"{output.stem}-{number}{output.suffix}") for number in range(1, count + 1)]


class _Bars:
    """One progress bar a stage, each below the last."""

    def __init__(self) -> None:
        self._name = ""
        self._bar: tqdm[NoReturn] | None = None

    def show(self, name: str, step: int, total: int) -> None:
        from tqdm import tqdm

        if name != self._name or self._bar is None:
            self.close()
            self._name = name
            self._bar = tqdm(total=total, desc=f"{name:<12}", unit="", dynamic_ncols=True)
        self._bar.update(step - self._bar.n)
        if step == total:
            self.close()

    def say(self, text: str, stream: object) -> None:
        from tqdm import tqdm

        tqdm.write(text, file=stream)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        self._bar, self._name = None, ""


if __name__ == "__main__":
    sys.exit(main())
