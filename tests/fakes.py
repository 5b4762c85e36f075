"""Stand-ins that come in through constructors: an engine that paints at once, or exactly as far as a test lets it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw

from glmimage.errors import Stopped
from glmimage.events import Event, Note, Preview, PriorTokens, Progress, Result, Sketch, Stage
from glmimage.prompting import quoted
from glmimage.request import Defaults, Layout, Request

if TYPE_CHECKING:
    from glmimage.system import System

DEFAULTS = Defaults(width=256, height=256, steps=8, guidance=1.5, min_side=128, max_side=512, name="miniature")
PATIENCE = 120.0
PORT = 10_000 + 50 * (os.getpid() % 400)
"""Of this process, so that two do not meet between finding a free port and taking it; a studio tries 50."""
COLORS = ("#3d6fd0", "#222222", "#e7a3b8", "#f2cd4c", "#5aa86c", "#f4f1ea")


class FakeEngine:
    """Obeys the engine's contract.

    `hold("painting", 1)` makes a run wait in that stage of its second picture.

    It waits until `release()`; without a number, in every picture's."""

    def __init__(self, defaults: Defaults = DEFAULTS, pause: float = 0.0) -> None:
        self.defaults = defaults
        self.world: dict[str, Any] | None = None
        self.fault: Exception | None = None
        self.note = ""
        self.running = 0
        self.most_running = 0
        self.closed = 0
        self.requests: list[Request] = []
        self._pause = pause
        self._held: tuple[str, int | None] = ("", None)

    def hold(self, stage: str, picture: int | None = None) -> None:
        self._held = (stage, picture)

    def release(self) -> None:
        self._held = ("", None)

    def look(self) -> System | None:
        return None

    def run(self, request: Request, stop: threading.Event | None = None) -> Iterator[Event]:
        stop = stop or threading.Event()
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        self.requests.append(request)
        try:
            yield from self._paint(_sized(request, self.defaults).resolve(self.defaults), stop)
        finally:
            self.running -= 1
            self.closed += 1

    def sketch(self, request: Request, stop: threading.Event | None = None) -> Iterator[Event]:
        stop = stop or threading.Event()
        self.running += 1
        self.requests.append(request)
        try:
            request = request.resolve(self.defaults)
            rows, columns = request.size.preview_grid
            for index in range(request.count):
                seed = request.layout_seed_of(index)
                done = draw(request.prompt, (request.size.width, request.size.height), seed)
                yield Progress("layout", 1 + index, request.count, index, request.count)
                self._wait("layout", index, stop)
                layout = Layout(preview=((seed % 100,) * columns,) * rows)
                yield Progress("painting", 1, 1, index, request.count)
                self._wait("painting", index, stop)
                yield Sketch(done.resize((64, 64)), index, seed, layout)
        finally:
            self.running -= 1
            self.closed += 1

    def _paint(self, request: Request, stop: threading.Event) -> Iterator[Event]:
        if self.note:
            yield Note(self.note)
        size = request.size
        steps = request.steps or 1
        if request.references:
            yield from self._pass("references", len(request.references), request.count, stop)
        for index in range(request.count):
            seed = request.paint_seed_of(index)
            done = draw(request.prompt, (size.width, size.height), seed)
            for step in range(1, 321, 20):
                yield Progress("layout", step, 320, index, request.count)
                yield Preview(_rough(done, max(2, step // 20)), "layout", index)
                self._wait("layout", index, stop)
            if self.fault:
                raise self.fault
            if index == 0:
                yield from self._pass("glyphs", 1, request.count, stop)
            for step in range(1, steps + 1):
                yield Progress("painting", step, steps, index, request.count)
                yield Preview(_noisy(done, 1 - step / steps, seed), "painting", index)
                self._wait("painting", index, stop)
            yield Progress("decoding", 0, 1, index, request.count)
            self._wait("decoding", index, stop)
            yield Progress("decoding", 1, 1, index, request.count)
            tokens = PriorTokens(np.zeros(size.prior_grid, np.int64), np.zeros(size.preview_grid, np.int64))
            seconds = {"layout": 0.4, "painting": 1.1, "decoding": 0.1}
            yield Result(done, request, index, request.layout_seed_of(index), seed, tokens, seconds, self.defaults.name)

    def _pass(self, stage: Stage, total: int, count: int, stop: threading.Event) -> Iterator[Event]:
        """A stage that is one step for all pictures."""
        yield Progress(stage, 0, total, 0, count)
        self._wait(stage, 0, stop)
        yield Progress(stage, total, total, 0, count)

    def _wait(self, stage: str, picture: int, stop: threading.Event) -> None:
        if self._pause:
            stop.wait(self._pause)
        patience = time.monotonic() + PATIENCE
        while self._held in ((stage, picture), (stage, None)) and not stop.is_set() and time.monotonic() < patience:
            stop.wait(0.01)
        if stop.is_set():
            raise Stopped


def _sized(request: Request, defaults: Defaults) -> Request:
    """With the size of its first reference where it follows that."""
    if not request.follows_source:
        return request
    with Image.open(request.references[0].path) as source:
        source.thumbnail((defaults.max_side, defaults.max_side))
        return replace(request, width=source.width, height=source.height)


def draw(prompt: str, size: tuple[int, int], seed: int) -> Image.Image:
    """A flat poster that differs with the seed and carries the quoted words."""
    image = Image.new("RGB", size, COLORS[seed % len(COLORS)])
    pen = ImageDraw.Draw(image)
    unit = min(size) // 8
    left, top = (seed * 7) % (size[0] - 4 * unit), (seed * 5) % (size[1] - 5 * unit)
    pen.ellipse((left, top, left + 3 * unit, top + 3 * unit), fill=COLORS[(seed + 3) % len(COLORS)])
    pen.polygon(
        [(left + 3 * unit, top + 4 * unit), (left + 4 * unit, top + unit), (left + 2 * unit, top + 2 * unit)],
        fill=COLORS[(seed + 4) % len(COLORS)],
    )
    for word in quoted(prompt)[:1]:
        pen.text(
            (size[0] // 2, size[1] - unit),
            word,
            anchor="ms",
            font_size=unit * 1.4,
            fill=COLORS[(seed + 1) % len(COLORS)],
        )
    return image


def _rough(image: Image.Image, rows: int) -> Image.Image:
    small = image.resize((16, 16))
    canvas = Image.new("RGB", (16, 16), "#8a867c")
    canvas.paste(small.crop((0, 0, 16, min(16, rows))), (0, 0))
    return canvas


def _noisy(image: Image.Image, share: float, seed: int) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 255, (image.height, image.width, 3), dtype=np.uint8)
    return Image.blend(image, Image.fromarray(noise), share)
