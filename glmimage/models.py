"""The upstream classes of one checkpoint, loaded and ready.

`Stack` owns the modules; the stages read their submodules and run forward passes of their own. Weights are safetensors
only, every missing tensor is an error, and nothing here decides what stays on the device during a run. Quantized
weights load as they are; others are quantized one tensor at a time as they are read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import diffusers
import torch
import transformers
from diffusers import AutoencoderKL, GlmImageTransformer2DModel
from diffusers.quantizers.auto import DiffusersAutoQuantizer
from diffusers.utils import logging as diffusers_logging
from safetensors import safe_open
from torch import Tensor, nn
from transformers import ByT5Tokenizer, GlmImageForConditionalGeneration, GlmImageProcessor, T5EncoderModel
from transformers.models.glm_image.image_processing_pil_glm_image import GlmImageImageProcessorPil
from transformers.utils import logging as transformers_logging

from glmimage import heap, quantize
from glmimage.checkpoint import read_defaults, shards, verify
from glmimage.download import Meter, Report, Transfer
from glmimage.errors import CheckpointError, GLMImageError, reason
from glmimage.quantize import Component, Format, Formats
from glmimage.request import Defaults

_CLASSES: dict[Component, type[Any]] = {
    "prior": GlmImageForConditionalGeneration,
    "decoder": GlmImageTransformer2DModel,
    "glyphs": T5EncoderModel,
}


PartName = Literal["prior", "decoder", "vae", "glyph_encoder"]
"""The modules of a stack that hold weights."""
_FOLDERS: dict[PartName, str] = {
    "prior": quantize.FOLDERS["prior"],
    "decoder": quantize.FOLDERS["decoder"],
    "vae": "vae",
    "glyph_encoder": quantize.FOLDERS["glyphs"],
}
Count = Callable[[int], None]
"""Told of bytes of weights that were loaded."""


class Taker(Protocol):
    """Looks after modules once they are loaded; `residency.Residency` does."""

    def hosts(self, name: PartName) -> bool: ...  # whether to load it into host memory
    def take(self, name: PartName, module: nn.Module) -> None: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Stack:
    """One checkpoint in memory. Modules are in eval mode and need no gradients."""

    prior: GlmImageForConditionalGeneration
    processor: GlmImageProcessor
    decoder: GlmImageTransformer2DModel
    vae: AutoencoderKL
    glyph_encoder: T5EncoderModel
    glyph_tokenizer: ByT5Tokenizer
    scheduler_config: dict[str, Any]
    defaults: Defaults
    folder: Path
    device: torch.device
    dtype: torch.dtype
    kept: dict[str, Any] = field(default_factory=dict, repr=False)
    """What the stages keep between runs, by stage; dies with the stack."""

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        device: str = "cpu",
        dtype: torch.dtype | None = None,
        formats: Formats | None = None,
        taker: Taker | None = None,
        report: Report | None = None,
    ) -> Stack:
        """Loads the checkpoint in `folder`, to run on `device`. Raises CheckpointError.

        `taker` is handed each module as soon as it is loaded, into host memory where it says so; with None everything
        stays on `device`. `report` is told how many of the bytes on the disk were read.

        `dtype` None: float32 on the CPU and on GPUs without bfloat16, else bfloat16. float16 is refused: the VAE
        overflows to black pictures. `formats` None: every component as it is stored. What is quantized keeps its format
        and computes in `dtype`.
        """
        verify(folder)
        place = _device(device)
        if dtype is None:
            dtype = _dtype(place)
        if dtype not in (torch.float32, torch.bfloat16, torch.float64):
            raise CheckpointError(f"The stack cannot run in {dtype}; use float32 or bfloat16.")

        sizes = {name: sum(file.stat().st_size for file in shards(folder / at)) for name, at in _FOLDERS.items()}
        meter = Meter(report or (lambda transfer: None), Transfer(None, "loading", 0, sum(sizes.values())))

        def part(name: PartName, load: Callable[[torch.device, Count], Any]) -> Any:
            share = _Share(meter, sizes[name])
            module = load(torch.device("cpu") if taker and taker.hosts(name) else place, share.add)
            if taker:
                taker.take(name, module)
            share.end()
            return module

        def component(name: Component) -> Callable[[torch.device, Count], Any]:
            return lambda home, count: load_component(name, folder, getattr(formats, name, None), home, dtype, count)

        with quiet():
            return cls(
                prior=part("prior", component("prior")),
                processor=_processor(folder / "processor"),
                decoder=part("decoder", component("decoder")),
                vae=part("vae", lambda home, _: _load(AutoencoderKL, folder / "vae", dtype).to(home)),
                glyph_encoder=part("glyph_encoder", component("glyphs")),
                glyph_tokenizer=ByT5Tokenizer.from_pretrained(folder / "tokenizer", local_files_only=True),
                scheduler_config=_scheduler_config(folder / "scheduler" / "scheduler_config.json"),
                defaults=read_defaults(folder),
                folder=folder,
                device=place,
                dtype=dtype,
            )

    @property
    def codes(self) -> int:
        """Size of the codebook; ids below it are image codes."""
        return int(self.prior.config.vq_config.num_embeddings)


class _Share:
    """The bytes of one part: no more of them are counted than there are, and at its end no fewer."""

    def __init__(self, meter: Meter, size: int) -> None:
        self._meter, self._left = meter, size

    def add(self, count: int) -> None:
        count = min(count, self._left)
        self._left -= count
        self._meter.add(count)

    def end(self) -> None:
        self.add(self._left)


def _uncounted(count: int) -> None:
    """Nobody wants to know."""


def load_component(
    component: Component,
    folder: Path,
    format: Format | None,
    place: torch.device,
    dtype: torch.dtype,
    count: Count = _uncounted,
) -> Any:
    """The upstream module of one component of the checkpoint in `folder`, on `place`, in eval mode.

    `format` None: as it is stored. Quantizing holds at most one tensor unquantized. `count` is told of each tensor that
    was read, and what it raises ends the load. Raises CheckpointError, also where
    the weights are stored in another quantized format than asked for: they cannot be made what they were.
    """
    part = folder / quantize.FOLDERS[component]
    stored = quantize.stored_format(part)
    if format not in (None, stored) and stored != "bf16":
        raise CheckpointError(
            f"The weights in {part} are stored in {stored} and cannot become {format}; load them as they are, or use"
            " the checkpoint that they were made from."
        )
    if stored == "bf16" and format in (None, "bf16"):
        if component == "decoder":
            return _checked(part, lambda: _load_plain_decoder(part, place, dtype, count))
        with _counted(part, count):
            return _load(_CLASSES[component], part, dtype).to(place)
    quantize.require()
    asked = quantize.options(component, format) if stored == "bf16" and format else None
    with heap.given_back():
        if component == "decoder":
            module = _checked(part, lambda: _load_decoder(part, asked, place, dtype, count))
        else:
            config = {"quantization_config": transformers.BitsAndBytesConfig(**asked)} if asked else {}
            with _counted(part, count):
                module = _load(_CLASSES[component], part, dtype, device_map={"": place}, **config)
    for inner in module.modules():
        _fit(inner, dtype, few_rows=component == "prior")
    return module


def empty_component(component: Component, folder: Path) -> Any:
    """The upstream module of one component on the meta device, unquantized: names and shapes without weights.

    Raises CheckpointError.
    """
    kind, part = _CLASSES[component], folder / quantize.FOLDERS[component]
    try:
        with torch.device("meta"):
            if component == "decoder":
                config = kind.load_config(part, local_files_only=True)
                config.pop("quantization_config", None)
                return kind.from_config(config)
            return kind(kind.config_class.from_pretrained(part, local_files_only=True))
    # A config that means nothing fails where its numbers are used.
    except Exception as error:
        raise CheckpointError(
            f"The file {part / 'config.json'} cannot be used ({reason(error)}); download or write it again."
        ) from error


def _load(kind: type[Any], folder: Path, dtype: torch.dtype, **options: Any) -> Any:
    """One module from safetensors, whole, frozen."""

    def load() -> _Loaded:
        module, report = kind.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True, dtype=dtype, **options
        )
        lacking = [*map(str, report["missing_keys"]), *map(str, report["mismatched_keys"])]
        return module, lacking, list(map(str, report["unexpected_keys"]))

    return _checked(folder, load)


_Loaded = tuple[Any, list[str], list[str]]
"""A module, the names that its files lack, and those in them that it has no place for."""


def _checked(folder: Path, load: Callable[[], _Loaded]) -> Any:
    """What `load` gives, frozen, unless it fails, lacks tensors, or is shorter than its weights."""
    try:
        module, missing, unused = load()
    except GLMImageError:
        raise
    # Damaged files raise OSError, ValueError, RuntimeError, KeyError or safetensors' own error.
    except Exception as error:
        raise CheckpointError(
            f"The weights in {folder} cannot be loaded ({reason(error)}); download or write them again."
        ) from error
    if missing:
        raise CheckpointError(
            f"The weights in {folder} lack {len(missing)} tensors such as {min(missing)}; download or write them again."
        )
    # Single tensors that nobody uses do no harm; without some of its blocks a model paints noise.
    if beyond := [name for name in unused if _is_beyond(module, name)]:
        raise CheckpointError(
            f"The config.json in {folder} leaves out blocks that its weights have, such as {min(beyond)}; download or"
            " write it again."
        )
    return module.eval().requires_grad_(False)


def _is_beyond(module: nn.Module, name: str) -> bool:
    """Whether a tensor belongs to a block behind the last one of a list in `module`."""
    at: Any = module
    for part in name.split("."):
        if isinstance(at, nn.ModuleList) and part.isdigit() and int(part) >= len(at):
            return True
        at = getattr(at, part, None)
    return False


@contextmanager
def _counted(folder: Path, count: Count) -> Iterator[None]:
    """Within it `count` is told of each tensor that transformers reads of the weights in `folder`."""
    sizes: dict[str, int] = {}
    for file in shards(folder):
        with safe_open(file, framework="pt") as opened:
            names = opened.keys()
            for name in names:
                stored = opened.get_slice(name)
                sizes[name] = math.prod(stored.get_shape()) * _WIDTHS.get(stored.get_dtype(), 1)
    usual = sum(sizes.values()) // max(1, len(sizes))

    def follow(made: Iterable[Any], **bar: object) -> Iterator[Any]:
        for target, source in made:
            # Where several tensors become one, they go by a pattern instead of their names.
            read = sum(sizes.get(name, usual) for name in source.collected_tensors)
            yield target, source
            count(read)

    def bar(factory: Callable[..., Any], given: tuple[Any, ...], options: dict[str, Any]) -> Any:
        return follow(*given) if options.get("desc") == "Loading weights" else factory(*given, **options)

    before = transformers_logging.set_tqdm_hook(bar)
    try:
        yield
    finally:
        transformers_logging.set_tqdm_hook(before)


_WIDTHS = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "BF16": 2, "F16": 2}
"""Bytes of a number, as safetensors calls them; others have one."""


def _load_plain_decoder(folder: Path, place: torch.device, dtype: torch.dtype, count: Count) -> _Loaded:
    """The decoder as it is stored, unquantized; diffusers' own loading tells nobody how far it is."""
    module = empty_component("decoder", folder.parent)
    wanted = module.state_dict()
    found, unused = {}, []
    for file in shards(folder):
        with safe_open(file, framework="pt") as opened:
            names = opened.keys()
            for name in names:
                if name not in wanted:
                    unused.append(name)
                    continue
                tensor = opened.get_tensor(name)
                size = tensor.nbytes
                if tensor.shape == wanted[name].shape:
                    found[name] = tensor.to(place, dtype if tensor.is_floating_point() else tensor.dtype)
                count(size)
    module.load_state_dict(found, strict=False, assign=True)
    return module, [name for name in wanted if name not in found], unused


