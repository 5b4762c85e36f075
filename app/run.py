"""One worker thread that owns the engine and the jobs; everything else watches.

A job is a Request and what has become of it. Jobs wait in one queue and run one at a time in the worker's thread, which
also closes the engine's generator: closing a running generator from another thread raises. Pages come and go; they
read `Worker.snapshot()` and lose nothing. Knows neither the page nor which engine it is.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from glmimage.download import Transfer
from glmimage.errors import GLMImageError, Stopped
from glmimage.events import Event, Note, Preview, Progress, Result, Stage
from glmimage.request import Defaults, Request

if TYPE_CHECKING:
    from PIL.Image import Image

    from app.history import History

log = logging.getLogger(__name__)

State = Literal["waiting", "running", "done", "stopped", "failed"]
Readiness = Literal["loading", "ready", "failed"]


LONGEST_GOODBYE = 10.0
"""Seconds; the thread is a daemon and ends with the process."""


class Painter(Protocol):
    """What the worker needs of an engine."""

    @property
    def defaults(self) -> Defaults: ...

    def run(self, request: Request, stop: threading.Event | None = None) -> Iterator[Event]: ...


@dataclass(eq=False, slots=True)
class _Job:
    """The worker's own record; changed under its lock."""

    number: int
    request: Request
    state: State = "waiting"
    progress: Progress | None = None
    stage_began: float = 0.0
    previews: dict[int, Preview] = field(default_factory=dict)
    pictures: dict[int, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    error: str = ""
    stop: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it was when the snapshot was taken."""

    number: int
    request: Request
    state: State
    progress: Progress | None
    seconds_left: float | None
    """Of the stage it is in; None while there is nothing to tell it from."""
    previews: tuple[tuple[int, Image, Stage], ...]
    """(picture, image, stage), of the pictures that are not finished."""
    pictures: tuple[str, ...]
    """Keys in the history, in order."""
    notes: tuple[str, ...]
    error: str
    stopping: bool


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that a page can show of the worker."""

    version: int
    readiness: Readiness
    message: str
    """Why the engine could not be loaded, where it could not."""
    defaults: Defaults
    current: Job | None
    waiting: tuple[Job, ...]
    last: Job | None
    """The job that ended most recently."""
    latest: tuple[str, ...]
    """The pictures of the most recent job of this sitting that made any."""
    transfer: Transfer | None = None
    """How far the checkpoint's download is, while there is one."""


class Worker:
    """`load` makes the engine, in the worker's thread; `defaults` stand in for its own until then."""

    def __init__(self, load: Callable[[], Painter], history: History, defaults: Defaults) -> None:
        self.history = history
        self._load = load
        self._lock = threading.Condition()
        self._numbers = itertools.count(1)
        self._queue: list[_Job] = []
        self._current: _Job | None = None
        self._last: _Job | None = None
        self._latest: tuple[str, ...] = ()
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

    def submit(self, request: Request) -> int:
        """Puts a request at the end of the queue; returns the job's number. After a failed load this tries again."""
        with self._lock:
            job = _Job(next(self._numbers), request)
            self._queue.append(job)
            self._changed()
            return job.number

    def stop(self, number: int | None = None) -> None:
        """Stops the running job (None, or its number) or takes a waiting one out of the queue."""
        with self._lock:
            if self._current is not None and number in (None, self._current.number):
                self._current.stop.set()
            self._queue = [job for job in self._queue if job.number != number]
            self._changed()

    def report(self, transfer: Transfer) -> None:
        """Takes what `load` says of a download. Raises Stopped, which ends it, once the worker is closed."""
        with self._lock:
            if self._closed:
                raise Stopped
            self._transfer = transfer
            self._changed()

    def wait(self, until: Callable[[Snapshot], bool], timeout: float) -> bool:
        """Blocks until a snapshot satisfies `until`; False when time ran out."""
        with self._lock:
            return self._lock.wait_for(lambda: until(self.snapshot()), timeout)

    def snapshot(self) -> Snapshot:
        with self._lock:
            return Snapshot(
                version=self._version,
                readiness=self._readiness,
                message=self._message,
                defaults=self._defaults,
                current=_view(self._current) if self._current else None,
                waiting=tuple(_view(job) for job in self._queue),
                last=_view(self._last) if self._last else None,
                latest=self._latest,
                transfer=self._transfer,
            )

    def _changed(self) -> None:
        self._version += 1
        self._lock.notify_all()

    def _work(self) -> None:
        self._prepare()
        while (job := self._next()) is not None:
            if self._painter is None:
                self._prepare()
            self._run(job)

    def _next(self) -> _Job | None:
        with self._lock:
            self._lock.wait_for(lambda: self._queue or self._closed)
            if self._closed:
                return None
            self._current = self._queue.pop(0)
            self._current.state = "running"
            self._changed()
            return self._current

    def _prepare(self) -> None:
        """Loads the engine; a failure is shown and tried again with the next job."""
        with self._lock:
            self._readiness, self._message = "loading", ""
            self._changed()
        painter, message = None, ""
        try:
            painter = self._load()
        except Exception as error:
            message = _sentence(error, "loading the model")
        with self._lock:
            self._painter, self._message, self._transfer = painter, message, None
            self._readiness = "failed" if painter is None else "ready"
            if painter is not None:
                self._defaults = painter.defaults
            self._changed()

    def _run(self, job: _Job) -> None:
        """A job's whole life; the one place where a broad except stands."""
        state: State = "done"
        error = ""
        events: Iterator[Event] | None = None
        try:
            if job.stop.is_set():
                raise Stopped
            if self._painter is None:
                raise GLMImageError(self._message)
            events = self._painter.run(job.request, job.stop)
            for event in events:
                self._take(job, event)
        except Stopped:
            state = "stopped"
        except Exception as fault:
            state, error = "failed", _sentence(fault, "painting")
        finally:
            if isinstance(events, Generator):
                events.close()
        with self._lock:
            job.state, job.error, job.progress = state, error, None
            job.previews.clear()
            self._current, self._last = None, job
            if job.pictures:
                self._latest = _keys(job)
            self._changed()

    def _take(self, job: _Job, event: Event) -> None:
        key = self.history.add(event).key if isinstance(event, Result) else ""
        with self._lock:
            match event:
                case Progress():
                    if job.progress is None or (event.stage, event.picture) != (
                        job.progress.stage,
                        job.progress.picture,
                    ):
                        job.stage_began = time.monotonic()
                    job.progress = event
                case Preview():
                    job.previews[event.picture] = event
                case Note():
                    job.notes.append(event.text)
                case Result():
                    job.pictures[event.index] = key
                    job.previews.pop(event.index, None)
            self._changed()


def _keys(job: _Job) -> tuple[str, ...]:
    return tuple(job.pictures[index] for index in sorted(job.pictures))


def _view(job: _Job) -> Job:
    return Job(
        number=job.number,
        request=job.request,
        state=job.state,
        progress=job.progress,
        seconds_left=_seconds_left(job),
        previews=tuple((index, job.previews[index].image, job.previews[index].stage) for index in sorted(job.previews)),
        pictures=_keys(job),
        notes=tuple(job.notes),
        error=job.error,
        stopping=job.stop.is_set(),
    )


def _seconds_left(job: _Job) -> float | None:
    """From the pace of the stage so far; the first step's own time is not known, so it takes two."""
    progress = job.progress
    spent = time.monotonic() - job.stage_began
    if progress is None or progress.step < 2 or spent < 0.5:
        return None
    return spent / progress.step * (progress.total - progress.step)


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
