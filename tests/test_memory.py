"""The planner: what it picks fits, is the best that fits, never gets worse with more memory, and is explained."""

from __future__ import annotations

import itertools
import json
import math
import random
from dataclasses import replace
from functools import cache

import pytest

from glmimage import memory, weights
from glmimage.errors import MachineError, RequestError
from glmimage.footprint import Footprint, Job
from glmimage.geometry import Size
from glmimage.machines import KINDS, Kind, Machine, tabulated
from glmimage.memory import CONTEXT, GIB, HOST_RESERVE, LOSS, SLOWEST, Plan, plan
from glmimage.quantize import Format
from glmimage.weights import Architecture

RELEASED = weights.read("zai-org/GLM-Image")
BUDGETS = (4, 6, 8, 10, 12, 16, 24, 48, 80)
SIDES = (512, 1024, 1536, 2048)


@cache
def made(
    budget: float, side: int = 1024, references: int = 0, kind: Kind = "cuda", host: float = 64, count: int = 1
) -> Plan | str:
    """The plan, or why there is none."""
    machine = tabulated(kind, int(budget * GIB), int(host * GIB))
    size = Size(side, side)
    try:
        return plan(RELEASED, machine, Job(size=size, references=(size,) * references, count=count))
    except MachineError as error:
        return str(error)


def good(budget: float, *rest: object, **named: object) -> Plan:
    found = made(budget, *rest, **named)  # type: ignore[arg-type]
    assert isinstance(found, Plan), found
    return found


def loss(found: Plan) -> int:
    return sum(LOSS[placement.format] for placement in found.placements)


@pytest.mark.parametrize("references", range(5))
@pytest.mark.parametrize("side", SIDES)
def test_every_plan_fits_and_more_memory_is_never_worse(side: int, references: int) -> None:
    before: Plan | None = None
    for budget in BUDGETS:
        found = made(budget, side, references)
        if isinstance(found, str):
            assert before is None, "what fitted before fits still"
            assert found.count(". ") == 0
            assert found.startswith(f"{side}x{side}")
            continue
        assert found.peak <= budget * GIB
        assert found.host_bytes <= 64 * GIB - HOST_RESERVE
        for_references = () if references else ("vision", "encode", "reference keys")
        absent = ("load prior", "load decoder", *for_references)
        assert [need.stage for need in found.stages] == [stage for stage in memory.STAGES if stage not in absent]
        if before is not None:
            assert loss(found) <= loss(before)
            if loss(found) == loss(before):
                assert found.seconds <= before.seconds
        before = found
    assert before is not None, "80 GiB are enough for everything"


def test_plans_are_the_sum_of_exact_parts() -> None:
    """Recomputed here from the placements: what is on the device in each stage."""
    at = {
        "prior": ("prefill", "tokens"),
        "embedding": ("prefill", "tokens"),
        "vision": ("vision",),
        "glyphs": ("glyphs",),
        "decoder": ("modulation", "reference keys", "step"),
        "modulation": ("modulation", "reference keys"),
        "vae": ("encode", "decode"),
    }
    for budget, references in ((6, 0), (10, 1), (12, 2), (24, 1), (80, 4)):
        found = good(budget, 1024, references)
        footprint = Footprint(RELEASED, found.machine, found.job)
        for need in found.stages:
            weights_there = 0
            for place in found.placements:
                component = RELEASED[place.component]
                assert place.bytes == component.bytes(place.format)
                if place.residency == "resident" or (place.residency == "stage" and need.stage in at[place.component]):
                    weights_there += place.bytes
                if place.residency == "stream" and need.stage in at[place.component]:
                    kept = min(place.blocks_on_device + memory.IN_FLIGHT, component.blocks)
                    weights_there += component.rest.bytes(place.format, 2)
                    weights_there += kept * component.block.bytes(place.format, 2)
            assert need.weights == weights_there
            assert need.peak == need.weights + need.cache + need.work + CONTEXT["cuda"]
        step = next(need for need in found.stages if need.stage == "step")
        assert step.cache == footprint.painter()
        assert step.work == footprint.step(found["decoder"].format)


