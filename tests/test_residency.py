"""Residency: weights come and go, results stay, and the device never holds more than it may."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from glmimage.engine import Engine
from glmimage.errors import MachineError
from glmimage.events import Result
from glmimage.models import Stack
from glmimage.quantize import Format, Formats
from glmimage.request import Reference, Region, Request
from glmimage.residency import Component, Piece, PlainLane, Residency, Spill, Stay, _Stream
from tests.fake_lane import FakeLane

if TYPE_CHECKING:
    from torch import Tensor

STAGED: dict[Component, Stay] = dict.fromkeys(
    ("prior", "vision", "glyphs", "decoder", "modulation", "vae"), Stay("stage")
) | {"embedding": Stay("host")}
STREAMED: dict[Component, Stay] = {**STAGED, "decoder": Stay("stream"), "modulation": Stay("stream")}
MIXED: dict[Component, Stay] = {
    **STAGED,
    "prior": Stay("stream", blocks=1),
    "embedding": Stay("host"),
    "decoder": Stay("stream", "disk", 1),
    "modulation": Stay("stage", "disk"),
    "vae": Stay("stage", "disk"),
}


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    from PIL import Image

    path = tmp_path / "reference.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(path)
    return path


def results(stack: Stack, request: Request, residency: Residency) -> list[Result]:
    return [event for event in Engine(stack, None, residency).run(request) if isinstance(event, Result)]


@pytest.mark.parametrize(
    "stays", [STAGED, STREAMED, MIXED, {"decoder": Stay("stream")}, {"prior": Stay("stream"), "vae": Stay("stage")}]
)
def test_the_same_pictures_in_every_mode(tiny: Path, picture: Path, stays: Mapping[Component, Stay]) -> None:
    request = Request(
        prompt='a cat and "HI"',
        width=96,
        height=64,
        seed=3,
        steps=3,
        count=2,
        references=[Reference(path=str(picture))],
        regions=[Region(text="HI", box=(0, 0, 0.5, 1))],
    )
    wanted = results(stack := Stack.load(tiny), request, Residency.of(stack))
    found = results(stack := Stack.load(tiny), request, Residency.of(stack, stays, FakeLane()))
    for one, other in zip(found, wanted, strict=True):
        assert np.array_equal(one.prior.target, other.prior.target)
        assert np.array_equal(np.asarray(one.image), np.asarray(other.image))


@pytest.mark.parametrize("format", ["int8", "nf4", "nf4-dq"])
def test_quantized_weights_come_and_go_with_their_scales(tiny: Path, format: Format) -> None:
    request = Request(prompt='a cat and "HI"', width=64, height=64, seed=3, steps=2)
    found = []
    for stays in ({}, STREAMED, MIXED):
        stack = Stack.load(tiny, formats=Formats(prior=format, decoder=format, glyphs=format))
        for module in (*stack.prior.modules(), *stack.decoder.modules(), *stack.glyph_encoder.modules()):
            # Repacks its weight for this processor's matrix units at the first use; a device has none.
            if hasattr(module, "support_avx512bf16_for_cpu"):
                module.support_avx512bf16_for_cpu = False
        lane = FakeLane()
        engine = Engine(stack, None, Residency.of(stack, stays, lane))
        found += [event for _ in range(2) for event in engine.run(request) if isinstance(event, Result)]
        assert lane.held == 0 or not stays
    for other in found[1:]:
        assert np.array_equal(found[0].prior.target, other.prior.target)
        assert np.array_equal(np.asarray(found[0].image), np.asarray(other.image))


def sizes(stack: Stack) -> dict[str, int]:
    def of(module: torch.nn.Module) -> int:
        return sum(-(-p.nbytes // 256) * 256 for p in module.parameters())

    blocks = stack.decoder.transformer_blocks
    return {
        "prior": of(stack.prior.model.language_model)
        + of(stack.prior.lm_head)
        - stack.prior.get_input_embeddings().weight.nbytes,
        "decoder": of(stack.decoder),
        "blocks": of(blocks),
        "block": max(of(block) - of(block.norm1.linear) for block in blocks),
        "modulation": max(of(block.norm1.linear) for block in blocks),
        "modulations": sum(of(block.norm1.linear) for block in blocks),
        "vae": of(stack.vae),
        "glyphs": of(stack.glyph_encoder),
    }


def test_a_stage_at_a_time_takes_the_largest_and_no_more(tiny: Path) -> None:
    request = Request(prompt="a cat", width=64, height=64, seed=1, steps=2)
    stack = Stack.load(tiny)
    size = sizes(stack)
    lane = FakeLane()
    results(stack, request, Residency.of(stack, STAGED, lane))
    decoder = size["decoder"] - size["modulations"] + 2 * size["modulation"]
    assert lane.held == 0
    assert lane.peak == pytest.approx(max(size["prior"], size["vae"], size["glyphs"], decoder), rel=0.02)

    streamed = FakeLane()
    stack = Stack.load(tiny)
    results(stack, request, Residency.of(stack, STREAMED, streamed))
    decoder = size["decoder"] - size["blocks"] + 2 * (size["block"] + size["modulation"])
    assert streamed.peak == pytest.approx(max(size["prior"], size["vae"], size["glyphs"], decoder), rel=0.02)


def test_too_small_a_device_is_an_error_that_frees_it(tiny: Path) -> None:
    stack = Stack.load(tiny)
    lane = FakeLane(budget=sizes(stack)["prior"] // 2)
    with pytest.raises(MachineError, match="not enough for sketching the layout; choose a smaller size"):
        results(stack, Request(prompt="a cat", width=64, height=64, seed=1, steps=2), Residency.of(stack, STAGED, lane))
    assert lane.held == 0


def test_weights_that_are_away_cannot_be_read(tiny: Path) -> None:
    stack = Stack.load(tiny)
    residency = Residency.of(stack, STAGED, FakeLane())
    codes = torch.zeros(1, 2, 2, dtype=torch.long)
    with pytest.raises((RuntimeError, IndexError)):
        stack.decoder.prior_token_embedding(codes)
    with residency.stage("painting"):
        assert stack.decoder.prior_token_embedding(codes).shape[:3] == codes.shape
    with pytest.raises((RuntimeError, IndexError)):
        stack.decoder.prior_token_embedding(codes)


class Order(FakeLane):
    """Writes down what is queued, copies and work in one list."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[str] = []

    def copy(self, target: Tensor, source: Tensor) -> None:
        super().copy(target, source)
        self.log.append("copy")

    def copied(self) -> str:
        return f"copy {self.log.count('copy') - 1}"

    def used(self) -> str:
        return f"work {self.log.count('work') - 1}"

    def before_work(self, mark: str) -> None:
        self.log.append(f"work waits for {mark}")

    def before_copies(self, mark: str) -> None:
        self.log.append(f"copies wait for {mark}")


