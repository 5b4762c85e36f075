"""The worker: one job at a time, in order, stoppable; faults become sentences and the next job runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

import pytest

from app import choice as choices
from app.choice import Choice
from app.history import History
from app.jobs import Job, Snapshot
from app.run import Worker
from app.visitors import Visitors
from glmimage.download import Transfer
from glmimage.errors import CheckpointError, RequestError, Stopped
from glmimage.events import Event
from glmimage.request import Defaults, Request
from tests.fakes import DEFAULTS, FakeEngine

PATIENCE = 120.0
TAB = "create"


class Studio:
    """A worker over a fake engine, and words for waiting on it."""

    def __init__(self, folder: Path) -> None:
        self.engine = FakeEngine()
        self.history = History(folder)
        self.others: dict[str, FakeEngine] = {}
        self.loads: list[str] = []
        self.gate = threading.Event()
        """What loads slowly waits for it."""
        self.worker = Worker(self._load, self.history, Defaults(name="expected"))
        self.worker.start()

    def _load(self, choice: Choice) -> FakeEngine:
        self.loads.append(choice.checkpoint)
        if choice.checkpoint in ("fetched", "read"):
            if choice.checkpoint == "read":
                self.worker.make_room()
            for done in (30, 60):
                self.worker.report(Transfer(None, "loading", done, 100))
                assert self.gate.wait(PATIENCE)
        if choice.checkpoint == "none/such":
            raise CheckpointError("There is no checkpoint 'none/such'.")
        return self.others.get(choice.checkpoint, self.engine)

    def paint(self, prompt: str = "a cat", count: int = 1, seed: int = 1) -> int:
        return self.worker.submit(Request(prompt=prompt, count=count, seed=seed), TAB)

    def until(self, condition: object) -> Snapshot:
        assert callable(condition)
        assert self.worker.wait(condition, PATIENCE), self.worker.snapshot()
        return self.worker.snapshot()

    def ended(self, number: int) -> Job:
        return self.until(lambda seen: TAB in seen.last and seen.last[TAB].number == number).last[TAB]

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
    assert studio.worker.snapshot().latest == {TAB: job.pictures}


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


def test_each_tab_has_its_own_last_job_and_pictures(studio: Studio) -> None:
    first = studio.ended(studio.paint())
    studio.worker.submit(Request(prompt="a dog"), "edit")
    seen = studio.until(lambda now: "edit" in now.last)
    assert seen.last[TAB] == first
    assert seen.latest == {TAB: first.pictures, "edit": seen.last["edit"].pictures}


def test_pictures_finished_before_a_stop_are_kept(studio: Studio) -> None:
    studio.engine.hold("painting", 1)
    number = studio.paint(count=2)
    studio.until(lambda seen: seen.current and seen.current.pictures)
    studio.worker.stop()
    job = studio.ended(number)
    assert (job.state, len(job.pictures)) == ("stopped", 1)
    assert studio.worker.snapshot().latest == {TAB: job.pictures}
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

    def load(choice: Choice) -> FakeEngine:
        attempts.append(1)
        if len(attempts) == 1:
            raise CheckpointError("The checkpoint is not whole; download it again.")
        return FakeEngine()

    worker = Worker(load, History(tmp_path), DEFAULTS)
    worker.start()
    assert worker.wait(lambda seen: seen.readiness == "failed", PATIENCE)
    assert worker.snapshot().message == "The checkpoint is not whole; download it again."
    worker.submit(Request(prompt="a cat"), TAB)
    assert worker.wait(lambda seen: TAB in seen.last and seen.last[TAB].state == "done", PATIENCE)
    worker.close()


def test_a_job_for_an_engine_that_cannot_load_fails_with_the_reason(tmp_path: Path) -> None:
    def load(choice: Choice) -> FakeEngine:
        raise CheckpointError("No such checkpoint; name another.")

    worker = Worker(load, History(tmp_path), DEFAULTS)
    worker.submit(Request(prompt="a cat"), TAB)
    worker.start()
    assert worker.wait(lambda seen: bool(seen.last), PATIENCE)
    last = worker.snapshot().last[TAB]
    assert (last.state, last.error) == ("failed", "No such checkpoint; name another.")
    worker.close()


def test_jobs_wait_for_the_engine(tmp_path: Path) -> None:
    ready = threading.Event()

    def load(choice: Choice) -> FakeEngine:
        ready.wait(PATIENCE)
        return FakeEngine()

    worker = Worker(load, History(tmp_path), DEFAULTS)
    worker.start()
    number = worker.submit(Request(prompt="a cat"), TAB)
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


def test_sketches_are_drawn_and_gone_on_with_as_one_job(studio: Studio) -> None:
    asked = Request(prompt="a cat", width=256, height=256, count=3, seed=5)
    studio.worker.submit(asked, TAB, sketching=True)
    seen = studio.until(lambda now: TAB in now.last)
    sketched = seen.sketched[TAB]
    assert [one.index for one in sketched.sketches] == [0, 1, 2]
    assert seen.latest == {}
    number = studio.worker.submit([one.pick(sketched.request) for one in sketched.sketches[1:]], TAB)
    job = studio.ended(number)
    assert len(job.pictures) == job.count == 2
    settings = [studio.history.settings(picture) for picture in map(studio.history.find, job.pictures) if picture]
    assert [one.layout_seed for one in settings if one] == [6, 7]
    assert [one.paint_seed for one in settings if one] == [6, 7]


def test_progress_of_several_requests_counts_through(studio: Studio) -> None:
    studio.engine.hold("painting")
    requests = [Request(prompt="a cat", seed=seed) for seed in (1, 2)]
    studio.worker.submit(requests, TAB)
    studio.working("painting")
    studio.engine.release()
    studio.engine.hold("layout")
    seen = studio.until(lambda now: now.current and now.current.progress and now.current.progress.picture == 1)
    assert seen.current is not None
    assert seen.current.progress is not None
    assert seen.current.progress.pictures == 2
    studio.worker.stop()
    ended = studio.until(lambda now: TAB in now.last).last[TAB]
    assert (ended.state, len(ended.pictures)) == ("stopped", 1)


def test_another_engine_takes_over_between_jobs(studio: Studio) -> None:
    studio.engine.hold("painting")
    first, second = studio.paint("first"), studio.paint("second")
    studio.working("painting")
    other = FakeEngine(Defaults(name="other", width=256, height=256, min_side=128, max_side=512))
    studio.others["other"] = other
    studio.worker.change(Choice(checkpoint="other"), other.defaults)
    assert studio.worker.snapshot().defaults.name == "other"
    studio.engine.release()
    assert studio.ended(second).state == "done"
    assert [request.prompt for request in studio.engine.requests] == ["first"]
    assert [request.prompt for request in other.requests] == ["second"]
    assert first != second
    kept = choices.read(studio.history.storage.root)
    assert kept == Choice(checkpoint="other")


def test_what_cannot_be_loaded_gives_way_to_what_was_there(studio: Studio) -> None:
    studio.until(lambda now: now.readiness == "ready")
    studio.engine.hold("painting")
    studio.paint("first")
    second = studio.paint("second")
    studio.working("painting")
    studio.worker.change(Choice(checkpoint="none/such"), Defaults(name="none/such"))
    studio.engine.release()
    assert studio.ended(second).state == "done"
    now = studio.worker.snapshot()
    assert (now.readiness, now.choice, now.refusal) == ("ready", Choice(), "There is no checkpoint 'none/such'.")
    assert [request.prompt for request in studio.engine.requests] == ["first", "second"]
    assert choices.read(studio.history.storage.root) is None
    studio.worker.change(Choice(bits=4), now.defaults)
    now = studio.until(lambda now: now.readiness == "ready")
    assert (now.choice.bits, now.refusal) == (4, "")


@pytest.mark.parametrize(("slow", "loads"), [("fetched", []), ("read", ["miniature"])])
def test_a_load_is_followed_and_can_be_ended(studio: Studio, slow: str, loads: list[str]) -> None:
    """What was there paints on: still loaded where the other was fetched, loaded again where it had to make room."""
    studio.until(lambda now: now.readiness == "ready")
    studio.worker.halt()
    assert studio.worker.snapshot().readiness == "ready", "nothing is being loaded"
    studio.worker.change(Choice(checkpoint=slow), Defaults(name=slow))
    now = studio.until(lambda now: now.transfer is not None)
    assert now.transfer is not None
    assert (now.readiness, now.transfer.done, now.transfer.total) == ("loading", 30, 100)
    studio.worker.halt()
    studio.gate.set()
    now = studio.until(lambda now: now.readiness != "loading")
    assert (now.readiness, now.choice, now.transfer, now.refusal) == ("ready", Choice(), None, str(Stopped()))
    assert studio.loads == ["miniature", slow, *loads]
    assert studio.ended(studio.paint()).state == "done"
    assert choices.read(studio.history.storage.root) is None
    # It is only put off: asked for again, it comes.
    studio.worker.change(Choice(checkpoint=slow), Defaults(name=slow))
    now = studio.until(lambda now: now.readiness != "loading")
    assert (now.choice.checkpoint, now.refusal) == (slow, "")


def test_a_load_that_waits_for_a_job_can_be_ended(studio: Studio) -> None:
    studio.engine.hold("painting")
    number = studio.paint()
    studio.working("painting")
    studio.worker.change(Choice(checkpoint="read"), Defaults(name="read"))
    studio.worker.halt()
    now = studio.worker.snapshot()
    assert (now.readiness, now.choice) == ("ready", Choice())
    studio.engine.release()
    assert studio.ended(number).state == "done"
    assert studio.loads == ["miniature"]


def test_another_choice_ends_a_load(studio: Studio) -> None:
    studio.until(lambda now: now.readiness == "ready")
    studio.worker.change(Choice(checkpoint="read"), Defaults(name="read"))
    studio.until(lambda now: now.transfer is not None)
    studio.worker.change(Choice(checkpoint="miniature", bits=8), DEFAULTS)
    studio.gate.set()
    now = studio.until(lambda now: now.readiness != "loading")
    assert (now.readiness, now.choice.bits) == ("ready", 8)


def test_the_first_load_can_be_ended_and_comes_with_the_next_job(tmp_path: Path) -> None:
    begun, gate, tries = threading.Event(), threading.Event(), []

    def load(choice: Choice) -> FakeEngine:
        tries.append(choice)
        begun.set()
        assert gate.wait(PATIENCE)
        worker.report(Transfer(None, "loading", 1, 2))
        return FakeEngine()

    worker = Worker(load, History(tmp_path), DEFAULTS)
    worker.start()
    assert begun.wait(PATIENCE)
    worker.halt()
    gate.set()
    assert worker.wait(lambda now: now.readiness == "failed", PATIENCE)
    worker.submit(Request(prompt="a cat"), TAB)
    assert worker.wait(lambda now: TAB in now.last, PATIENCE)
    assert (worker.snapshot().last[TAB].state, len(tries)) == ("done", 2)
    worker.close()


def test_visitors_see_their_own_jobs_and_pictures_alone(tmp_path: Path) -> None:
    engine, history = FakeEngine(), History(tmp_path / "shared")
    visitors = Visitors(history, tmp_path / "rooms")
    mine, yours = visitors.name("me"), visitors.name("you")
    worker = Worker(lambda choice: engine, history, DEFAULTS, visitors=visitors)
    engine.hold("painting")
    worker.start()
    worker.submit(Request(prompt="mine"), TAB, owner=mine)
    number = worker.submit(Request(prompt="yours"), TAB, owner=yours)
    assert worker.wait(lambda seen: engine.running == 1, PATIENCE)
    seen = worker.snapshot(yours)
    assert (seen.current, [(job.number, job.ahead) for job in seen.waiting]) == (None, [(number, 1)])
    worker.stop(owner=yours)
    assert engine.running == 1, "nobody stops another's job"
    engine.release()
    assert worker.wait(lambda seen: TAB in worker.snapshot(yours).last, PATIENCE)
    assert len(visitors.history(mine).newest(9)) == len(visitors.history(yours).newest(9)) == 1
    assert history.newest(9) == []
    assert worker.snapshot(mine).latest[TAB] != worker.snapshot(yours).latest[TAB]
    worker.close()


def test_a_job_runs_in_the_context_of_the_event_that_asked(tmp_path: Path) -> None:
    asker: ContextVar[str] = ContextVar("asker", default="nobody")
    seen: list[str] = []

    class Curious(FakeEngine):
        def run(self, request: Request, stop: threading.Event | None = None) -> Iterator[Event]:
            seen.append(asker.get())
            yield from super().run(request, stop)

    engine = Curious()
    worker = Worker(lambda choice: engine, History(tmp_path), DEFAULTS)
    for name in ("me", "you"):
        asker.set(name)
        worker.submit(Request(prompt="a cat"), name)
    worker.start()
    assert worker.wait(lambda now: "you" in now.last, PATIENCE)
    assert seen == ["me", "you"]
    worker.close()