@pytest.mark.parametrize("references", [0, 2, 4])
@pytest.mark.parametrize("side", SIDES)
def test_without_a_gpu(side: int, references: int) -> None:
    before: Plan | None = None
    for budget in BUDGETS:
        found = made(budget, side, references, kind="cpu", host=budget)
        if isinstance(found, str):
            assert before is None
            continue
        assert found.peak <= budget * GIB
        assert found.host_bytes == 0
        assert before is None or loss(found) <= loss(before)
        before = found
    # Keys and values of four references of 2048 px take 60 GiB in float32.
    assert (before is None) == ((side, references) == (2048, 4))


def test_four_gib_are_enough_to_begin_with() -> None:
    """Blocks are streamed, the embedding stays on the host, and nothing of the decoder is lost."""
    for side in (512, 1024, 1536):
        found = good(4, side)
        assert found["decoder"].residency == "stream"
        assert found["embedding"].residency == "host"
        assert found["prior"].format.startswith("nf4")
    assert good(4, 512, 1).peak <= 4 * GIB


def test_what_is_picked_for_known_cards() -> None:
    for budget in (4, 6):
        streamed = good(budget)
        assert streamed["decoder"].residency == "stream"
        assert streamed["prior"].format.startswith("nf4")
    assert good(4)["prior"].residency == "stream"
    assert good(12)["prior"].format == "int8"
    for budget in (16, 24, 48, 80):
        assert loss(good(budget)) == 0
    turns = good(24)
    assert (turns["prior"].residency, turns["decoder"].residency) == ("stage", "stage")
    assert {place.residency for place in good(80, 1024, 1).placements} == {"resident"}
    assert good(80).tile == 0
    assert good(8, 2048).tile > 0


def test_lossless_is_preferred_as_long_as_it_is_quick_enough() -> None:
    limit = SLOWEST * good(80).seconds
    for budget in BUDGETS:
        found = good(budget)
        assert found.seconds <= limit
        rejected = [entry for entry in found.alternatives if entry.reason.startswith("more exact")]
        assert all(entry.seconds is not None and entry.seconds > limit for entry in rejected)


def test_the_search_finds_the_best() -> None:
    """Against every combination of a few random options of each component."""
    dice = random.Random(0)
    job = Job(size=Size(1024, 1024), references=(Size(1024, 1024),))
    choices = memory._choices(RELEASED, tabulated("cuda", 0, 0), job, {})
    met = set()
    for _ in range(30):
        machine = tabulated("cuda", dice.choice((10, 16, 24, 40)) * GIB, dice.choice((16, 32, 64)) * GIB)
        device, host = machine.device_memory - CONTEXT["cuda"], machine.host_memory - HOST_RESERVE
        few = {name: dice.sample(options, min(3, len(options))) for name, options in choices.items()}
        best: tuple[float, ...] = (math.inf,)
        limit = SLOWEST * sum(
            min((option.loss, sum(option.seconds)) for option in options)[1] for options in few.values()
        )
        for taken in itertools.product(*few.values()):
            seconds = sum(sum(option.seconds) for option in taken)
            peaks = [sum(numbers) for numbers in zip(*(option.device for option in taken), strict=True)]
            if max(peaks) <= device and sum(option.host for option in taken) <= host:
                lost = sum(option.loss for option in taken)
                best = min(best, (0, lost, seconds) if seconds <= limit else (1, seconds))
        found = memory._solve(few, memory._Budget.of(machine, {}))
        if found is None:
            assert best == (math.inf,)
            met.add("none")
            continue
        seconds = sum(sum(option.seconds) for option in found)
        lost = sum(option.loss for option in found)
        assert ((0, lost, seconds) if best[0] == 0 else (1, seconds)) == pytest.approx(best)
        met.add(str(best[0]))
    assert met == {"none", "0", "1"}, "the dice show everything"


