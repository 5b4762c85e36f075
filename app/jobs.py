"""A job and what a page can show of it.

A job is one or several requests of a tab that are run after each other, as pictures or as sketches, and what has become
of them. `Record` is the worker's own and changes under its lock; `Job` and `Snapshot` are how it was at a moment.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextvars import Context
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from app.choice import Choice
from glmimage.download import Transfer
from glmimage.events import Preview, Progress, Sketch, Stage
from glmimage.request import Defaults, Request

if TYPE_CHECKING:
    from PIL.Image import Image

    from app.speeds import Speeds

State = Literal["waiting", "running", "done", "stopped", "failed"]
Readiness = Literal["loading", "ready", "failed"]


@dataclass(eq=False, slots=True)
class Record:
    """What the worker knows of a job."""

    number: int
    requests: tuple[Request, ...]
    tab: str
    owner: str = ""
    sketching: bool = False
    tries: int = 0
    state: State = "waiting"
    turn: int = 0
    """Which of the requests is being run."""
    progress: Progress | None = None
    stage_began: float = 0.0
    previews: dict[int, Preview] = field(default_factory=dict)
    pictures: dict[int, str] = field(default_factory=dict)
    sketches: list[Sketch] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    error: str = ""
    ended: float = 0.0
    seconds: float = 0.0
    stop: threading.Event = field(default_factory=threading.Event)
    context: Context = field(default_factory=Context)
    """That of the event that asked for it."""

    @property
    def before(self) -> int:
        """Pictures of the requests before the one that is being run."""
        return sum(request.count for request in self.requests[: self.turn])

    @property
    def count(self) -> int:
        return sum(request.count for request in self.requests)

    def keys(self) -> tuple[str, ...]:
        return tuple(self.pictures[index] for index in sorted(self.pictures))


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A job as it was when the snapshot was taken."""

    number: int
    request: Request
    """The first, or the only one."""
    count: int
    """Pictures of all its requests."""
    tab: str
    """Which part of the page asked for it."""
    sketching: bool
    state: State
    progress: Progress | None
    """Pictures are counted through all requests."""
    seconds_left: float | None
    """Of the whole job, from measured speeds; of the stage it is in, where these are not known; None where nothing is.
    Of a waiting job: until it is done once it runs."""
    previews: tuple[tuple[int, Image, Stage], ...]
    """(picture, image, stage), of the pictures that are not finished."""
    pictures: tuple[str, ...]
    """Keys in the history, in order."""
    sketches: tuple[Sketch, ...]
    notes: tuple[str, ...]
    error: str
    stopping: bool
    ended: float = 0.0
    """Seconds since the epoch; 0 while it runs."""
    seconds: float = 0.0
    """How long it ran."""
    ahead: int = 0
    """Of a waiting job: jobs of all visitors that are run before it, the running one included."""
    begins_in: float | None = None
    """Of a waiting job: seconds until it begins, as far as that is known."""


@dataclass(frozen=True, slots=True)
class Sketched:
    """The sketches that a tab was given last, and what they were asked from."""

    request: Request
    sketches: tuple[Sketch, ...]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that a page can show of the worker to one visitor."""

    version: int
    readiness: Readiness
    message: str
    """Why the engine could not be loaded, where it could not."""
    choice: Choice
    """What is loaded, or being loaded."""
    refusal: str
    """Why the last choice could not be had, where what was there before goes on."""
    defaults: Defaults
    current: Job | None
    """The visitor's own running job."""
    waiting: tuple[Job, ...]
    """The visitor's own, in order."""
    last: Mapping[str, Job]
    """The job of each tab that ended most recently."""
    latest: Mapping[str, tuple[str, ...]]
    """The pictures of each tab's most recent job of this sitting that made any."""
    sketched: Mapping[str, Sketched] = field(default_factory=dict)
    """The sketches of each tab that can be picked from."""
    world: Mapping[str, Any] | None = None
    """What the checkpoint says it knows."""
    transfer: Transfer | None = None
    """How far the checkpoint's download is, or its way into memory, while there is one."""
    ended: tuple[Job, ...] = ()
    """The visitor's last jobs, newest first."""


def view(record: Record, speeds: Speeds, checkpoint: str) -> Job:
    progress = record.progress
    if progress is not None and len(record.requests) > 1:
        progress = Progress(
            progress.stage, progress.step, progress.total, record.before + progress.picture, record.count
        )
    return Job(
        number=record.number,
        request=record.requests[0],
        count=record.count,
        tab=record.tab,
        sketching=record.sketching,
        state=record.state,
        progress=progress,
        seconds_left=_seconds_left(record, speeds, checkpoint),
        previews=tuple((at, record.previews[at].image, record.previews[at].stage) for at in sorted(record.previews)),
        pictures=record.keys(),
        sketches=tuple(record.sketches),
        notes=tuple(record.notes),
        error=record.error,
        stopping=record.stop.is_set() and record.state == "running",
        ended=record.ended,
        seconds=record.seconds,
    )


def in_line(running: Sequence[Job], queue: Sequence[Job]) -> Iterator[Job]:
    """The jobs of the queue, each with what is ahead of it."""
    ahead, begins_in = len(running), _sum([job.seconds_left for job in running])
    for place, job in enumerate(queue, start=ahead):
        yield replace(job, ahead=place, begins_in=begins_in)
        begins_in = _sum([begins_in, job.seconds_left])


def _seconds_left(record: Record, speeds: Speeds, checkpoint: str) -> float | None:
    if record.state not in ("waiting", "running"):
        return None
    progress = record.progress
    coming: Sequence[Request] = record.requests[record.turn + 1 :] if progress is not None else record.requests
    later = [speeds.expect(checkpoint, request, record.sketching) for request in coming]
    if progress is None:
        return _sum(later)
    spent = time.monotonic() - record.stage_began
    request = record.requests[record.turn]
    now = speeds.left(checkpoint, request, progress, spent, record.sketching)
    whole = _sum([now, *later])
    # The first step's own time is not known, so it takes two.
    if whole is None and progress.step >= 2 and spent >= 0.5:
        return spent / progress.step * (progress.total - progress.step)
    return whole


def _sum(parts: Sequence[float | None]) -> float | None:
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None
