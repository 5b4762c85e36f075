"""What a person may want to know of the machine: what it is, what it does with the checkpoint and why, what is left.

Plain values for a page or a terminal; asked for at any time, also while a run goes on. Changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from glmimage import memory
from glmimage.machines import Machine, free_host_memory
from glmimage.memory import Plan

if TYPE_CHECKING:
    from glmimage.fitting import Wishes
    from glmimage.workshop import Workshop


@dataclass(frozen=True, kw_only=True, slots=True)
class Use:
    """Bytes now."""

    process: int
    """Of the host's memory, this process with all it holds."""
    host_free: int
    host_total: int
    device_held: int | None = None
    """Of a GPU's memory, by this process; None where there is no GPU."""
    device_free: int | None = None
    device_total: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class System:
    """One look at the machine and the plan that is followed."""

    machine: Machine
    plan: Plan
    """Its `alternatives` are those that were not taken, with their numbers."""
    wishes: Wishes
    """What a person decided in the planner's place."""
    sentences: tuple[str, ...]
    """What was picked, why, what it costs, what is not measured."""
    use: Use


def look(workshop: Workshop) -> System | None:
    """None for a stack that nothing was planned for."""
    plan, fitting = workshop.plan, workshop.fitting
    if plan is None or fitting is None:
        return None
    return System(
        machine=plan.machine,
        plan=plan,
        wishes=fitting.wishes,
        sentences=tuple(memory.sentences(plan)),
        use=use(plan.machine),
    )


def use(machine: Machine) -> Use:
    """Memory as it is now."""
    import psutil
    import torch

    process = int(psutil.Process().memory_info().rss)
    total = int(psutil.virtual_memory().total)
    device: tuple[int | None, int | None, int | None] = (None, None, None)
    if machine.kind in ("cuda", "rocm") and torch.cuda.is_available():
        free, whole = torch.cuda.mem_get_info()
        device = (int(torch.cuda.memory_reserved()), int(free), int(whole))
    elif machine.kind == "mps" and torch.backends.mps.is_available():
        held, most = torch.mps.driver_allocated_memory(), torch.mps.recommended_max_memory()
        device = (int(held), int(most - held), int(most))
    return Use(
        process=process,
        host_free=free_host_memory(),
        host_total=total,
        device_held=device[0],
        device_free=device[1],
        device_total=device[2],
    )
