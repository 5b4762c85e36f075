"""A checkpoint to its quantized copy: written once, it loads without the unquantized weights ever after.

Component by component, through transformers' and diffusers' own `save_pretrained`, always on the CPU. What it needs is
the component in its new format and about 14 bytes for each number of the largest layer while that is quantized: at the
release's widths 1.37 GiB with 2 decoder layers and 1.67 with 4, measured. For the prior, transformers also maps the
file that it reads; these pages count as resident, but are cache that the system takes back when it needs the memory.
The copy appears under its name when it is complete, and never before.
"""

from __future__ import annotations

import gc
import shutil
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError

from glmimage import checkpoint, quantize
from glmimage.errors import CheckpointError
from glmimage.hub import bytes_text
from glmimage.models import empty_component, load_component, quiet
from glmimage.quantize import FOLDERS, Component, Format, Formats

_SHARD = "4GB"
"""Files of this size at most, so that a reader never maps more than that."""
_OVERHEAD = 2048
"""Bytes a quantized layer takes in a file beyond those in memory; its scales' JSON and the names of its tensors."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Written:
    """One component is done."""

    component: Component
    format: Format
    before: int
    """Bytes of its files."""
    after: int


def convert(source: Path, target: Path, formats: Formats) -> Generator[Written, None, None]:
    """Writes the checkpoint in `source` to the new folder `target`, with the components that `formats` names quantized.

    Yields after each of them. Raises CheckpointError before anything is written where it cannot be done, and leaves
    nothing behind when it fails or is closed.
    """
    wanted = {component: format for component, format in formats.items() if format not in (None, "bf16")}
    _check(source, target, wanted)
    # Beside the target, so that the last step is one rename.
    partial = target.with_name(f"{target.name}.partial")
    try:
        partial.mkdir()
    except FileExistsError:
        raise CheckpointError(
            f"The folder {partial} is of another run, interrupted or still going on; remove it and start again."
        ) from None
    except OSError as error:
        raise CheckpointError(f"The folder {partial} cannot be made ({error.strerror}); name another.") from None
    try:
        for component, format in wanted.items():
            yield _write(component, format, source, partial)
        _copy(source, partial, [FOLDERS[component] for component in wanted])
        checkpoint.verify(partial)
        partial.rename(target)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"The checkpoint {target} cannot be written ({error}); make room or name another."
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _check(source: Path, target: Path, wanted: dict[Component, Format]) -> None:
    quantize.require()
    checkpoint.verify(source)
    if not wanted:
        raise CheckpointError("There is nothing to quantize; ask for 8 or 4 bits, or name a component's format.")
    for component in FOLDERS:
        stored = quantize.stored_format(source / FOLDERS[component])
        if stored != "bf16":
            raise CheckpointError(
                f"The checkpoint in {source} is quantized already (its {component} is stored in {stored}); name the one"
                " that it was made from."
            )
    if target.exists():
        raise CheckpointError(f"There is a {target} already; name a new folder, or remove it first.")
    if not target.parent.is_dir():
        raise CheckpointError(f"There is no folder {target.parent} to write to; make it first.")
    needed = sum(_bytes_after(component, format, source) for component, format in wanted.items())
    needed += sum(file.stat().st_size for file in _others(source, [FOLDERS[component] for component in wanted]))
    free = shutil.disk_usage(target.parent).free
    if needed > free:
        raise CheckpointError(
            f"The quantized checkpoint takes {bytes_text(needed)} and {bytes_text(free)} are free in {target.parent};"
            " make room, or name a folder on a larger disk."
        )


def _bytes_after(component: Component, format: Format, source: Path) -> int:
    """Of the component's files, at most."""
    model = empty_component(component, source)
    layers = len(quantize.quantized_linears(component, model))
    return quantize.component_bytes(component, model, format) + _OVERHEAD * layers


def _write(component: Component, format: Format, source: Path, target: Path) -> Written:
    folder = FOLDERS[component]
    with quiet():
        module = load_component(component, source, format, torch.device("cpu"), torch.bfloat16)
        module.save_pretrained(target / folder, max_shard_size=_SHARD)
    del module
    # Modules and their quantized parameters refer to each other.
    gc.collect()
    for file in (source / folder).glob("*.json"):
        if not (file.name == "config.json" or file.name.endswith(".index.json")):
            shutil.copyfile(file, target / folder / file.name)
    before, after = (sum(file.stat().st_size for file in checkpoint.shards(root / folder)) for root in (source, target))
    return Written(component=component, format=format, before=before, after=after)


def _others(source: Path, written: list[str]) -> list[Path]:
    """The checkpoint's files outside of these folders."""
    return [file for file in checkpoint.layout(source) if file.relative_to(source).parts[0] not in written]


def _copy(source: Path, target: Path, written: list[str]) -> None:
    for file in _others(source, written):
        copy = target / file.relative_to(source)
        copy.parent.mkdir(exist_ok=True)
        # The content: files of the hub's cache are links.
        shutil.copyfile(file, copy)
