"""8 and 4 bits: which layers, how many bytes, loading tensor by tensor, and forward passes equal to upstream's."""

from __future__ import annotations

import gc
import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import bitsandbytes
import diffusers
import pytest
import torch
import transformers
from diffusers import FlowMatchEulerDiscreteScheduler, GlmImagePipeline, GlmImageTransformer2DModel
from diffusers.quantizers.auto import DiffusersAutoQuantizer
from torch import Tensor, nn
from transformers import GlmImageConfig, GlmImageForConditionalGeneration, T5Config, T5EncoderModel
from transformers.quantizers.auto import AutoHfQuantizer

from glmimage import checkpoint, prior, quantize
from glmimage.decoder import Conditions, denoise
from glmimage.errors import CheckpointError
from glmimage.geometry import Size
from glmimage.glyphs import encode_glyphs
from glmimage.models import Stack, empty_component, load_component
from glmimage.prior import positions
from glmimage.prompting import prompt_ids
from glmimage.quantize import FOLDERS, FORMATS, KEPT, Component, Format, Formats

COMPONENTS: tuple[Component, ...] = tuple(FOLDERS)
QUANTIZED: tuple[Format, ...] = tuple(format for format in FORMATS if format != "bf16")
MINIATURE = checkpoint.ASSETS / "miniature"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def released() -> dict[Component, Any]:
    """The released sizes on the meta device."""
    glyphs = {"vocab_size": 384, "d_model": 1472, "d_ff": 3584, "d_kv": 64, "num_heads": 6, "num_layers": 12}
    with torch.device("meta"):
        return {
            "prior": GlmImageForConditionalGeneration(GlmImageConfig()),
            "decoder": GlmImageTransformer2DModel(num_layers=30, num_attention_heads=32, attention_head_dim=128),
            "glyphs": T5EncoderModel(T5Config(**glyphs, feed_forward_proj="gated-gelu")),
        }


def replaced(component: Component, model: Any, format: Format) -> list[str]:
    """What the library's own quantizer replaces in a model on the meta device, which it changes."""
    options = quantize.options(component, format)
    if component == "decoder":
        quantizer = DiffusersAutoQuantizer.from_config(diffusers.BitsAndBytesConfig(**options), pre_quantized=False)
        quantizer.preprocess_model(model, device_map=None, keep_in_fp32_modules=[])
    else:
        quantizer = AutoHfQuantizer.from_config(transformers.BitsAndBytesConfig(**options), pre_quantized=False)
        quantizer.preprocess_model(model, device_map=None)
    return in_bits(model)


def in_bits(model: nn.Module) -> list[str]:
    kinds = (bitsandbytes.nn.Linear4bit, bitsandbytes.nn.Linear8bitLt)
    return [name for name, module in model.named_modules() if isinstance(module, kinds)]


def held(model: nn.Module) -> int:
    """Bytes of every tensor of a loaded model that counts as a weight."""
    total = 0
    for parameter in model.parameters():
        tensors: list[Tensor] = [parameter]
        if (state := getattr(parameter, "quant_state", None)) is not None:
            nested = [state.state2.absmax, state.state2.code, state.offset] if state.nested else []
            tensors += [state.absmax, state.code, *nested]
        if (scale := getattr(parameter, "SCB", None)) is not None:
            tensors.append(scale)
        total += sum(tensor.nbytes for tensor in tensors)
    return total


# --- which layers, how many bytes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["int8", "nf4"])
@pytest.mark.parametrize("component", COMPONENTS)
def test_both_libraries_replace_exactly_these(
    released: dict[Component, Any], component: Component, format: Format
) -> None:
    for model in (empty_component(component, MINIATURE), released[component]):
        wanted = quantize.quantized_linears(component, model)
        # The released models are built once; their plain layers come back.
        plain = {name: model.get_submodule(name) for name in wanted}
        assert replaced(component, model, format) == wanted
        for name, module in plain.items():
            model.set_submodule(name, module)


