"""A `Request` becomes pictures: the `stages` in their order, as one generator of events.

Closing the generator (in the thread that consumes it) frees everything that the run held.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from glmimage import checkpoint as checkpoints
from glmimage import system
from glmimage.adapters import Adapter
from glmimage.download import Report
from glmimage.errors import RequestError
from glmimage.events import Event, Note, Sketch
from glmimage.fitting import Wishes
from glmimage.footprint import Job
from glmimage.glyphs import check_glyphs
from glmimage.models import Stack
from glmimage.prompting import quoted
from glmimage.references import sizes
from glmimage.regions import match
from glmimage.request import Defaults, Layout, Request
from glmimage.residency import Residency
from glmimage.shelf import Shelf
from glmimage.source import read_source
from glmimage.stages import Run, sketch_seeds, thumbnail_codes
from glmimage.system import System
from glmimage.workshop import Workshop, is_out_of_memory, too_little

Done = TypeVar("Done")

SKETCH_STEPS = 6


class Engine:
    """One checkpoint, ready to paint. One run at a time."""

    def __init__(
        self,
        stack: Stack | Workshop,
        world: dict[str, Any] | None = None,
        residency: Residency | None = None,
        shelf: Shelf | None = None,
    ) -> None:
        """Around a stack whose weights stay as they are, or around a workshop, which plans every run."""
        self.workshop = stack if isinstance(stack, Workshop) else Workshop(stack, residency)
        self.world = world
        """What the checkpoint says it knows (world.json), if it says."""
        self.shelf = shelf
        """Where encoded reference pictures are kept on disk, if anywhere."""

    @classmethod
    def load(
        cls,
        checkpoint: str = checkpoints.MINIATURE,
        *,
        device: str | None = None,
        wishes: Wishes | None = None,
        shelf: Shelf | None = None,
        adapters: Sequence[Adapter] = (),
        report: Report | None = None,
    ) -> Engine:
        """Finds a checkpoint, "miniature", a folder, or a hub id (downloaded), and loads it as it fits this machine.

        device None: cuda where torch finds one, else mps, else cpu. adapters: LoRAs to paint with, which the pictures
        name. report: told how much is downloaded and loaded. Raises CheckpointError, and MachineError where nothing
        fits or what is wished for does not.
        """
        folder = checkpoints.find(checkpoint, report)
        workshop = Workshop.open(folder, device=device, wishes=wishes, adapters=adapters, report=report)
        return cls(workshop, checkpoints.read_world(folder), shelf=shelf)

    @property
    def stack(self) -> Stack:
        return self.workshop.stack

    @property
    def residency(self) -> Residency:
        return self.workshop.residency

    @property
    def defaults(self) -> Defaults:
        return self.stack.defaults

    def look(self) -> System | None:
        """The machine and the plan that is followed, also while a run goes on; None where nothing was planned."""
        return system.look(self.workshop)

    def run(self, request: Request, stop: threading.Event | None = None, *, previews: bool = True) -> Iterator[Event]:
        """Yields Progress, Preview and Note events and a Result for each picture, in order.

        The same request gives the same pictures; picture i of a batch is the one made alone with seed + i.
        Raises GLMImageError for what cannot be made, Stopped once `stop` is set.
        """
        run = yield from self._begin(request, stop, previews)
        references = yield from self._last(run, run.read_references)
        if request.follows_source:
            size = references[0].size
            run.request = replace(request, width=size.width, height=size.height).resolve(self.defaults)
        yield from _sized(request, run.request, self.defaults)
        alike = bool(references) and references[0].size == run.request.size
        keeps = run.request.keep and request.task == "edit" and alike
        held = request.mask or request.content or keeps
        source = read_source(self.stack, request, references[0]) if held else None
        layouts = yield from self._last(run, lambda: run.lay_out(references, source))
        glyphs = yield from self._last(run, run.read_glyphs)
        for index, layout in enumerate(layouts):
            kept = source.keeping(layout.target) if source is not None and keeps else source
            paint = partial(run.paint, index, layout.target, glyphs, references, kept)
            painted = yield from self._last(run, paint)
            image = yield from self._last(run, partial(run.decode, index, painted))
            yield run.result(index, layout, image if kept is None else kept.put_back(image))

    def sketch(
        self, request: Request, stop: threading.Event | None = None, *, previews: bool = True
    ) -> Iterator[Event]:
        """Yields Progress, Preview and Note events and a Sketch for each picture asked for, in order.

        The prior draws the preview grids alone, in one batch, and each is painted in a few steps. `Sketch.pick` makes
        the request that goes on with one; `run` then gives the picture that the same seeds give without sketches.
        Sketches differ also where the layout's seed is locked: it is the first one's. A layout of the request's own is
        left aside. Raises GLMImageError for what cannot be made, such as sketches with references, of which the model
        draws no preview; Stopped once `stop` is set.
        """
        request = replace(request, layout=None)
        if request.references:
            raise RequestError("With reference pictures the model draws no sketch first; generate at once instead.")
        run = yield from self._begin(request, stop, previews)
        yield from _sized(request, run.request, self.defaults)
        previews_drawn = yield from self._last(run, run.sketch_out)
        glyphs = yield from self._last(run, run.read_glyphs)
        for index, (seed, preview) in enumerate(zip(sketch_seeds(request), previews_drawn, strict=True)):
            shown = thumbnail_codes(preview, run.request.size.prior_grid, self.defaults.repeats)
            painted = yield from self._last(run, partial(run.paint, index, shown, glyphs, steps=SKETCH_STEPS))
            image = yield from self._last(run, partial(run.decode, index, painted))
            yield Sketch(image, index, seed, Layout(preview=preview))

    def _begin(self, request: Request, stop: threading.Event | None, previews: bool) -> Generator[Event, None, Run]:
        """The run of a request that can be made, as far as that can be told before anything is computed.

        Everything is arranged for it; where that changes something, a Note says what.
        """
        wanted = request.resolve(self.defaults)
        texts = quoted(request.prompt)
        check_glyphs(self.stack, texts)
        match(request.regions, texts)
        if self.workshop.plan is not None:
            sides = sizes(self.stack, wanted.references)
            job = Job.of(wanted, sides)
            if changed := self.workshop.fit(replace(job, size=sides[0]) if request.follows_source else job):
                yield Note(changed)
        letter = checkpoints.letter_of(self.world)
        return Run(self.workshop, wanted, stop, previews=previews, shelf=self.shelf, letter=letter)

    def _last(self, run: Run, stage: Callable[[], Generator[Event, None, Done]]) -> Generator[Event, None, Done]:
        """One stage of a run; where the memory is not enough for it, it is done once more in a smaller way."""
        try:
            return (yield from stage())
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        # Out of the handler: there the traceback still holds what the stage held.
        yield Note(self.workshop.retreat(run.stage))
        try:
            return (yield from stage())
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise too_little(run.stage) from error


def _sized(asked: Request, wanted: Request, defaults: Defaults) -> Iterator[Event]:
    """Says what became of a size, and where the model never learned such large ones, or such a one."""
    sides = [(asked.width, wanted.width), (asked.height, wanted.height)]
    if any(side is not None and side != snapped for side, snapped in sides):
        given = "x".join(str(snapped if side is None else side) for side, snapped in sides)
        why = "the picture keeps its first reference's" if asked.follows_source else "sides are multiples of 32 pixels"
        yield Note(f"The size {given} became {wanted.size}, because {why}.")
    if wanted.size.width * wanted.size.height > defaults.max_pixels:
        yield Note(
            f"{defaults.name} was trained for pictures of up to {defaults.max_pixels:,} pixels, and {wanted.size} has"
            " more: expect broken things; choose a smaller size."
        )
    elif defaults.sizes and wanted.size not in defaults.sizes:
        cropped = "crop the first reference to the shape of one of these"
        remedy = cropped if asked.follows_source else "choose one of these"
        yield Note(
            f"{defaults.name} was trained for pictures of {', '.join(map(str, defaults.sizes))}, and {wanted.size} is"
            f" none of them: expect broken things; {remedy}."
        )
