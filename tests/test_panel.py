"""The System tab's markup, from a plan for a machine that is made up."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from app import panel
from app.words import Words
from glmimage import machines, memory, weights
from glmimage.fitting import Fitting, Wishes
from glmimage.memory import GIB
from glmimage.system import System, Use

GPU = replace(machines.tabulated("cuda", 6 * GIB, 24 * GIB), name="<b>Card</b>")


@pytest.fixture(scope="module")
def system() -> System:
    """The release's sizes would be asked of the hub; the miniature's do."""
    fitting = Fitting(weights.read("miniature"), GPU, Wishes(bits=4))
    plan = fitting.usual()
    use = Use(
        process=GIB, host_free=8 * GIB, host_total=24 * GIB, device_held=GIB, device_free=5 * GIB, device_total=6 * GIB
    )
    return System(
        machine=plan.machine, plan=plan, wishes=fitting.wishes, sentences=tuple(memory.sentences(plan)), use=use
    )


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_stage_and_its_peak_are_there(system: System, language: str) -> None:
    words = Words(language)
    html = panel.plan(system, words)
    assert len(re.findall("<li>", html)) == len(system.plan.stages)
    for need in system.plan.stages:
        assert memory.gib(need.peak) in html
    assert all(words.said(placement.component) in html for placement in system.plan.placements)


def test_shares_of_a_bar_are_of_the_device(system: System) -> None:
    html = panel.plan(system, Words())
    for row, need in zip(re.findall("<li>.*?</li>", html), system.plan.stages, strict=True):
        widths = [float(width) for width in re.findall(r"width:([\d.]+)%", row)]
        assert sum(widths) == pytest.approx(100 * need.peak / system.machine.device_memory, abs=0.05)


def test_the_machine_is_escaped_and_its_memory_is_said(system: System) -> None:
    html = panel.machine(system, Words())
    assert "&lt;b&gt;Card" in html
    assert "5.0 GiB of 6.0 GiB free" in html


def test_before_anything_is_loaded_that_is_said() -> None:
    assert "Nothing is loaded yet" in panel.plan(None, Words())
    assert "Nothing is loaded yet" in panel.machine(None, Words())


def test_only_what_can_be_made_again_has_a_button() -> None:
    sizes = {"pictures": 10, "encoded": 3 * 2**20, "exports": 0}
    mine, theirs = (panel.stored(sizes, Words(), clearing=clearing) for clearing in (True, False))
    assert re.findall('data-key="([a-z]+)"', mine) == ["encoded"]
    assert "data-act" not in theirs
    assert "3.0 MiB" in theirs
