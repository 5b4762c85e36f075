"""Writing a quantized checkpoint: what it holds, who can load it, that it paints the same, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import GlmImageTransformer2DModel
from diffusers.quantizers.bitsandbytes import BnB4BitDiffusersQuantizer, BnB8BitDiffusersQuantizer
from safetensors import safe_open
from transformers import GlmImageForConditionalGeneration, T5EncoderModel

from glmimage import checkpoint, convert, quantize
from glmimage.__main__ import main
from glmimage.convert import Written
from glmimage.engine import Engine
from glmimage.errors import CheckpointError
from glmimage.events import Result
from glmimage.fitting import Wishes
from glmimage.models import Stack, empty_component, load_component
from glmimage.quantize import FOLDERS, Formats
from glmimage.request import Request

MINIATURE = checkpoint.ASSETS / "miniature"
MIXED = Formats(prior="int8", decoder="nf4-dq", glyphs="nf4")


@pytest.fixture(scope="module", params=[4, 8])
def bits(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(scope="module")
def written(bits: int, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The miniature in 4 and in 8 bits, in several files a component as the release is."""
    folder = tmp_path_factory.mktemp("written") / "copy"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convert, "_SHARD", "4MB")
        steps = list(convert.convert(MINIATURE, folder, Formats.of_bits(bits)))
    assert [(step.component, step.format) for step in steps] == [
        (component, {4: "nf4", 8: "int8"}[bits]) for component in ("prior", "decoder")
    ]
    assert all(step.after < step.before for step in steps)
    return folder


def paint(engine: Engine) -> np.ndarray:
    request = Request(prompt='a cat and the word "HI"', width=128, height=128, steps=1, seed=7)
    result = next(event for event in engine.run(request, previews=False) if isinstance(event, Result))
    return np.asarray(result.image)


def test_it_is_whole_and_smaller(written: Path, bits: int) -> None:
    checkpoint.verify(written)
    assert not list(written.parent.glob("*.partial"))
    for name in ("atelier.json", "world.json", "model_index.json", "vision_language_encoder/generation_config.json"):
        assert (written / name).read_bytes() == (MINIATURE / name).read_bytes()
    for part in ("vae", "text_encoder", "tokenizer", "processor", "scheduler"):
        names = sorted(file.name for file in (MINIATURE / part).iterdir())
        assert sorted(file.name for file in (written / part).iterdir()) == names
    for component in ("prior", "decoder"):
        part = written / FOLDERS[component]
        assert quantize.stored_format(part) == {4: "nf4", 8: "int8"}[bits]
        assert len(checkpoint.shards(part)) > 1
        model = empty_component(component, written)
        wanted = quantize.component_bytes(component, model, quantize.stored_format(part))
        stored = 0
        for shard in checkpoint.shards(part):
            with safe_open(shard, framework="pt") as file:
                stored += sum(file.get_tensor(key).nbytes for key in file.keys())  # noqa: SIM118
        layers = len(quantize.quantized_linears(component, model))
        assert wanted <= stored <= wanted + convert._OVERHEAD * layers
    assert quantize.stored_format(written / "text_encoder") == "bf16"


def test_it_paints_what_is_painted_when_quantized_on_loading(written: Path, bits: int) -> None:
    stored = paint(Engine.load(str(written), device="cpu"))
    loaded = paint(Engine.load(str(MINIATURE), device="cpu", wishes=Wishes(bits=bits)))
    assert np.array_equal(stored, loaded)
    plain = paint(Engine.load(str(MINIATURE), device="cpu"))
    assert not np.array_equal(stored, plain)


