"""Faults and notes in Chinese: every sentence that the code can raise has one, and real ones read as such."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from app import intake, masks, parameters, uploads
from app.choice import Choice
from app.history import History
from app.library import Library
from app.run import Worker
from app.subjects import Subjects
from app.words import Words, checkpoints, faults, plans
from app.words.sentences import TEMPLATES
from glmimage import checkpoint, fitting, memory, tasks, weights, workshop
from glmimage.errors import GLMImageError
from glmimage.footprint import Job
from glmimage.geometry import Size
from glmimage.machines import Kind, tabulated
from glmimage.memory import GIB, Plan
from glmimage.request import Reference, Region, Request, Sampling
from tests.fakes import DEFAULTS, FakeEngine
from tests.test_parameters import WEBUI

ROOT = Path(__file__).resolve().parent.parent
UNSEEN = {
    "glmimage/__main__.py": "the command line",
    "glmimage/arguments.py": "what the command line's arguments mean",
    "glmimage/convert.py": "only the command line writes quantized checkpoints",
}
"""What no page shows."""
SPEAKERS = {
    "app/adoption.py": ("_settings", "_ours"),
    "app/parameters.py": ("restore", "_plain", "_size", "_number"),
    "app/library.py": ("_open",),
    "app/run.py": ("_sentence",),
    "glmimage/tasks.py": ("find_subjects",),
    "glmimage/engine.py": ("_sized",),
    "glmimage/proofread.py": ("_better",),
    "glmimage/workshop.py": ("fit", "retreat"),
}
"""Functions that hand out sentences without raising them."""
ENGLISH = re.compile(r"\b[A-Za-z]?[a-z]+(?:[ ,;]+[A-Za-z]?[a-z]+){2,}")
"""Three words in a row; PNG, JPEG and WEBP are none."""
COMMANDS = re.compile(r"'[^']*'|`[^`]*`")
"""They are typed as they stand."""
SLOT = re.compile(r"\{(\w+)\}")

zh = Words("zh").said


def sources() -> Iterator[tuple[str, ast.Module]]:
    for folder in ("app", "glmimage"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if "train" not in path.parts and name not in UNSEEN:
                yield name, ast.parse(path.read_text(encoding="utf-8"))


def names_of_faults() -> set[str]:
    """GLMImageError and all that is made from it, by any file's name for it."""
    known, before = {"GLMImageError"}, 0
    classes = [node for _, tree in sources() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    while len(known) > before:
        before = len(known)
        known |= {
            one.name for one in classes if any(isinstance(base, ast.Name) and base.id in known for base in one.bases)
        }
    return known


def filled(text: ast.expr) -> str | None:
    """A string of the source with a number of its own in every slot; None for what is no string."""
    numbers = count(9001)
    match text:
        case ast.Constant(value=str(words)):
            return words
        case ast.JoinedStr(values=parts):
            return "".join(str(part.value) if isinstance(part, ast.Constant) else str(next(numbers)) for part in parts)
    return None


def raised() -> dict[str, str]:
    """All sentences that the page may show, with where they are made."""
    faults = names_of_faults()
    found = {}
    for name, tree in sources():
        for node in ast.walk(tree):
            made: list[ast.expr] = []
            if isinstance(node, ast.Call) and node.args:
                makers = {one.id for one in ast.walk(node.func) if isinstance(one, ast.Name)}
                made = node.args[:1] if makers & (faults | {"Note"}) else []
            elif isinstance(node, ast.FunctionDef) and node.name in SPEAKERS.get(name, ()):
                inner = {id(part) for one in ast.walk(node) if isinstance(one, ast.JoinedStr) for part in one.values}
                made = [one for one in ast.walk(node) if isinstance(one, (ast.Constant, ast.JoinedStr))]
                # The docstring and what is only put into another sentence are none.
                made = [one for one in made if id(one) not in inner and (filled(one) or "").endswith(".")]
                made = [one for one in made if filled(one) != ast.get_docstring(node, clean=False)]
            for sentence in filter(None, map(filled, made)):
                found[sentence] = f"{name}:{node.lineno}"
    return found


def left(said: str) -> list[str]:
    return ENGLISH.findall(COMMANDS.sub("", said))


def test_no_template_is_given_twice_and_both_sides_have_the_same_slots() -> None:
    parts = (faults.FAULTS, checkpoints.CHECKPOINTS, plans.PLANS)
    assert len(TEMPLATES) == sum(map(len, parts))
    for english, chinese in TEMPLATES.items():
        slots = SLOT.findall(english)
        assert sorted(set(slots)) == sorted(set(SLOT.findall(chinese))), english
        assert len(slots) == len(set(slots)), f"{english}: a slot has one value"
        assert english.endswith(".") == chinese.endswith("。"), english


def test_every_fault_that_can_be_raised_is_said_in_chinese() -> None:
    sentences = raised()
    assert len(sentences) > 200, "they are found"
    for sentence, where in sentences.items():
        said = zh(sentence)
        assert said != sentence, f"{where}: there is no Chinese for {sentence!r}"
        assert re.findall("9[0-9]{3}", sentence) == sorted(set(re.findall("9[0-9]{3}", said))), f"{where}: {said}"
        assert left(said) == [], f"{where}: {said}"


@pytest.mark.parametrize("name", [*UNSEEN, *SPEAKERS])
def test_the_exceptions_are_still_there(name: str) -> None:
    tree = ast.parse((ROOT / name).read_text(encoding="utf-8"))
    functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert functions >= set(SPEAKERS.get(name, ()))


def test_what_is_not_known_and_english_stay() -> None:
    known = "The prompt is empty; say what the picture should show."
    assert Words("en").said(known) == known
    assert zh("Nobody ever said this.") == "Nobody ever said this."
    assert zh("") == ""
    assert zh("画点什么？") == "画点什么？"
    assert zh("a" * 100_000) == "a" * 100_000


def test_sentences_that_are_joined_are_both_said() -> None:
    one, two = "The prompt is empty; say what the picture should show.", "It carries no prompt."
    assert zh(f"{one} {two}") == zh(one) + zh(two)
    assert zh(f"{two}\n{one}") == f"{zh(two)}\n{zh(one)}"
    assert zh(f"Nobody ever said this. {one}") == f"Nobody ever said this. {zh(one)}"
    same = "The file {}.png is empty and no picture; choose another."
    assert zh(f"{same.format('a')} {same.format('b')}") == zh(same.format("a")) + zh(same.format("b"))


def test_the_longest_template_wins_and_what_fills_it_is_said_too() -> None:
    assert zh("The number of steps 0 is not a whole number between 1 and 200; 20 to 50 are usual.") == (
        "步数（0）必须是 1 到 200 之间的整数；通常为 20 到 50。"
    )
    assert zh("The memory was not enough for painting; now: decoder in 8 bits, which costs little quality.") == (
        "内存不足以绘制；现在改为：解码器为 8 位，画质损失很小。"
    )
    inner = "512x512 needs at least 3.1 GiB of free device memory and there are 2.0 GiB; 256x256 would fit."
    whole = zh(f"The memory was not enough for painting, and there is no smaller way: {inner}")
    assert whole.endswith(zh(inner))
    assert left(whole) == []
    assert zh("3.5 min") == "3.5 分钟"
    assert zh("pick a min") == "pick a min"


def test_somebodys_own_words_stay(tmp_path: Path) -> None:
    """Also where they happen to be words of ours."""
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    library = Subjects(tmp_path)
    library.add("painting", tmp_path / "a.png")
    with pytest.raises(GLMImageError) as fault:
        library.add("painting", tmp_path / "a.png")
    assert zh(str(fault.value)) == "已经有名为“painting”的主角；请换个名字。"


def wrong(tmp_path: Path) -> list[Any]:
    """What people do, one fault each."""
    small, long, text = tmp_path / "small.png", tmp_path / "long.png", tmp_path / "text.png"
    Image.new("RGB", (4, 4)).save(small)
    Image.new("RGB", (400, 20)).save(long)
    text.write_text("no picture")
    presets, data = tmp_path / "presets.json", tmp_path / "data"
    presets.write_text("{}")
    return [
        lambda: Request(prompt=" "),
        lambda: Request(prompt="a" * 99_999),
        lambda: Request(prompt="a", width=0),
        lambda: Request(prompt="a", layout_seed=-1),
        lambda: Request(prompt="a", steps=0),
        lambda: Request(prompt="a", count=1000),
        lambda: Request(prompt="a", guidance=99),
        lambda: Request(prompt="a", width=64, height=640),
        lambda: Request(prompt="a", region_strength=99),
        lambda: Request(prompt="\ud800"),
        lambda: Request(prompt="a", width=64, height=64).resolve(DEFAULTS),
        lambda: Request.from_json({"prompt": "a", "colour": 1}),
        lambda: Request(prompt="a", sampling=Sampling(temperature=0)),
        lambda: Region(text="a", box=(0, 0, 2, 2)),
        lambda: Reference(path=""),
        lambda: tasks.regions(Request(prompt="a"), "a", ()),
        lambda: tasks.subjects(Request(prompt="a"), "a dog", (Reference(path="a.png", name="Mia"),)),
        lambda: uploads.take(small, data),
        lambda: uploads.take(long, data),
        lambda: uploads.take(text, data),
        lambda: uploads.take(tmp_path / "none.png", data),
        lambda: uploads.take(tmp_path, data),
        lambda: intake.take("/etc/passwd", data),
        lambda: masks.Mask().painted("[[]]"),
        lambda: Choice(checkpoint=" "),
        lambda: Choice(offload="up"),  # type: ignore[arg-type]
        lambda: fitting.Wishes(bits=3),
        lambda: checkpoint.find("no such checkpoint"),
        lambda: weights.read("zai-org/none"),
        lambda: History(data).zip([]),
        lambda: Library(data).adopt(presets),
        lambda: Library(data).check({"kind": "style", "name": "", "words": "a"}),
        lambda: Library(data).check({"kind": "size", "name": "a", "width": 32}),
    ]


def test_what_people_do_wrong_is_told_in_chinese(tmp_path: Path) -> None:
    for do in wrong(tmp_path):
        with pytest.raises(GLMImageError) as fault:
            do()
        said = zh(str(fault.value)).replace(str(tmp_path), "")
        assert re.match(r"[^。]*[\u4e00-\u9fff]", said), fault.value
        assert left(said) == [], said
        assert said.endswith("。")
        assert "。。" not in said


def test_what_a_dropped_picture_does_not_bring_back_is_told_in_chinese() -> None:
    text = f"(fog:1.2) <lora:thing:1> {WEBUI.replace('Size: ', 'Size: odd')}"
    sentences = parameters.restore(parameters.read(text), 96, 64)[1]
    assert len(sentences) >= 4
    for sentence in sentences:
        said = zh(sentence)
        assert said != sentence
        assert re.search("[\u4e00-\u9fff]", said)


def test_an_unforeseen_fault_is_told_in_chinese(tmp_path: Path) -> None:
    engine = FakeEngine()
    engine.fault = ZeroDivisionError()
    worker = Worker(lambda choice: engine, History(tmp_path), DEFAULTS)
    worker.start()
    worker.submit(Request(prompt="a"), "create")
    assert worker.wait(lambda snapshot: "create" in snapshot.last, 120)
    worker.close()
    assert zh(worker.snapshot().last["create"].error).startswith("绘制时出现意外错误（ZeroDivisionError）")


def plan_of(kind: Kind, budget: float, side: int, references: int = 0, pictures: int = 1) -> Plan | str:
    size = Size(side, side)
    job = Job(size=size, references=(size,) * references, count=pictures)
    try:
        return memory.plan(weights.read("zai-org/GLM-Image"), tabulated(kind, int(budget * GIB), int(24 * GIB)), job)
    except GLMImageError as error:
        return str(error)


def test_plans_are_explained_in_chinese() -> None:
    wanted: list[tuple[Kind, float, int, int, int]] = [
        ("cuda", 4, 2048, 4, 1),
        ("cuda", 6, 1024, 1, 1),
        ("cuda", 10, 1024, 0, 4),
        ("rocm", 24, 1024, 2, 1),
        ("cuda", 80, 512, 0, 1),
        ("mps", 20, 1024, 0, 1),
        ("cpu", 16, 2048, 3, 1),
        ("cpu", 24, 1024, 0, 1),
    ]
    found = [plan_of(*one) for one in wanted]
    made = [one for one in found if isinstance(one, Plan)]
    sentences = [one for one in found if isinstance(one, str)]
    assert made
    assert sentences
    for plan in made:
        sentences += memory.sentences(plan)
        sentences += [memory.where(one) for one in plan.placements]
        sentences += [text for one in plan.alternatives for text in (one.what, one.reason)]
        sentences += [memory.duration(plan.seconds)]
    for before, after in pairwise(made):
        sentences += [f"For 1024x1024: {memory.differences(before, after)}."]
    sentences += memory.STAGES.values()
    sentences += [str(workshop.too_little("painting"))]
    for sentence in sentences:
        said = zh(sentence)
        assert re.search("[\u4e00-\u9fff]", said) or not ENGLISH.search(sentence), sentence
        words = re.findall(r"[A-Za-z]{2,}", re.sub(r"\([^)]*\)|（[^）]*）|，按.*?估算", "", said))
        assert set(words) <= KEPT, f"{sentence} -> {said}"


KEPT = {"GiB", "VAE", "bf", "int", "nf", "dq", "CPU", "miniature", "cuda", "rocm", "mps"}
"""Units, formats and names."""
