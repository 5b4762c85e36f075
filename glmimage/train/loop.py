"""The training loop that all stages share: optimiser, one decaying schedule, log, save, resume.

A stage gives its modules and a function from a step to a loss; the loop owns everything else. The state of a run is
one file in the work folder, written atomically every few minutes, and holds plain tensors only, so that it is read
without unpickling.

Started as several processes (accelerate finds out), every one computes the loss of other data, their gradients are
averaged before each step, and the first process writes state and log: a step is then as good as one with the batches of
all together. The stages call submodules directly, so that gradients are averaged here and not by a wrapper's hooks.
"""

from __future__ import annotations

import csv
import io
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import mean
from typing import IO

import torch
from accelerate import PartialState
from accelerate.utils import broadcast, reduce
from safetensors.torch import save as serialize
from torch import Tensor, nn

from glmimage import files, machines
from glmimage.errors import TrainingError, reason

Metrics = Mapping[str, float]
LossOf = Callable[[int, float], tuple[Tensor, Metrics]]
"""(number of the batch: the step, where one process trains; share of the run that is done) -> (loss, what to log)."""


def mixed_precision(device: str = "cpu") -> torch.autocast:
    """Products in bfloat16 where the device is clearly faster at them, else float32 throughout.

    A processor with AMX is three to six times as fast; one that has AVX2 alone was seventy times slower.
    """
    return torch.autocast(device, torch.bfloat16, enabled=device != "cpu" or _half())


@cache
def _half() -> bool:
    return machines.find("cpu").dtype == "bfloat16"


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """How long and how fast; one warm-up, one plateau, one decay to nearly zero (restarts lose what was learned)."""

    steps: int
    rate: float
    batch: int
    warmup: int = 100
    decay_from: float = 0.4
    """Share of the run after which the rate falls linearly to `floor`."""
    floor: float = 0.02
    weight_decay: float = 0.01
    clip: float = 1.0
    ema: float = 0.0
    """Decay of the averaged weights that are stored in the end; 0 = none."""
    muon: bool = False
    """Muon for the matrices inside blocks, AdamW for the rest."""
    faster: tuple[str, ...] = ()
    """Endings of the names of parameters that learn `FASTER` times as fast."""

    def factor(self, step: int) -> float:
        warm = min(1.0, (step + 1) / self.warmup)
        done = step / max(1, self.steps)
        fall = 1.0 if done < self.decay_from else max(0.0, (1 - done) / (1 - self.decay_from))
        return warm * (self.floor + (1 - self.floor) * fall)


