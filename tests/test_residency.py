"""Residency: weights come and go, results stay, and the device never holds more than it may."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef

from glmimage.engine import Engine
from glmimage.errors import CheckpointError
from glmimage.events import Result
from glmimage.models import Stack
from glmimage.quantize import Format, Formats
from glmimage.request import Reference, Request
from glmimage.residency import OFFLOADS, Component, Mode, Piece, PlainLane, Residency, _Stream

if TYPE_CHECKING:
    from torch import Tensor

OFFLOADED, STREAMED = OFFLOADS["stage"], OFFLOADS["stream"]


class FullError(RuntimeError):
    """The fake device's out of memory."""


class FakeLane(PlainLane):
    """Memory of this machine that counts as a device's: what is not freed counts, and too much is an error."""

    def __init__(self, budget: int = 2**60) -> None:
        super().__init__(torch.device("cpu"))
        self.budget = budget
        self.peak = 0
        self._blocks: list[tuple[StorageWeakRef, int]] = []

    @property
    def held(self) -> int:
        self._blocks = [(block, nbytes) for block, nbytes in self._blocks if not block.expired()]
        return sum(nbytes for _, nbytes in self._blocks)

    def allocate(self, nbytes: int) -> Tensor:
        if self.held + nbytes > self.budget:
            raise FullError(f"{self.held} + {nbytes} bytes are more than {self.budget}")
        block = super().allocate(nbytes)
        # Of the memory, not of this tensor: views keep it.
        self._blocks.append((StorageWeakRef(block.untyped_storage()), nbytes))
        self.peak = max(self.peak, self.held)
        return block


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    from PIL import Image

    path = tmp_path / "reference.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(path)
    return path


def results(stack: Stack, request: Request, residency: Residency) -> list[Result]:
    return [event for event in Engine(stack, None, residency).run(request) if isinstance(event, Result)]


@pytest.mark.parametrize("modes", [OFFLOADED, STREAMED, {"decoder": "stream"}, {"prior": "stage", "vae": "stage"}])
def test_the_same_pictures_in_every_mode(tiny: Path, picture: Path, modes: Mapping[Component, Mode]) -> None:
    request = Request(
        prompt='a cat and "HI"',
        width=96,
        height=64,
        seed=3,
        steps=3,
        count=2,
        references=[Reference(path=str(picture))],
    )
    wanted = results(stack := Stack.load(tiny), request, Residency(stack))
    found = results(stack := Stack.load(tiny), request, Residency(stack, modes, FakeLane()))
    for one, other in zip(found, wanted, strict=True):
        assert np.array_equal(one.prior.target, other.prior.target)
        assert np.array_equal(np.asarray(one.image), np.asarray(other.image))


@pytest.mark.parametrize("format", ["int8", "nf4", "nf4-dq"])
def test_quantized_weights_come_and_go_with_their_scales(tiny: Path, format: Format) -> None:
    request = Request(prompt='a cat and "HI"', width=64, height=64, seed=3, steps=2)
    found = []
    for modes in (OFFLOADS["none"], STREAMED, STREAMED):
        stack = Stack.load(tiny, formats=Formats(prior=format, decoder=format, glyphs=format))
        for module in (*stack.prior.modules(), *stack.decoder.modules(), *stack.glyph_encoder.modules()):
            # Repacks its weight for this processor's matrix units at the first use; a device has none.
            if hasattr(module, "support_avx512bf16_for_cpu"):
                module.support_avx512bf16_for_cpu = False
        lane = FakeLane()
        engine = Engine(stack, None, Residency(stack, modes, lane))
        found += [event for _ in range(2) for event in engine.run(request) if isinstance(event, Result)]
        assert lane.held == 0
    for other in found[1:]:
        assert np.array_equal(found[0].prior.target, other.prior.target)
        assert np.array_equal(np.asarray(found[0].image), np.asarray(other.image))


def test_the_processor_itself_has_nothing_to_offload(tiny: Path) -> None:
    with pytest.raises(CheckpointError, match="leave it out"):
        Engine.load(str(tiny), device="cpu", offload="stage")


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
    results(stack, request, Residency(stack, OFFLOADED, lane))
    decoder = size["decoder"] - size["modulations"] + 2 * size["modulation"]
    assert lane.held == 0
    assert lane.peak == pytest.approx(max(size["prior"], size["vae"], size["glyphs"], decoder), rel=0.02)

    streamed = FakeLane()
    stack = Stack.load(tiny)
    results(stack, request, Residency(stack, STREAMED, streamed))
    decoder = size["decoder"] - size["blocks"] + 2 * (size["block"] + size["modulation"])
    assert streamed.peak == pytest.approx(max(size["prior"], size["vae"], size["glyphs"], decoder), rel=0.02)


def test_too_small_a_device_is_an_error_that_frees_it(tiny: Path) -> None:
    stack = Stack.load(tiny)
    lane = FakeLane(budget=sizes(stack)["prior"] // 2)
    with pytest.raises(FullError):
        results(stack, Request(prompt="a cat", width=64, height=64, seed=1, steps=2), Residency(stack, OFFLOADED, lane))
    assert lane.held == 0


def test_weights_that_are_away_cannot_be_read(tiny: Path) -> None:
    stack = Stack.load(tiny)
    residency = Residency(stack, OFFLOADED, FakeLane())
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