def test_plain_transformers_loads_it(written: Path) -> None:
    model, report = GlmImageForConditionalGeneration.from_pretrained(
        written / "vision_language_encoder", output_loading_info=True, dtype=torch.bfloat16, device_map={"": "cpu"}
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    ours = load_component("prior", written, None, torch.device("cpu"), torch.bfloat16)
    for (name, theirs), own in zip(model.named_parameters(), ours.parameters(), strict=True):
        assert torch.equal(theirs, own), name


def test_plain_diffusers_loads_it(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """diffusers asks for a GPU before it reads; only that question is answered for it here."""
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="No GPU found"):
            GlmImageTransformer2DModel.from_pretrained(written / "transformer", torch_dtype=torch.bfloat16)
    for quantizer in (BnB4BitDiffusersQuantizer, BnB8BitDiffusersQuantizer):
        monkeypatch.setattr(quantizer, "validate_environment", lambda *_, **__: None)
    model, report = GlmImageTransformer2DModel.from_pretrained(
        written / "transformer", output_loading_info=True, torch_dtype=torch.bfloat16, device_map={"": "cpu"}
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    ours = load_component("decoder", written, None, torch.device("cpu"), torch.bfloat16)
    for (name, theirs), own in zip(model.named_parameters(), ours.parameters(), strict=True):
        assert torch.equal(theirs, own), name


def test_each_component_has_its_own_format(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "mixed"
    asked = ["--bits", "8", "--decoder", "nf4-dq", "--glyphs", "nf4"]
    assert main(["quantize", "miniature", str(target), *asked]) == 0
    for component, format in MIXED.items():
        assert quantize.stored_format(target / FOLDERS[component]) == format
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in printed[:3]] == [["prior", "int8"], ["decoder", "nf4-dq"], ["glyphs", "nf4"]]
    assert str(target) in printed[-1]
    stack = Stack.load(target)
    assert {p.dtype for p in stack.prior.parameters() if p.is_floating_point()} == {torch.float32}
    T5EncoderModel.from_pretrained(target / "text_encoder", device_map={"": "cpu"})
    # In bits already, whatever is asked for.
    assert main(["quantize", str(target), str(tmp_path / "again"), "--bits", "4"]) == 2
    assert "quantized already" in capsys.readouterr().err
    assert main(["paint", "x", "-o", str(tmp_path / "x.png"), "--bits", "4", "--checkpoint", str(target)]) == 2
    assert "cannot be loaded in nf4; choose int8" in capsys.readouterr().err
    # A weight without its scales is not whole.
    path = target / "transformer" / "config.json"
    config = json.loads(path.read_text())
    config["quantization_config"] |= {"load_in_4bit": False, "_load_in_4bit": False}
    path.write_text(
        json.dumps(config | {"quantization_config": config["quantization_config"] | {"load_in_8bit": True}})
    )
    with pytest.raises(CheckpointError, match="transformer"):
        Stack.load(target)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{tiny}", "{new}"], "nothing to quantize"),
        (["{tiny}", "{new}", "--prior", "bf16"], "nothing to quantize"),
        (["{tiny}", "{new}", "--bits", "5"], "invalid choice: 5"),
        (["{tiny}", "{new}", "--decoder", "fp8"], "invalid choice: 'fp8'"),
        (["{tiny}", "{tmp}", "--bits", "4"], "already; name a new folder"),
        (["{tiny}", "{tmp}/no/folder", "--bits", "4"], "no folder"),
        (["{tmp}", "{new}", "--bits", "4"], "is not whole"),
        (["no-such-folder", "{new}", "--bits", "4"], "no-such-folder"),
    ],
)
def test_mistakes_are_one_line(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    places = {"tiny": tiny, "tmp": tmp_path, "new": tmp_path / "new"}
    try:
        code = main(["quantize", *(argument.format(**places) for argument in arguments)])
    except SystemExit as exit:
        code = exit.code
    assert code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert words in line
    assert not list(tmp_path.iterdir())


MEASURE = """
import sys
from pathlib import Path
from glmimage import convert, quantize

def held(key):
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024

# Libraries that come with the first use stand in memory before it begins.
first, source, target = map(Path, sys.argv[1:])
formats = quantize.Formats(decoder="nf4")
list(convert.convert(first, target.with_name("first"), formats))
before = held("VmRSS")
Path("/proc/self/clear_refs").write_text("5")
list(convert.convert(source, target, formats))
print(held("VmHWM") - before)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks are read from Linux' /proc")
def test_less_than_the_component_is_in_memory(tiny: Path, tmp_path: Path) -> None:
    """The process's peak, not what tensors say: a decoder of 300 MiB, its largest layer a 36th, makes it
    grow by less than that, as its weights come one by one and stay as a quarter."""
    source = tmp_path / "wide"
    shutil.copytree(tiny, source)
    config = GlmImageTransformer2DModel.load_config(tiny / "transformer")
    config |= {"num_layers": 12, "num_attention_heads": 16, "attention_head_dim": 64}
    with torch.device("meta"):
        wide = GlmImageTransformer2DModel.from_config(config).to(torch.bfloat16)
    wide = wide.to_empty(device="cpu")
    for weight in wide.parameters():
        torch.nn.init.constant_(weight, 0.01)
    shutil.rmtree(source / "transformer")
    wide.save_pretrained(source / "transformer", max_shard_size="64MB")
    size = sum(weight.numel() * 2 for weight in wide.parameters())
    del wide
    command = [sys.executable, "-c", MEASURE, str(tiny), str(source), str(tmp_path / "copy")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=checkpoint.ASSETS.parent)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) < 0.75 * size


def test_too_little_disk_is_said_first(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: real._replace(free=1000))
    with pytest.raises(CheckpointError, match=r"takes .* MiB and 0.0 MiB are free"):
        list(convert.convert(tiny, tmp_path / "new", Formats.of_bits(4)))
    assert not list(tmp_path.iterdir())


def test_an_interrupted_run_leaves_nothing(tiny: Path, tmp_path: Path) -> None:
    steps = convert.convert(tiny, tmp_path / "new", Formats.of_bits(4))
    assert isinstance(next(steps), Written)
    assert [path.name for path in tmp_path.iterdir()] == ["new.partial"]
    with pytest.raises(CheckpointError, match="not whole"):
        checkpoint.verify(tmp_path / "new.partial")
    # A second run beside it.
    with pytest.raises(CheckpointError, match=r"new\.partial is of another run"):
        next(convert.convert(tiny, tmp_path / "new", Formats.of_bits(4)))
    steps.close()
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name != "posix", reason="limits")
def test_a_disk_that_fills_up_leaves_nothing(tiny: Path, tmp_path: Path) -> None:
    import resource
    import signal

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(CheckpointError, match="cannot be written"):
            list(convert.convert(tiny, tmp_path / "new", Formats.of_bits(4)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert not list(tmp_path.iterdir())
