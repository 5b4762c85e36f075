"""The stages of one request in their order, each a generator of events that returns what the next one needs.

The layouts of all pictures are drawn first, together; then each picture is painted and decoded alone, so that the
first is done early and none depends on its neighbours. The stop flag is read at every code and every step,
and once more when a picture is decoded.
Knows no page, no command line and no files but the references and the checkpoint.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from glmimage import latents, preview
from glmimage.decoder import Conditions, Step, denoise
from glmimage.errors import RequestError, Stopped
from glmimage.events import Event, Preview, PriorTokens, Progress, Result, Stage, plain_codes
from glmimage.geometry import PATCH, PRIOR_CELL, Grid, Size, preview_times
from glmimage.glyphs import encode_glyphs
from glmimage.models import Stack
from glmimage.prior import Draft, generate_prior
from glmimage.prompting import PromptIds, prompt_ids, quoted
from glmimage.references import PreparedReference, prepare
from glmimage.regions import apart, tie
from glmimage.request import LARGEST_SEED, Codes, Layout, Request
from glmimage.residency import Residency
from glmimage.shelf import Shelf
from glmimage.source import Source
from glmimage.workshop import Workshop, free, is_out_of_memory

Drawn = TypeVar("Drawn")
Drafts = Generator[Draft, None, Drawn]
LAYOUT_PREVIEWS = 40
PAINTING_PREVIEWS = 10
"""At most this many previews of each picture in a stage."""


class Run:
    """One request on its way through one workshop."""

    def __init__(
        self,
        workshop: Workshop,
        request: Request,
        stop: threading.Event | None = None,
        *,
        previews: bool = True,
        shelf: Shelf | None = None,
        letter: Size | None = None,
    ) -> None:
        """letter: pixels of every letter of the checkpoint, where they have one size."""
        self.workshop = workshop
        self.shelf = shelf
        self.letter = letter
        self.request = request
        self.stop = stop or threading.Event()
        self.previews = previews
        self.colours: preview.Palette | None = None
        self.seconds: dict[str, float] = {}
        self.stage: Stage = "loading"
        """The last that was begun."""

    @property
    def stack(self) -> Stack:
        return self.workshop.stack

    @property
    def residency(self) -> Residency:
        return self.workshop.residency

    def read_references(self) -> Generator[Event, None, list[PreparedReference]]:
        prepared: list[PreparedReference] = []
        total = len(self.request.references)
        if total:
            yield Progress("references", 0, total, 0, self.request.count)
        for reference in self.request.references:
            self.check()
            with self.clock("references"):
                at_work = partial(self.on_device, "references")
                prepared += prepare(self.stack, [reference], self.shelf, at_work)
            yield Progress("references", len(prepared), total, 0, self.request.count)
        return prepared

    def lay_out(
        self, references: Sequence[PreparedReference], source: Source | None
    ) -> Generator[Event, None, list[PriorTokens]]:
        """One layout a picture: drawn, gone on with from a sketch, or as it is given."""
        request = self.request
        given = request.layout
        self.mix_colours()
        if given is not None:
            self.check_codes(given)
            if given.target is not None:
                preview_grid = None if given.preview is None else np.array(given.preview, dtype=np.int64)
                return [PriorTokens(np.array(given.target, dtype=np.int64), preview_grid)] * request.count
        known: list[int] = []
        if given is not None and given.preview is not None and not references:
            known = [code for row in given.preview for code in row]
        elif source is not None:
            known = source.known_codes()
        # One locked layout is drawn once, whatever the count.
        alike = request.layout_seed is not None
        seeds = [request.layout_seed_of(index) for index in range(1 if alike else request.count)]
        prompt = self.prompt(references)
        yield Progress("layout", 0, prompt.count, 0, request.count)
        layouts: list[PriorTokens] = []
        for part in self.together(seeds):
            with self.on_device("layout"):
                drafts = self.draw(prompt, part, references, known)
                layouts += yield from self.watch(drafts, prompt.count, len(layouts))
        return layouts * (request.count if alike else 1)

    def sketch_out(self) -> Generator[Event, None, list[Codes]]:
        """The preview grids alone, from the layout's seed (or the request's) on."""
        request = self.request
        prompt = self.prompt(())
        total = prompt.drawn[0][0] * prompt.drawn[0][1]
        self.mix_colours()
        yield Progress("layout", 0, total, 0, request.count)
        grids: list[Codes] = []
        for part in self.together(sketch_seeds(request)):
            with self.on_device("layout"):
                drafts = _cut(self.draw(prompt, part, (), ()), total)
                codes_BN = yield from self.watch(drafts, total, len(grids))
            grids += [plain_codes(grid.numpy()) for grid in codes_BN.cpu().view(-1, *prompt.drawn[0])]
        return grids

    def together(self, seeds: Sequence[int]) -> Iterator[Sequence[int]]:
        """The seeds of as many layouts at a time as the plan says."""
        plan = self.workshop.plan
        count = plan.layouts if plan else len(seeds)
        return (seeds[first : first + count] for first in range(0, len(seeds), count))

    def mix_colours(self) -> None:
        """For previews; where the memory is not enough for them there are none."""
        if not self.previews:
            return
        with self.clock("layout"):
            try:
                self.colours = preview.palette(self.stack, self.residency)
                return
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
            self.previews = False
            free(self.residency.lane.device)

    def prompt(self, references: Sequence[PreparedReference]) -> PromptIds:
        grids = [(reference.codes.shape[0], reference.codes.shape[1]) for reference in references]
        return prompt_ids(self.stack.processor, self.request.prompt, self.request.size, grids)

    def draw(
        self, prompt: PromptIds, seeds: Sequence[int], references: Sequence[PreparedReference], known: Sequence[int]
    ) -> Drafts[tuple[PriorTokens, ...]]:
        return generate_prior(
            self.stack,
            prompt,
            [torch.Generator(self.stack.device).manual_seed(seed) for seed in seeds],
            references=[reference.codes for reference in references],
            sampling=self.request.sampling,
            known=known,
            hidden_NT=apart(self.request, prompt, self.letter),
            stop=self.stop,
            layers=self.residency.layers if self.residency.streams_layers else None,
        )

    def watch(self, drafts: Drafts[Drawn], total: int, first: int) -> Generator[Event, None, Drawn]:
        """Progress for each code, and now and then a rough picture of number `first` and those after it."""
        every = max(4, total // LAYOUT_PREVIEWS)
        while True:
            try:
                with self.clock("layout"):
                    draft = next(drafts)
            except StopIteration as done:
                drawn: Drawn = done.value
                return drawn
            yield Progress("layout", draft.step, draft.total, first, self.request.count)
            if self.colours and (draft.step % every == 0 or draft.step == draft.total):
                for index, sketch in enumerate(self._sketches(self.colours, draft), first):
                    yield Preview(sketch, "layout", index)

    def _sketches(self, colours: preview.Palette, draft: Draft) -> Iterator[Image.Image]:
        """The grid that is growing, over the finished one."""
        target = self.request.size.prior_grid
        for codes in draft.codes_BN.tolist():
            under = None
            for grid in draft.grids:
                part, codes = codes[: grid[0] * grid[1]], codes[grid[0] * grid[1] :]
                rows, columns = picture_of(grid, target, self.stack.defaults.repeats)
                part = [each for at, each in enumerate(part[: rows * grid[1]]) if at % grid[1] < columns]
                under = preview.codes_to_picture(colours, part, (rows, columns), under)
                if not codes:
                    break
            assert under is not None
            yield under

    def read_glyphs(self) -> Generator[Event, None, tuple[Tensor, Tensor]]:
        """The quoted strings' embeddings and the empty ones."""
        yield Progress("glyphs", 0, 1, 0, self.request.count)
        self.check()
        with self.clock("glyphs"), self.on_device("glyphs"):
            glyphs = encode_glyphs(self.stack, quoted(self.request.prompt)), encode_glyphs(self.stack, ())
        yield Progress("glyphs", 1, 1, 0, self.request.count)
        return glyphs

    def paint(
        self,
        index: int,
        codes: NDArray[np.int64],
        glyphs: tuple[Tensor, Tensor],
        references: Sequence[PreparedReference] = (),
        source: Source | None = None,
        *,
        steps: int | None = None,
    ) -> Generator[Event, None, Tensor]:
        """Latents from a grid of codes; steps None: the request's."""
        request, stack = self.request, self.stack
        steps = steps or request.steps
        assert steps is not None, "the request is resolved"
        assert request.guidance is not None, "the request is resolved"
        grid = codes.shape[0] * (PRIOR_CELL // PATCH), codes.shape[1] * (PRIOR_CELL // PATCH)
        conditions = Conditions(
            codes=torch.from_numpy(codes)[None],
            glyphs=glyphs[0],
            empty_glyphs=glyphs[1],
            references=references,
            guidance=request.guidance,
            ties=tie(stack, request, grid),
        )
        total = steps if source is None else steps - source.skipped(steps)
        yield Progress("painting", 0, total, index, request.count)
        generator = torch.Generator().manual_seed(request.paint_seed_of(index))
        shape = (1, stack.decoder.config.in_channels, *conditions.size.latent_grid)
        noise = torch.randn(shape, generator=generator)
        self.seconds.pop("painting", None)
        with self.on_device("painting"):
            painting = denoise(
                stack.decoder,
                stack.scheduler_config,
                conditions,
                noise,
                steps=steps,
                source=source,
                stop=self.stop,
                layers=self.residency,
            )
            return (yield from self.follow(painting, index, -(-total // PAINTING_PREVIEWS)))

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

    def decode(self, index: int, painted: Tensor) -> Generator[Event, None, Image.Image]:
        yield Progress("decoding", 0, 1, index, self.request.count)
        self.check()
        self.seconds.pop("decoding", None)
        with self.clock("decoding"), self.on_device("decoding"):
            image = latents.to_picture(self.pixels(painted))
        # Whoever stopped it meanwhile wants no picture.
        self.check()
        yield Progress("decoding", 1, 1, index, self.request.count)
        return image

    def pixels(self, painted: Tensor) -> Tensor:
        """Decoded whole or in tiles, as the plan says."""
        plan, vae = self.workshop.plan, self.stack.vae
        if plan is None:
            return latents.decode(vae, painted)
        return latents.decode(vae, painted, whole=0 if plan.tile else painted.numel(), tile=plan.tile or latents.TILE)

    def result(self, index: int, layout: PriorTokens, image: Image.Image) -> Result:
        return Result(
            image=image,
            request=self.request,
            index=index,
            layout_seed=self.request.layout_seed_of(index),
            paint_seed=self.request.paint_seed_of(index),
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

    def check_codes(self, layout: Layout) -> None:
        largest = max(code for grid in (layout.preview, layout.target) if grid for row in grid for code in row)
        if largest >= self.stack.codes:
            raise RequestError(
                f"The layout has the code {largest} and this checkpoint's go up to {self.stack.codes - 1};"
                " use the checkpoint that the layout was drawn with."
            )

    @contextmanager
    def on_device(self, stage: Stage) -> Iterator[None]:
        """Inside, the stage's weights are in place."""
        self.stage = stage
        with self.residency.stage(stage):
            yield

    def check(self) -> None:
        if self.stop.is_set():
            raise Stopped

    @contextmanager
    def clock(self, stage: Stage) -> Iterator[None]:
        """Adds the time spent inside to the stage; what the consumer does between events does not count."""
        self.stage = stage
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start


def sketch_seeds(request: Request) -> list[int]:
    """The prior's seed for each sketch: a locked one is the first's, as many pictures of one layout are no sketches."""
    first = request.seed if request.layout_seed is None else request.layout_seed
    return [(first + index) % (LARGEST_SEED + 1) for index in range(request.count)]


def picture_of(preview: Grid, grid: Grid, repeats: bool) -> Grid:
    """The part of a preview, from its upper left, that shows the picture of `grid`; `repeats` as in `Defaults`."""
    times = preview_times(grid, preview) if repeats else 0
    return (times * grid[0], times * grid[1]) if times else preview


def thumbnail_codes(preview: Codes, grid: Grid, repeats: bool) -> NDArray[np.int64]:
    """What a sketch is painted from: the preview's codes, or, where they show a smaller target grid in more cells than
    it has, one of each cell's; `repeats` as in `Defaults`."""
    codes = np.array(preview, dtype=np.int64)
    rows, columns = picture_of((codes.shape[0], codes.shape[1]), grid, repeats)
    codes = codes[:rows, :columns]
    for axis, side in enumerate(grid):
        shown = codes.shape[axis]
        if shown > side:
            codes = codes.take([(2 * cell + 1) * shown // (2 * side) for cell in range(side)], axis)
    return codes


def _cut(drafts: Drafts[tuple[PriorTokens, ...]], total: int) -> Drafts[Tensor]:
    """The first `total` codes; nothing is drawn after them."""
    for draft in drafts:
        yield Draft(draft.step, total, draft.codes_BN, draft.grids[:1])
        if draft.step == total:
            break
    drafts.close()
    return draft.codes_BN
