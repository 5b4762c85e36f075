"""How a checkpoint is run on this machine: the planner asked for what is here, for every request anew.

Knows what a person decided (`Wishes`), what is loaded already, and what the machine turned out to have less of than was
believed. Loads and moves nothing; the engine does as the plan says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from glmimage import memory
from glmimage.errors import MachineError, RequestError
from glmimage.events import Stage
from glmimage.footprint import Job
from glmimage.geometry import Size
from glmimage.machines import Machine
from glmimage.memory import GIB, Offload, Plan
from glmimage.quantize import Format
from glmimage.weights import Architecture

HELD: Mapping[int, Format] = {16: "bf16", 8: "int8", 4: "nf4"}
"""The formats that numbers of bits stand for."""
WORTH_MOVING = 1.1
"""Things are moved to where another plan wants them when that is so much faster."""
SMALLER = 0.85
"""Of what a stage was believed to take, where that was too much: what it may take the next time."""
PLANNED: Mapping[Stage, tuple[memory.Stage, ...]] = {
    "loading": tuple(memory.STAGES),
    "references": ("vision", "encode"),
    "layout": ("prefill", "tokens"),
    "glyphs": ("glyphs",),
    "painting": ("modulation", "reference keys", "step"),
    "decoding": ("decode",),
}
"""The planner's stages within each of the engine's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wishes:
    """What a person decides in the planner's place; with the defaults nothing."""

    bits: int | None = None
    """Of prior and decoder: 16 (as they are), 8 or 4."""
    offload: Offload = "auto"
    memory: float | None = None
    """GiB of the device that may be used; None: all that are free."""

    def __post_init__(self) -> None:
        if self.bits is not None and self.bits not in HELD:
            raise RequestError(f"Weights cannot have {self.bits} bits; choose 16, 8 or 4, or leave it to the planner.")
        if self.memory is not None and not 0 < self.memory <= 2**14:
            raise RequestError(f"A device does not have {self.memory:g} GiB of memory; say how many may be used.")


class Fitting:
    """The planner for one checkpoint on one machine."""

    def __init__(self, architecture: Architecture, machine: Machine, wishes: Wishes | None = None) -> None:
        self.architecture = architecture
        self.wishes = wishes or Wishes()
        if self.wishes.memory is not None:
            most = int(self.wishes.memory * GIB)
            host = min(machine.host_memory, most) if machine.unified else machine.host_memory
            machine = replace(machine, device_memory=min(machine.device_memory, most), host_memory=host)
        self.machine = machine
        self._limits: dict[memory.Stage, int] = {}

    def usual(self) -> Plan:
        """For a picture as the checkpoint makes them by default, or for the largest such that fits, so that there is
        something to paint with. Raises MachineError where none does.
        """
        defaults = self.architecture.defaults
        job = Job.usual(defaults)
        try:
            return self.plan(job)
        except MachineError:
            for share in (3, 2, 1):
                side = max(defaults.min_side, max(defaults.width, defaults.height) * share // 4)
                try:
                    return self.plan(replace(job, size=Size.snap(side, side)))
                except MachineError:
                    continue
            raise

    def plan(self, job: Job, now: Plan | None = None) -> Plan:
        """For `job`; `now` is the plan by which everything is loaded, which is left as it is where that does.

        What is loaded is loaded anew, in fewer bits, only where nothing else fits. Raises MachineError.
        """
        if now is not None:
            held = self._formats(now)
            try:
                best = self._ask(job, held)
            except MachineError:
                best = None
            if best is not None:
                try:
                    same = self._ask(job, held, like=now)
                except MachineError:
                    return best
                return same if same.seconds <= WORTH_MOVING * best.seconds else best
        return self._ask(job, self._formats())

    def smaller(self, now: Plan, stage: Stage) -> Plan:
        """The best plan that takes clearly less than `now` in a stage whose memory was not enough, then and later.

        Raises MachineError where there is none.
        """
        for need in now.stages:
            if need.stage in PLANNED[stage]:
                # The context is not ours to save; what was planned beside it is.
                least = need.context + int(SMALLER * (need.peak - need.context))
                self._limits[need.stage] = min(least, self._limits.get(need.stage, least))
        return self.plan(now.job, now)

    def _ask(self, job: Job, formats: Mapping[str, Format], like: Plan | None = None) -> Plan:
        offload = self.wishes.offload
        return memory.plan(self.architecture, self.machine, job, formats, offload, like=like, limits=self._limits)

    def _formats(self, now: Plan | None = None) -> dict[str, Format]:
        """Those that prior and decoder are held to: as they are loaded, as a person wishes, or not at all."""
        names = ("prior", "decoder")
        if now is not None:
            return {name: now[name].format for name in names}
        if self.wishes.bits is None:
            return {}
        held = dict.fromkeys(names, HELD[self.wishes.bits])
        # 16 bits mean: as they are stored.
        stored = {name: self.architecture[name].stored for name in names}
        return stored if self.wishes.bits == 16 else held
