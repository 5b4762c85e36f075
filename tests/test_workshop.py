"""The plan is followed, on a stand-in for a GPU, and in a smaller way where its memory ends; pictures stay the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from glmimage import latents, memory, weights
from glmimage.engine import Engine
from glmimage.errors import CheckpointError, MachineError, RequestError
from glmimage.events import Event, Note, Progress, Result
from glmimage.fitting import Wishes
from glmimage.footprint import Job
from glmimage.geometry import Size
from glmimage.machines import Machine, tabulated
from glmimage.memory import CONTEXT, GIB, HOST_RESERVE
from glmimage.request import Request
from glmimage.workshop import Workshop, is_out_of_memory
from tests.fake_lane import FakeLane

REQUEST = Request(prompt='a cat and "HI"', width=64, height=64, seed=3, steps=2, count=2)


def card(room: int, host: int = GIB) -> Machine:
    """A GPU with `room` bytes for the model, computing like this processor."""
    machine = tabulated("cuda", CONTEXT["cuda"] + room, HOST_RESERVE + host)
    return replace(machine, dtype="float32", threads=1)


def opened(tiny: Path, room: int, **options: Any) -> tuple[Engine, FakeLane]:
    lane = FakeLane()
    return Engine(Workshop.open(tiny, machine=card(room), lane=lane, **options)), lane


def results(events: Iterator[Event]) -> list[Result]:
    return [event for event in events if isinstance(event, Result)]


def same(found: list[Result], wanted: list[Result]) -> bool:
    return len(found) == len(wanted) and all(
        np.array_equal(np.asarray(one.image), np.asarray(other.image)) for one, other in zip(found, wanted, strict=True)
    )


@pytest.fixture(scope="module")
def plain(tiny: Path) -> list[Result]:
    return results(Engine(Workshop.open(tiny, device="cpu")).run(REQUEST))


def least(tiny: Path, request: Request) -> int:
    """The smallest room that the planner finds a plan for."""
    architecture = weights.read(str(tiny))
    job = Job.of(request.resolve(architecture.defaults), ())
    low, high = 0, 2**28
    while high - low > 1024:
        middle = (low + high) // 2
        try:
            memory.plan(architecture, card(middle), job, HELD)
            high = middle
        except MachineError:
            low = middle
    return high


HELD: dict[str, Any] = {"prior": "bf16", "decoder": "bf16"}


def test_the_plan_is_followed(tiny: Path, plain: list[Result]) -> None:
    """With room for everything, for the least, and as a person wants it: never more on the device, same pictures."""
    small = least(tiny, REQUEST)
    seen = set()
    for room, offload in ((2**24, "auto"), (small, "auto"), (2**24, "stream")):
        engine, lane = opened(tiny, room, wishes=Wishes(bits=16, offload=offload))  # type: ignore[arg-type]
        events = list(engine.run(REQUEST))
        assert same(results(iter(events)), plain)
        said = [event.text for event in events if isinstance(event, Note)]
        assert said == engine.workshop.sentences[:1]
        plan = engine.workshop.plan
        assert plan is not None
        weights_alone = max(need.weights for need in plan.stages)
        # A piece is rounded up to what kernels expect.
        assert lane.peak <= 1.1 * weights_alone
        seen.add(tuple(place.residency for place in plan.placements))
        assert bool(engine.workshop.sentences) == (not memory.is_plain(plan))
    assert len(seen) == 3
    assert "stream" in {name for names in seen for name in names}


def test_a_processor_with_room_is_left_as_it_is(tiny: Path) -> None:
    workshop = Workshop.open(tiny, device="cpu")
    assert workshop.plan is not None
    assert memory.is_plain(workshop.plan)
    assert workshop.sentences == []
    assert workshop.stack.dtype == torch.float32
    assert [workshop.fit(Job(size=Size(64, 64), steps=3)) for _ in range(2)] == ["", ""]


def test_a_larger_request_is_arranged_for_and_said(tiny: Path) -> None:
    large = replace(REQUEST, width=448, height=448, count=1, steps=1)
    engine, _ = opened(tiny, least(tiny, large), wishes=Wishes(bits=16))
    assert not [event for event in engine.run(REQUEST) if isinstance(event, Note)]
    notes = [event.text for event in engine.run(large) if isinstance(event, Note)]
    assert len(notes) == 1
    assert notes[0].startswith("For 448x448: ")


def test_memory_that_ends_in_a_stage_costs_a_note(tiny: Path, plain: list[Result]) -> None:
    """Another program takes memory once the model is loaded: the prior no longer fits beside its embedding."""
    engine, lane = opened(tiny, 2**24, wishes=Wishes(bits=16, offload="stage"))
    before = engine.workshop.plan
    assert before is not None
    engine.workshop.fitting = Staying()  # type: ignore[assignment]
    lane.budget = before["prior"].bytes + before["embedding"].bytes - 1000
    engine.workshop._follow(keeping(before, "stage"))
    events = list(engine.run(REQUEST))
    notes = [event.text for event in events if isinstance(event, Note)]
    assert notes == [
        memory.sentences(engine.workshop.plan or before)[0],
        "The memory was not enough for sketching the layout; now: embedding looked up on the host.",
    ]
    assert same(results(iter(events)), plain)


class Staying:
    """A fitting that leaves everything as it is until memory ends, and then takes the embedding off the device."""

    def plan(self, job: Job, now: memory.Plan) -> memory.Plan:
        return replace(now, job=job)

    def smaller(self, now: memory.Plan, stage: Any) -> memory.Plan:
        return keeping(now, "host")


def keeping(plan: memory.Plan, residency: Any) -> memory.Plan:
    """The plan with the embedding kept in that way."""
    places = (
        replace(place, residency=residency, waits="host") if place.component == "embedding" else place
        for place in plan.placements
    )
    return replace(plan, placements=tuple(places))


def test_memory_that_ends_in_the_vae_means_tiles(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request = Request(prompt="a cat", width=512, height=512, seed=1, steps=1)
    (wanted,) = results(Engine(Workshop.open(tiny, device="cpu")).run(request))
    decode, asked = latents.decode, []

    def short(vae: Any, painted: torch.Tensor, *, whole: int, tile: int) -> torch.Tensor:
        asked.append((whole, tile))
        if whole:
            raise torch.OutOfMemoryError("the whole picture is too much")
        return decode(vae, painted, whole=whole, tile=tile)

    monkeypatch.setattr(latents, "decode", short)
    engine, _ = opened(tiny, 2**30, wishes=Wishes(bits=16))
    events = list(engine.run(request))
    (found,) = results(iter(events))
    assert [tile for whole, tile in asked if not whole] == [32]
    notes = [event.text for event in events if isinstance(event, Note)]
    assert notes == ["The memory was not enough for developing the picture; now: VAE in tiles of 256 px."]
    # What was done was not done again.
    painted = [event.step for event in events if isinstance(event, Progress) and event.stage == "painting"]
    assert painted == [0, 1]
    difference = np.abs(np.asarray(found.image, dtype=float) - np.asarray(wanted.image, dtype=float))
    assert difference.mean() < 8


def test_memory_that_ends_twice_is_one_sentence(
    tiny: Path, plain: list[Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    from glmimage import stages

    engine, _ = opened(tiny, 2**24, wishes=Wishes(bits=16))

    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")

    with monkeypatch.context() as patch:
        patch.setattr(stages, "denoise", fail)
        with pytest.raises(MachineError, match="not enough for painting, even in a smaller way; choose a smaller size"):
            list(engine.run(REQUEST))
    # And the next one is painted.
    assert same(results(engine.run(REQUEST)), plain)


def test_memory_that_ends_while_loading(tiny: Path, plain: list[Result]) -> None:
    whole = weights.read(str(tiny))
    total = sum(component.bytes("bf16", 4) for component in whole.components)
    lane = FakeLane(budget=int(0.9 * total))
    engine = Engine(Workshop.open(tiny, machine=card(2**24), lane=lane, wishes=Wishes(bits=16)))
    plan = engine.workshop.plan
    assert plan is not None
    assert "resident" not in {place.residency for place in plan.placements if place.component == "prior"} or (
        not memory.is_plain(plan)
    )
    assert same(results(engine.run(REQUEST)), plain)


def test_fewer_bits_are_loaded_where_nothing_else_fits(tiny: Path) -> None:
    engine, _ = opened(tiny, 2**24)
    workshop = engine.workshop
    before = workshop.plan
    assert before is not None
    after = memory.plan(weights.read(str(tiny)), before.machine, before.job, {"prior": "nf4", "decoder": "int8"})
    workshop._follow(after)
    assert workshop.plan is after
    assert type(workshop.stack.decoder.transformer_blocks[0].attn1.to_q).__name__ == "Linear8bitLt"
    assert len(results(engine.run(replace(REQUEST, count=1)))) == 1


def test_what_does_not_fit_is_one_sentence(tiny: Path) -> None:
    with pytest.raises(MachineError, match=r"GiB .*; .*\.$"):
        Workshop.open(tiny, machine=card(1000), lane=FakeLane())
    with pytest.raises(CheckpointError, match="no device 'abacus'; choose"):
        Workshop.open(tiny, device="abacus")
    with pytest.raises(RequestError, match="cannot have 5 bits; choose"):
        Wishes(bits=5)
    with pytest.raises(RequestError, match="GiB of memory; say"):
        Wishes(memory=-1)


def test_errors_of_memory_are_known() -> None:
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))
    assert is_out_of_memory(RuntimeError("MPS backend out of memory (MPS allocated: 17 GB)"))
    assert is_out_of_memory(
        RuntimeError("[enforce fail at alloc_cpu.cpp:114] data. DefaultCPUAllocator: not enough memory")
    )
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(ValueError("out of memory"))