def load_weights(module: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    """Loads what the state file `path` holds. Raises `TrainingError` where that is of other sizes."""
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        raise TrainingError(
            f"The state {path} is of a model of other sizes than the one that would go on from it; name the --start"
            f" that it began from, or another --work folder. ({str(error).splitlines()[-1].strip()})"
        ) from error


def text_tensor(text: str) -> Tensor:
    """Its UTF-8 bytes, [N] uint8: how a batch holds what was said."""
    return torch.tensor(list(text.encode()), dtype=torch.uint8)


def store(tensors: Mapping[str, Tensor], path: Path, about: dict[str, str] | None = None) -> None:
    """Writes a safetensors file whole or not at all. Raises `TrainingError` where there is no room."""
    plain = {name: each.detach().cpu().contiguous().clone() for name, each in tensors.items()}
    write_whole(path, lambda file: file.write(serialize(plain, about)))


def write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """`files.write_whole`. Raises `TrainingError` where there is no room."""
    try:
        files.write_whole(path, write)
    except (OSError, RuntimeError) as error:  # the latter is PyTorch's
        raise TrainingError(
            f"The file {path.name} could not be written to {path.parent} ({reason(error)}); make room there, then the"
            " same command goes on from what was stored before."
        ) from error


def scene_rng(split: str, index: int) -> random.Random:
    """The random source of scene `index` of a split; "train" and "evaluate" never share one."""
    return random.Random(f"{split}:{index}")


FASTER = 10.0


class Run:
    """One resumable training run of some modules."""

    def __init__(self, name: str, work: Path, modules: Mapping[str, nn.Module], schedule: Schedule) -> None:
        self.name, self.schedule = name, schedule
        # The stages compute on the CPU; without this a machine's graphics cards would be asked to add up.
        self.processes = PartialState(cpu=True)
        self.modules = nn.ModuleDict(modules)
        self.state_file = work / f"{name}.pt"
        self.log_file = work / f"{name}.csv"
        work.mkdir(parents=True, exist_ok=True)
        self.step = 0
        self.optimizers = list(_optimizers(self.modules, schedule))
        self.average = {key: value.detach().clone() for key, value in self._weights()} if schedule.ema else {}
        self.batch: dict[str, Tensor] = {}
        """What a stage's loss was last computed from, by its own names: kept on disk where that is not finite."""

    def _weights(self) -> list[tuple[str, Tensor]]:
        return [(key, value) for key, value in self.modules.state_dict().items() if value.is_floating_point()]

    def resume(self) -> bool:
        """Goes on from the stored state; False where there is none."""
        if not self.state_file.exists():
            return False
        state = torch.load(self.state_file, weights_only=True)
        load_weights(self.modules, state["modules"], self.state_file)
        for optimizer, stored in zip(self.optimizers, state["optimizers"], strict=True):
            rates = [group["base_lr"] for group in optimizer.param_groups]
            optimizer.load_state_dict(stored)
            # The state remembers the rate that it was made with; whoever starts it again may ask for another.
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["base_lr"] = rate
        self.average = state["average"]
        self.step = state["step"]
        return True

    def save(self) -> None:
        if not self.processes.is_main_process:
            return
        state = {
            "modules": self.modules.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "average": self.average,
            "step": self.step,
        }
        write_whole(self.state_file, lambda file: torch.save(state, file))

    def train(self, loss_of: LossOf, *, log_every: int = 20, save_seconds: float = 180.0) -> None:
        """Runs to the end of the schedule. Raises `TrainingError` where loss or gradient are not finite."""
        sums: dict[str, list[float]] = {}
        saved = logged = time.monotonic()
        since = self.step
        parameters = [p for p in self.modules.parameters() if p.requires_grad]
        count, own = self.processes.num_processes, self.processes.process_index
        self._begin_alike()
        while self.step < self.schedule.steps:
            loss, metrics = loss_of(self.step * count + own, self.step / self.schedule.steps)
            # Of all processes: where one stops, all do.
            self._must_be_finite("loss", loss.detach() if count == 1 else reduce(loss.detach(), "mean"))
            loss.backward()
            self._average(parameters)
            # A finite loss may have a gradient that is not: one step with it, and every state after is worth nothing.
            self._must_be_finite("gradient", torch.nn.utils.clip_grad_norm_(parameters, self.schedule.clip))
            for optimizer in self.optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = group["base_lr"] * self.schedule.factor(self.step)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            self.step += 1
            self._follow()
            for key, value in {"loss": loss.item(), **metrics}.items():
                sums.setdefault(key, []).append(value)
            if self.step % log_every == 0:
                now = time.monotonic()
                # Each over the steps that had it. (Fewer steps than usual where the run went on in between.)
                row = {key: mean(values) for key, values in sums.items()}
                self._log({"step": self.step, **row, "seconds_per_step": (now - logged) / (self.step - since)})
                sums, logged, since = {}, now, self.step
            if time.monotonic() - saved > save_seconds:
                self.save()
                saved = time.monotonic()
        self.save()

    @torch.no_grad()
    def _begin_alike(self) -> None:
        """What was drawn at random, and is not stored yet, is the first process's everywhere."""
        if self.processes.num_processes > 1:
            for value in (*self.modules.state_dict().values(), *self.average.values()):
                value.copy_(broadcast(value.clone()))

    @torch.no_grad()
    def _average(self, parameters: Sequence[nn.Parameter]) -> None:
        """Gradients become the mean over all processes; one that has none counts as zero."""
        if self.processes.num_processes == 1:
            return
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        mean = reduce(torch.cat([grad.flatten() for grad in grads]), "mean")
        for parameter, part in zip(parameters, mean.split([grad.numel() for grad in grads]), strict=True):
            parameter.grad = part.view_as(parameter)

    def _must_be_finite(self, what: str, value: Tensor) -> None:
        if not torch.isfinite(value):
            raise TrainingError(
                f"The {what} of {self.name} is {value.item()} at step {self.step}{self._keep_batch()};"
                " start again from the last state with a lower rate."
            )

    def _keep_batch(self) -> str:
        """Writes the batch; says where, as a part of a sentence."""
        which = f"-{self.processes.process_index}" if self.processes.num_processes > 1 else ""
        path = self.log_file.with_name(f"{self.name}-batch-{self.step}{which}.safetensors")
        if not self.batch:
            return ""
        try:
            store(self.batch, path)
        except TrainingError as error:
            return f" (its batch is lost: {reason(error)})"
        return f" (its batch is in {path})"

    @torch.no_grad()
    def _follow(self) -> None:
        if not self.schedule.ema:
            return
        # A young average follows quickly, so that it does not remember the random start.
        decay = min(self.schedule.ema, self.step / (self.step + 10))
        for key, value in self._weights():
            self.average[key].lerp_(value, 1 - decay)

    def load_average(self) -> None:
        """Puts the averaged weights into the modules (to store or to evaluate them)."""
        if self.average:
            self.modules.load_state_dict({**self.modules.state_dict(), **self.average})

    def _log(self, row: Mapping[str, float]) -> None:
        if not self.processes.is_main_process:
            return
        rows: list[dict[str, str]] = []
        if self.log_file.exists():
            with self.log_file.open(newline="", encoding="utf-8") as file:
                # A run that was cut off after its last stored state takes some steps again.
                rows = [each for each in csv.DictReader(file) if float(each["step"]) < row["step"]]
        rows.append({key: f"{value:.5g}" for key, value in row.items()})
        # Some figures are not in every row (nothing revived, no high sigma drawn): columns are all that ever were.
        columns = list(dict.fromkeys(key for each in rows for key in each))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns)
        writer.writeheader()
        writer.writerows(rows)
        write_whole(self.log_file, lambda file: file.write(text.getvalue().encode()))
        print(self.name, " ".join(f"{key} {value:.4g}" for key, value in row.items()), flush=True)