def test_the_release_is_counted_as_known(released: dict[Component, Any]) -> None:
    counts = {}
    for component, model in released.items():
        names = quantize.quantized_linears(component, model)
        counts[component] = (len(names), sum(model.get_submodule(name).weight.numel() for name in names))
    assert counts == {"prior": (240, 8_157_921_280), "decoder": (180, 6_039_797_760), "glyphs": (72, 153_747_456)}
    gigabytes = {
        (component, format): round(quantize.component_bytes(component, released[component], format) / 1e9, 2)
        for component in ("prior", "decoder")
        for format in FORMATS
    }
    assert gigabytes == {
        ("prior", "bf16"): 20.23,
        ("prior", "int8"): 12.08,
        ("prior", "nf4"): 8.50,
        ("prior", "nf4-dq"): 8.12,
        ("decoder", "bf16"): 13.85,
        ("decoder", "int8"): 7.82,
        ("decoder", "nf4"): 5.17,
        ("decoder", "nf4-dq"): 4.89,
    }


@pytest.mark.parametrize("component", COMPONENTS)
def test_every_reason_is_for_something(released: dict[Component, Any], component: Component) -> None:
    for model in (released[component], empty_component(component, MINIATURE)):
        names = [name for name, _ in model.named_modules()]
        for kept in KEPT[component]:
            assert any(f".{kept}." in f".{name}." for name in names), kept
        # Whatever has weights in rows and columns is quantized or has a reason.
        quantized = set(quantize.quantized_linears(component, model))
        for name, parameter in model.named_parameters():
            owner = name.rpartition(".")[0]
            if parameter.ndim > 1 and owner not in quantized:
                assert any(f".{kept}." in f".{owner}." for kept in KEPT[component]), name


@pytest.mark.parametrize("format", QUANTIZED)
@pytest.mark.parametrize("component", COMPONENTS)
def test_bytes_are_exact(component: Component, format: Format) -> None:
    dtype = torch.float32 if format == "int8" else torch.bfloat16
    empty = empty_component(component, MINIATURE)
    model = load_component(component, MINIATURE, format, CPU, dtype)
    assert in_bits(model) == quantize.quantized_linears(component, empty)
    assert held(model) == quantize.component_bytes(component, empty, format, dtype.itemsize)
    assert model.dtype == dtype
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_unquantized_bytes_are_exact() -> None:
    stack = Stack.load(MINIATURE)
    for component, model in (("prior", stack.prior), ("decoder", stack.decoder), ("glyphs", stack.glyph_encoder)):
        assert held(model) == quantize.component_bytes(component, empty_component(component, MINIATURE), "bf16", 4)


@pytest.mark.parametrize("shape", [(3, 5), (64, 64), (100, 64), (48, 96), (512, 257 * 64)])
@pytest.mark.parametrize("format", QUANTIZED)
def test_bytes_of_any_shape(format: Format, shape: tuple[int, int]) -> None:
    rows, columns = shape
    if format == "int8":
        layer = bitsandbytes.nn.Linear8bitLt(columns, rows, bias=False, has_fp16_weights=False)
    else:
        layer = bitsandbytes.nn.Linear4bit(
            columns, rows, bias=False, quant_type="nf4", compress_statistics=format == "nf4-dq"
        )
    assert held(layer.to("cpu")) == quantize.linear_bytes(rows, columns, format)


# --- loading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["int8", "nf4"])
@pytest.mark.parametrize("component", ["prior", "decoder"])
def test_at_most_one_weight_is_there_unquantized(
    monkeypatch: pytest.MonkeyPatch, component: Component, format: Format
) -> None:
    empty = empty_component(component, MINIATURE)
    quantized = quantize.quantized_linears(component, empty)
    kept = {
        tuple(weight.shape) for name, weight in empty.named_parameters() if name[: -len(".weight")] not in quantized
    }
    shapes = {tuple(empty.get_submodule(name).weight.shape) for name in quantized} - kept
    alive: list[int] = []
    calls = iter(range(len(quantized)))

    def unquantized() -> list[Tensor]:
        tensors = [thing for thing in gc.get_objects() if issubclass(type(thing), Tensor) and not thing.is_meta]
        return [tensor for tensor in tensors if tensor.is_floating_point() and tuple(tensor.shape) in shapes]

    name = "int8_vectorwise_quant" if format == "int8" else "quantize_4bit"
    kernel = getattr(bitsandbytes.functional, name)

    def look(weight: Tensor, *arguments: Any, **options: Any) -> Any:
        # The walk takes a while, and what piles up is there at the end.
        if next(calls) % 16 == 15:
            alive.append(sum(id(tensor) not in others for tensor in unquantized()))
        return kernel(weight, *arguments, **options)

    gc.collect()
    # What another test's fixture keeps is no part of this. Held here, so that none of their addresses is used again.
    before = unquantized()
    others = set(map(id, before))
    monkeypatch.setattr(bitsandbytes.functional, name, look)
    load_component(component, MINIATURE, format, CPU, torch.float32)
    assert next(calls, None) is None
    assert len(alive) >= 2
    assert max(alive) > 0
    # One weight of some fifty: the file's tensor, its cast to the stack's dtype, its parameter, bitsandbytes' copies.
    assert max(alive) <= 5


