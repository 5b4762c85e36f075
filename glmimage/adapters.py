"""LoRA adapters in peft's own format: found, checked, and put into the modules they belong to.

An adapter is a folder with `adapter_config.json` and `adapter_model.safetensors`, or a folder with such folders for the
prior (`vision_language_encoder`) and the decoder (`transformer`). Plain layers take it into their weights, so that
painting costs nothing more; quantized layers cannot, and compute it beside them. Of the config only what describes
matrices is read: peft would import modules that a config names. Nothing is unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from glmimage.errors import CheckpointError
from glmimage.quantize import FOLDERS, Component

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
MARKS: dict[Component, str] = {"prior": "language_model.layers.", "decoder": "transformer_blocks."}
"""What stands in the names of a part's layers."""
_READ = (
    "r",
    "lora_alpha",
    "target_modules",
    "exclude_modules",
    "rank_pattern",
    "alpha_pattern",
    "use_rslora",
    "use_dora",
    "fan_in_fan_out",
    "layers_to_transform",
    "layers_pattern",
)
LARGEST_WEIGHT = 10.0


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA and how strongly it is meant."""

    path: Path
    """Its folder, or its file of weights."""
    weight: float = 1.0

    @classmethod
    def parse(cls, text: str) -> Adapter:
        """ "FILE_OR_FOLDER" or "FILE_OR_FOLDER:WEIGHT". Raises CheckpointError."""
        path, colon, weight = text.rpartition(":")
        try:
            number = float(weight) if colon and path else None
        except ValueError:
            # A colon of the path: C:\loras\octopus.
            number = None
        if number is None:
            return cls(Path(text))
        if not -LARGEST_WEIGHT <= number <= LARGEST_WEIGHT:
            raise CheckpointError(
                f"The weight {weight} of the LoRA {path} is not between -{LARGEST_WEIGHT:g} and {LARGEST_WEIGHT:g};"
                " 1 is as it was trained."
            )
        return cls(Path(path), number)

    @property
    def name(self) -> str:
        folder = self.path.parent if self.path.suffix == ".safetensors" else self.path
        return folder.resolve().name if self.weight == 1 else f"{folder.resolve().name}:{self.weight:g}"


def apply(modules: Mapping[Component, nn.Module], adapters: Sequence[Adapter]) -> None:
    """Puts adapters, as far as they are for these modules of a stack, into them, one after the other.

    Raises CheckpointError for what is no LoRA, is damaged, or belongs to another model.
    """
    for number, adapter in enumerate(adapters):
        for folder in _folders(adapter):
            tensors = _tensors(folder / WEIGHTS)
            part = _part(tensors, folder)
            if part in modules:
                _put(modules[part], _config(folder / CONFIG), tensors, adapter, f"lora{number}")


def _folders(adapter: Adapter) -> list[Path]:
    """The folders of the one or two parts."""
    path = adapter.path
    if path.name == WEIGHTS and path.is_file():
        path = path.parent
    elif path.is_file():
        raise CheckpointError(f"The LoRA {path} is not called {WEIGHTS}; name its folder, in peft's format.")
    found = [path] if (path / WEIGHTS).is_file() else []
    found += [path / FOLDERS[part] for part in MARKS if (path / FOLDERS[part] / WEIGHTS).is_file()]
    if not found:
        raise CheckpointError(
            f"There is no LoRA in {path}: it would have the files {CONFIG} and {WEIGHTS}, as peft writes them."
        )
    return found


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name.removeprefix(PREFIX): file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"The LoRA {path} cannot be read ({error}); download or train it again.") from None


def _part(tensors: dict[str, Tensor], folder: Path) -> Component:
    parts: list[Component] = [part for part, mark in MARKS.items() if any(mark in name for name in tensors)]
    if len(parts) != 1:
        raise CheckpointError(f"The LoRA in {folder} is neither of the prior nor of the decoder of a GLM-Image.")
    return parts[0]


def _config(path: Path) -> dict[str, Any]:
    """The fields that describe the matrices."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"The file {path} cannot be read ({error}); download or train the LoRA again.") from None
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise CheckpointError(f"The file {path} does not describe a LoRA; only LoRA adapters can be used.")
    for name in ("modules_to_save", "trainable_token_indices", "layer_replication"):
        if config.get(name):
            raise CheckpointError(f"The LoRA of {path} has {name}, which is not supported here; train it without.")
    return {name: config[name] for name in _READ if config.get(name) is not None}


def _put(module: nn.Module, config: dict[str, Any], tensors: dict[str, Tensor], adapter: Adapter, name: str) -> None:
    from peft import LoraConfig, inject_adapter_in_model, set_peft_model_state_dict

    wrong = f"The LoRA {adapter.path} does not fit this checkpoint"
    try:
        inject_adapter_in_model(LoraConfig(**config), module, name)
        report = set_peft_model_state_dict(module, tensors, name)
    # peft says what does not fit as ValueError, TypeError, KeyError, RuntimeError.
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{wrong} ({reason}); use it with the model that it was trained for.") from None
    lacking = [key for key in report.missing_keys if "lora_" in key and f".{name}" in key]
    if report.unexpected_keys or lacking:
        odd = min([*report.unexpected_keys, *lacking])
        raise CheckpointError(f"{wrong} ({odd}); use it with the model that it was trained for.")
    _merge(module, name, adapter)


def _merge(module: nn.Module, name: str, adapter: Adapter) -> None:
    """Into the weights of plain layers, which then stand where they stood; quantized ones keep it beside them."""
    from peft.tuners.lora import LoraLayer

    for path, layer in list(module.named_modules()):
        if not isinstance(layer, LoraLayer) or name not in layer.scaling:
            continue
        layer.scaling[name] *= adapter.weight
        base = layer.get_base_layer()
        if type(base) is not nn.Linear:
            layer.set_adapter([*layer.scaling])
            layer.requires_grad_(False)
            continue
        try:
            layer.merge(safe_merge=True, adapter_names=[name])
        except ValueError:
            raise CheckpointError(f"The LoRA {adapter.path} has numbers that are not finite; train it again.") from None
        owner, _, own = path.rpartition(".")
        setattr(module.get_submodule(owner), own, base)
    module.requires_grad_(False)
    if not any(isinstance(layer, LoraLayer) for layer in module.modules()):
        # The module is what it was; peft would warn of the one before when the next one comes.
        del module.peft_config
