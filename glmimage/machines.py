"""The machine that pictures are made on: how much memory is free, and how fast it is.

Free memory is asked for (torch, psutil, and the limit of a container); speeds of a graphics card are looked up by name
in presets/machines.json, whose figures are the makers', and a processor's are measured in about a second, once: what
was measured is kept in a file, so that the same machine computes in the same way ever after. Every `Machine` says which
of the two its speeds are. Knows no model.
"""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any, Literal, get_args

from glmimage import files
from glmimage.errors import MachineError

Kind = Literal["cuda", "rocm", "mps", "cpu"]
KINDS: tuple[Kind, ...] = get_args(Kind)
TABLE = Path(__file__).resolve().parent.parent / "presets" / "machines.json"
CLEARLY = 1.25
"""How much faster bfloat16 must multiply than float32 to be worth its rounding."""
NARROW = 1024
"""Of a model less wide than this, products are too small to be what takes the time: it stays in float32."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """Free memory in bytes; speeds as they can be had, that is after losses, in bytes or operations a second."""

    kind: Kind
    name: str
    device_memory: int
    """Free for the model; on "mps" and "cpu" it is the host's own."""
    host_memory: int
    """Free beside it."""
    bandwidth: float
    """Of the device's memory."""
    flops: float
    """Matrix products in `dtype`."""
    link: float
    """Host to device, from pinned memory."""
    disk: float
    launch: float
    """Seconds a layer that the device waits for its next kernels, when they are small."""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """What is computed in, and what weights that are not quantized take."""
    threads: int = 0
    """That a processor computes with; 0: not said."""
    packs: bool = False
    """Whether a few rows are multiplied with 4-bit weights as they are (a processor with AVX512-BF16)."""
    measured: bool = False
    """Whether bandwidth and flops were measured here; else they are the makers' figures, less a tabulated share."""

    @property
    def unified(self) -> bool:
        """One memory for host and device: weights that leave the device have only the disk to go to."""
        return self.kind in ("mps", "cpu")

    @property
    def itemsize(self) -> int:
        return 2 if self.dtype == "bfloat16" else 4

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Machine:
        return cls(**data)


def tabulated(kind: Kind, device_memory: int, host_memory: int, card: str = "") -> Machine:
    """A machine with the figures of the table: those of `card`, else of the kind's typical one.

    `card` is the name that the driver gives or a part of it, for example "RTX 4090". On "mps" and "cpu" the smaller
    of the two memories counts for both.
    """
    table = json.loads(TABLE.read_text(encoding="utf-8"))
    typical, shares = table["typical"][kind], table["shares"]
    found = _look_up(table["cards"], kind, card)
    figures = {**typical, **(found or {})}
    if kind in ("mps", "cpu"):
        device_memory = host_memory = min(device_memory, host_memory)
    name = card if found else f"{card or 'a ' + kind + ' device'}, taken as {typical['name']}"
    return Machine(
        kind=kind,
        name=name,
        device_memory=device_memory,
        host_memory=host_memory,
        bandwidth=figures["bandwidth_gb"] * 1e9 * shares["bandwidth"],
        flops=figures["tflops"] * 1e12 * shares["flops"],
        link=figures["link_gb"] * 1e9 * shares["link"],
        disk=figures["disk_gb"] * 1e9,
        launch=figures["launch_ms"] / 1e3,
        dtype=figures["dtype"],
    )


def kind_of(card: str) -> Kind | None:
    """The kind of a card that the table knows."""
    cards = json.loads(TABLE.read_text(encoding="utf-8"))["cards"]
    return next((kind for kind in KINDS if _look_up(cards, kind, card)), None)


def _look_up(cards: Mapping[str, Mapping[str, Any]], kind: Kind, name: str) -> Mapping[str, Any] | None:
    """The longest entry whose words all stand in the name, so that "RTX 4070 Ti" is not taken for "RTX 4070".

    A laptop's chip shares the name of a desktop's card and little else.
    """
    words = re.split(r"[\s()-]+", name.lower())
    if "laptop" in words:
        return None
    fitting = [key for key in cards if cards[key]["kind"] == kind and set(key.lower().split()) <= set(words)]
    return cards[max(fitting, key=len)] if fitting else None


def find(kind: Kind | None = None, *, width: int = NARROW, notes: Path | None = None) -> Machine:
    """This machine: its best device, or the one of `kind`. Raises MachineError where that is not there.

    `width` is the model's; `notes` the file where a processor's measured figures are kept (None: in the user's cache
    folder). Takes seconds (it imports torch, and measures a processor that it does not know).
    """
    import torch

    host = free_host_memory()
    there: Kind = "cpu"
    if torch.cuda.is_available():
        there = "rocm" if torch.version.hip else "cuda"
    elif torch.backends.mps.is_available():
        there = "mps"
    if kind not in (None, "cpu", there):
        raise MachineError(
            f"torch finds no {kind} device here; say with --vram how much memory it has, or plan for {there}."
        )
    kind = kind or there
    if kind in ("cuda", "rocm"):
        machine = tabulated(kind, torch.cuda.mem_get_info()[0], host, torch.cuda.get_device_name())
        return machine if torch.cuda.is_bf16_supported() else replace(machine, dtype="float32")
    if kind == "mps":
        free = torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
        return tabulated(kind, free, host, _processor())
    machine = tabulated(kind, host, host, _processor())
    figures = _figures(machine.name.partition(", taken as")[0], notes or cache_folder() / "machine.json")
    plain, half = figures.flops["float32"], figures.flops["bfloat16"]
    dtype: Literal["float32", "bfloat16"] = "bfloat16" if width >= NARROW and half > CLEARLY * plain else "float32"
    return replace(
        machine,
        name=figures.name,
        bandwidth=figures.bandwidth,
        flops=figures.flops[dtype],
        dtype=dtype,
        threads=figures.threads,
        packs=bool(torch.cpu._is_avx512_bf16_supported()),
        measured=True,
    )