def test_what_is_stored_in_bits_cannot_change(tmp_path: Path) -> None:
    shutil.copytree(MINIATURE / "transformer", tmp_path / "transformer")
    path = tmp_path / "transformer" / "config.json"
    config = json.loads(path.read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", **quantize.options("decoder", "nf4")}
    path.write_text(json.dumps(config))
    for asked in ("int8", "bf16", "nf4-dq"):
        with pytest.raises(CheckpointError, match=f"stored in nf4 and cannot become {asked}"):
            load_component("decoder", tmp_path, asked, CPU, torch.float32)


@pytest.mark.parametrize(
    ("config", "stored"),
    [
        ({}, "bf16"),
        ({"quantization_config": None}, "bf16"),
        ({"quantization_config": {"quant_method": "bitsandbytes", **quantize.options("decoder", "int8")}}, "int8"),
        ({"quantization_config": {"quant_method": "bitsandbytes", **quantize.options("decoder", "nf4")}}, "nf4"),
        ({"quantization_config": quantize.options("decoder", "nf4-dq")}, "nf4-dq"),
        ({"quantization_config": {"load_in_4bit": True, "bnb_4bit_quant_type": "fp4"}}, "fp4"),
    ],
)
def test_stored_format(tmp_path: Path, config: object, stored: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert quantize.stored_format(tmp_path) == stored


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"quantization_config": {"quant_method": "gptq"}}', "quantized by gptq"),
        ("{", "cannot be read"),
        ("[]", "cannot be read"),
        ('{"quantization_config": 4}', "cannot be read"),
    ],
)
def test_formats_of_others_are_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=words):
        quantize.stored_format(tmp_path)


def test_without_bitsandbytes_one_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(CheckpointError, match=r"need bitsandbytes.*pip install bitsandbytes"):
        Stack.load(MINIATURE, formats=Formats.of_bits(4))
    assert Stack.load(MINIATURE).codes == 4096


def test_bits() -> None:
    assert Formats.of_bits(4) == Formats(prior="nf4", decoder="nf4")
    assert Formats.of_bits(8) == Formats(prior="int8", decoder="int8")
    with pytest.raises(CheckpointError, match="cannot have 5 bits"):
        Formats.of_bits(5)


# --- forward passes ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=QUANTIZED)
def stack(request: pytest.FixtureRequest) -> Stack:
    """The miniature with everything in one format that can be."""
    return Stack.load(MINIATURE, formats=Formats(**dict.fromkeys(COMPONENTS, request.param)))


def apart(ours: Tensor, theirs: Tensor) -> float:
    """The error's norm beside the value's."""
    return float((ours - theirs).norm() / theirs.norm())


DEPTHS = {2: 5e-3, None: 1e-1}
"""Layers, and how far apart the two sides may be. Rounding to int8, or to bfloat16 in some processors' 4-bit kernel,
makes last bits grow from layer to layer: upstream's own answer moves by 1-3 % over the miniature's eight blocks when
its input moves by a millionth, and which inputs count as outliers moves it as much again (5 % between the two sides on
some processors). So two layers tell whether a pass is right, and all of them that nothing is far off."""


