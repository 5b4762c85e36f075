"""One checkpoint on this machine: loaded as the plan says, arranged anew where a request needs it, and in a smaller way
where the memory was not enough after all.

Between what plans (`fitting`), what loads (`models`) and what moves (`residency`); knows no requests and no stages of
its own.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from glmimage import machines, memory, weights
from glmimage.adapters import Adapter, apply
from glmimage.checkpoint import verify
from glmimage.download import Report
from glmimage.errors import CheckpointError, MachineError
from glmimage.events import Stage
from glmimage.fitting import Fitting, Wishes
from glmimage.footprint import Job
from glmimage.machines import Kind, Machine
from glmimage.memory import Plan
from glmimage.models import PartName, Stack
from glmimage.prior import lay_down
from glmimage.quantize import Formats
from glmimage.residency import Lane, Residency, lane_of, stays_of

_KINDS: dict[str, Kind | None] = {"cpu": "cpu", "mps": "mps", "cuda": None}
"""torch's names of devices; "cuda" is ROCm's, too."""


class Workshop:
    """The stack, where its weights are, and the plan that both follow."""

    def __init__(self, stack: Stack, residency: Residency | None = None) -> None:
        """Around a stack that is loaded: nothing is planned."""
        self.stack = stack
        self.residency = residency or Residency.of(stack)
        self.plan: Plan | None = None
        self.fitting: Fitting | None = None
        self._adapters: Sequence[Adapter] = ()
        self._report: Report | None = None
        self._told = True
        """Whether it was said how the model fits."""

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        device: str | None = None,
        wishes: Wishes | None = None,
        machine: Machine | None = None,
        lane: Lane | None = None,
        adapters: Sequence[Adapter] = (),
        report: Report | None = None,
    ) -> Workshop:
        """Loads the checkpoint in `folder` as it fits this machine, or the one and the lane that are given.

        device None: the best that torch finds. adapters: LoRAs to paint with, which the checkpoint's name then names.
        report: told how much is loaded, also where fewer bits are loaded later.
        Raises CheckpointError, and MachineError where nothing fits.
        """
        verify(folder)
        architecture = weights.read(str(folder))
        if machine is None:
            if device is not None and device.partition(":")[0] not in _KINDS:
                raise CheckpointError(f"There is no device {device!r}; choose cpu, cuda or mps.")
            kind = _KINDS[device.partition(":")[0]] if device else None
            machine = machines.find(kind, width=architecture.decoder_width)
            if device == "cuda" and machine.kind not in ("cuda", "rocm"):
                raise CheckpointError("This machine has no usable cuda; choose cpu or install the torch build for it.")
        if machine.threads:
            torch.set_num_threads(machine.threads)
        made = cls.__new__(cls)
        made.fitting = fitting = Fitting(architecture, machine, wishes)
        made._adapters, made._report, made._told = adapters, report, False
        made._load(folder, fitting.usual(), lane or lane_of(_device(machine)))
        return made

    def _load(self, folder: Path, plan: Plan, lane: Lane) -> None:
        """As planned, or by the next smaller plan."""
        assert self.fitting is not None, "it is planned"
        try:
            self._load_as(folder, plan, lane)
            return
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        free(lane.device)
        try:
            self._load_as(folder, self.fitting.smaller(plan, "loading"), lane)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise too_little("loading") from error

    def _load_as(self, folder: Path, plan: Plan, lane: Lane) -> None:
        assert self.fitting is not None, "it is planned"
        self.plan = plan
        self.residency = Residency(lane.device, stays_of(plan), lane)
        stored = {component.name: component.stored for component in self.fitting.architecture.components}
        formats = Formats(**{name: plan[name].format for name in ("prior", "decoder") if stored[name] == "bf16"})
        self.stack = Stack.load(
            folder,
            device=str(lane.device),
            dtype=getattr(torch, plan.machine.dtype),
            formats=formats,
            taker=_Preparing(self.residency, self._adapters),
            report=self._report,
        )
        if self._adapters:
            name = " + ".join([self.stack.defaults.name, *(adapter.name for adapter in self._adapters)])
            self.stack = replace(self.stack, defaults=replace(self.stack.defaults, name=name))

    def fit(self, job: Job) -> str:
        """Arranges everything for `job`, and loads it in fewer bits where it must.

        Returns a sentence on what changed, the first time on what was picked at all, or "". Raises MachineError where
        nothing fits.
        """
        if self.fitting is None or self.plan is None:
            return ""
        before = self.plan
        self._follow(self.fitting.plan(job, before))
        if not self._told:
            self._told = True
            return self.sentences[0] if self.sentences else ""
        changed = memory.differences(before, self.plan)
        return f"For {job.size}: {changed}." if changed else ""

    def retreat(self, stage: Stage) -> str:
        """Frees what can be freed, and does everything in a smaller way after `stage` ran out of memory.

        Returns a sentence on what changed. Raises MachineError where there is no smaller way.
        """
        free(self.residency.lane.device)
        doing = _DOING[stage]
        if self.fitting is None or self.plan is None:
            raise MachineError(f"The memory was not enough for {doing}; {_REMEDY}.")
        before = self.plan
        try:
            self._follow(self.fitting.smaller(before, stage))
        except MachineError as error:
            raise MachineError(f"The memory was not enough for {doing}, and there is no smaller way: {error}") from None
        changed = memory.differences(before, self.plan)
        return f"The memory was not enough for {doing}; now: {changed or 'once more'}."

    def _follow(self, plan: Plan) -> None:
        before = self.plan
        assert before is not None, "there is a plan to change"
        if all(plan[name].format == before[name].format for name in ("prior", "decoder")):
            self.residency.arrange(stays_of(plan))
            self.plan = plan
            return
        # Fewer bits come from the files; what is here goes first.
        folder, lane = self.stack.folder, self.residency.lane
        del self.stack, self.residency
        free(lane.device)
        self._load(folder, plan, lane)

    @property
    def sentences(self) -> list[str]:
        """What was picked and why, for people; empty where everything simply fits as it is."""
        plan = self.plan
        if plan is None or memory.is_plain(plan):
            return []
        return memory.sentences(plan)


_REMEDY = "choose a smaller size, fewer references or fewer pictures, or close other programs"
_DOING: dict[Stage, str] = {
    "loading": "loading",
    "references": "looking at the references",
    "layout": "sketching the layout",
    "glyphs": "reading the words",
    "painting": "painting",
    "decoding": "developing the picture",
    "reading": "proofreading the picture",
}


def too_little(stage: Stage) -> MachineError:
    """After the smaller way was not small enough."""
    return MachineError(f"The memory was not enough for {_DOING[stage]}, even in a smaller way; {_REMEDY}.")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device or the host ran out of memory, in whatever way torch says it."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    # The CPU's allocator and Apple's raise plain RuntimeErrors.
    words = ("can't allocate memory", "not enough memory", "out of memory")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


def free(device: torch.device) -> None:
    """Gives back what torch keeps of freed memory."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


class _Preparing:
    """What is done to weights before they are taken over: LoRAs go in, and the prior's are laid down for its runs."""

    def __init__(self, residency: Residency, adapters: Sequence[Adapter]) -> None:
        self._residency, self._adapters = residency, adapters

    def hosts(self, name: PartName) -> bool:
        return self._residency.hosts(name)

    def take(self, name: PartName, module: nn.Module) -> None:
        if name in ("prior", "decoder"):
            apply({name: module}, self._adapters)
        if name == "prior":
            lay_down(module)
        self._residency.take(name, module)


def _device(machine: Machine) -> torch.device:
    return torch.device("cuda" if machine.kind == "rocm" else machine.kind)