def test_little_host_memory() -> None:
    """What cannot wait in the host's memory waits on the disk; the same or worse, and never over."""
    for budget in (8, 16, 24):
        before: Plan | None = None
        for host in (3, 8, 16, 32, 64):
            found = good(budget, host=host)
            assert found.host_bytes <= max(0, host * GIB - HOST_RESERVE)
            assert before is None or (loss(found), found.seconds) <= (loss(before), before.seconds)
            before = found
        assert "disk" in {place.waits for place in good(budget, host=3).placements}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_device(kind: Kind) -> None:
    for budget in (12, 24, 96):
        found = good(budget, 512, kind=kind)
        assert found.peak <= budget * GIB
        said = " ".join(memory.sentences(found))
        assert "tabulated, not measured" in said
        if kind != "cpu":
            assert f"Nothing was measured on a {kind} device yet" in said
        if kind in ("mps", "cpu"):
            # One memory: nothing can wait beside the device.
            assert found.host_bytes == 0
            assert {place.residency for place in found.placements} <= {"resident", "stage"}
    assert loss(good(96, 512, kind=kind)) == 0


def test_a_processor_in_float32_holds_twice_the_bytes() -> None:
    found = good(96, 512, kind="cpu")
    assert found.machine.dtype == "float32"
    assert found["decoder"].bytes == RELEASED["decoder"].bytes("bf16", 4)
    half = replace(found.machine, dtype="bfloat16")
    assert plan(RELEASED, half, found.job)["decoder"].bytes == RELEASED["decoder"].bytes("bf16", 2)


def test_where_memory_is_one_files_are_whole_in_it_first() -> None:
    found = good(24, 512, kind="cpu")
    size = found.machine.itemsize
    prior, decoder = (
        next(need for need in found.stages if need.stage == name) for name in ("load prior", "load decoder")
    )
    whole = {name: RELEASED[name].bytes(found[name].format, size) for name in ("prior", "embedding", "vision")}
    assert prior.weights == sum(whole.values())
    resident = sum(count for name, count in whole.items() if found[name].residency == "resident")
    parts = sum(RELEASED[name].bytes(found[name].format, size) for name in ("decoder", "modulation"))
    assert decoder.weights == resident + parts


def test_a_person_decides() -> None:
    machine, job = tabulated("cuda", 24 * GIB, 64 * GIB), Job(size=Size(1024, 1024))
    assert {place.residency for place in plan(RELEASED, machine, job, {}, "none").placements} == {"resident"}
    assert {place.residency for place in plan(RELEASED, machine, job, {}, "stage").placements} <= {"stage", "host"}
    streamed = plan(RELEASED, machine, job, {}, "stream")
    assert (streamed["decoder"].residency, streamed["decoder"].blocks_on_device) == ("stream", 0)
    with pytest.raises(MachineError, match="leave --offload out"):
        plan(RELEASED, tabulated("cpu", 64 * GIB, 64 * GIB), job, {}, "stream")


def test_a_stage_can_be_held_to_less_and_all_else_stays() -> None:
    before = good(24)
    step = next(need for need in before.stages if need.stage == "step")
    limit = int(0.8 * step.peak)
    after = plan(RELEASED, before.machine, before.job, limits={"step": limit})
    assert next(need for need in after.stages if need.stage == "step").peak <= limit
    assert memory.differences(before, after)
    assert memory.differences(before, before) == ""


def test_batches_are_split_where_they_must() -> None:
    whole, split = good(80, 2048, count=64), good(10, 2048, count=64)
    assert whole.layouts == 64
    assert split.layouts < 64
    assert any(entry.what == "64 layouts at once" for entry in split.alternatives)
    assert split.peak <= 10 * GIB


@pytest.mark.parametrize(
    ("budget", "side", "references", "words"),
    [
        (1, 512, 0, "no size fits"),
        (4, 2048, 0, "needs at least 6.2 GiB of free device memory and there are 4.0 GiB; 1536x1536 would fit."),
        (4, 1024, 2, "1024x1024 without references or"),
        (24, 2048, 4, "2048x2048 with 1 reference or"),
    ],
)
def test_refusals_name_what_would_fit(budget: int, side: int, references: int, words: str) -> None:
    said = made(budget, side, references)
    assert isinstance(said, str)
    assert words in said
    if "needs at least" in said:
        least = float(said.partition("at least ")[2].partition(" ")[0])
        assert isinstance(made(least, side, references), Plan)
        assert isinstance(made(least - 0.2, side, references), str)


