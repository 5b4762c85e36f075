"""A `Request` becomes pictures: the stages in their order, as one generator of events.

The layouts of all pictures are drawn first, together; then each picture is painted and decoded alone, so that the
first is done early and none depends on its neighbours. The stop flag is read at every code and every step. Closing the
generator (in the thread that consumes it) frees everything that the run held.
Knows no page, no command line and no files but the references and the checkpoint.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from glmimage import checkpoint as checkpoints
from glmimage import latents, preview
from glmimage.decoder import Conditions, Step, denoise
from glmimage.errors import CheckpointError, RequestError, Stopped
from glmimage.events import Event, Note, Preview, PriorTokens, Progress, Result, Stage
from glmimage.glyphs import check_glyphs, encode_glyphs
from glmimage.models import Stack
from glmimage.prior import Draft, generate_prior
from glmimage.prompting import prompt_ids, quoted
from glmimage.quantize import Formats
from glmimage.references import PreparedReference, prepare
from glmimage.request import Defaults, Request
from glmimage.residency import OFFLOADS, Residency

Drafts = Generator[Draft, None, tuple[PriorTokens, ...]]
LAYOUT_PREVIEWS = 40
PAINTING_PREVIEWS = 10
"""At most this many previews of each picture in a stage."""


class Engine:
    """One checkpoint, ready to paint. One run at a time."""

    def __init__(self, stack: Stack, world: dict[str, Any] | None = None, residency: Residency | None = None) -> None:
        self.stack = stack
        self.residency = residency or Residency(stack)
        self.world = world
        """What the checkpoint says it knows (world.json), if it says."""

    @classmethod
    def load(
        cls,
        checkpoint: str = checkpoints.MINIATURE,
        *,
        device: str | None = None,
        formats: Formats | None = None,
        offload: str = "none",
    ) -> Engine:
        """Finds and loads a checkpoint: "miniature", a folder, or a hub id (downloaded). Raises CheckpointError.

        device None: cuda where torch finds one, else mps, else cpu. formats None: every component as it is stored.
        offload: one of `residency.OFFLOADS`.
        """
        folder = checkpoints.find(checkpoint)
        device = device or _best_device()
        modes = OFFLOADS[offload]
        if modes and device == "cpu":
            raise CheckpointError(
                "The model runs on the processor here, from which nothing is offloaded; leave it out."
            )
        stack = Stack.load(folder, device=device, formats=formats, offloaded=bool(modes))
        return cls(stack, checkpoints.read_world(folder), Residency(stack, modes))

    @property
    def defaults(self) -> Defaults:
        return self.stack.defaults

    def run(self, request: Request, stop: threading.Event | None = None, *, previews: bool = True) -> Iterator[Event]:
        """Yields Progress, Preview and Note events and a Result for each picture, in order.

        The same request gives the same pictures; picture i of a batch is the one made alone with seed + i.
        Raises GLMImageError for what cannot be made, Stopped once `stop` is set.
        """
        wanted = request.resolve(self.defaults)
        if request.regions:
            raise RequestError("Regions cannot be placed yet; write the text in quotation marks in the prompt instead.")
        check_glyphs(self.stack, quoted(request.prompt))
        yield from _snapped(request, wanted)
        run = _Run(self.stack, self.residency, wanted, stop, previews)
        references = yield from run.read_references()
        layouts = yield from run.lay_out(references)
        glyphs = yield from run.read_glyphs()
        for index, layout in enumerate(layouts):
            painted = yield from run.paint(index, layout, glyphs, references)
            yield from run.finish(index, layout, painted)


class _Run:
    """One request on its way; every stage is a generator of events that returns what the next one needs."""

    def __init__(
        self, stack: Stack, residency: Residency, request: Request, stop: threading.Event | None, previews: bool
    ) -> None:
        self.stack = stack
        self.residency = residency
        self.request = request
        self.stop = stop or threading.Event()
        self.previews = previews
        self.colours: preview.Palette | None = None
        self.seconds: dict[str, float] = {}

    def read_references(self) -> Generator[Event, None, list[PreparedReference]]:
        prepared: list[PreparedReference] = []
        total = len(self.request.references)
        if total:
            yield Progress("references", 0, total, 0, self.request.count)
        for reference in self.request.references:
            self.check()
            with self.clock("references"), self.residency.stage("references"):
                prepared += prepare(self.stack, [reference])
            yield Progress("references", len(prepared), total, 0, self.request.count)
        return prepared

    def lay_out(self, references: Sequence[PreparedReference]) -> Generator[Event, None, list[PriorTokens]]:
        request, stack = self.request, self.stack
        grids = [(reference.codes.shape[0], reference.codes.shape[1]) for reference in references]
        prompt = prompt_ids(stack.processor, request.prompt, request.size, grids)
        # One locked layout is drawn once, whatever the count.
        alike = request.layout_seed is not None
        seeds = [request.layout_seed_of(index) for index in range(1 if alike else request.count)]
        generators = [torch.Generator(stack.device).manual_seed(seed) for seed in seeds]
        yield Progress("layout", 0, prompt.count, 0, request.count)
        if self.previews:
            with self.clock("layout"):
                self.colours = preview.palette(stack, self.residency)
        with self.residency.stage("layout"):
            drafts = generate_prior(
                stack,
                prompt,
                generators,
                references=[reference.codes for reference in references],
                sampling=request.sampling,
                stop=self.stop,
            )
            layouts = yield from self.watch(drafts, max(4, prompt.count // LAYOUT_PREVIEWS))
        return list(layouts) * (request.count if alike else 1)

    def watch(self, drafts: Drafts, every: int) -> Generator[Event, None, tuple[PriorTokens, ...]]:
        """Progress for each code, and a sketch after `every` codes."""
        while True:
            try:
                with self.clock("layout"):
                    draft = next(drafts)
            except StopIteration as done:
                layouts: tuple[PriorTokens, ...] = done.value
                return layouts
            yield Progress("layout", draft.step, draft.total, 0, self.request.count)
            if self.colours and (draft.step % every == 0 or draft.step == draft.total):
                for index, sketch in enumerate(_sketches(self.colours, draft)):
                    yield Preview(sketch, "layout", index)

    def read_glyphs(self) -> Generator[Event, None, tuple[Tensor, Tensor]]:
        """The quoted strings' embeddings and the empty ones."""
        yield Progress("glyphs", 0, 1, 0, self.request.count)
        self.check()
        with self.clock("glyphs"), self.residency.stage("glyphs"):
            glyphs = encode_glyphs(self.stack, quoted(self.request.prompt)), encode_glyphs(self.stack, ())
        yield Progress("glyphs", 1, 1, 0, self.request.count)
        return glyphs

    def paint(
        self,
        index: int,
        layout: PriorTokens,
        glyphs: tuple[Tensor, Tensor],
        references: Sequence[PreparedReference],
    ) -> Generator[Event, None, Tensor]:
        request, stack = self.request, self.stack
        steps, guidance = request.steps, request.guidance
        assert steps is not None, "the request is resolved"
        assert guidance is not None, "the request is resolved"
        generator = torch.Generator().manual_seed(request.paint_seed_of(index))
        shape = (1, stack.decoder.config.in_channels, *request.size.latent_grid)
        conditions = Conditions(
            codes=torch.from_numpy(layout.target)[None],
            glyphs=glyphs[0],
            empty_glyphs=glyphs[1],
            references=references,
            guidance=guidance,
        )
        yield Progress("painting", 0, steps, index, request.count)
        noise = torch.randn(shape, generator=generator)
        self.seconds.pop("painting", None)
        with self.residency.stage("painting"):
            painting = denoise(
                stack.decoder,
                stack.scheduler_config,
                conditions,
                noise,
                steps=steps,
                stop=self.stop,
                layers=self.residency,
            )
            return (yield from self.follow(painting, index, -(-steps // PAINTING_PREVIEWS)))

    def follow(self, painting: Iterator[Step], index: int, every: int) -> Generator[Event, None, Tensor]:
        """Progress for each step, and a preview at the first of `every` steps."""
        while True:
            try:
                with self.clock("painting"):
                    step = next(painting)
            except StopIteration:
                return step.latents
            yield Progress("painting", step.number, step.total, index, self.request.count)
            if self.colours and (step.number % every == 1 or every == 1) and step.number < step.total:
                yield Preview(preview.latents_to_picture(self.colours, step.clean), "painting", index)

    def finish(self, index: int, layout: PriorTokens, painted: Tensor) -> Iterator[Event]:
        request = self.request
        yield Progress("decoding", 0, 1, index, request.count)
        self.check()
        self.seconds.pop("decoding", None)
        with self.clock("decoding"), self.residency.stage("decoding"):
            image = latents.to_picture(latents.decode(self.stack.vae, painted))
        yield Progress("decoding", 1, 1, index, request.count)
        yield Result(
            image=image,
            request=request,
            index=index,
            layout_seed=request.layout_seed_of(index),
            paint_seed=request.paint_seed_of(index),
            prior=layout,
            seconds=self.share(),
            checkpoint=self.stack.defaults.name,
        )

    def share(self) -> dict[str, float]:
        """This picture's share of the time, so that a batch's shares add up to the whole."""
        own = ("painting", "decoding")
        return {
            stage: seconds if stage in own else seconds / self.request.count for stage, seconds in self.seconds.items()
        }

    def check(self) -> None:
        if self.stop.is_set():
            raise Stopped

    @contextmanager
    def clock(self, stage: Stage) -> Iterator[None]:
        """Adds the time spent inside to the stage; what the consumer does between events does not count."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start


def _sketches(colours: preview.Palette, draft: Draft) -> Iterator[Image.Image]:
    """The grid that is growing, over the finished one."""
    for codes in draft.codes_BN.tolist():
        under = None
        for grid in draft.grids:
            part, codes = codes[: grid[0] * grid[1]], codes[grid[0] * grid[1] :]
            under = preview.codes_to_picture(colours, part, grid, under)
            if not codes:
                break
        assert under is not None
        yield under


def _snapped(asked: Request, wanted: Request) -> Iterator[Event]:
    sides = [(asked.width, wanted.width), (asked.height, wanted.height)]
    if any(side is not None and side != snapped for side, snapped in sides):
        given = "x".join(str(snapped if side is None else side) for side, snapped in sides)
        yield Note(f"The size {given} became {wanted.size}, because sides are multiples of 32 pixels.")


def _best_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
