"""The worker: one job at a time, in order, stoppable; faults become sentences and the next job runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.history import History
from app.run import Job, Snapshot, Worker
from glmimage.errors import CheckpointError, RequestError
from glmimage.request import Defaults, Request
from tests.fakes import DEFAULTS, FakeEngine

PATIENCE = 120.0


class Studio:
    """A worker over a fake engine, and words for waiting on it."""

    def __init__(self, folder: Path) -> None:
        self.engine = FakeEngine()
        self.history = History(folder)
        self.worker = Worker(lambda: self.engine, self.history, Defaults(name="expected"))
        self.worker.start()

    def paint(self, prompt: str = "a cat", count: int = 1, seed: int = 1) -> int:
        return self.worker.submit(Request(prompt=prompt, count=count, seed=seed))

    def until(self, condition: object) -> Snapshot:
        assert callable(condition)
        assert self.worker.wait(condition, PATIENCE), self.worker.snapshot()
        return self.worker.snapshot()

    def ended(self, number: int) -> Job:
        last = self.until(lambda seen: seen.last is not None and seen.last.number == number).last
        assert last is not None
        return last

    def working(self, stage: str) -> Snapshot:
        def there(seen: Snapshot) -> bool:
            return bool(seen.current and seen.current.progress and seen.current.progress.stage == stage)

        return self.until(there)


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    made = Studio(tmp_path)
    yield made
    made.engine.release()
    made.worker.close()


def test_a_job_becomes_pictures_in_the_history(studio: Studio) -> None:
    job = studio.ended(studio.paint(count=2))
    assert job.state == "done"
    assert [picture.key for picture in studio.history.newest(9)] == list(reversed(job.pictures))
    assert studio.worker.snapshot().latest == job.pictures


def test_the_engines_own_defaults_replace_the_expected_ones(studio: Studio) -> None:
    assert studio.until(lambda seen: seen.readiness == "ready").defaults == DEFAULTS


def test_jobs_queue_and_never_run_together(studio: Studio) -> None:
    studio.engine.hold("layout")
    numbers = [studio.paint(f"prompt {index}") for index in range(4)]
    seen = studio.working("layout")
    assert [job.number for job in seen.waiting] == numbers[1:]
    studio.engine.release()
    studio.ended(numbers[-1])
    assert [request.prompt for request in studio.engine.requests] == [f"prompt {index}" for index in range(4)]
    assert studio.engine.most_running == 1


@pytest.mark.parametrize("stage", ["layout", "painting"])
def test_stop_in_a_stage_ends_the_job_and_closes_its_generator(studio: Studio, stage: str) -> None:
    studio.engine.hold(stage)
    number = studio.paint()
    studio.working(stage)
    studio.worker.stop()
    job = studio.ended(number)
    assert (job.state, job.error, job.pictures) == ("stopped", "", ())
    assert (studio.engine.running, studio.engine.closed) == (0, 1)
    studio.engine.release()
    assert studio.ended(studio.paint()).state == "done"


def test_stop_removes_a_waiting_job_and_leaves_the_running_one(studio: Studio) -> None:
    studio.engine.hold("painting")
    first, second, third = (studio.paint(name) for name in ("first", "second", "third"))
    studio.working("painting")
    studio.worker.stop(second)
    assert [job.number for job in studio.worker.snapshot().waiting] == [third]
    studio.engine.release()
    assert studio.ended(third).state == "done"
    assert [request.prompt for request in studio.engine.requests] == ["first", "third"]
    assert first != third


def test_pictures_finished_before_a_stop_are_kept(studio: Studio) -> None:
    studio.engine.hold("painting", 1)
    number = studio.paint(count=2)
    studio.until(lambda seen: seen.current and seen.current.pictures)
    studio.worker.stop()
    job = studio.ended(number)
    assert (job.state, len(job.pictures)) == ("stopped", 1)
    assert studio.worker.snapshot().latest == job.pictures
    assert studio.history.find(job.pictures[0]) is not None


def test_a_progress_a_preview_and_a_note_are_seen(studio: Studio) -> None:
    studio.engine.note = "The size 250x250 became 256x256."
    studio.engine.hold("painting")
    number = studio.paint()
    seen = studio.until(lambda now: now.current and any(stage == "painting" for _, _, stage in now.current.previews))
    assert seen.current is not None
    assert seen.current.notes == ("The size 250x250 became 256x256.",)
    assert seen.current.previews[0][1].size == (256, 256)
    studio.engine.release()
    assert studio.ended(number).previews == (), "what is finished needs no preview"


def test_what_the_engine_refuses_is_said_and_the_next_job_runs(studio: Studio) -> None:
    studio.engine.fault = RequestError("The sky is too blue; choose another.")
    job = studio.ended(studio.paint())
    assert (job.state, job.error) == ("failed", "The sky is too blue; choose another.")
    studio.engine.fault = None
    assert studio.ended(studio.paint()).state == "done"


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (ZeroDivisionError("boom"), "An unexpected fault while painting (ZeroDivisionError); the terminal"),
        (MemoryError(), "The memory of this machine was not enough"),
    ],
)
def test_a_fault_that_nobody_foresaw_is_one_sentence_and_a_logged_traceback(
    studio: Studio, caplog: pytest.LogCaptureFixture, fault: Exception, sentence: str
) -> None:
    studio.engine.fault = fault
    job = studio.ended(studio.paint())
    assert job.error.startswith(sentence)
    assert "boom" not in job.error
    assert type(fault).__name__ in caplog.text
    assert (studio.engine.running, studio.engine.closed) == (0, 1)


def test_a_failed_load_is_said_and_the_next_job_tries_again(tmp_path: Path) -> None:
    attempts = []

    def load() -> FakeEngine:
        attempts.append(1)
        if len(attempts) == 1:
            raise CheckpointError("The checkpoint is not whole; download it again.")
        return FakeEngine()

    worker = Worker(load, History(tmp_path), DEFAULTS)
    worker.start()
    assert worker.wait(lambda seen: seen.readiness == "failed", PATIENCE)
    assert worker.snapshot().message == "The checkpoint is not whole; download it again."
    worker.submit(Request(prompt="a cat"))
    assert worker.wait(lambda seen: seen.last is not None and seen.last.state == "done", PATIENCE)
    worker.close()


def test_a_job_for_an_engine_that_cannot_load_fails_with_the_reason(tmp_path: Path) -> None:
    def load() -> FakeEngine:
        raise CheckpointError("No such checkpoint; name another.")

    worker = Worker(load, History(tmp_path), DEFAULTS)
    worker.submit(Request(prompt="a cat"))
    worker.start()
    assert worker.wait(lambda seen: seen.last is not None, PATIENCE)
    last = worker.snapshot().last
    assert last is not None
    assert (last.state, last.error) == ("failed", "No such checkpoint; name another.")
    worker.close()


def test_jobs_wait_for_the_engine(tmp_path: Path) -> None:
    ready = threading.Event()

    def load() -> FakeEngine:
        ready.wait(PATIENCE)
        return FakeEngine()

    worker = Worker(load, History(tmp_path), DEFAULTS)
    worker.start()
    number = worker.submit(Request(prompt="a cat"))
    seen = worker.snapshot()
    assert (seen.readiness, [job.number for job in seen.waiting]) == ("loading", [number])
    worker.stop(number)
    assert worker.snapshot().waiting == ()
    ready.set()
    worker.close()


def test_close_stops_the_running_job_and_ends_the_thread(studio: Studio) -> None:
    studio.engine.hold("layout")
    studio.paint()
    studio.paint()
    studio.working("layout")
    studio.worker.close()
    assert (studio.engine.running, studio.engine.closed) == (0, 1)
    assert len(studio.engine.requests) == 1


def test_the_version_grows_with_every_change(studio: Studio) -> None:
    studio.until(lambda seen: seen.readiness == "ready")
    before = studio.worker.version
    studio.ended(studio.paint())
    after = studio.worker.version
    assert after > before + 20
    assert studio.worker.version == after, "and rests when nothing happens"
