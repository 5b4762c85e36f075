"""The machine at a glance: the plan that is followed, and memory that adds up."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from glmimage import system
from glmimage.fitting import Wishes
from glmimage.machines import tabulated
from glmimage.models import Stack
from glmimage.workshop import Workshop

GIB = 2**30


def test_a_look_at_what_is_planned(tiny: Path) -> None:
    workshop = Workshop.open(tiny, device="cpu", wishes=Wishes(bits=8))
    seen = system.look(workshop)
    assert seen is not None
    assert seen.plan is workshop.plan
    assert seen.machine.kind == "cpu"
    assert seen.wishes.bits == 8
    assert "8 bits" in seen.sentences[0]
    assert 0 < seen.use.process < seen.use.host_total
    assert 0 < seen.use.host_free < seen.use.host_total
    assert seen.use.device_held is None


def test_nothing_planned_is_nothing_to_see(tiny_stack: Stack) -> None:
    assert system.look(Workshop(tiny_stack)) is None


def test_a_gpu_says_what_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (5 * GIB, 12 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 6 * GIB)
    found = system.use(tabulated("cuda", 11 * GIB, 32 * GIB))
    assert (found.device_held, found.device_free, found.device_total) == (6 * GIB, 5 * GIB, 12 * GIB)
