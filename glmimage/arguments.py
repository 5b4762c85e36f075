"""The words of `python -m glmimage paint` and what they ask for, as a `Request`.

Every task of `tasks` can be asked for; what is not said is the checkpoint's own. Knows no engine; opens only the
picture that a layout is taken from.
"""

from __future__ import annotations

import argparse
import secrets
from dataclasses import replace
from pathlib import Path

from glmimage import metadata, tasks
from glmimage.errors import RequestError
from glmimage.geometry import Size
from glmimage.request import TASKS, Reference, Region, Request

_BOX = "'TEXT@LEFT,TOP,RIGHT,BOTTOM[:COLOR]'"


def add_paint(paint: argparse.ArgumentParser) -> None:
    """The arguments of `paint`."""
    paint.add_argument(
        "prompt",
        nargs="?",
        default="",
        help="what to paint, or how to change a picture; words in quotation marks are written: 'a cat and \"HELLO\"'",
    )
    paint.add_argument("-o", "--output", type=Path, default=Path("out.png"), metavar="FILE", help="PNG file (out.png)")
    paint.add_argument(
        "--reference", action="append", default=[], metavar="FILE", help="picture to work from; may be repeated"
    )
    paint.add_argument("--size", metavar="WIDTHxHEIGHT", help="in pixels (the checkpoint's own size)")
    paint.add_argument("--seed", type=int, metavar="N", help="picture i of the batch uses N + i (random)")
    paint.add_argument("--steps", type=int, metavar="N", help="steps of the painter (the checkpoint's own)")
    paint.add_argument("--guidance", type=float, metavar="X", help="how closely to follow the layout (1.5; 1 is off)")
    paint.add_argument("--count", type=int, default=1, metavar="N", help="pictures, each with its own layout (1)")
    studio = paint.add_argument_group("tasks")
    studio.add_argument(
        "--task",
        choices=TASKS,
        help="edit: the prompt changes the reference; style: the reference in the style that the prompt names or that a"
        " second reference shows; regions and subjects follow from --region and --subject",
    )
    studio.add_argument(
        "--mask", metavar="FILE", help="edit only where this picture, of the reference's shape, is white"
    )
    studio.add_argument(
        "--keep",
        action=argparse.BooleanOptionalAction,
        help="in an edit keep the pixels of all that its layout leaves alone (as the checkpoint does)",
    )
    studio.add_argument(
        "--content", type=float, default=0.0, metavar="X", help="start from the reference's own picture, 0 to 1 (0)"
    )
    studio.add_argument(
        "--region", action="append", default=[], metavar="BOX", help=f"a text and its place, sides 0 to 1: {_BOX}"
    )
    studio.add_argument(
        "--region-strength", type=float, default=1.0, metavar="X", help="how strongly texts keep to their boxes (1)"
    )
    studio.add_argument(
        "--subject",
        action="append",
        default=[],
        metavar="NAME[/KIND]=FILE",
        help="who the prompt names and what that is, with a picture: 'Mia/cat=mia.png'; may be repeated",
    )
    studio.add_argument(
        "--sketches", type=int, metavar="N", help="only sketch N layouts; go on with one by --layout-from"
    )
    studio.add_argument(
        "--layout-from",
        type=Path,
        metavar="PICTURE",
        help="go on with a sketch, or paint a picture's layout again; without a prompt its own, without a seed its own",
    )
    studio.add_argument(
        "--attempts", type=int, default=1, metavar="N", help="paint until the words read right, at most N times (1)"
    )


def request_of(options: argparse.Namespace) -> Request:
    """What the arguments of `paint` ask for. Raises RequestError, and PictureError for a picture without a layout."""
    made = None if options.layout_from is None else _settings(options.layout_from)
    size = Size.parse(options.size) if options.size is not None else None
    base = Request(
        # Every task puts its own prompt here; a style or a box may do without words of the person's.
        prompt=options.prompt if options.prompt.strip() else "a picture",
        count=options.sketches or options.count,
        seed=secrets.randbelow(2**31) if options.seed is None else options.seed,
        region_strength=options.region_strength,
    )
    request = made.again if made is not None and not options.prompt.strip() else _task(options, base)
    request = replace(
        request,
        width=size.width if size else request.width,
        height=size.height if size else request.height,
        steps=request.steps if options.steps is None else options.steps,
        guidance=request.guidance if options.guidance is None else options.guidance,
    )
    return request if made is None else _laid_out(request, options, made)


def _laid_out(request: Request, options: argparse.Namespace, made: metadata.Settings) -> Request:
    """With a picture's layout, which has one size, and its seeds, where none is given."""
    return replace(
        request,
        count=options.count,
        seed=made.paint_seed if options.seed is None else options.seed,
        layout_seed=made.layout_seed,
        paint_seed=None,
        layout=made.request.layout if made.prior is None else made.prior.layout,
        width=made.request.width,
        height=made.request.height,
    )


def _task(options: argparse.Namespace, base: Request) -> Request:
    task, references = options.task, options.reference
    if task is None:
        edited = options.mask is not None or options.content > 0
        task = "regions" if options.region else "subjects" if options.subject else "edit" if edited else "text"
    if task in ("edit", "style") and not references:
        raise RequestError(f"The task {task} works on a picture; name it with --reference.")
    if options.mask is not None and task != "edit":
        raise RequestError(f"The task {task} has no mask; leave it out or choose the task edit.")
    prompt = options.prompt
    match task:
        case "regions":
            return tasks.regions(base, prompt, [region(said) for said in options.region])
        case "subjects":
            return tasks.subjects(base, prompt, [subject(said) for said in options.subject])
        case "edit":
            edit = tasks.edit(base, references[0], prompt, options.mask)
            return replace(edit, content=options.content, keep=options.keep)
        case "style":
            shown = references[1] if len(references) > 1 else None
            return tasks.style(base, references[0], prompt, shown, 1 - options.content, tasks.language_of(prompt))
        case _:
            return replace(tasks.text(base, prompt), references=tuple(Reference(path=path) for path in references))


def region(said: str) -> Region:
    """A box as it is typed: 'HELLO@0.1,0.2,0.9,0.4:red'. Raises RequestError."""
    text, _, place = said.rpartition("@")
    sides, _, color = place.partition(":")
    try:
        left, top, right, bottom = (float(side) for side in sides.split(","))
    except ValueError:
        raise RequestError(f"The region {said!r} cannot be read; write it as {_BOX}, sides between 0 and 1.") from None
    return Region(text=text, box=(left, top, right, bottom), color=color.strip())


def subject(said: str) -> Reference:
    """A subject as it is typed: 'Mia/cat=mia.png'. Raises RequestError."""
    who, parted, path = said.partition("=")
    name, _, kind = who.partition("/")
    if not parted:
        raise RequestError(f"The subject {said!r} cannot be read; write it as NAME=FILE, for example Mia=mia.png.")
    return Reference(path=path, name=name.strip(), role=kind.strip())


def _settings(path: Path) -> metadata.Settings:
    settings = metadata.read(path)
    if settings is None or (settings.prior is None and settings.request.layout is None):
        raise RequestError(f"The picture {path.name} carries no layout; choose one that was painted or sketched here.")
    return settings