def pieces(lane: PlainLane, count: int) -> tuple[list[torch.nn.Linear], list[Piece]]:
    modules = [torch.nn.Linear(4, 4) for _ in range(count)]
    return modules, [Piece([module], lane) for module in modules]


def test_the_next_block_is_on_its_way_while_one_computes() -> None:
    lane = Order()
    _, parts = pieces(lane, 3)
    stream = _Stream(parts, lane)
    stream.open()
    for _ in stream.visit():
        lane.log.append("work")
    for _ in stream.visit():
        lane.log.append("work")
        break
    assert lane.log == [
        *("copies wait for work -1", "copy", "work waits for copy 0"),
        *("copies wait for work -1", "copy", "work", "work waits for copy 1"),
        # The slot of block 0 is free once its work is done; block 2's copy waits for that alone.
        *("copies wait for work 0", "copy", "work", "work waits for copy 2"),
        # The first block follows the last, for the next visit.
        *("copies wait for work 1", "copy", "work", "work waits for copy 3"),
        *("copies wait for work 2", "copy", "work"),
    ]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_visits_that_end_early_leave_nothing_wrong(count: int) -> None:
    lane = FakeLane()
    modules, parts = pieces(lane, count)
    weights = [torch.zeros(4, 4) for _ in modules]
    stream = _Stream(parts, lane)
    stream.open()
    for index, _ in enumerate(stream.visit()):
        weights[index] = modules[index].weight.clone()
    for broken in range(count):
        for index, _ in enumerate(stream.visit()):
            if index == broken:
                break
        for index, _ in enumerate(stream.visit()):
            assert torch.equal(modules[index].weight, weights[index])
    stream.close()
    assert lane.held == 0
    assert all(module.weight.numel() == 0 for module in modules)


def test_what_shares_memory_shares_it_on_the_device() -> None:
    joined = torch.randn(6, 4)
    first, second = torch.nn.Linear(4, 2, bias=False), torch.nn.Linear(4, 4, bias=False)
    first.weight.data, second.weight.data = joined[:2], joined[2:]
    lane = FakeLane()
    piece = Piece([first, second], lane)
    assert piece.nbytes == 256
    piece.bring()
    assert second.weight.data_ptr() - first.weight.data_ptr() == 2 * 4 * 4
    assert torch.equal(torch.cat([first.weight, second.weight]), joined)


def test_only_the_used_stretch_of_a_storage_is_taken() -> None:
    storage = torch.randn(10_000)
    module = torch.nn.Linear(4, 4, bias=False)
    module.weight.data = storage[5000:5016].view(4, 4).t()
    wanted = module.weight.detach().clone()
    piece = Piece([module], FakeLane())
    assert piece.nbytes == 256
    piece.bring()
    assert torch.equal(module.weight, wanted)
    assert module.weight.stride() == (1, 4)


def test_a_full_disk_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    modules = [torch.nn.Linear(4, 4)]
    wanted = modules[0].weight.detach().clone()
    spill = Spill(tmp_path)
    piece = Piece(modules, FakeLane(), spill)
    assert modules[0].weight.numel() == 0
    piece.bring()
    assert torch.equal(modules[0].weight, wanted)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10))
    with pytest.raises(MachineError, match="make room there, or use fewer bits"):
        Piece([torch.nn.Linear(4, 4)], FakeLane(), spill)


def test_weights_are_kept_in_another_way_between_runs(tiny: Path) -> None:
    """From anywhere to anywhere: resident, for a stage, streamed, in host memory, on the disk."""
    request = Request(prompt="a cat", width=64, height=64, seed=1, steps=2)
    (wanted,) = results(stack := Stack.load(tiny), request, Residency.of(stack))
    stack, lane = Stack.load(tiny), FakeLane()
    residency = Residency.of(stack, {}, lane)
    resident = lane.held
    for stays in (MIXED, STAGED, {}, STREAMED, MIXED, {}):
        residency.arrange(stays)
        (found,) = results(stack, request, residency)
        assert np.array_equal(np.asarray(found.image), np.asarray(wanted.image))
        assert (lane.held == resident) == (not stays)