class _Muon(torch.optim.Muon):
    """PyTorch's, with its products in what `mixed_precision` chooses and equally large matrices at once.

    (There they are in bfloat16 always: with AVX2 alone, most of a minute for a step of the prior.) Jordan et al. 2024;
    step lengths of Liu et al. 2025, "Muon is scalable for LLM training".
    """

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            alike: dict[torch.Size, list[tuple[Tensor, Tensor]]] = {}
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(parameter)
                state["momentum_buffer"].lerp_(parameter.grad, 1 - group["momentum"])
                ahead = parameter.grad.lerp(state["momentum_buffer"], group["momentum"])
                alike.setdefault(parameter.shape, []).append((parameter, ahead))
            for shape, pairs in alike.items():
                length = 0.2 * max(shape) ** 0.5 * group["lr"]
                turned = _orthogonal(torch.stack([ahead for _, ahead in pairs]), group["ns_coefficients"])
                for (parameter, _), each in zip(pairs, turned, strict=True):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"]).add_(each, alpha=-length)


def _orthogonal(matrices: Tensor, coefficients: tuple[float, float, float], steps: int = 5) -> Tensor:
    """[B, M, N] with singular values near 1 in place of their own (0.7 to 1.2): a quintic Newton-Schulz iteration."""
    a, b, c = coefficients
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=1e-7)
    if _half():
        x = x.bfloat16()
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


def _optimizers(modules: nn.Module, schedule: Schedule) -> list[torch.optim.Optimizer]:
    inner, decayed, plain, faster = [], [], [], []
    for name, parameter in modules.named_parameters():
        if not parameter.requires_grad:
            continue
        if schedule.faster and name.endswith(schedule.faster):
            faster.append(parameter)
        elif schedule.muon and parameter.ndim == 2 and ("blocks." in name or "layers." in name) and "norm" not in name:
            inner.append(parameter)
        elif parameter.ndim >= 2 and "embed" not in name:
            decayed.append(parameter)
        else:
            plain.append(parameter)
    # Muon's own scale suits 0.02 where AdamW wants 1e-3 (Jordan et al. 2024): matched, so that one rate serves both.
    found: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": schedule.weight_decay},
                {"params": plain, "weight_decay": 0.0},
                {"params": faster, "weight_decay": 0.0, "base_lr": FASTER * schedule.rate},
            ],
            lr=schedule.rate,
            betas=(0.9, 0.98),
        )
    ]
    if inner:
        found.append(_Muon(inner, lr=schedule.rate, weight_decay=schedule.weight_decay))
    for optimizer in found:
        for group in optimizer.param_groups:
            group.setdefault("base_lr", schedule.rate)
    return found
