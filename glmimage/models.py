"""The upstream classes of one checkpoint, loaded and ready.

`Stack` owns the modules; the stages read their submodules and run forward passes of their own. Weights are safetensors
only, every missing tensor is an error, and nothing here decides what stays on the device during a run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, GlmImageTransformer2DModel
from diffusers.utils import logging as diffusers_logging
from transformers import ByT5Tokenizer, GlmImageForConditionalGeneration, GlmImageProcessor, T5EncoderModel
from transformers.models.glm_image.image_processing_pil_glm_image import GlmImageImageProcessorPil
from transformers.utils import logging as transformers_logging

from glmimage.checkpoint import read_defaults, verify
from glmimage.errors import CheckpointError
from glmimage.request import Defaults


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
    def load(cls, folder: Path, *, device: str = "cpu", dtype: torch.dtype | None = None) -> Stack:
        """Loads the checkpoint in `folder` onto `device`. Raises CheckpointError.

        `dtype` None: float32 on the CPU and on GPUs without bfloat16, else bfloat16. float16 is refused: the VAE
        overflows to black pictures.
        """
        verify(folder)
        place = _device(device)
        if dtype is None:
            dtype = _dtype(place)
        if dtype not in (torch.float32, torch.bfloat16, torch.float64):
            raise CheckpointError(f"The stack cannot run in {dtype}; use float32 or bfloat16.")

        def part(kind: type[Any], name: str) -> Any:
            return _load(kind, folder / name, dtype).to(place)

        with _quiet():
            return cls(
                prior=part(GlmImageForConditionalGeneration, "vision_language_encoder"),
                processor=_processor(folder / "processor"),
                decoder=part(GlmImageTransformer2DModel, "transformer"),
                vae=part(AutoencoderKL, "vae"),
                glyph_encoder=part(T5EncoderModel, "text_encoder"),
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


def _load(kind: type[Any], folder: Path, dtype: torch.dtype) -> Any:
    """One module from safetensors, whole, frozen."""
    try:
        module, report = kind.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True, dtype=dtype
        )
    # Damaged files raise OSError, ValueError, RuntimeError, KeyError or safetensors' own error.
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"The weights in {folder} cannot be loaded ({reason}); download or write them again."
        ) from error
    if missing := sorted(str(key) for key in [*report["missing_keys"], *report["mismatched_keys"]]):
        raise CheckpointError(
            f"The weights in {folder} lack {len(missing)} tensors such as {missing[0]}; download or write them again."
        )
    return module.eval().requires_grad_(False)


def _processor(folder: Path) -> GlmImageProcessor:
    """Prompt layout and picture patches, always with Pillow, so that torchvision changes nothing."""
    try:
        processor = GlmImageProcessor.from_pretrained(folder, local_files_only=True)
        if not isinstance(processor.image_processor, GlmImageImageProcessorPil):
            processor.image_processor = GlmImageImageProcessorPil.from_pretrained(folder, local_files_only=True)
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"The processor in {folder} cannot be loaded ({reason}); download or write it again."
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
def _quiet() -> Iterator[None]:
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
