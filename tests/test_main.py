"""The command line as a person meets it: files, one-line mistakes, exit codes, Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glmimage import metadata
from glmimage.__main__ import main
from tests.test_proofread import poster

ROOT = Path(__file__).parent.parent
PROMPT = 'a flat cat with the word "HI"'


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "glmimage", *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_picture_is_painted(tiny: Path, tmp_path: Path) -> None:
    Image.new("RGB", (80, 64), "orange").save(tmp_path / "a.png")
    process = start(
        tmp_path,
        *("paint", PROMPT, "-o", "out.png", "--reference", "a.png", "--size", "70x96", "--seed", "7"),
        *("--steps", "3", "--guidance", "2", "--count", "2", "--checkpoint", str(tiny)),
    )
    printed, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.png", "out-1.png", "out-2.png"]
    assert [line.split("  ")[:3] for line in printed.splitlines()] == [
        ["out-1.png", "64x96", "seed 7"],
        ["out-2.png", "64x96", "seed 8"],
    ]
    assert "The size 70x96 became 64x96" in said
    for stage in ("loading", "references 1/2", "layout 1/2", "glyphs 1/2", "painting 2/2", "decoding 2/2"):
        assert stage in said
    for number in (1, 2):
        settings = metadata.read(tmp_path / f"out-{number}.png")
        assert settings is not None
        assert settings.paint_seed == 6 + number
        assert (settings.request.prompt, settings.request.steps, settings.request.guidance) == (PROMPT, 3, 2.0)
        with Image.open(tmp_path / f"out-{number}.png") as picture:
            assert picture.size == (64, 96)


def test_the_same_seed_gives_the_same_picture(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures = []
    for name in ("a.png", "b.png"):
        common = ["paint", PROMPT, "--size", "64x64", "--steps", "1", "--checkpoint", str(tiny)]
        assert main([*common, "--seed", "3", "-o", str(tmp_path / name)]) == 0
        pictures.append(np.asarray(Image.open(tmp_path / name)))
    assert np.array_equal(*pictures)
    # Without a seed one is drawn, and said.
    assert main([*common, "-o", str(tmp_path / "c.png")]) == 0
    settings = metadata.read(tmp_path / "c.png")
    assert settings is not None
    assert f"seed {settings.paint_seed}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "required: COMMAND"),
        (["pain", "x"], "invalid choice"),
        (["paint"], "prompt is empty"),
        (["paint", "x", "--seed", "seven"], "invalid int value"),
        (["paint", " "], "prompt is empty"),
        (["paint", "x", "--steps", "0"], "number of steps 0"),
        (["paint", "x", "--count", "-1"], "count -1"),
        (["paint", "x", "--seed", "-1"], "seed -1"),
        (["paint", "x", "--guidance", "nan"], "guidance"),
        (["paint", "x", "--size", "big"], "WIDTHxHEIGHT"),
        (["paint", "x", "--size", "512x64"], "4:1"),
        (["paint", "x", "--size", "4096x4096"], "outside what tiny can make"),
        (["paint", "x", "--reference", "missing.png"], "missing.png"),
        (["paint", "x", "--checkpoint", "no-such-folder"], "no-such-folder"),
        (["paint", "x", "--task", "dance"], "invalid choice"),
        (["paint", "x", "--task", "edit"], "--reference"),
        (["paint", "x", "--mask", "m.png"], "--reference"),
        (["paint", "x", "--mask", "m.png", "--task", "text"], "has no mask"),
        (["paint", "x", "--content", "2", "--reference", "a.png"], "content 2"),
        (["paint", "x", "--region", "HI"], "cannot be read"),
        (["paint", "x", "--region", "HI@0,0,1"], "cannot be read"),
        (["paint", "x", "--region", "HI@0,0,2,1"], "region box"),
        (["paint", "x", "--region", "HI@0,0,1,1", "--region-strength", "-1"], "region strength"),
        (["paint", "x", "--subject", "mia.png"], "NAME=FILE"),
        (["paint", "x", "--subject", "Mia=mia.png"], "does not say 'Mia'"),
        (["paint", "x", "--layout-from", "missing.png"], "missing.png"),
        (["paint", "x", "--attempts", "0"], "attempts 0"),
        (["paint", "x", "--sketches", "2", "--reference", "missing.png"], "no sketch"),
        (["read", "missing.png"], "missing.png"),
        (["paint", "x", "-o", "picture.jpg"], "PNG"),
        (["paint", "x", "-o", "missing/picture.png"], "no folder missing"),
        (["plan", "--vram", "much"], "invalid float value"),
        (["plan", "--vram", "-1"], "--vram -1"),
        (["plan", "--vram", "nan"], "--vram nan"),
        (["plan", "--gpu", "RTX 4090"], "--vram"),
        (["plan", "--vram", "12", "--references", "-1"], "number of references -1"),
        (["plan", "--vram", "12", "--count", "0"], "count 0"),
        (["plan", "--vram", "12", "--size", "4096x4096"], "outside what zai-org/GLM-Image can make"),
        (["plan", "--vram", "1", "--ram", "64"], "no size fits"),
        (["plan", "--vram", "12", "--checkpoint", "no-such-folder"], "no-such-folder"),
    ],
)
def test_mistakes_are_one_line(
    tiny: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    if "x" in arguments and "--checkpoint" not in arguments:
        arguments = [*arguments, "--checkpoint", str(tiny)]
    try:
        code = main(arguments)
    except SystemExit as exit:
        code = exit.code
    assert code == 2
    said = capsys.readouterr().err
    last = said.strip().splitlines()[-1]
    assert words in last
    assert "Traceback" not in said
    # Nothing but progress bars before it, and no picture.
    assert all("|" in line for line in said.replace("\r", "\n").strip().splitlines()[:-1] if line.strip())
    assert not list(tmp_path.iterdir())


def painted(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_a_sketch_is_gone_on_with(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    common = ["--steps", "2", "--checkpoint", str(tiny)]
    asked = ["paint", PROMPT, "--size", "64x96", "--seed", "5", *common]
    assert main([*asked, "--sketches", "2", "-o", "sketch.png"]) == 0
    assert main([*asked, "--count", "2", "-o", "plain.png"]) == 0
    assert main(["paint", "--layout-from", "sketch-2.png", "-o", "whole.png", *common]) == 0
    assert np.array_equal(painted(tmp_path / "whole.png"), painted(tmp_path / "plain-2.png"))
    # The finished picture's layout is painted again, with another seed.
    assert main(["paint", "--layout-from", "whole.png", "--seed", "9", "--count", "2", "-o", "again.png", *common]) == 0
    whole, *again = (metadata.read(tmp_path / name) for name in ("whole.png", "again-1.png", "again-2.png"))
    assert whole is not None
    assert whole.prior is not None
    for settings, seed in zip(again, (9, 10), strict=True):
        assert settings is not None
        assert settings.prior is not None
        assert settings.prior.layout == whole.prior.layout
        assert (settings.layout_seed, settings.paint_seed) == (6, seed)
    other = ["paint", f"{PROMPT} again", "--layout-from", "whole.png", "-o", "other.png", *common]
    assert main(other) == 0
    settings = metadata.read(tmp_path / "other.png")
    assert settings is not None
    assert settings.request.prompt == f"{PROMPT} again"
    Image.new("RGB", (64, 64)).save("bare.png")
    assert main(["paint", "--layout-from", "bare.png", "-o", "no.png", *common]) == 2


@pytest.mark.parametrize(
    ("arguments", "task", "prompt"),
    [
        (["remove the cat", "--reference", "a.png", "--mask", "m.png"], "edit", "remove the cat"),
        (["flat", "--reference", "a.png", "--task", "style", "--content", "0.5"], "style", "into flat style"),
        (["--reference", "a.png", "--reference", "b.png", "--task", "style"], "style", "the style of the second"),
        (["a cat", "--region", "A@B@0,0.1,1,0.5:red"], "regions", 'a cat, the text "A@B" in red'),
        (["Mia in snow", "--subject", "Mia/cat=a.png"], "subjects", "the cat from picture 1 in snow"),
    ],
)
def test_every_task_can_be_asked_for(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], task: str, prompt: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b.png"):
        Image.new("RGB", (64, 64), "orange").save(name)
    Image.new("L", (64, 64), 255).save("m.png")
    assert main(["paint", *arguments, "--steps", "2", "--size", "64x64", "--checkpoint", str(tiny)]) == 0
    settings = metadata.read(tmp_path / "out.png")
    assert settings is not None
    assert (settings.request.task, prompt in settings.request.prompt) == (task, True)


def test_words_are_read(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["paint", PROMPT, "--steps", "1", "--attempts", "2", "--checkpoint", str(tiny)]) == 0
    printed, said = capsys.readouterr()
    assert "attempt 2 of 2" in said
    assert "reads ''" in printed
    settings = metadata.read(tmp_path / "out.png")
    assert settings is not None
    assert settings.report is not None
    assert settings.report.lines[0].wanted == "HI"
    assert main(["read", "out.png"]) == 0
    assert capsys.readouterr().out == "  0%  wanted 'HI'  read ''\n"
    poster(("MOON", (0.1, 0.7, 0.9, 0.95))).save("poster.png")
    assert main(["read", "poster.png"]) == 0
    assert capsys.readouterr().out == "MOON\n"
    assert main(["read", "poster.png", "--wanted", "moon", "--wanted", "sun"]) == 0
    assert capsys.readouterr().out == "100%  wanted 'moon'  read 'MOON'\n  0%  wanted 'sun'  read ''\n"


def test_a_plan_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    common = ["plan", "--vram", "12", "--ram", "32", "--size", "1000x1024", "--references", "2", "--gpu", "RTX 4090"]
    assert main(common) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("zai-org/GLM-Image: 1 x 992x1024 with 2 references, 50 steps, on RTX 4090")
    assert "decoder: references" in printed
    assert main([*common, "--json", "--bits", "4"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["peak"] <= 12 * 2**30
    assert plan["job"]["references"] == ["992x1024", "992x1024"]
    assert {place["format"] for place in plan["placements"]} == {"bf16", "nf4"}


def test_a_plan_for_a_folder_and_this_processor(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--vram", "0", "--ram", "8", "--checkpoint", str(tiny), "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["checkpoint"], plan["machine"]["kind"], plan["machine"]["measured"]) == ("tiny", "cpu", True)
    assert plan["machine"]["device_memory"] == 8 * 2**30
    assert plan["job"]["size"] == "64x64"


def test_a_plan_needs_no_torch() -> None:
    code = (
        "import sys\nfrom glmimage.__main__ import main\n"
        "assert main(['plan', '--vram', '8', '--json']) == 0\n"
        "assert not {'torch', 'transformers', 'diffusers', 'numpy', 'PIL'} & set(sys.modules), 'heavy'\n"
    )
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr


def test_help_is_instant() -> None:
    code = (
        "import sys\nfrom glmimage.__main__ import main\n"
        "try:\n    main(['paint', '--help'])\n"
        "finally:\n    assert not {'torch', 'numpy', 'PIL', 'tqdm'} & set(sys.modules), 'heavy'\n"
    )
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    for option in ("--output", "--reference", "--size", "--seed", "--steps", "--guidance", "--count", "--checkpoint"):
        assert option in process.stdout


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ctrl_c_is_clean(tiny: Path, tmp_path: Path) -> None:
    process = start(tmp_path, "paint", PROMPT, "--steps", "1000", "--count", "64", "--checkpoint", str(tiny))
    assert process.stderr is not None
    said = ""
    while "painting" not in said:
        letter = process.stderr.read(1)
        assert letter, said
        said += letter
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in said + rest
    assert rest.endswith("Stopped.\n")
    assert not [file for file in tmp_path.iterdir() if file.suffix != ".png"]
