"""One worker thread that owns the engine and the jobs; everything else watches.

Jobs wait in one queue and run one at a time in the worker's thread, which also closes the engine's generator: closing
a running generator from another thread raises. Pages come and go; they read `Worker.snapshot()` and lose nothing.
A job runs in the context of the event that asked for it: where a graphics card is lent, it is lent to that visitor.
Knows neither the page nor which engine it is.
"""

from __future__ import annotations

import gc
import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Protocol

from app import choice as choices
from app.choice import Choice
from app.history import History
from app.jobs import Readiness, Record, Sketched, Snapshot, State, in_line, view
from app.speeds import Speeds
from app.visitors import Visitors
from glmimage.download import Transfer
from glmimage.errors import GLMImageError, Stopped
from glmimage.events import Event, Note, Preview, Progress, Result, Sketch
from glmimage.proofread import Proofreader, until_right
from glmimage.request import Defaults, Request

if TYPE_CHECKING:
    from glmimage.system import System

log = logging.getLogger(__name__)

LONGEST_GOODBYE = 10.0
"""Seconds; the thread is a daemon and ends with the process."""
ENDED_KEPT = 30
"""Jobs in the log."""


class Painter(Protocol):
    """What the worker needs of an engine."""

    @property
    def defaults(self) -> Defaults: ...

    @property
    def world(self) -> Mapping[str, Any] | None: ...

    def run(self, request: Request, stop: threading.Event | None = None) -> Iterator[Event]: ...

    def sketch(self, request: Request, stop: threading.Event | None = None) -> Iterator[Event]: ...

    def look(self) -> System | None: ...