def _load_decoder(
    folder: Path, asked: dict[str, Any] | None, place: torch.device, dtype: torch.dtype, count: Count
) -> _Loaded:
    """The decoder, quantized as `asked`, or as it is stored.

    Done by diffusers' quantizer, one tensor after another. Its `from_pretrained` would do, but refuses to start without
    a GPU, which bitsandbytes does not need.
    """
    stored = GlmImageTransformer2DModel.load_config(folder, local_files_only=True).get("quantization_config")
    config = diffusers.BitsAndBytesConfig(**asked) if asked else stored
    quantizer = DiffusersAutoQuantizer.from_config(config, pre_quantized=not asked)
    module = empty_component("decoder", folder.parent)
    quantizer.preprocess_model(module, device_map=None, keep_in_fp32_modules=[])
    places: dict[str, Path] = {}
    for file in shards(folder):
        with safe_open(file, framework="pt") as opened:
            places |= dict.fromkeys(opened.keys(), file)
    missing = []
    for name, parameter in list(module.named_parameters()):
        # The tensor and, where it is stored quantized, what belongs to it: weight.absmax ..., SCB, weight_format.
        layer = name.removesuffix("weight")
        kin = [key for key in places if key.startswith(f"{name}.") or key in (f"{layer}SCB", f"{layer}weight_format")]
        tensors = {key: _read(places[key], key) for key in (name, *kin) if key in places}
        size = sum(one.nbytes for one in tensors.values())
        tensor = tensors.get(name)
        # 4 bits are stored flat.
        if tensor is None or (tensor.dtype != torch.uint8 and tensor.shape != parameter.shape):
            missing.append(name)
            continue
        if tensor.is_floating_point():
            tensor = tensor.to(dtype)
        if quantizer.check_if_quantized_param(module, tensor, name, tensors):
            quantizer.create_quantized_param(module, tensor, name, place, tensors)
        else:
            owner, _, own = name.rpartition(".")
            # A copy: what is a piece of the file keeps all of it that was read in memory.
            setattr(module.get_submodule(owner), own, nn.Parameter(tensor.to(place, copy=True), requires_grad=False))
        count(size)
    quantizer.postprocess_model(module)
    # Both are what diffusers' `save_pretrained` reads.
    module.hf_quantizer = quantizer
    module.register_to_config(quantization_config=quantizer.quantization_config)
    return module, missing, list(places)


