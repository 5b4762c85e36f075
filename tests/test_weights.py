"""Bytes of weights: the table against the meta device, the formulae against real tensors and bitsandbytes' own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from glmimage import checkpoint, hub, weights
from glmimage.errors import CheckpointError
from glmimage.models import Stack
from glmimage.quantize import FORMATS, Format, linear_bytes
from glmimage.request import Defaults
from glmimage.weights import Architecture

RELEASED = "zai-org/GLM-Image"
PARTS = {"prior": "prior", "embedding": "prior", "vision": "prior", "glyphs": "glyph_encoder"}
PARTS |= {"decoder": "decoder", "modulation": "decoder", "vae": "vae"}


@pytest.fixture(scope="module")
def miniature() -> Stack:
    return Stack.load(checkpoint.find("miniature"), dtype=torch.bfloat16)


def test_the_table_is_what_the_meta_device_counts() -> None:
    for name, entry in json.loads(weights.TABLE.read_text(encoding="utf-8")).items():
        texts = tuple((part, json.dumps(config)) for part, config in entry["configs"].items())
        counted = weights.from_configs(name, texts, Defaults(name=name))
        assert json.loads(json.dumps(counted.to_json())) == entry["counted"]
        assert Architecture.from_json(entry["counted"]) == counted


def test_the_released_figures() -> None:
    """Those that were published or counted independently."""
    released = weights.read(RELEASED)
    prior, decoder = released["prior"], released["decoder"]
    assert prior.blocks * prior.block.quantizable == pytest.approx(8.158e9, rel=1e-3)
    assert decoder.blocks * decoder.block.quantizable == pytest.approx(6.040e9, rel=1e-3)
    assert released["modulation"].count == pytest.approx(0.755e9, rel=3e-3)
    assert released["embedding"].count == 168064 * 4096
    assert released["glyphs"].count == pytest.approx(218e6, rel=3e-3)
    assert released["vae"].count == pytest.approx(406e6, rel=1e-3)
    assert released["vision"].count == pytest.approx(1.2e9, rel=1e-2)
    quantized = prior.blocks * sum(linear_bytes(*shape, "nf4") for shape in prior.block.matrices)
    assert quantized == pytest.approx(4.59e9, rel=1e-3)
    quantized = decoder.blocks * sum(linear_bytes(*shape, "nf4-dq") for shape in decoder.block.matrices)
    assert quantized == pytest.approx(3.12e9, rel=2e-3)
    assert sum(component.bytes("bf16") for component in released.components) / 2**30 == pytest.approx(33, abs=0.5)


@pytest.mark.parametrize("itemsize", [2, 4])
def test_real_tensors_take_that(miniature: Stack, tiny: Path, tiny_stack: Stack, itemsize: int) -> None:
    stack, name = (miniature, "miniature") if itemsize == 2 else (tiny_stack, str(tiny))
    architecture = weights.read(name)
    for part in set(PARTS.values()):
        module = getattr(stack, part)
        held = sum(parameter.nbytes for parameter in module.parameters())
        components = [architecture[name] for name, owner in PARTS.items() if owner == part]
        assert sum(component.bytes("bf16", itemsize) for component in components) == held
    layers = stack.prior.model.language_model.layers
    assert architecture["prior"].blocks == len(layers)
    assert architecture["prior"].block.bytes("bf16", itemsize) == sum(
        weight.nbytes for weight in layers[0].parameters()
    )
    embedding = stack.prior.model.language_model.embed_tokens.weight
    assert architecture["embedding"].bytes("bf16", itemsize) == embedding.nbytes


def chosen(stack: Stack, name: str) -> Iterator[nn.Linear]:
    blocks = stack.prior.model.language_model.layers if name == "prior" else stack.decoder.transformer_blocks
    for path, module in blocks.named_modules():
        if isinstance(module, nn.Linear) and "norm" not in path:
            yield module


@pytest.mark.parametrize("name", ["prior", "decoder"])
def test_bitsandbytes_holds_that(miniature: Stack, name: str) -> None:
    functional = pytest.importorskip("bitsandbytes").functional
    component = weights.read("miniature")[name]
    layers = list(chosen(miniature, name))
    shapes = sorted(tuple(layer.weight.shape) for layer in layers)
    assert sorted(component.block.matrices * component.blocks) == shapes

    def held(weight: torch.Tensor, format: Format) -> int:
        if format == "int8":
            packed, scales, _ = functional.int8_vectorwise_quant(weight.half())
            return int(packed.nbytes + scales.nbytes)
        packed, state = functional.quantize_4bit(weight, quant_type="nf4", compress_statistics=format == "nf4-dq")
        parts = [packed, state.absmax, state.code]
        if state.nested:
            parts += [state.state2.absmax, state.state2.code, state.offset]
        return sum(part.nbytes for part in parts)

    formats: tuple[Format, ...] = ("int8", "nf4", "nf4-dq")
    for format in formats:
        quantized = sum(held(layer.weight, format) for layer in layers)
        plain = component.count - sum(layer.weight.numel() for layer in layers)
        assert component.bytes(format) == quantized + 2 * plain


def copy_of_configs(tiny: Path, folder: Path) -> Path:
    shutil.copytree(tiny, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    return folder


def quantized(folder: Path, part: str, **settings: object) -> None:
    path = folder / part / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, "quantization_config": settings}), encoding="utf-8")


def test_a_quantized_checkpoint_is_planned_as_it_is(tiny: Path, tmp_path: Path) -> None:
    folder = copy_of_configs(tiny, tmp_path / "copy")
    quantized(folder, "transformer", quant_method="bitsandbytes", load_in_8bit=True, llm_int8_skip_modules=["norm1"])
    quantized(folder, "vision_language_encoder", load_in_4bit=True, bnb_4bit_use_double_quant=True)
    before, after = weights.read(str(tiny)), weights.read(str(folder))
    assert after["decoder"].formats == ("int8",)
    assert after["decoder"].block == before["decoder"].block
    # Nobody asked to leave these out.
    assert after["decoder"].rest.matrices
    assert after["prior"].formats == after["vision"].formats == ("nf4-dq",)
    assert after["modulation"].formats == after["embedding"].formats == after["vae"].formats == ("bf16",)
    assert before["decoder"].formats == FORMATS


def test_a_half_fetched_release_is_known_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "snapshot", lambda name: tmp_path)
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae" / "config.json").write_text("{}", encoding="utf-8")
    assert checkpoint.here(RELEASED) == tmp_path
    assert weights.read(f"{RELEASED}@main").name == RELEASED
    with pytest.raises(CheckpointError, match="is not whole"):
        weights.read("someone/model")


def test_what_cannot_be_planned_is_said(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="fetch someone/model"):
        weights.read("someone/model")
    with pytest.raises(CheckpointError, match="no checkpoint"):
        weights.read("no-such-folder")
    folder = copy_of_configs(tiny, tmp_path / "copy")
    quantized(folder, "transformer", quant_method="gptq")
    with pytest.raises(CheckpointError, match="quantized by gptq"):
        weights.read(str(folder))
    (folder / "transformer" / "config.json").write_text('{"num_layers": "many"}', encoding="utf-8")
    with pytest.raises(CheckpointError, match="describe no GLM-Image"):
        weights.read(str(folder))
    (folder / "transformer" / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"configs of .* describe no GLM-Image \(transformer: "):
        weights.read(str(folder))
    (folder / "transformer" / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"transformer/config\.json missing"):
        weights.read(str(folder))
