"""The machine's figures: looked up, measured, and honest about which."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch

from glmimage import machines
from glmimage.errors import MachineError
from glmimage.machines import KINDS, Kind, Machine, find, free_host_memory, kind_of, tabulated

GIB = 2**30


def looked_up(kind: Kind, card: str) -> Machine:
    return tabulated(kind, 8 * GIB, 32 * GIB, card)


def test_drivers_names_are_found() -> None:
    plain, better = looked_up("cuda", "NVIDIA GeForce RTX 4070"), looked_up("cuda", "NVIDIA GeForce RTX 4070 Ti")
    assert better.flops > plain.flops
    assert looked_up("cuda", "NVIDIA A100-SXM4-80GB").flops == looked_up("cuda", "A100").flops
    assert looked_up("mps", "Apple M2 Pro").bandwidth == 2 * looked_up("mps", "Apple M2").bandwidth
    assert looked_up("rocm", "AMD Radeon RX 7900 XTX").name == "AMD Radeon RX 7900 XTX"
    assert (kind_of("RTX 4090"), kind_of("RX 7900 XT"), kind_of("Apple M4 Max"), kind_of("Voodoo 2")) == (
        *("cuda", "rocm", "mps"),
        None,
    )


def test_unknown_cards_are_taken_as_typical_and_say_so() -> None:
    typical = looked_up("cuda", "")
    for card in ("NVIDIA GeForce RTX 4090 Laptop GPU", "Voodoo 2"):
        machine = looked_up("cuda", card)
        assert machine.flops == typical.flops
        assert machine.name == f"{card}, taken as an RTX 3060"
    # A card of another maker is not looked for.
    assert looked_up("rocm", "RTX 4090").flops == looked_up("rocm", "").flops


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_figures(kind: Kind) -> None:
    machine = looked_up(kind, "")
    assert not machine.measured
    assert min(machine.bandwidth, machine.flops, machine.link, machine.disk, machine.launch) > 0
    assert machine.unified == (kind in ("mps", "cpu"))
    assert machine.host_memory == (8 if machine.unified else 32) * GIB
    assert Machine.from_json(json.loads(json.dumps(machine.to_json()))) == machine


def test_free_memory_is_less_than_there_is(tmp_path: Path) -> None:
    assert 0 < free_host_memory() <= psutil.virtual_memory().total


def test_this_machines_processor_is_measured() -> None:
    machine = find("cpu")
    assert machine.kind == "cpu"
    assert machine.measured
    assert "taken as" not in machine.name
    assert machine.device_memory == machine.host_memory
    # Any processor of this century, and none of the next.
    assert 1e9 < machine.flops < 1e15
    assert 1e8 < machine.bandwidth < 1e13


@pytest.mark.skipif(torch.cuda.is_available() or torch.backends.mps.is_available(), reason="has a device")
def test_without_a_device() -> None:
    for kind in ("cuda", "rocm", "mps"):
        with pytest.raises(MachineError, match=f"no {kind} device"):
            find(kind)


def test_devices_are_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (11 * GIB, 12 * GIB))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA GeForce RTX 3060")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    machine = find()
    assert machine.dtype == "bfloat16"
    assert (machine.kind, machine.device_memory, machine.name) == ("cuda", 11 * GIB, "NVIDIA GeForce RTX 3060")
    monkeypatch.setattr(torch.version, "hip", "6.4")
    assert find().kind == "rocm"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 12 * GIB)
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 2 * GIB)
    monkeypatch.setattr(machines, "free_host_memory", lambda: 9 * GIB)
    machine = find()
    assert (machine.kind, machine.device_memory, machine.host_memory) == ("mps", 9 * GIB, 9 * GIB)


def test_what_was_measured_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another measurement could choose otherwise, and other last bits would come of it."""
    notes = tmp_path / "cache" / "machine.json"
    first = find("cpu", notes=notes)
    kept = json.loads(notes.read_text())
    assert len(kept) == 1

    def never(name: str) -> None:
        raise AssertionError("it is known")

    with monkeypatch.context() as patch:
        patch.setattr(machines, "_measure", never)
        again = find("cpu", notes=notes)
    assert replace(again, device_memory=0, host_memory=0) == replace(first, device_memory=0, host_memory=0)
    for damage in ("", "[]", "{", json.dumps({key: {"name": "x"} for key in kept}), json.dumps(dict.fromkeys(kept, 7))):
        notes.write_text(damage)
        assert find("cpu", notes=notes).measured
        assert list(json.loads(notes.read_text())) == list(kept)


def test_how_a_processor_computes(tmp_path: Path) -> None:
    """bfloat16 where it multiplies clearly faster, for wide models alone."""
    notes = tmp_path / "machine.json"
    find("cpu", notes=notes)
    ((key, figures),) = json.loads(notes.read_text()).items()
    for half, width, dtype in ((4.0, 4096, "bfloat16"), (1.1, 4096, "float32"), (4.0, 256, "float32")):
        figures["flops"] = {"float32": 1e11, "bfloat16": half * 1e11}
        notes.write_text(json.dumps({key: figures}))
        machine = find("cpu", width=width, notes=notes)
        assert machine.dtype == dtype
        assert machine.flops == figures["flops"][dtype]
        assert 1 <= machine.threads <= torch.get_num_threads()