def _read(file: Path, key: str) -> Tensor:
    """One tensor; the file is opened anew each time, so that no more of it stays mapped."""
    with safe_open(file, framework="pt") as opened:
        tensor: Tensor = opened.get_tensor(key)
    return tensor


def _fit(module: nn.Module, dtype: torch.dtype, *, few_rows: bool) -> None:
    """Brings a module to `dtype`, whatever its file says, and a 4-bit layer to a kernel that suits it."""
    from bitsandbytes.nn.modules import Linear4bit

    # transformers leaves what is not quantized in the file's dtype, but for the biases.
    for parameter in module.parameters(recurse=False):
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype)
    if isinstance(module, Linear4bit):
        module.compute_dtype = dtype
        # The first is for speed: from about 500 rows on a copy in `dtype` is faster. The others are what the repacking
        # for AVX512-BF16 asserts.
        if not few_rows or module.in_features % quantize.BLOCK or module.out_features % _PACKED_ROWS:
            module.support_avx512bf16_for_cpu = False


_PACKED_ROWS = 32
"""Rows of a weight that are packed together."""
_ROWS_AT_ONCE = 1024


@torch.no_grad()
def pack(module: nn.Module) -> None:
    """Lays 4-bit weights out for a processor with AVX512-BF16, as the first product would, but a few rows at a time.

    All at once takes 7 bytes a number; and what is moved must be packed before.
    """
    from bitsandbytes.functional import QuantState, _convert_weight_packed_for_cpu, dequantize_blockwise
    from bitsandbytes.nn.modules import Linear4bit

    for layer in module.modules():
        if not isinstance(layer, Linear4bit) or not layer.support_avx512bf16_for_cpu:
            continue
        state: Any = layer.weight.quant_state  # type: ignore[attr-defined]
        if getattr(state, "packing_format_for_cpu", False):
            continue
        rows, columns = state.shape
        scales = state.absmax
        if state.nested:
            scales = dequantize_blockwise(state.absmax, state.state2) + state.offset
        scales = scales.float().view(rows, -1)
        plain = layer.weight.data.reshape(rows, columns // 2)
        packed, packed_scales = torch.empty_like(plain), scales.new_empty(scales.shape[::-1], dtype=torch.bfloat16)
        for start in range(0, rows, _ROWS_AT_ONCE):
            part = slice(start, start + _ROWS_AT_ONCE)
            count = len(plain[part])
            piece: Any = QuantState(  # type: ignore[no-untyped-call]
                absmax=scales[part].reshape(-1),
                shape=torch.Size((count, columns)),
                code=state.code,
                blocksize=state.blocksize,
                quant_type=state.quant_type,
                dtype=state.dtype,
            )
            packed[part], piece = _convert_weight_packed_for_cpu(plain[part].contiguous(), piece)
            packed_scales[:, part] = piece.absmax
        # What undoes it for a file reads these.
        state.original_dtype, state.original_nested = state.dtype, state.nested
        state.original_qshape = layer.weight.shape
        state.absmax, state.dtype, state.packing_format_for_cpu = packed_scales, torch.bfloat16, True
        if state.nested:
            state.nested = False
            del state.state2
        layer.weight.data = packed


def _processor(folder: Path) -> GlmImageProcessor:
    """Prompt layout and picture patches, always with Pillow, so that torchvision changes nothing."""
    try:
        processor = GlmImageProcessor.from_pretrained(folder, local_files_only=True)
        if not isinstance(processor.image_processor, GlmImageImageProcessorPil):
            processor.image_processor = GlmImageImageProcessorPil.from_pretrained(folder, local_files_only=True)
    except Exception as error:
        raise CheckpointError(
            f"The processor in {folder} cannot be loaded ({reason(error)}); download or write it again."
        ) from error
    return processor


def _scheduler_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"The file {path} cannot be read ({error}); download or write it again.") from None
    if not isinstance(config, dict):
        raise CheckpointError(f"The file {path} is not a JSON object; download or write it again.")
    return config


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError:
        raise CheckpointError(f"There is no device {name!r}; choose cpu, cuda or mps.") from None
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(device.type, False):
        raise CheckpointError(f"This machine has no usable {name}; choose cpu or install the torch build for it.")
    return device


def _dtype(device: torch.device) -> torch.dtype:
    if device.type == "cpu" or (device.type == "cuda" and not torch.cuda.is_bf16_supported()):
        return torch.float32
    return torch.bfloat16


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps the libraries' loading bars off the terminal; ours are the only ones."""
    bars = (transformers_logging.is_progress_bar_enabled(), diffusers_logging.is_progress_bar_enabled())
    transformers_logging.disable_progress_bar()
    diffusers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if bars[0]:
            transformers_logging.enable_progress_bar()
        if bars[1]:
            diffusers_logging.enable_progress_bar()