def cache_folder() -> Path:
    """Where this user's machine keeps what can be made again."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("glm-image-atelier", appauthor=False))


def free_host_memory() -> int:
    """Bytes that a process can still get without swapping; in a container no more than its limit leaves."""
    import psutil

    free = int(psutil.virtual_memory().available)
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            most, now = (int((Path("/sys/fs/cgroup") / name).read_text()) for name in (limit, used))
        # No container, no limit ("max"), or not Linux.
        except (OSError, ValueError):
            continue
        free = min(free, max(0, most - now))
    return free


def _processor() -> str:
    """Its name as the system gives it, or ""."""
    try:
        if sys.platform == "darwin":
            command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.run(command, capture_output=True, text=True, check=True, timeout=5).stdout.strip()
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    except (OSError, subprocess.SubprocessError):
        return ""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Figures:
    """What was measured of a processor."""

    name: str
    bandwidth: float
    flops: Mapping[str, float]
    """By dtype."""
    threads: int


def _figures(name: str, notes: Path) -> _Figures:
    """Those noted before on the same processor, torch and number of cores, else measured and noted.

    The note matters: two measurements may disagree, and another dtype or number of threads gives other last bits.
    """
    import torch

    key = f"{name}, {_cores()} cores, at most {torch.get_num_threads()} threads, torch {torch.__version__}"
    noted: dict[str, Any] = {}
    try:
        noted = dict(json.loads(notes.read_text(encoding="utf-8")))
        figures = _Figures(**noted[key])
        if min(figures.bandwidth, figures.threads, figures.flops["float32"], figures.flops["bfloat16"]) > 0:
            return figures
    # No note yet, or one that somebody has changed.
    except (OSError, ValueError, KeyError, TypeError):
        pass
    figures = _measure(name)
    noted[key] = asdict(figures)
    try:
        notes.parent.mkdir(parents=True, exist_ok=True)
        files.write_whole(notes, lambda file: _print(file, json.dumps(noted, indent=2)))
    except OSError:
        # Measured again the next time.
        pass
    return figures


def _print(file: IO[bytes], text: str) -> None:
    file.write(text.encode())


def _cores() -> int:
    """Processor cores that this process may use at a time; two threads of one core are one."""
    import psutil

    cores: int = psutil.cpu_count(logical=False) or 1
    if hasattr(os, "sched_getaffinity"):
        cores = min(cores, len(os.sched_getaffinity(0)))
    try:
        # A container's share of processor time.
        quota, period = (Path("/sys/fs/cgroup") / "cpu.max").read_text().split()
        cores = min(cores, math.ceil(int(quota) / int(period)))
    # No container, no limit ("max"), or not Linux.
    except (OSError, ValueError):
        pass
    return max(1, cores)


def _measure(name: str) -> _Figures:
    """How fast float32 and bfloat16 are multiplied, with how many threads, and how fast memory is read: a second."""
    import torch

    before = torch.get_num_threads()
    # What torch has is the most: the environment or the person may have set it (OMP_NUM_THREADS).
    counts = sorted({min(before, _cores()), before})
    rates: dict[int, dict[str, float]] = {}
    try:
        with torch.inference_mode():
            for count in counts:
                torch.set_num_threads(count)
                rates[count] = {dtype: _multiplications(dtype) for dtype in ("float32", "bfloat16")}
            # More threads than cores must be clearly worth it: they are felt in everything else.
            threads = max(counts, key=lambda count: max(rates[count].values()) * (1.1 if count == counts[0] else 1))
            torch.set_num_threads(threads)
            # Far above any cache; a sum reads every byte once.
            large = torch.ones(2**24)
            bandwidth = large.nbytes / _fastest(large.sum)
    finally:
        torch.set_num_threads(before)
    return _Figures(name=name, bandwidth=bandwidth, flops=rates[threads], threads=threads)


def _multiplications(dtype: str) -> float:
    """Operations a second of a product as a large model has them."""
    import torch

    x, weight = (torch.ones(size, 1024, dtype=getattr(torch, dtype)) for size in (512, 2048))
    return 2 * 512 * 1024 * 2048 / _fastest(lambda: torch.nn.functional.linear(x, weight))


def _fastest(run: Callable[[], object], budget: float = 0.2) -> float:
    """Seconds of the fastest of the runs that fit into `budget` seconds, after one that warms up."""
    run()
    best, end = math.inf, time.perf_counter() + budget
    while time.perf_counter() < end:
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return best
