"""An engine on a graphics card that is lent for the length of a call, as ZeroGPU lends it to a Space.

The lender runs a decorated generator in another process, which is a copy of this one, and passes on what it yields. So
the model is loaded before, only a request goes in and only events come out; a fault comes out as one of them, to stay
the sentence that it is. Who asked is told to the lender by the context that the worker runs a job in.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import gradio as gr

from app.run import Painter
from glmimage.errors import GLMImageError, Stopped
from glmimage.events import Event
from glmimage.request import Defaults, Request

if TYPE_CHECKING:
    from glmimage.system import System

SHORTEST, LONGEST = 10, 120
"""Seconds that are asked for. Nobody gets longer; a shorter call has a better place in the lender's queue."""
SPARE = 1.5
"""How much longer than expected a run may take before the card is taken away."""
ARRIVAL = 5.0
"""Seconds until the weights are on the card."""

Expect = Callable[[str, Request, bool], float | None]
"""Seconds that a request takes with a checkpoint (`Speeds.expect`); None while nothing is known."""
Outcome = Event | GLMImageError


class Lent:
    """A painter in place of `painter`. `lend` is the lender's decorator (`spaces.GPU`)."""

    def __init__(self, painter: Painter, lend: Callable[..., Any], expect: Expect) -> None:
        self._painter = painter
        self._expect = expect
        self._call = lend(duration=self.duration)(self._work)

    @property
    def defaults(self) -> Defaults:
        return self._painter.defaults

    @property
    def world(self) -> Mapping[str, Any] | None:
        return self._painter.world

    def look(self) -> System | None:
        return self._painter.look()

    def run(self, request: Request, stop: threading.Event | None = None) -> Iterator[Event]:
        return self._follow(request, False, stop)

    def sketch(self, request: Request, stop: threading.Event | None = None) -> Iterator[Event]:
        return self._follow(request, True, stop)

    def duration(self, request: Request, sketching: bool) -> int:
        """Seconds to ask for; the longest while nothing was measured."""
        try:
            expected = self._expect(self.defaults.name, request.resolve(self.defaults), sketching)
        except GLMImageError:
            expected = None
        if expected is None:
            return LONGEST
        return min(max(math.ceil(expected * SPARE + ARRIVAL), SHORTEST), LONGEST)

    def _work(self, request: Request, sketching: bool) -> Generator[Outcome]:
        """What runs where the card is."""
        try:
            yield from self._painter.sketch(request) if sketching else self._painter.run(request)
        except GLMImageError as error:
            yield error

    def _follow(self, request: Request, sketching: bool, stop: threading.Event | None) -> Generator[Event]:
        """What runs here. Raises GLMImageError, also for what the lender refuses."""
        outcomes: Generator[Outcome] = self._call(request, sketching)
        try:
            for outcome in outcomes:
                if stop is not None and stop.is_set():
                    raise Stopped
                if isinstance(outcome, GLMImageError):
                    raise outcome
                yield outcome
        except gr.Error as refusal:
            raise GLMImageError(str(refusal.message)) from None
        finally:
            outcomes.close()
