"""Scores of a checkpoint, end to end, on scenes, words and sentence frames that training never saw.

Each case is an exercise of the "evaluate" split, asked for as the studio asks: `tasks` makes the request, references
are picture files. The picture is marked by `marking`. `ceilings` are the marks of the wanted pictures after a round
trip through the checkpoint's VAE: what a perfect prior and decoder would reach.

| score | what is counted |
|---|---|
| things, styles | stickers of text-to-image that are the asked thing, in the asked place; in the asked style |
| backgrounds | pictures of text-to-image on the asked ground |
| word_accuracy, word_accuracy_zh, ned | words of text-to-image of three letters and more; Chinese ones; both |
| regions | words that can be read in their boxes |
| edit | edits after which all that was asked for is there (or gone) |
| edit_kept_psnr | dB, over the pixels that the edit must leave as they were |
| style_transfer | stickers that are the thing they were, where they were, in the new style |
| subjects | stickers that are the referenced thing in its own style, in the asked place |

Intervals take every mark as independent, though a picture's marks are not quite.
"""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image

from glmimage import latents, tasks
from glmimage.engine import Engine
from glmimage.errors import TrainingError, reason
from glmimage.events import Result
from glmimage.proofread import Proofreader, until_right
from glmimage.request import Reference, Request
from glmimage.train.art import CELL, Art
from glmimage.train.edits import Sample, sample
from glmimage.train.layout import Scene, region_of, render
from glmimage.train.loop import scene_rng, write_whole
from glmimage.train.marking import Marker, Marks, Picture
from glmimage.train.sheet import answers_sheet, sheet_file
from glmimage.train.world import GRAMMARS, SHIPPED, World, sample_with

TASKS: Mapping[str, Sequence[str]] = {
    "text": ("text",),
    "regions": ("regions",),
    "edit": ("replace", "remove", "add", "background", "word"),
    "style": ("style", "style_reference"),
    "subjects": ("subjects",),
}
"""Task of the studio -> exercises of the world, asked in turn."""
SCORES: Mapping[str, str] = {
    "things": "text",
    "styles": "text",
    "backgrounds": "text",
    "word_accuracy": "text",
    "word_accuracy_zh": "text",
    "ned": "text",
    "edit": "edit",
    "edit_kept_psnr": "edit",
    "style_transfer": "style",
    "subjects": "subjects",
    "regions": "regions",
}
"""Score -> the task that it is of."""
FIRST_SEED = 1_000_000
APART = 100_000
"""Cases of a task begin this far from the last one's."""


@dataclass(frozen=True, slots=True)
class Case:
    index: int
    """Also the seed of its picture."""
    sample: Sample

    @property
    def prompt(self) -> str:
        return self.sample.prompt

    @property
    def scene(self) -> Scene:
        return self.sample.scene