class Worker:
    """`load` makes the engine that a choice asks for, in the worker's thread; `defaults` stand in for its own until
    then."""

    def __init__(
        self,
        load: Callable[[Choice], Painter],
        history: History,
        defaults: Defaults,
        choice: Choice | None = None,
        proofreader: Proofreader | None = None,
        *,
        visitors: Visitors | None = None,
    ) -> None:
        self.history = history
        self.visitors = visitors or Visitors(history)
        self.speeds = Speeds(history.folder.parent / "speeds.json")
        self._proofreader = proofreader or Proofreader()
        self._load = load
        self._choice = choice or Choice()
        self._good: tuple[Choice, Defaults] | None = None
        """The last choice that could be loaded."""
        self._keep = False
        """Whether the choice is the page's, and thus the next start's."""
        self._refusal = ""
        self._reload = True
        self._loading = False
        """Whether an engine is being made."""
        self._halted = False
        """Whether that is to end."""
        self._lock = threading.Condition()
        self._numbers = itertools.count(1)
        self._queue: list[Record] = []
        self._current: Record | None = None
        self._last: dict[tuple[str, str], Record] = {}
        self._latest: dict[tuple[str, str], tuple[str, ...]] = {}
        self._sketched: dict[tuple[str, str], Sketched] = {}
        self._ended: deque[Record] = deque(maxlen=ENDED_KEPT)
        self._painter: Painter | None = None
        self._defaults = defaults
        self._readiness: Readiness = "loading"
        self._message = ""
        self._transfer: Transfer | None = None
        self._version = 1
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="painter", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Stops the running job, forgets the waiting ones and waits for the thread, a load that hangs excepted."""
        with self._lock:
            self._closed = True
            self._queue.clear()
            if self._current is not None:
                self._current.stop.set()
            self._changed()
        if self._thread.is_alive():
            self._thread.join(LONGEST_GOODBYE)

    @property
    def version(self) -> int:
        """Grows with everything that a page could show."""
        return self._version

    def submit(
        self,
        request: Request | Sequence[Request],
        tab: str = "",
        *,
        tries: int = 0,
        sketching: bool = False,
        owner: str = "",
    ) -> int:
        """Puts a job at the end of the queue; returns its number. After a failed load this tries again.

        Several requests are one job: they run after each other and are shown together. tries: with 1 or more, the
        pictures are proofread and painted at most so often, until they read right.
        """
        requests = (request,) if isinstance(request, Request) else tuple(request)
        with self._lock:
            job = Record(next(self._numbers), requests, tab, owner, sketching, tries, context=copy_context())
            self._queue.append(job)
            self._changed()
            return job.number

    def stop(self, number: int | None = None, owner: str = "") -> None:
        """Stops the visitor's running job (None, or its number) or takes a waiting one out of the queue."""
        with self._lock:
            if self._current is not None and number in (None, self._current.number) and self._current.owner == owner:
                self._current.stop.set()
            self._queue = [job for job in self._queue if job.number != number or job.owner != owner]
            self._changed()

    def change(self, choice: Choice, defaults: Defaults) -> None:
        """Loads another engine once the running job is done; the waiting ones are run by the new one, or by the one
        before it where that cannot be loaded. What is being loaded is given up.

        `defaults` stand in for the new one's.
        """
        with self._lock:
            self._choice, self._defaults, self._reload, self._keep = choice, defaults, True, True
            self._readiness, self._message, self._refusal, self._halted = "loading", "", "", False
            self._changed()

    def halt(self) -> None:
        """Ends what is being loaded or downloaded, at its next report; what was there before goes on."""
        with self._lock:
            if self._readiness != "loading":
                return
            if self._reload and not self._loading and self._painter is not None:
                self._reload = False
                self._go_back(str(Stopped()))
            else:
                self._halted = True
            self._changed()

    def look(self) -> System | None:
        """The machine and the plan that is followed; None while nothing is loaded."""
        painter = self._painter
        return painter.look() if painter is not None else None

    def report(self, transfer: Transfer) -> None:
        """Takes what `load`, or a run that needs fewer bits, says of a download or a load. Raises Stopped, which ends
        it, once the worker is closed; a load also once it was halted or another one was asked for."""
        with self._lock:
            if self._closed or (self._loading and (self._halted or self._reload)):
                raise Stopped
            self._transfer = transfer
            self._changed()

    def make_room(self) -> None:
        """Lets go of the engine that was there before; `load` says so once it has the files, for two do not fit."""
        with self._lock:
            self._painter = None
        gc.collect()

    def wait(self, until: Callable[[Snapshot], bool], timeout: float) -> bool:
        """Blocks until a snapshot satisfies `until`; False when time ran out."""
        with self._lock:
            return self._lock.wait_for(lambda: until(self.snapshot()), timeout)

    def snapshot(self, owner: str = "") -> Snapshot:
        """How things are for one visitor."""
        with self._lock:
            name, current = self._defaults.name, self._current
            own = current is not None and current.owner == owner
            running = [] if current is None else [view(current, self.speeds, name)]
            lined = in_line(running, [view(job, self.speeds, name) for job in self._queue])
            return Snapshot(
                version=self._version,
                readiness=self._readiness,
                message=self._message,
                choice=self._choice,
                refusal=self._refusal,
                defaults=self._defaults,
                current=running[0] if own else None,
                waiting=tuple(one for one, job in zip(lined, self._queue, strict=True) if job.owner == owner),
                last={tab: view(job, self.speeds, name) for (who, tab), job in self._last.items() if who == owner},
                latest={tab: keys for (who, tab), keys in self._latest.items() if who == owner},
                sketched={tab: made for (who, tab), made in self._sketched.items() if who == owner},
                world=self._painter.world if self._painter is not None and not self._loading else None,
                transfer=self._transfer,
                ended=tuple(view(job, self.speeds, name) for job in reversed(self._ended) if job.owner == owner),
            )

    def _changed(self) -> None:
        self._version += 1
        self._lock.notify_all()

    def _work(self) -> None:
        while (job := self._next()) is not None:
            if self._painter is None:
                self.prepare()
            job.context.run(self._run, job)

    def _next(self) -> Record | None:
        """The next job; loads what was asked for before it."""
        while True:
            with self._lock:
                self._lock.wait_for(lambda: self._reload or self._closed or self._queue)
                if self._closed:
                    return None
                if not self._reload:
                    return self._begin()
            self.prepare()

    def _begin(self) -> Record:
        """Under the lock."""
        self._current = self._queue.pop(0)
        self._current.state = "running"
        self._changed()
        return self._current

    def prepare(self) -> None:
        """Loads the engine. After a failure the one that was there before goes on, or comes back; where there was none
        it is shown and tried again with the next job."""
        with self._lock:
            self._reload, self._loading = False, True
            self._readiness, self._message = "loading", ""
            choice = self._choice
            self._changed()
        painter, message = None, ""
        try:
            painter = self._load(choice)
        except Exception as error:
            message = _sentence(error, "loading the model")
        with self._lock:
            self._transfer, self._loading, self._halted = None, False, False
            if self._choice is not choice:
                # Something else was asked for meanwhile.
                return
            if painter is None and self._good is not None and self._good[0] is not choice:
                self._go_back(message)
                self._changed()
                return
            self._painter, self._message = painter, message
            self._readiness = "failed" if painter is None else "ready"
            if painter is not None:
                self._defaults = painter.defaults
                self._good = choice, painter.defaults
            self._changed()
        if painter is not None and self._keep:
            self._remember(choice)

    def _go_back(self, refusal: str) -> None:
        """To what was there before the choice that cannot be had; under the lock."""
        assert self._good is not None, "something was there"
        self._refusal, self._keep = refusal, False
        self._choice, self._defaults = self._good
        if self._painter is None:
            self._reload = True
        else:
            self._readiness = "ready"

    def _remember(self, choice: Choice) -> None:
        try:
            choices.write(self.history.storage.root, choice)
        except OSError as error:
            log.warning("What was chosen could not be kept for the next start: %s", error)

    def _run(self, job: Record) -> None:
        """A job's whole life; the one place where a broad except stands."""
        state: State = "done"
        error = ""
        began = time.monotonic()
        try:
            for turn in range(len(job.requests)):
                job.turn = turn
                self._follow(job)
        except Stopped:
            state = "stopped"
        except Exception as fault:
            state, error = "failed", _sentence(fault, "painting")
        with self._lock:
            job.state, job.error, job.progress = state, error, None
            job.ended, job.seconds = time.time(), time.monotonic() - began
            job.previews.clear()
            place = (job.owner, job.tab)
            self._current, self._last[place] = None, job
            self._ended.append(job)
            if job.pictures:
                self._latest[place] = job.keys()
            self._changed()

    def _follow(self, job: Record) -> None:
        """One request of a job, to its end."""
        if job.stop.is_set():
            raise Stopped
        if self._painter is None:
            raise GLMImageError(self._message)
        request, painter = job.requests[job.turn], self._painter
        if job.sketching:
            events = painter.sketch(request, job.stop)
        elif job.tries:
            events = until_right(painter.run, request, self._proofreader, attempts=job.tries, stop=job.stop)
        else:
            events = painter.run(request, job.stop)
        try:
            for event in events:
                self._take(job, event)
        finally:
            if isinstance(events, Generator):
                events.close()

    def _take(self, job: Record, event: Event) -> None:
        key = ""
        if isinstance(event, Result):
            key = self.visitors.history(job.owner).add(event).key
            self.speeds.learn(event.checkpoint or self._defaults.name, event.request, event.seconds)
        with self._lock:
            self._transfer = None
            match event:
                case Progress():
                    stage = (event.stage, event.picture)
                    if job.progress is None or stage != (job.progress.stage, job.progress.picture):
                        job.stage_began = time.monotonic()
                    job.progress = event
                case Preview():
                    job.previews[job.before + event.picture] = event
                case Note():
                    job.notes.append(event.text)
                case Sketch():
                    job.sketches.append(event)
                    job.previews.pop(event.index, None)
                    self._sketched[job.owner, job.tab] = Sketched(job.requests[0], tuple(job.sketches))
                case Result():
                    job.pictures[job.before + event.index] = key
                    job.previews.pop(job.before + event.index, None)
            self._changed()


def _sentence(error: Exception, doing: str) -> str:
    """What a person reads; the traceback of what nobody foresaw goes to the log."""
    if isinstance(error, GLMImageError):
        return str(error)
    log.error("While %s", doing, exc_info=error)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "The memory of this machine was not enough; choose a smaller size or fewer pictures."
    return (
        f"An unexpected fault while {doing} ({type(error).__name__}); the terminal that started the studio shows where."
    )
