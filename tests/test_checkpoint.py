"""Checkpoints on disk: finding, verifying, and their optional files."""

from __future__ import annotations

import json
import shutil
from fnmatch import fnmatch
from pathlib import Path

import pytest
import torch

from glmimage import checkpoint
from glmimage.errors import CheckpointError
from glmimage.geometry import Size
from glmimage.request import Defaults


@pytest.fixture
def copy(tiny: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny, tmp_path / "copy"))


def test_find(tmp_path: Path) -> None:
    assert checkpoint.find("miniature").parts[-2:] == ("assets", "miniature")
    assert checkpoint.find(str(tmp_path)) == tmp_path


@pytest.mark.parametrize("name", ["", "nothing-here", "/nowhere/at/all", "./a/b", "a/b/c"])
def test_find_refuses_what_is_neither_folder_nor_hub_id(name: str) -> None:
    with pytest.raises(CheckpointError, match="zai-org/GLM-Image"):
        checkpoint.find(name)


def test_patterns_fetch_only_safetensors() -> None:
    for name, wanted in {
        "vae/config.json": True,
        "vae/diffusion_pytorch_model.safetensors": True,
        "transformer/diffusion_pytorch_model-00001-of-00003.safetensors": True,
        "processor/chat_template.jinja": True,
        "vae/diffusion_pytorch_model.bin": False,
        "model.pt": False,
        "single-file.safetensors": False,
        "other-layout/model.safetensors": False,
        "code.py": False,
    }.items():
        assert any(fnmatch(name, pattern) for pattern in checkpoint._DOWNLOAD) is wanted, name


def test_verify_accepts_the_released_layout(tiny: Path) -> None:
    checkpoint.verify(tiny)


def test_verify_names_everything_that_is_missing(copy: Path) -> None:
    (copy / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    (copy / "processor" / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError) as caught:
        checkpoint.verify(copy)
    assert "vae/diffusion_pytorch_model.safetensors" in str(caught.value)
    assert "processor/tokenizer.json" in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [b"", b"version https://git-lfs.github.com/spec/v1\n", b"\x02\0\0\0\0\0\0\0[]", b"\x02\0\0\0\0\0\0\0{}more"],
)
def test_verify_names_weights_that_do_not_end_where_they_should(content: bytes, copy: Path) -> None:
    (copy / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(content)
    weights = copy / "transformer" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(CheckpointError) as caught:
        checkpoint.verify(copy)
    assert "the end of vae/diffusion_pytorch_model.safetensors" in str(caught.value)
    assert "the end of transformer/diffusion_pytorch_model.safetensors" in str(caught.value)


def test_verify_accepts_weights_as_bitsandbytes_saves_them(copy: Path) -> None:
    from safetensors.torch import load_file, save_file

    quantization = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
    for part, stem in {"transformer": "diffusion_pytorch_model", "vision_language_encoder": "model"}.items():
        path = copy / part / f"{stem}.safetensors"
        tensors = load_file(path)
        name = next(name for name, tensor in tensors.items() if tensor.ndim == 2)
        tensors[name] = torch.zeros(tensors[name].numel() // 2, 1, dtype=torch.uint8)
        tensors[f"{name}.absmax"] = torch.zeros(3)
        tensors[f"{name}.quant_state.bitsandbytes__nf4"] = torch.zeros(5, dtype=torch.uint8)
        save_file(tensors, path, metadata={"format": "pt"})
        config = json.loads((copy / part / "config.json").read_text())
        (copy / part / "config.json").write_text(json.dumps({**config, "quantization_config": quantization}))
    checkpoint.verify(copy)


def test_verify_follows_the_index_of_shards(copy: Path) -> None:
    part = copy / "transformer"
    (part / "diffusion_pytorch_model.safetensors").rename(part / "one.safetensors")
    index = part / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "one.safetensors", "b": "one.safetensors"}}))
    checkpoint.verify(copy)
    index.write_text(json.dumps({"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}))
    with pytest.raises(CheckpointError, match=r"transformer/two\.safetensors"):
        checkpoint.verify(copy)
    index.write_text("[]")
    with pytest.raises(CheckpointError, match="not a JSON object"):
        checkpoint.verify(copy)


def test_verify_refuses_other_pipelines(copy: Path, tmp_path: Path) -> None:
    (copy / "model_index.json").write_text(json.dumps({"_class_name": "FluxPipeline"}))
    with pytest.raises(CheckpointError, match="FluxPipeline"):
        checkpoint.verify(copy)
    with pytest.raises(CheckpointError, match="no checkpoint folder"):
        checkpoint.verify(tmp_path / "none")


def test_defaults(tiny: Path, tmp_path: Path) -> None:
    assert checkpoint.read_defaults(tiny).width == 64
    folder = tmp_path / "other"
    folder.mkdir()
    released = checkpoint.read_defaults(folder)
    assert released == Defaults(
        width=1024, height=1024, steps=50, guidance=1.5, min_side=256, max_side=2048, name="other"
    )
    checkpoint.write_defaults(folder, Defaults(width=96, name="mine"))
    assert checkpoint.read_defaults(folder) == Defaults(width=96, name="mine")
    (folder / "world.json").write_text('{"sizes": ["96x64", "64x96"]}')
    learned = Defaults(width=96, name="mine", sizes=(Size(96, 64), Size(64, 96)))
    assert checkpoint.read_defaults(folder) == learned
    checkpoint.write_defaults(folder, learned)
    assert checkpoint.read_defaults(folder) == learned
    for told in ('["wide"]', '"96x64"', "[96]"):
        (folder / "world.json").write_text(f'{{"sizes": {told}}}')
        assert checkpoint.read_defaults(folder).sizes == ()


@pytest.mark.parametrize("text", ["{", "3", '{"width": "big"}', '{"steps": 0}', '{"depth": 3}', '{"guidance": true}'])
def test_defaults_that_mean_nothing(text: str, tmp_path: Path) -> None:
    (tmp_path / "atelier.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"atelier\.json"):
        checkpoint.read_defaults(tmp_path)


def test_a_snapshot_is_named_by_its_hub_id(tmp_path: Path) -> None:
    folder = tmp_path / "models--zai-org--GLM-Image" / "snapshots" / "0123abcd"
    folder.mkdir(parents=True)
    assert checkpoint.read_defaults(folder).name == "zai-org/GLM-Image"


def test_world(tmp_path: Path) -> None:
    assert checkpoint.read_world(tmp_path) is None
    (tmp_path / "world.json").write_text('{"things": []}')
    assert checkpoint.read_world(tmp_path) == {"things": []}