def test_refusals_keep_their_word() -> None:
    for budget, side, references in ((4, 2048, 0), (24, 2048, 4), (6, 1024, 3)):
        said = made(budget, side, references)
        assert isinstance(said, str)
        offers = said.partition("; ")[2].removesuffix(" would fit.").split(" or ")
        assert offers
        for offer in offers:
            size = Size.parse(offer.split(" ")[0])
            number = int(offer.partition(" with ")[2].partition(" ")[0] or 0)
            of_its_size = offer.endswith("of its size")
            reference = size if of_its_size else Size(side, side)
            job = Job(size=size, references=(reference,) * number)
            plan(RELEASED, tabulated("cuda", budget * GIB, 64 * GIB), job)


def test_formats_can_be_held() -> None:
    machine = tabulated("cuda", 8 * GIB, 64 * GIB)
    job = Job(size=Size(1024, 1024))
    held: dict[str, Format] = {"prior": "nf4", "decoder": "int8"}
    found = plan(RELEASED, machine, job, held)
    assert {name: found[name].format for name in held} == held
    assert found.peak <= 8 * GIB
    with pytest.raises(RequestError, match=r"vae .* cannot be loaded in nf4; choose bf16"):
        plan(RELEASED, machine, job, {"vae": "nf4"})
    with pytest.raises(MachineError, match="leave the choice of bits"):
        plan(RELEASED, tabulated("mps", 8 * GIB, 8 * GIB), job, {"prior": "bf16", "decoder": "bf16"})


def test_a_quantized_checkpoint_keeps_its_format() -> None:
    components = tuple(
        replace(component, stored="int8") if component.name == "decoder" else component
        for component in RELEASED.components
    )
    stored: Architecture = replace(RELEASED, components=components)
    found = plan(stored, tabulated("cuda", 80 * GIB, 64 * GIB), Job(size=Size(1024, 1024)))
    assert (found["prior"].format, found["decoder"].format) == ("bf16", "int8")


def test_json_both_ways() -> None:
    for found in (good(4), good(10, 1024, 2), good(80), good(12, 512, kind="cpu")):
        data = json.loads(json.dumps(found.to_json()))
        assert Plan.from_json(data) == found
        assert data["peak"] == found.peak
        assert data["stages"][0]["peak"] == found.stages[0].peak
    with pytest.raises(MachineError, match="no plan"):
        Plan.from_json({"placements": []})
    with pytest.raises(MachineError, match="no plan"):
        Plan.from_json({**good(4).to_json(), "machine": 5})


def test_the_table_says_it_in_words() -> None:
    found = good(12, 1024, 2)
    text = memory.table(found)
    for words in (
        *("prior", "embedding", "vision", "glyphs", "decoder", "modulation", "vae"),
        *(memory.STAGES[need.stage] for need in found.stages),
        *("int8", "looked up on the host", "the rest streamed", "does not fit into 12.0 GiB", "more exact, but"),
    ):
        assert words in text
    assert max(map(len, text.split("\n\n")[1].splitlines())) <= 100
    sentences = memory.sentences(found)
    assert 3 <= len(sentences) <= 4
    assert f"the peak is {memory.gib(found.peak)} of 12.0 GiB" in sentences[0]
    assert "cross to the device in every pass" in sentences[1]
    assert "Why not prior and decoder in bf16" in sentences[2]


def test_amounts_for_people() -> None:
    assert [memory.gib(count) for count in (0, GIB // 100, GIB // 2, 12.34 * GIB)] == [
        *("-", "0.010 GiB", "0.50 GiB"),
        "12.3 GiB",
    ]
    assert memory.gib(12.34 * GIB, up=True) == "12.4 GiB"
    assert [memory.duration(seconds) for seconds in (0.42, 12.3, 150, 9000)] == ["0.4 s", "12 s", "2.5 min", "2.5 h"]


def test_a_machine_of_ones_own_counts() -> None:
    """A slow link makes streaming no bargain."""
    fast = tabulated("cuda", 8 * GIB, 64 * GIB)
    slow: Machine = replace(fast, link=fast.link / 20)
    job = Job(size=Size(1024, 1024))
    assert loss(plan(RELEASED, fast, job)) < loss(plan(RELEASED, slow, job))
