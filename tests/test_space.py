"""A Space's environment read, and a lent card: how long it is asked for, and what comes back from it."""

from __future__ import annotations

import importlib.metadata
import pickle
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

import bootstrap
from app.choice import Choice
from app.history import History
from app.lent import LONGEST, SHORTEST, Lent
from app.library import Preset
from app.page import Visit
from app.run import Worker
from app.space import Space
from app.visitors import Visitors
from app.words import Words
from glmimage.errors import GLMImageError, RequestError, Stopped
from glmimage.events import Event, Result
from glmimage.request import Request
from tests.fakes import DEFAULTS, FakeEngine

ROOT = Path(__file__).resolve().parent.parent
NOWHERE = Path("/nowhere")
REQUEST = Request(prompt="a cat")


def lend(duration: Callable[..., int]) -> Callable[[Any], Any]:
    """What crosses to another process is pickled."""

    def decorate(task: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        def call(*arguments: object) -> Iterator[Any]:
            for outcome in task(*pickle.loads(pickle.dumps(arguments))):
                yield pickle.loads(pickle.dumps(outcome))

        return call

    return decorate


def lent(engine: FakeEngine, seconds: float | None = None) -> Lent:
    return Lent(engine, lend, lambda name, request, sketching: seconds)


def test_elsewhere_there_is_no_space() -> None:
    assert Space.found({}, NOWHERE) is None


def test_a_space_without_a_gpu_has_the_miniature_and_private_rooms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.space.shutil.which", lambda name: None)
    space = Space.found({"SPACE_ID": "me/atelier", "GRADIO_SERVER_PORT": "7861"}, NOWHERE)
    assert space is not None
    assert (space.port, space.zero, space.shared, space.disk) == (7861, False, False, None)
    assert (space.gpu, space.choice) == (False, Choice(checkpoint="miniature"))
    assert space.data_dir().parent == space.house
    assert space.house.stat().st_mode & 0o077 == 0
    lasting = Space.found({"SYSTEM": "spaces"}, tmp_path)
    assert lasting is not None
    assert lasting.data_dir().parent == tmp_path


def test_a_space_with_a_gpu_of_its_own_has_the_full_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.space.shutil.which", lambda name: f"/usr/bin/{name}")
    space = Space.found({"SYSTEM": "spaces"}, NOWHERE)
    assert space is not None
    assert (space.zero, space.gpu, space.choice.checkpoint) == (False, True, "zai-org/GLM-Image")


def test_a_lent_gpu_has_the_full_model_unless_the_owner_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.space.find_spec", lambda name: name)
    zero = {"SYSTEM": "spaces", "SPACES_ZERO_GPU": "true"}
    space, other = Space.found(zero, NOWHERE), Space.found(zero | {"ATELIER_CHECKPOINT": "miniature"}, NOWHERE)
    assert space is not None
    assert other is not None
    assert (space.zero, space.choice.checkpoint) == (True, "zai-org/GLM-Image")
    assert other.choice.checkpoint == "miniature"


def test_the_card_is_asked_for_as_long_as_the_request_needs() -> None:
    engine = FakeEngine()
    assert lent(engine, 20.0).duration(REQUEST, False) == 35
    assert lent(engine, 0.1).duration(REQUEST, False) == SHORTEST
    assert lent(engine, 900.0).duration(REQUEST, False) == LONGEST
    assert lent(engine, None).duration(REQUEST, True) == LONGEST, "nothing was measured yet"


def test_events_come_back_from_another_process() -> None:
    events = list(lent(FakeEngine()).run(REQUEST))
    assert isinstance(events[-1], Result)


def test_faults_come_back_as_the_sentences_that_they_are() -> None:
    engine = FakeEngine()
    engine.fault = RequestError("The prompt is too long; shorten it.")
    with pytest.raises(GLMImageError, match="shorten it"):
        list(lent(engine).run(REQUEST))

    def refuse(duration: Callable[..., int]) -> Callable[[Any], Any]:
        def call(*arguments: object) -> Iterator[Event]:
            raise gr.Error("You have used up your GPU time; come back tomorrow.")
            yield

        return lambda task: call

    with pytest.raises(GLMImageError, match="come back tomorrow"):
        list(Lent(engine, refuse, lambda *asked: None).run(REQUEST))


def test_a_stop_gives_the_card_back() -> None:
    engine, stop = FakeEngine(), threading.Event()
    events = lent(engine).run(REQUEST, stop)
    next(events)
    stop.set()
    with pytest.raises(Stopped):
        next(events)
    assert engine.running == 0


def test_what_a_visitor_keeps_is_offered_to_nobody_else(tmp_path: Path) -> None:
    history = History(tmp_path / "house")
    visitors = Visitors(history, tmp_path / "rooms")
    visits = []
    for who in ("me", "you"):
        name = visitors.name(who)
        worker = Worker(lambda choice: FakeEngine(), history, DEFAULTS, visitors=visitors)
        visits.append(Visit(Words(), visitors.history(name), worker.snapshot(name), name))
    mine, yours = visits
    before = [preset.key for preset in yours.library.presets("style")]
    kept = mine.library.keep(Preset(kind="style", name={"en": "Mine"}, words={"en": "in my own style"}))
    assert kept.key in [preset.key for preset in mine.library.presets("style")]
    assert [preset.key for preset in yours.library.presets("style")] == before
    visitors.close()


def test_what_a_space_reads_is_what_the_program_needs() -> None:
    card = (ROOT / "README.md").read_text(encoding="utf-8").split("---")[1]
    said = dict(re.findall(r"^(\w+): (.+)$", card, re.MULTILINE))
    assert (said["sdk"], said["license"]) == ("gradio", "apache-2.0")
    assert (ROOT / said["app_file"]).is_file()
    assert len(said["short_description"]) <= 60
    bootstrap.check_python(tuple(int(part) for part in said["python_version"].strip('"').split(".")))
    gradio = next(line for line in bootstrap.requirement_lines(ROOT / "requirements.txt") if line.startswith("gradio"))
    assert said["sdk_version"] == importlib.metadata.version("gradio")
    assert gradio.partition(">=")[2].split(",")[0] in said["sdk_version"]
