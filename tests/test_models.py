"""The stack: what it loads, on what, and what it refuses."""

from __future__ import annotations

import itertools
import re
import shutil
from pathlib import Path

import pytest
import torch
from transformers.models.glm_image.image_processing_pil_glm_image import GlmImageImageProcessorPil

from glmimage import download
from glmimage.errors import CheckpointError, Stopped
from glmimage.models import Stack
from glmimage.quantize import Formats


def test_the_stack_is_whole_and_frozen(tiny: Path, tiny_stack: Stack) -> None:
    assert tiny_stack.device == torch.device("cpu")
    assert tiny_stack.dtype == torch.float32
    assert tiny_stack.codes == 64
    assert tiny_stack.defaults.name == "tiny"
    assert tiny_stack.folder == tiny
    assert tiny_stack.scheduler_config["time_shift_type"] == "linear"
    assert isinstance(tiny_stack.processor.image_processor, GlmImageImageProcessorPil)
    for module in (tiny_stack.prior, tiny_stack.decoder, tiny_stack.vae, tiny_stack.glyph_encoder):
        assert not module.training
        assert {parameter.dtype for parameter in module.parameters()} == {torch.float32}
        assert not any(parameter.requires_grad for parameter in module.parameters())


def test_dtype(tiny: Path) -> None:
    stack = Stack.load(tiny, dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in stack.decoder.parameters()} == {torch.bfloat16}
    with pytest.raises(CheckpointError, match="bfloat16"):
        Stack.load(tiny, dtype=torch.float16)


def test_devices_that_are_not_there(tiny: Path) -> None:
    for device in ("quantum", "meta", *([] if torch.cuda.is_available() else ["cuda"])):
        with pytest.raises(CheckpointError, match=r"choose cpu"):
            Stack.load(tiny, device=device)


def test_damaged_weights(tiny: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny, tmp_path / "copy"))
    weights = folder / "vae" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="vae"):
        Stack.load(folder)


def test_missing_tensors(tiny: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = Path(shutil.copytree(tiny, tmp_path / "copy"))
    weights = folder / "vision_language_encoder" / "model.safetensors"
    tensors = load_file(weights)
    del tensors["lm_head.weight"]
    save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"lack 1 tensors such as lm_head\.weight"):
        Stack.load(folder)


@pytest.mark.parametrize("formats", [Formats(), Formats.of_bits(4)], ids=["as stored", "4 bits"])
@pytest.mark.parametrize(
    ("part", "key"), [("transformer", "num_layers"), ("vision_language_encoder", "num_hidden_layers")]
)
def test_weights_with_more_blocks_than_the_config_says(
    tiny: Path, tmp_path: Path, part: str, key: str, formats: Formats
) -> None:
    folder = Path(shutil.copytree(tiny, tmp_path / "copy"))
    config = folder / part / "config.json"
    text, changed = re.subn(rf'"{key}": \d+', f'"{key}": 1', config.read_text())
    assert changed
    config.write_text(text)
    with pytest.raises(CheckpointError, match=rf"{part} leaves out blocks that its weights have, such as .*\.1\."):
        Stack.load(folder, formats=formats)


def test_pickles_are_not_loaded(tiny: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny, tmp_path / "copy"))
    weights = folder / "text_encoder" / "model.safetensors"
    torch.save({}, folder / "text_encoder" / "pytorch_model.bin")
    weights.unlink()
    with pytest.raises(CheckpointError, match=r"text_encoder/model\.safetensors missing"):
        Stack.load(folder)


@pytest.mark.parametrize("formats", [Formats(), Formats.of_bits(4)], ids=["as stored", "4 bits"])
def test_loading_says_how_many_bytes_are_read(tiny: Path, monkeypatch: pytest.MonkeyPatch, formats: Formats) -> None:
    monkeypatch.setattr(download, "REPORT_EVERY", 0.0)
    reports: list[download.Transfer] = []
    Stack.load(tiny, formats=formats, report=reports.append)
    done = [report.done for report in reports]
    total = sum(file.stat().st_size for file in tiny.glob("*/*.safetensors"))
    assert {(report.doing, report.total) for report in reports} == {("loading", total)}
    assert done == sorted(done)
    assert (done[0], done[-1]) == (0, total)
    # Only the VAE, the smallest part of the real one, comes all at once.
    assert len(set(done)) > 50
    vae = (tiny / "vae" / "diffusion_pytorch_model.safetensors").stat().st_size
    assert max(after - before for before, after in itertools.pairwise(done)) <= vae


def test_what_a_report_raises_ends_the_load(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "REPORT_EVERY", 0.0)
    total = sum(file.stat().st_size for file in tiny.glob("*/*.safetensors"))
    for share in (0.0, 0.3, 0.6, 0.9):

        def report(transfer: download.Transfer, least: float = share * total) -> None:
            if transfer.done > least:
                raise Stopped

        with pytest.raises(Stopped):
            Stack.load(tiny, report=report)
    # What transformers is told to do meanwhile is taken back.
    assert Stack.load(tiny).codes == 64
