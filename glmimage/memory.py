"""The planner: free memory and a request in, a `Plan` out - what is loaded in how many bits, and where it stays when.

Every component has options (format, residency, tiles, batch), each with its bytes in every stage of a run and its
seconds. Of all combinations that fit the device in every stage and the host in all, the plan is the most exact one that
is at most `SLOWEST` times as slow as the run would be with room for everything, and of these the fastest; where all are
slower, simply the fastest. Neither exactness nor that limit knows the budget, so more memory never gives a worse plan.
Weights are exact (`weights.py`), activations follow the code (`footprint.py`), speeds are measured or tabulated
(`machines.py`). Moves nothing, loads nothing, knows no torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from operator import add
from typing import Any, Literal, NamedTuple

from glmimage.errors import MachineError, RequestError
from glmimage.footprint import Footprint, Job
from glmimage.geometry import Size
from glmimage.machines import Kind, Machine
from glmimage.quantize import FORMATS, Format
from glmimage.weights import Architecture, Component

GIB = 2**30
Stage = Literal[
    "load prior",
    "load decoder",
    "vision",
    "encode",
    "prefill",
    "tokens",
    "glyphs",
    "modulation",
    "reference keys",
    "step",
    "decode",
]
STAGES: dict[Stage, str] = {
    "load prior": "loading: prior",
    "load decoder": "loading: decoder",
    "vision": "references: vision tower",
    "encode": "references: VAE encoder",
    "prefill": "prior: prompt",
    "tokens": "prior: codes",
    "glyphs": "glyphs",
    "modulation": "decoder: modulations",
    "reference keys": "decoder: references",
    "step": "decoder: steps",
    "decode": "VAE decoder",
}
"""In the order of a run, with the words for people. What is loaded is first whole in memory, which counts where that is
the device's."""
_LOADED: dict[str, Stage] = {
    **dict.fromkeys(("prior", "embedding", "vision"), "load prior"),
    **dict.fromkeys(("decoder", "modulation"), "load decoder"),
}
"""Files hold these components together."""
Residency = Literal["resident", "stage", "stream", "host"]
"""resident: on the device always. stage: there while its stages run. stream: there block by block, each a visit, beside
the blocks that stay for the stage. host: computed on the host (a table to look up in)."""