@pytest.fixture(params=DEPTHS, ids=["two layers", "all layers"])
def tolerance(request: pytest.FixtureRequest, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[float]:
    depth = request.param
    owners = ((stack.prior.model.language_model, "layers"), (stack.decoder, "transformer_blocks"))
    whole = [getattr(owner, name) for owner, name in owners]
    if depth is not None:
        for (owner, name), layers in zip(owners, whole, strict=True):
            setattr(owner, name, layers[:depth])
            for module in layers.modules():
                # Which inputs count as outliers depends on all rows of a call, and our calls have other rows.
                if isinstance(module, bitsandbytes.nn.Linear8bitLt):
                    monkeypatch.setattr(module.state, "threshold", 0.0)
    yield DEPTHS[depth]
    for (owner, name), layers in zip(owners, whole, strict=True):
        setattr(owner, name, layers)


def test_the_priors_logits_are_upstreams(stack: Stack, tolerance: float) -> None:
    prompt = prompt_ids(stack.processor, "a cat at the top left, on a blue background", Size(128, 128))
    codes = torch.randint(0, stack.codes, (1, 12), generator=torch.Generator().manual_seed(0))
    places = positions(prompt)[:, None, : len(prompt.ids) + codes.shape[1]]
    with torch.inference_mode():
        ids = torch.cat([torch.tensor(prompt.ids)[None], codes], dim=1)
        theirs = stack.prior(input_ids=ids, position_ids=places).logits[0, -codes.shape[1] - 1 :, : stack.codes]
    run = prior._Run(stack, prompt, [], 1)
    parts = [run.prefill()[0], run.step(codes[:, :1], 0)[0], run.step(codes[:, 1:], 1)[0]]
    ours = torch.cat(parts)
    assert ours.shape == theirs.shape
    assert apart(ours, theirs) < tolerance
    # Another place's logits are far away.
    assert apart(ours, theirs.flip(0)) > 4 * tolerance


def test_the_latents_are_upstreams(stack: Stack, tolerance: float) -> None:
    pipeline = GlmImagePipeline(
        tokenizer=stack.glyph_tokenizer,
        processor=stack.processor,
        text_encoder=stack.glyph_encoder,
        vision_language_encoder=stack.prior,
        vae=stack.vae,
        transformer=stack.decoder,
        scheduler=FlowMatchEulerDiscreteScheduler.from_config(stack.scheduler_config),
    )
    pipeline.set_progress_bar_config(disable=True)
    codes = torch.randint(0, stack.codes, (1, 4, 4), generator=torch.Generator().manual_seed(9))
    noise = torch.randn(1, 16, 16, 16, generator=torch.Generator().manual_seed(3))
    theirs = pipeline(
        prompt='a sign "HI"',
        height=128,
        width=128,
        num_inference_steps=1,
        prior_token_ids=codes.repeat_interleave(2, -2).repeat_interleave(2, -1).flatten(-2),
        latents=noise,
        output_type="latent",
    ).images
    wanted = Conditions(codes=codes, glyphs=encode_glyphs(stack, ("HI",)), empty_glyphs=encode_glyphs(stack, ()))
    *_, last = denoise(stack.decoder, stack.scheduler_config, wanted, noise, steps=1)
    assert apart(last.latents, theirs) < tolerance
    # With other codes the picture is far away.
    *_, other = denoise(stack.decoder, stack.scheduler_config, replace(wanted, codes=codes.flip(-1)), noise, steps=1)
    assert apart(other.latents, theirs) > 4 * tolerance


def test_shapes_that_the_fast_kernel_cannot_do(tiny: Path) -> None:
    """Widths of 32 and 96: processors with AVX512-BF16 would repack them and fail."""
    stack = Stack.load(tiny, formats=Formats.of_bits(4))
    wanted = Conditions(
        codes=torch.zeros(1, 2, 2, dtype=torch.long),
        glyphs=encode_glyphs(stack, ("HI",)),
        empty_glyphs=encode_glyphs(stack, ()),
    )
    noise = torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(3))
    *_, last = denoise(stack.decoder, stack.scheduler_config, wanted, noise, steps=1)
    assert last.latents.isfinite().all()
    odd = [m for m in stack.prior.modules() if isinstance(m, bitsandbytes.nn.Linear4bit) and m.in_features % 64]
    assert odd
    assert all(not module.support_avx512bf16_for_cpu for module in odd)
    assert odd[0](torch.ones(1, odd[0].in_features)).isfinite().all()