def cases(count: int, task: str = "text", world: World = SHIPPED) -> list[Case]:
    """The same cases for every checkpoint. Raises TrainingError for a task that the world does not have."""
    kinds, first = TASKS[task], FIRST_SEED + APART * list(TASKS).index(task)
    languages = dict.fromkeys(world.languages)
    return [
        Case(
            index,
            sample(
                scene_rng("evaluate", first + index),
                world,
                kinds[index % len(kinds)],
                held_out=True,
                language=list(languages)[index // len(kinds) % len(languages)],
            ),
        )
        for index in range(count)
    ]


# -- asking ------------------------------------------------------------------------------------------------------------


def request_of(case: Case, art: Art, folder: Path) -> Request:
    """What the studio would ask for; writes the reference pictures into `folder`."""
    each = case.sample
    rows, cols = each.scene.grid
    base = Request(prompt=each.prompt, width=cols * CELL, height=rows * CELL, seed=case.index)
    paths = []
    for number, scene in enumerate(each.references):
        path = folder / f"{each.task}-{case.index}-{number}.png"
        Image.fromarray(render(scene, art)).save(path)
        paths.append(str(path))
    match each.task:
        case "text":
            return tasks.text(base, each.prompt)
        case "regions":
            return _regions(base, case)
        case "style":
            # In a sentence that training never saw; the studio's own are among training's.
            style = each.scene.things[0].style
            return replace(tasks.style(base, paths[0], style_name=style), prompt=each.prompt)
        case "style_reference":
            return replace(tasks.style(base, paths[0], style_picture=paths[1]), prompt=each.prompt)
        case "subjects":
            return _subjects(base, case, paths)
    return tasks.edit(base, paths[0], each.prompt)


def _regions(base: Request, case: Case) -> Request:
    """The scene without its words as a prompt, each word as a box, of which the studio says where the text begins."""
    each, rng = case.sample, scene_rng("evaluate", 2 * FIRST_SEED + case.index)
    grammar = GRAMMARS[each.language]
    boxes = [
        region_of(word.text, word.box, grammar.ink(word.color), word.grid) for word in each.scene.words if word.box
    ]
    prompt, _ = grammar.caption(replace(each.scene, words=()), rng, held_out=True)
    return tasks.regions(base, prompt, boxes, each.language)


def _subjects(base: Request, case: Case, paths: Sequence[str]) -> Request:
    """Subjects by their names, those of one kind by the numbers of their pictures."""
    each, rng = case.sample, scene_rng("evaluate", 2 * FIRST_SEED + case.index)
    grammar = GRAMMARS[each.language]
    shown = [scene.things[0] for scene in each.references]
    kinds = [thing.kind for thing in shown]
    called, names = [], {}
    left = list(each.scene.things)
    for number, thing in enumerate(shown, 1):
        name = grammar.name(thing.kind, rng)
        called.append(name)
        placed = next(other for other in left if (other.kind, other.style) == (thing.kind, thing.style))
        left.remove(placed)
        names[placed] = grammar.pictured(thing.kind, number, rng) if kinds.count(thing.kind) > 1 else name
    prompt, _ = grammar.caption(each.scene, rng, held_out=True, names=names)
    references = [Reference(path=path, name=name) for path, name in zip(paths, called, strict=True)]
    return tasks.subjects(base, prompt, references, each.language)


def paint(engine: Engine, request: Request, proofreader: Proofreader, attempts: int) -> Picture:
    """With more than one attempt as the studio does until its words read right; one alone is not read."""
    run = partial(engine.run, previews=False)
    events = until_right(run, request, proofreader, attempts=attempts) if attempts > 1 else run(request)
    return next(np.asarray(event.image.convert("RGB")) for event in events if isinstance(event, Result))


# -- ceilings ----------------------------------------------------------------------------------------------------------


class Ceilings:
    """Marks of the wanted pictures after a round trip through a VAE, kept in the work folder."""

    def __init__(self, vae: AutoencoderKL, marker: Marker, work: Path) -> None:
        self.vae, self.marker = vae, marker
        self.path = work / "ceilings" / f"{_digest(vae)}.json"
        self.kept: dict[str, Marks] = {}
        if self.path.exists():
            self.kept = json.loads(self.path.read_text(encoding="utf-8"))

    def of(self, each: Sample) -> Marks:
        key = hashlib.sha256(repr((each, sorted(self.marker.stickers), self.marker.world.things)).encode()).hexdigest()
        if key not in self.kept:
            self.kept[key] = self.marker.mark(round_trip(self.vae, render(each.scene, self.marker.art)), each)
        return self.kept[key]

    def save(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self.path, lambda file: file.write(json.dumps(self.kept).encode()))


def _digest(vae: AutoencoderKL) -> str:
    digest = hashlib.sha256(repr(sorted(vae.config.items())).encode())
    for name, value in vae.state_dict().items():
        digest.update(name.encode())
        digest.update(value.float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


@torch.no_grad()
def round_trip(vae: AutoencoderKL, picture: Picture) -> Picture:
    """The picture through a VAE and back."""
    pixels = latents.to_tensor(Image.fromarray(picture)).to(vae.device, vae.dtype)
    back = latents.decode(vae, latents.encode(vae, pixels))
    return np.asarray(latents.to_picture(back[0] if back.dim() == 4 else back))


# -- the evaluation ----------------------------------------------------------------------------------------------------


def cases_with(thing: str, count: int, world: World, style: str | None = None) -> list[Case]:
    """Text-to-image of one thing among others, also of one that the world lacks; only that thing is marked."""
    made = []
    for index in range(count):
        rng = scene_rng("evaluate", 3 * FIRST_SEED + index)
        scene = sample_with(thing, rng, True, world, style)
        prompt, _ = GRAMMARS["en"].caption(scene, rng, held_out=True)
        asked = tuple(each for each in scene.things if each.kind == thing)
        alone = replace(scene, things=asked, words=())
        made.append(Case(index, Sample(task="text", language="en", prompt=prompt, references=(), scene=alone)))
    return made


def evaluate(
    engine: Engine,
    art: Art,
    work: Path,
    *,
    task: str = "all",
    cases: int = 100,
    world: World = SHIPPED,
    sheet: Path | None = None,
    threads: int = 0,
    steps: int | None = None,
    attempts: int = 1,
    thing: str | None = None,
    style: str | None = None,
    language: str | None = None,
) -> dict[str, Any]:
    """The scores by name (None where there are none, with why under `reasons`), `cases` of each task, and the maps
    `intervals` (95 %), `ceilings` and `kinds` (the exercises of edit and style one by one).

    steps: of the decoder; None = the checkpoint's own. attempts: how often a picture is painted until its words read
    right, at most (`proofread.until_right`; the same reader marks them, in their places). threads: of the OCR, 0 = its
    own choice. thing, style: `cases_with` them in place of the tasks. language: the only one that prompts are in (None:
    all of the world's).
    Raises TrainingError for a task or language that the world does not have, or that a `thing` is not asked for in.
    """
    if style and not thing:
        raise TrainingError("--style is that of a thing; say which: --thing cat.")
    if thing and (task not in ("all", "text") or language not in (None, "en")):
        raise TrainingError("A --thing is asked for in text-to-image and in English; leave out --task and --language.")
    if language and language not in world.languages:
        known = ", ".join(dict.fromkeys(world.languages))
        raise TrainingError(f"The world of level {world.level} is not told in {language!r}; choose one of: {known}.")
    world = replace(world, languages=(language,)) if language else world
    sheet = sheet_file(sheet) if sheet else None
    if thing:
        task, asked = "text", cases_with(thing, cases, world, style)
        world = replace(world, things=(*world.things, *({thing} - {*world.things})))
    else:
        asked = list(_asked(task, cases, world))
    marker = Marker(art, world, threads)
    ceilings = Ceilings(engine.stack.vae, marker, work)
    marks: Marks = {}
    best: Marks = {}
    shown: list[tuple[Sample, Picture]] = []
    with tempfile.TemporaryDirectory() as folder:
        requests = [replace(request_of(case, art, Path(folder)), steps=steps) for case in asked]
        for case, picture in zip(asked, _painted(engine, requests, threads, attempts), strict=True):
            add(marks, marker.mark(picture, case.sample))
            add(best, ceilings.of(case.sample))
            shown.append((case.sample, picture))
    # Hours of painting are not lost for want of room.
    try:
        ceilings.save()
        if sheet:
            answers_sheet(shown, art).save(sheet)
    except (OSError, TrainingError) as error:
        warnings.warn(f"The scores are complete, but not all could be stored: {reason(error)}", stacklevel=2)
    return report(marks, best, cases, task, world)


def _asked(task: str, count: int, world: World) -> Iterator[Case]:
    if task != "all" and task not in TASKS:
        raise TrainingError(f"There is no task {task!r}; choose one of: {', '.join(TASKS)}, all.")
    for name in TASKS if task == "all" else (task,):
        if task != "all" or set(TASKS[name]) <= set(world.tasks):
            yield from cases(count, name, world)


def _painted(engine: Engine, requests: Sequence[Request], threads: int, attempts: int) -> Iterator[Picture]:
    from tqdm import tqdm

    proofreader = Proofreader(threads)
    for request in tqdm(requests, desc="evaluating", disable=None):
        yield paint(engine, request, proofreader, attempts)


def report(marks: Marks, best: Marks, count: int, task: str, world: World) -> dict[str, Any]:
    reasons = {}
    for score, owner in SCORES.items():
        if not set(TASKS[owner]) <= set(world.tasks):
            reasons[score] = f"The world of level {world.level} has no task {owner}."
        elif task not in ("all", owner):
            reasons[score] = f"The task {owner} was not asked for."
        elif score == "word_accuracy_zh" and not world.greetings:
            reasons[score] = f"The world of level {world.level} has no Chinese words in its pictures."
        elif not marks.get(score):
            reasons[score] = "None of these cases has anything to mark."
    there = [score for score in SCORES if score not in reasons]
    kinds = {name.removeprefix("task:"): mean(values) for name, values in marks.items() if name.startswith("task:")}
    return {
        **{score: mean(marks[score]) if score in there else None for score in SCORES},
        "cases": count,
        "intervals": {score: interval(marks[score]) for score in there},
        "ceilings": {score: mean(best[score]) for score in there},
        "kinds": kinds,
        "reasons": reasons,
    }


def table(report: Mapping[str, Any]) -> str:
    """The report for people."""
    lines = [f"{report['cases']} cases a task", f"{'':18}{'score':>8}{'95 %':>18}{'ceiling':>10}"]
    for name, (low, high) in report["intervals"].items():
        digits = 2 if name.endswith("psnr") else 3
        between = f"{low:.{digits}f} - {high:.{digits}f}"
        lines.append(f"{name:18}{report[name]:8.{digits}f}{between:>18}{report['ceilings'][name]:10.{digits}f}")
    lines += [f"  {name:16}{value:8.3f}" for name, value in report["kinds"].items()]
    lines += [f"{name:18}{'-':>8}  {reason}" for name, reason in report["reasons"].items()]
    return "\n".join(lines)


# -- adding up ---------------------------------------------------------------------------------------------------------


def add(into: Marks, marks: Mapping[str, list[float]]) -> None:
    for name, values in marks.items():
        into.setdefault(name, []).extend(values)


def mean(values: list[float]) -> float | None:
    return round(sum(values) / len(values), 4) if values else None


def interval(values: list[float]) -> tuple[float, float]:
    """95 %: Wilson's (1927) for shares of right and wrong, the normal one for other numbers."""
    count = len(values)
    if not count:
        return 0.0, 1.0
    share, z = sum(values) / count, 1.96
    if not set(values) <= {0.0, 1.0}:
        half = z * float(np.std(values)) / math.sqrt(count)
        return round(share - half, 4), round(share + half, 4)
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    return round(max(0.0, middle - half), 4), round(min(1.0, middle + half), 4)