LOSS: dict[Format, int] = {"bf16": 0, "int8": 2, "nf4": 8, "nf4-dq": 9}
"""An order of exactness that can be added up: 8 bits in two places are better than 4 bits in one."""
SLOWEST = 4 / 3
"""Of the time with room for everything: what waiting for a more exact picture may cost."""
CONTEXT: dict[Kind, int] = {"cuda": GIB // 2, "rocm": GIB // 2, "mps": GIB // 2, "cpu": GIB // 2}
"""Of the driver, the libraries and what the allocator loses to gaps (on "cpu" the interpreter): tabulated, about."""
HOST_RESERVE = 2 * GIB
"""Of the host's free memory, for the process itself."""
IN_FLIGHT = 2
"""Streamed blocks on the device: the one that computes and the next, which arrives."""
TILES = (0, 64, 32)
"""Latents a side; 0 is whole."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    """One component: its format, and where it is when."""

    component: str
    format: Format
    residency: Residency
    waits: Literal["", "host", "disk"]
    """Where its weights are while they are not on the device."""
    bytes: int
    """All its weights in this format."""
    device_bytes: int
    """The most of them that is on the device at a time."""
    blocks: int
    blocks_on_device: int
    """Blocks that stay for the stage; the others are streamed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Need:
    """What one stage takes on the device, in bytes, and for how long, in seconds for the whole run."""

    stage: Stage
    weights: int
    """Its own and those of all that is resident."""
    cache: int
    """Keys and values, modulations, tables: what lives as long as the stage."""
    work: int
    """Activations and buffers at the widest moment."""
    context: int
    seconds: float

    @property
    def peak(self) -> int:
        return self.weights + self.cache + self.work + self.context


@dataclass(frozen=True, kw_only=True, slots=True)
class Alternative:
    """A plan that was not taken."""

    what: str
    peak: int
    seconds: float | None
    """None where it does not fit."""
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Plain values; `to_json` and `from_json` give each other back."""

    checkpoint: str
    machine: Machine
    job: Job
    placements: tuple[Placement, ...]
    stages: tuple[Need, ...]
    """Those that the job has, in their order."""
    tile: int
    """Side of the VAE decoder's tiles in latents; 0: whole."""
    layouts: int
    """Pictures whose layouts are drawn together; painting is one at a time."""
    host_bytes: int
    """Weights that wait or are looked up in the host's memory."""
    alternatives: tuple[Alternative, ...] = ()

    @property
    def peak(self) -> int:
        return max(need.peak for need in self.stages)

    @property
    def seconds(self) -> float:
        """Of the whole run, its pictures together; starting and loading from the disk once are not in it."""
        return sum(need.seconds for need in self.stages)

    def __getitem__(self, component: str) -> Placement:
        return next(placement for placement in self.placements if placement.component == component)

    def to_json(self) -> dict[str, Any]:
        data = asdict(self)
        data["machine"], data["job"] = self.machine.to_json(), self.job.to_json()
        # For readers; `from_json` counts them anew.
        for entry, need in zip(data["stages"], self.stages, strict=True):
            entry["peak"] = need.peak
        return {**data, "peak": self.peak, "seconds": self.seconds}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Plan:
        """Reads what `to_json` wrote. Raises MachineError on anything else."""
        try:
            values = {key: value for key, value in data.items() if key not in ("peak", "seconds")}
            values["machine"], values["job"] = Machine.from_json(data["machine"]), Job.from_json(data["job"])
            values["placements"] = tuple(Placement(**entry) for entry in data["placements"])
            values["stages"] = tuple(
                Need(**{key: value for key, value in entry.items() if key != "peak"}) for entry in data["stages"]
            )
            values["alternatives"] = tuple(Alternative(**entry) for entry in data["alternatives"])
            return cls(**values)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise MachineError(f"This is no plan ({error}); make it again.") from None


Offload = Literal["auto", "none", "stage", "stream"]
"""What a person can hold the plan to: everything on the device; one stage after another; the decoder block by block."""


def plan(
    architecture: Architecture,
    machine: Machine,
    job: Job,
    formats: Mapping[str, Format] | None = None,
    offload: Offload = "auto",
    *,
    like: Plan | None = None,
    limits: Mapping[Stage, int] | None = None,
) -> Plan:
    """The best plan that fits. `formats` holds components ("prior", "decoder") to a format, `like` every component to
    where another plan has it; `limits` are bytes that single stages may take at most.

    Raises MachineError where nothing fits, naming what would, and where a component cannot have the format.
    """
    formats = formats or {}
    _check_formats(architecture, formats)
    if machine.unified and offload == "stream":
        raise MachineError(
            f"The model runs in the memory of this {machine.kind}, into which nothing is streamed; leave --offload out."
        )
    choices = _choices(architecture, machine, job, formats)
    if offload != "auto":
        choices = _only(choices, lambda option: _is_offloaded(option.placement, offload))
    if like is not None:
        choices = _only(choices, lambda option: _place(option.placement) == _place(like[option.placement.component]))
    budget = _Budget.of(machine, limits or {})
    best = _solve(choices, budget)
    if best is None:
        raise MachineError(_refusal(architecture, machine, job, formats, choices, limits or {}))
    made = _assemble(architecture, machine, job, best)
    return replace(made, alternatives=tuple(_rejected(architecture, made, choices, formats, budget)))


def _place(placement: Placement) -> tuple[object, ...]:
    return placement.format, placement.residency, placement.waits, placement.blocks_on_device


def _is_offloaded(placement: Placement, offload: Offload) -> bool:
    """Whether the placement is what was asked for."""
    if offload == "none":
        return placement.residency == "resident"
    if offload == "stream" and placement.component in ("decoder", "modulation"):
        return placement.residency == "stream" and not placement.blocks_on_device
    # An embedding on the host is off the device, too; nobody asks for the disk where the host has room.
    return placement.residency in ("stage", "host")


def _check_formats(architecture: Architecture, formats: Mapping[str, Format]) -> None:
    for name, format in formats.items():
        component = architecture[name]
        if format not in component.formats:
            raise RequestError(
                f"The {name} of {architecture.name} cannot be loaded in {format};"
                f" choose {', '.join(component.formats)}."
            )


# --- options ----------------------------------------------------------------------------------------------------------

Bytes = tuple[int, ...]
"""One number a stage, in the order of STAGES."""


class _Option(NamedTuple):
    """One way to place a component."""

    placement: Placement
    weights: Bytes
    cache: Bytes
    work: Bytes
    seconds: tuple[float, ...]
    host: int
    tile: int = 0
    layouts: int = 1

    @property
    def device(self) -> Bytes:
        return tuple(map(sum, zip(self.weights, self.cache, self.work, strict=True)))

    @property
    def loss(self) -> int:
        return LOSS[self.placement.format]


class _Move(NamedTuple):
    """A residency in numbers: bytes while its stages run, bytes a visit of all blocks moves, and seconds to come."""

    placement: Placement
    on_device: int
    streamed: int
    seconds: float
    host: int
    unified: bool = False


def _moves(footprint: Footprint, component: Component, format: Format) -> Iterator[_Move]:
    """Every residency that the machine has for the component. Of equal ones the first is taken."""
    machine = footprint.machine
    total = footprint.weights(component, format)
    block = footprint.block(component, format)

    def move(residency: Residency, waits: Literal["", "host", "disk"], stay: int) -> _Move:
        moving = component.blocks - stay if residency == "stream" else 0
        on_device = total - max(0, moving - IN_FLIGHT) * block
        speed = {"": math.inf, "host": machine.link, "disk": machine.disk}[waits]
        placement = Placement(
            component=component.name,
            format=format,
            residency=residency,
            waits=waits,
            bytes=total,
            device_bytes=on_device,
            blocks=component.blocks,
            blocks_on_device=stay,
        )
        host = total if waits == "host" else 0
        return _Move(placement, on_device, moving * block, on_device / speed, host, machine.unified)

    # What a job does not need costs nothing anywhere: it is resident where there is room, for the next job.
    yield move("resident", "", component.blocks)
    if not machine.unified:
        yield move("stage", "host", component.blocks)
    yield move("stage", "disk", component.blocks)
    if not machine.unified:
        for stay in range(component.blocks - 1, -1, -1):
            yield move("stream", "host", stay)


def _at(values: Mapping[Stage, float]) -> tuple[float, ...]:
    return tuple(values.get(stage, 0) for stage in STAGES)


def _bytes_at(values: Mapping[Stage, int]) -> Bytes:
    return tuple(values.get(stage, 0) for stage in STAGES)


def _option(
    move: _Move,
    stages: Sequence[Stage],
    *,
    cache: Mapping[Stage, int] | None = None,
    work: Mapping[Stage, int] | None = None,
    seconds: Mapping[Stage, float] | None = None,
    loads: int = 1,
    tile: int = 0,
    layouts: int = 1,
) -> _Option:
    """`stages` are those in which the component is needed, of those that the job has; it comes with the first."""
    resident = move.placement.residency == "resident"
    weights: dict[Stage, int] = dict.fromkeys(STAGES if resident else stages, move.on_device)
    loading = _LOADED.get(move.placement.component) if move.unified else None
    # The prior is loaded first, then the decoder, then the small parts.
    weights["load prior"] = move.placement.bytes if loading == "load prior" else 0
    if loading != "load prior" or not resident:
        weights["load decoder"] = move.placement.bytes if loading == "load decoder" else 0
    spent = dict(seconds or {})
    if stages:
        spent[stages[0]] = spent.get(stages[0], 0.0) + loads * move.seconds
    return _Option(
        placement=move.placement,
        weights=_bytes_at(weights),
        cache=_bytes_at(cache or {}),
        work=_bytes_at(work or {}),
        seconds=_at(spent),
        host=move.host,
        tile=tile,
        layouts=layouts,
    )


Choices = dict[str, list[_Option]]


def _choices(architecture: Architecture, machine: Machine, job: Job, formats: Mapping[str, Format]) -> Choices:
    """All options of every component."""
    footprint = Footprint(architecture, machine, job)
    options: dict[str, Callable[[Footprint, Component, Format], Iterator[_Option]]] = {
        "prior": _prior_options,
        "embedding": _embedding_options,
        "vision": _vision_options,
        "glyphs": _glyph_options,
        "decoder": _decoder_options,
        "modulation": _modulation_options,
        "vae": _vae_options,
    }
    return {
        component.name: [
            option
            for format in ((formats[component.name],) if component.name in formats else component.formats)
            for option in options[component.name](footprint, component, format)
        ]
        for component in architecture.components
    }


def _prior_options(footprint: Footprint, prior: Component, format: Format) -> Iterator[_Option]:
    batches = {-(-footprint.job.count // 2**halvings) for halvings in range(8)}
    for layouts in sorted(batches, reverse=True):
        cache = footprint.prior_cache(layouts)
        for move in _moves(footprint, prior, format):
            prefill, tokens = footprint.prior_seconds(format, layouts, move.streamed)
            yield _option(
                move,
                ("prefill", "tokens"),
                cache={"prefill": cache, "tokens": cache},
                work={"prefill": footprint.prefill(format), "tokens": footprint.draw(layouts, format)},
                seconds={"prefill": prefill, "tokens": tokens},
                layouts=layouts,
            )


def _embedding_options(footprint: Footprint, embedding: Component, format: Format) -> Iterator[_Option]:
    for move in _moves(footprint, embedding, format):
        yield _option(move, ("prefill", "tokens"))
    if not footprint.machine.unified:
        total = embedding.bytes(format, footprint.machine.itemsize)
        placement = replace(move.placement, residency="host", waits="host", device_bytes=0)
        rows = footprint.code_rows()
        yield _option(
            _Move(placement, 0, 0, rows / footprint.machine.link, total),
            ("prefill", "tokens"),
            cache={"prefill": rows, "tokens": rows},
        )


def _vision_options(footprint: Footprint, vision: Component, format: Format) -> Iterator[_Option]:
    stages: tuple[Stage, ...] = ("vision",) if footprint.job.references else ()
    for move in _moves(footprint, vision, format):
        yield _option(
            move, stages, work={"vision": footprint.vision()}, seconds={"vision": footprint.seeing_seconds()[0]}
        )


def _glyph_options(footprint: Footprint, glyphs: Component, format: Format) -> Iterator[_Option]:
    for move in _moves(footprint, glyphs, format):
        seconds = footprint.glyph_seconds()
        yield _option(move, ("glyphs",), work={"glyphs": footprint.glyphs()}, seconds={"glyphs": seconds})


def _decoder_options(footprint: Footprint, decoder: Component, format: Format) -> Iterator[_Option]:
    job, painter = footprint.job, footprint.painter()
    stages: list[Stage] = ["modulation", "reference keys", "step"] if job.references else ["modulation", "step"]
    cache: dict[Stage, int] = dict.fromkeys(stages, painter)
    cache["modulation"] = footprint.modulations(job.steps)
    for move in _moves(footprint, decoder, format):
        seconds: dict[Stage, float] = {
            "reference keys": job.count * footprint.reference_seconds(format, move.streamed),
            "step": job.count * job.steps * footprint.step_seconds(format, move.streamed),
        }
        work: dict[Stage, int] = {"reference keys": footprint.reference_keys(format), "step": footprint.step(format)}
        yield _option(move, stages, cache=cache, work=work, seconds=seconds, loads=job.count)


def _modulation_options(footprint: Footprint, modulation: Component, format: Format) -> Iterator[_Option]:
    """Needed before the steps alone: a vector a step and layer is what the steps read."""
    job = footprint.job
    stages: tuple[Stage, ...] = ("modulation", "reference keys") if job.references else ("modulation",)
    for move in _moves(footprint, modulation, format):
        if move.placement.residency == "stream" and move.placement.blocks_on_device:
            continue
        again = len(job.references) * move.streamed / footprint.machine.link
        seconds = job.count * (footprint.modulation_seconds() + again)
        yield _option(move, stages, seconds={"modulation": seconds}, loads=job.count)


def _vae_options(footprint: Footprint, vae: Component, format: Format) -> Iterator[_Option]:
    job = footprint.job
    stages: tuple[Stage, ...] = ("encode", "decode") if job.references else ("decode",)
    latents = job.size.latent_grid
    for tile in TILES:
        if tile >= max(latents):
            continue
        seconds: dict[Stage, float] = {
            "encode": footprint.seeing_seconds()[1],
            "decode": job.count * footprint.decode_seconds(tile),
        }
        work: dict[Stage, int] = {"encode": footprint.encode(), "decode": footprint.decode(tile)}
        for move in _moves(footprint, vae, format):
            loads = job.count + bool(job.references)
            yield _option(move, stages, work=work, seconds=seconds, loads=loads, tile=tile)


# --- search -----------------------------------------------------------------------------------------------------------


class _Budget(NamedTuple):
    device: Bytes
    host: int

    @classmethod
    def of(cls, machine: Machine, limits: Mapping[Stage, int]) -> _Budget:
        """What weights, caches and activations may take."""
        host = 0 if machine.unified else max(0, machine.host_memory - HOST_RESERVE)
        most = machine.device_memory
        return cls(tuple(min(most, limits.get(stage, most)) - CONTEXT[machine.kind] for stage in STAGES), host)


class _Sum(NamedTuple):
    """What some components take together."""

    loss: int
    seconds: float
    device: Bytes
    host: int

    def with_(self, other: _Sum) -> _Sum:
        device = tuple(map(add, self.device, other.device))
        return _Sum(self.loss + other.loss, self.seconds + other.seconds, device, self.host + other.host)


_NOTHING = _Sum(0, 0.0, (0,) * len(STAGES), 0)


def _solve(choices: Choices, budget: _Budget) -> list[_Option] | None:
    """The best options, one of each component, that fit together; None where none do."""
    floor = _floor(choices)
    lists = []
    for name, options in choices.items():
        spare = _minus(budget.device, _minus(floor, _floor({name: options})))
        takes = [(_Sum(option.loss, sum(option.seconds), option.device, option.host), option) for option in options]
        fitting = [
            (take, option)
            for take, option in takes
            if all(map(int.__le__, take.device, spare)) and take.host <= budget.host
        ]
        if not fitting:
            return None
        lists.append(fitting)
    limit = SLOWEST * _unlimited(choices)
    return _search(lists, budget, limit, lambda take: (take.loss, take.seconds)) or _search(
        lists, budget, math.inf, lambda take: (take.seconds,)
    )


def _unlimited(choices: Choices) -> float:
    """Seconds of the most exact run with room for everything."""
    return sum(min((option.loss, sum(option.seconds)) for option in options)[1] for options in choices.values())


def _search(
    lists: Sequence[Sequence[tuple[_Sum, _Option]]],
    budget: _Budget,
    limit: float,
    key: Callable[[_Sum], tuple[float, ...]],
) -> list[_Option] | None:
    """The combination of the least `key` within budget and limit: depth first, cut where the rest cannot help."""
    lists = [sorted(options, key=lambda entry: key(entry[0])) for options in lists]
    # The least that the components still to come take.
    rest = [_NOTHING]
    for options in reversed(lists):
        losses, seconds, devices, hosts = zip(*(take for take, _ in options), strict=True)
        least = _Sum(min(losses), min(seconds), tuple(map(min, zip(*devices, strict=True))), min(hosts))
        rest.append(rest[-1].with_(least))
    rest.reverse()
    best: list[_Option] | None = None
    best_key: tuple[float, ...] = (math.inf,)

    def descend(used: _Sum, taken: list[_Option]) -> None:
        nonlocal best, best_key
        if len(taken) == len(lists):
            best, best_key = taken, key(used)
            return
        for take, option in lists[len(taken)]:
            now = used.with_(take)
            least = now.with_(rest[len(taken) + 1])
            if (
                key(least) < best_key
                and least.seconds <= limit
                and least.host <= budget.host
                and all(map(int.__le__, least.device, budget.device))
            ):
                descend(now, [*taken, option])

    descend(_NOTHING, [])
    return best


def _floor(choices: Choices) -> Bytes:
    """The least that each stage takes."""
    least = [map(min, zip(*(option.device for option in options), strict=True)) for options in choices.values()]
    return tuple(map(sum, zip(*least, strict=True)))


def _minus(first: Bytes, second: Bytes) -> Bytes:
    return tuple(a - b for a, b in zip(first, second, strict=True))


def _assemble(architecture: Architecture, machine: Machine, job: Job, options: Sequence[_Option]) -> Plan:
    absent = () if job.references else ("vision", "encode", "reference keys")
    if not machine.unified:
        absent = (*absent, "load prior", "load decoder")
    needs = []
    for index, stage in enumerate(STAGES):
        if stage in absent:
            continue
        weights, cache, work = (
            sum(getattr(option, kind)[index] for option in options) for kind in ("weights", "cache", "work")
        )
        seconds = sum(option.seconds[index] for option in options)
        context = CONTEXT[machine.kind]
        needs.append(Need(stage=stage, weights=weights, cache=cache, work=work, context=context, seconds=seconds))
    named = {option.placement.component: option for option in options}
    return Plan(
        checkpoint=architecture.name,
        machine=machine,
        job=job,
        placements=tuple(option.placement for option in options),
        stages=tuple(needs),
        tile=named["vae"].tile,
        layouts=named["prior"].layouts,
        host_bytes=sum(option.host for option in options),
    )


# --- what was not taken -----------------------------------------------------------------------------------------------


def _rejected(
    architecture: Architecture, made: Plan, choices: Choices, formats: Mapping[str, Format], budget: _Budget
) -> Iterator[Alternative]:
    """Prior and decoder in each format; everything resident; the VAE whole; the batch undivided."""
    chosen = {name: made[name].format for name in choices}
    both = ("prior", "decoder")
    for format in FORMATS:
        if any(format not in architecture[name].formats for name in both) or any(name in formats for name in both):
            continue
        if {chosen[name] for name in both} != {format}:
            wanted = _only(choices, lambda option, format=format: option.placement.format == format, both)  # type: ignore[misc]
            yield _compare(architecture, made, f"prior and decoder in {format}", wanted, budget)
    held = _only(choices, lambda option: option.placement.format == chosen[option.placement.component])
    resident = _only(held, lambda option: option.placement.residency == "resident")
    needed = [placement for placement in made.placements if placement.component != "vision" or made.job.references]
    if any(placement.residency != "resident" for placement in needed):
        yield _compare(architecture, made, "everything resident", resident, budget)
    if made.tile:
        whole = _only(held, lambda option: option.tile == 0, ("vae",))
        yield _compare(architecture, made, "VAE without tiles", whole, budget)
    if made.layouts < made.job.count:
        together = _only(held, lambda option: option.layouts == made.job.count, ("prior",))
        yield _compare(architecture, made, f"{made.job.count} layouts at once", together, budget)


def _only(choices: Choices, wanted: Callable[[_Option], bool], names: Sequence[str] = ()) -> Choices:
    return {
        name: [option for option in options if (names and name not in names) or wanted(option)]
        for name, options in choices.items()
    }


def _compare(architecture: Architecture, made: Plan, what: str, choices: Choices, budget: _Budget) -> Alternative:
    machine = made.machine
    if not all(choices.values()):
        return Alternative(what=what, peak=0, seconds=None, reason="is not among what was asked for")
    best = _solve(choices, budget)
    if best is None:
        least = max(_floor(choices)) + CONTEXT[machine.kind]
        if least <= machine.device_memory:
            reason = f"{gib(machine.host_memory)} of free host memory do not hold the weights that wait"
        else:
            reason = f"does not fit into {gib(machine.device_memory)}"
        return Alternative(what=what, peak=least, seconds=None, reason=reason)
    other = _assemble(architecture, machine, made.job, best)
    return Alternative(what=what, peak=other.peak, seconds=other.seconds, reason=_reason(made, other))


def _reason(made: Plan, other: Plan) -> str:
    ours, theirs = (sum(LOSS[placement.format] for placement in plan.placements) for plan in (made, other))
    factor = other.seconds / made.seconds
    time = f"{factor:.1f}x the time" if factor >= 1.05 else f"{1 - factor:.0%} faster" if factor <= 0.95 else "as fast"
    if theirs < ours:
        return f"more exact, but {time}"
    return f"less exact, and {time}" if theirs > ours else f"as exact, and {time}"


def _refusal(
    architecture: Architecture,
    machine: Machine,
    job: Job,
    formats: Mapping[str, Format],
    choices: Choices,
    limits: Mapping[Stage, int],
) -> str:
    """One sentence that names what would fit."""

    def fits(other: Job) -> bool:
        return _solve(_choices(architecture, machine, other, formats), _Budget.of(machine, limits)) is not None

    if not all(choices.values()):
        return "The plan that was asked for cannot be had on this machine; leave the choice to the planner."
    least = max(_floor(choices)) + CONTEXT[machine.kind]
    asked = f"{job.size}{_with(len(job.references))}"
    have = gib(machine.device_memory)
    memory = "memory" if machine.unified else "device memory"
    if least <= machine.device_memory:
        start = f"{asked} does not fit into {have} of {memory} with {gib(machine.host_memory)} beside it"
    else:
        start = f"{asked} needs at least {gib(least, up=True)} of free {memory} and there are {have}"
    offers = []
    for fewer in range(len(job.references) - 1, -1, -1):
        if fits(replace(job, references=job.references[:fewer])):
            offers.append(f"{job.size}{_with(fewer) or ' without references'}")
            break
    low = max(architecture.defaults.min_side, 32)
    for side in range(max(job.size.width, job.size.height) - 128, low - 1, -128):
        factor = side / max(job.size.width, job.size.height)
        size = Size.snap(*(max(low, round(edge * factor)) for edge in (job.size.width, job.size.height)))
        # References are brought down to the picture's size, but not below what the model sees.
        smallest = architecture.reference_sides[0]
        references = tuple(_at_most(reference, max(side, smallest)) for reference in job.references)
        if fits(replace(job, size=size, references=references)):
            smaller = " of its size" if references and references != job.references else ""
            offers.append(f"{size}{_with(len(references))}{smaller}")
            break
    if not offers and formats:
        return f"{start}; leave the choice of bits to the planner."
    if not offers:
        return f"{start}, and no size fits; free some memory, or use the miniature."
    return f"{start}; {' or '.join(offers)} would fit."


def _at_most(size: Size, side: int) -> Size:
    factor = min(1.0, side / max(size.width, size.height))
    return Size.snap(max(32, int(size.width * factor)), max(32, int(size.height * factor)))


def _with(references: int) -> str:
    return f" with {references} reference{'s' if references > 1 else ''}" if references else ""


# --- words ------------------------------------------------------------------------------------------------------------


def gib(count: float, *, up: bool = False) -> str:
    """For people: 11.9 GiB, 0.75 GiB, 0.012 GiB, "-" for none; `up` rounds so that the amount is enough."""
    if not count:
        return "-"
    value = count / GIB
    digits = 1 if value >= 1 else 2 if value >= 0.1 else 3
    if up:
        value = math.ceil(value * 10**digits) / 10**digits
    return f"{value:.{digits}f} GiB"


def duration(seconds: float) -> str:
    """For people: 0.4 s, 12 s, 3.5 min, 2.1 h."""
    if seconds >= 6000:
        return f"{seconds / 3600:.1f} h"
    if seconds >= 100:
        return f"{seconds / 60:.1f} min"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


def is_plain(plan: Plan) -> bool:
    """Whether everything is there in full, unquantized, and done at once: nothing to explain."""
    kept = all(placement.residency == "resident" for placement in plan.placements)
    return kept and not plan.tile and plan.layouts == plan.job.count and not any(_losses(plan))


def _losses(plan: Plan) -> list[int]:
    return [LOSS[placement.format] for placement in plan.placements]


def differences(before: Plan, after: Plan) -> str:
    """What another plan does otherwise, as the end of a sentence; "" where nothing of it is seen."""
    said = []
    for old, new in zip(before.placements, after.placements, strict=True):
        if new.format != old.format:
            said.append(f"{new.component} {_EXACT[new.format]}")
        if _place(new)[1:] != _place(old)[1:]:
            said.append(f"{new.component} {where(new)}")
    if after.tile != before.tile:
        said.append(f"VAE in tiles of {after.tile * 8} px" if after.tile else "VAE without tiles")
    if after.layouts < min(before.layouts, after.job.count):
        said.append(f"{after.layouts} layouts at a time")
    return "; ".join(said)


_EXACT: dict[Format, str] = {
    "bf16": "lossless",
    "int8": "in 8 bits, which costs little quality",
    "nf4": "in 4 bits, which costs quality",
    "nf4-dq": "in 4 bits with packed scales, which costs quality",
}


def where(placement: Placement) -> str:
    """The residency in words."""
    if placement.residency == "stage":
        return f"for its stage, else on the {placement.waits}"
    if placement.residency == "stream":
        return f"{placement.blocks_on_device} of {placement.blocks} blocks, the rest streamed"
    return "looked up on the host" if placement.residency == "host" else "resident"


def sentences(plan: Plan) -> list[str]:
    """What was picked, why, what it costs, and what is not measured; a sentence or two each."""
    prior, decoder = plan["prior"], plan["decoder"]
    machine = plan.machine
    if prior.format == decoder.format:
        picked = f"Prior and decoder are {_EXACT[prior.format]}"
    else:
        picked = f"The prior is {_EXACT[prior.format]}, the decoder {_EXACT[decoder.format]}"
    widest = max(plan.stages, key=lambda need: need.peak)
    said = [
        f"{picked}; the peak is {gib(widest.peak)} of {gib(machine.device_memory)}"
        f" ({STAGES[widest.stage]}), {plan.job.count} x {plan.job.size} takes about {duration(plan.seconds)}."
    ]
    streamed = [p for p in plan.placements if p.residency == "stream" and p.component in ("prior", "decoder")]
    staged = [p for p in plan.placements if p.residency == "stage" and p.component in ("prior", "decoder")]
    costs = []
    if streamed:
        names = " and ".join(f"{p.blocks - p.blocks_on_device} of the {p.component}'s {p.blocks}" for p in streamed)
        costs.append(f"{names} blocks cross to the device in every pass")
    if staged:
        names = " and ".join(f"the {p.component}" for p in staged)
        costs.append(f"the weights of {names} come from the {staged[0].waits} in every run")
    if plan.tile:
        costs.append(f"the VAE works in tiles of {plan.tile * 8} px, which differ a little from the whole")
    if plan.layouts < plan.job.count:
        costs.append(f"layouts are drawn {plan.layouts} at a time")
    if plan.host_bytes:
        costs.append(f"{gib(plan.host_bytes)} of weights stay in host memory")
    if costs:
        said.append(f"The price: {'; '.join(costs)}.")
    better = [entry for entry in plan.alternatives if "more exact" in entry.reason or entry.seconds is None]
    if better:
        entry = better[0]
        time = f" and {duration(entry.seconds)}" if entry.seconds is not None else ""
        said.append(f"Why not {entry.what}: {entry.reason} ({gib(entry.peak)}{time}).")
    source = "measured here" if machine.measured else "tabulated, not measured"
    said.append(
        f"Speeds are {source} ({machine.name}); weights are exact, activations follow the code, the"
        f" {gib(CONTEXT[machine.kind])} of the {'interpreter' if machine.kind == 'cpu' else 'driver'} are tabulated."
        + ("" if machine.kind == "cpu" else f" Nothing was measured on a {machine.kind} device yet.")
    )
    return said


def table(plan: Plan) -> str:
    """The plan for a terminal: components, stages, and what was rejected."""
    machine, job = plan.machine, plan.job
    beside = "" if machine.unified else f", {gib(machine.host_memory)} of the host's"
    head = (
        f"{plan.checkpoint}: {job.count} x {job.size}{_with(len(job.references))}, {job.steps} steps,"
        f" on {machine.name} ({machine.kind}, {machine.dtype}), {gib(machine.device_memory)} free{beside}"
    )
    parts = [(p.component, p.format, gib(p.bytes), gib(p.device_bytes), where(p)) for p in plan.placements]
    stages = [
        (STAGES[n.stage], *(gib(count) for count in (n.weights, n.cache, n.work, n.peak)), duration(n.seconds))
        for n in plan.stages
    ]
    blocks = [
        head,
        _grid(("component", "format", "weights", "on device", "where"), parts, "<<>><"),
        _grid(("stage", "weights", "caches", "working", "peak", "time"), stages, "<>>>>>"),
    ]
    if plan.alternatives:
        rows = [
            (a.what, gib(a.peak), "-" if a.seconds is None else duration(a.seconds), a.reason)
            for a in plan.alternatives
        ]
        blocks.append(_grid(("rejected", "peak", "time", "why"), rows, "<>><"))
    return "\n\n".join([*blocks, "\n".join(sentences(plan))])


def _grid(head: Sequence[str], rows: Sequence[Sequence[str]], sides: str) -> str:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [
        "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(row, sides, widths, strict=True)).rstrip()
        for row in (head, *rows)
    ]
    return "\n".join(lines)
