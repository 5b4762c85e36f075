"""Checkpoints on disk: which folder a name means, whether it is whole, and what its optional files say.

The released layout is `model_index.json` and a folder for each of seven parts. Beside it may stand `atelier.json`
(default size, steps, guidance, range of sides, whether edits keep pixels) and `world.json` (what a small model knows).
Only safetensors count; weights may be quantized, their configs say so. Knows no torch, and leaves the hub to `hub.py`
and `download.py`, which are asked only for a hub id that is neither the miniature nor a folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from glmimage import download, hub
from glmimage.errors import CheckpointError, HubUnreachable, RequestError
from glmimage.geometry import Size
from glmimage.request import Defaults as Defaults

MINIATURE = "miniature"
ASSETS = Path(__file__).resolve().parent.parent / "assets"

_WEIGHTS = {
    "text_encoder": "model",
    "vision_language_encoder": "model",
    "transformer": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
}
"""Folders that hold weights, and their files' stem."""
_FILES = (
    "model_index.json",
    "text_encoder/config.json",
    "tokenizer/tokenizer_config.json",
    "processor/tokenizer.json",
    "processor/tokenizer_config.json",
    "vision_language_encoder/config.json",
    "vision_language_encoder/generation_config.json",
    "transformer/config.json",
    "vae/config.json",
    "scheduler/scheduler_config.json",
)
_DOWNLOAD = (
    "model_index.json",
    "atelier.json",
    "world.json",
    *(
        f"{folder}/*.{kind}"
        for folder in sorted({name.split("/")[0] for name in _FILES if "/" in name})
        for kind in ("json", "safetensors", "jinja", "txt", "model")
    ),
)
"""A repository may hold the same weights in other layouts too; those are left there."""


def find(name: str, report: download.Report | None = None) -> Path:
    """The folder of checkpoint `name`: "miniature", an existing folder, or else a hub id, perhaps with @revision.

    A hub id that was fetched before is taken from the cache without a connection, else it is downloaded and `report` is
    told how far. Raises CheckpointError; the folder is not verified.
    """
    return _local(name) or download.verified(name) or _fetch(name, report)


def here(name: str) -> Path | None:
    """The folder of checkpoint `name` as far as it is on this machine, whole or not; None for a hub id that is not.

    Opens no connection. Raises CheckpointError for what is no name.
    """
    return _local(name) or hub.snapshot(name)


def fetch(name: str, report: download.Report | None = None) -> Path:
    """Like `find`, but asks the hub for the newest commit of a hub id, and verifies the folder.

    Where the hub does not answer, a whole copy in the cache does. Raises CheckpointError.
    """
    folder = _local(name) or _fetch(name, report)
    verify(folder)
    return folder


def check(name: str) -> list[str]:
    """What `fetch` would have to download of a hub id, or what a folder lacks: names of files, with what is wrong.

    Raises CheckpointError where that cannot be said.
    """
    if folder := _local(name):
        return missing(folder)
    return [f"{file.path} ({hub.bytes_text(file.size)})" for file in _look_up(name).missing()]


def _local(name: str) -> Path | None:
    """The folder that `name` means without a hub; None for a hub id."""
    if name == MINIATURE:
        return ASSETS / MINIATURE
    folder = Path(name).expanduser()
    if name.strip() and folder.is_dir():
        return folder
    if not hub.is_name(name):
        raise CheckpointError(
            f"There is no checkpoint {name!r}; name a folder that exists, a hub id such as zai-org/GLM-Image,"
            f" or {MINIATURE}."
        )
    return None


def _fetch(name: str, report: download.Report | None) -> Path:
    try:
        release = _look_up(name)
    except HubUnreachable as unreachable:
        folder = hub.snapshot(name)
        if folder is None:
            raise
        if lacking := missing(folder):
            raise CheckpointError(
                f"The copy of {name} in {folder} is not whole ({', '.join(lacking)} missing) and cannot be completed:"
                f" {unreachable}"
            ) from unreachable
        return folder
    return download.fetch(release, report)


def _look_up(name: str) -> hub.Release:
    """Refuses other models before gigabytes of them are fetched."""
    release = hub.look_up(name, _DOWNLOAD)
    there = {file.path for file in release.files}
    if lacking := [file for file in _FILES if file not in there]:
        raise CheckpointError(
            f"The model {name} is not a GLM-Image checkpoint: it has no {', '.join(lacking)}; name another."
        )
    return release


def verify(folder: Path) -> None:
    """Raises CheckpointError naming every file that the released layout needs and `folder` lacks."""
    if not folder.is_dir():
        raise CheckpointError(f"There is no checkpoint folder {folder}; train or download one, or name another.")
    if lacking := missing(folder):
        raise CheckpointError(
            f"The checkpoint in {folder} is not whole: {', '.join(lacking)} missing; download or write it again."
        )
    kind = _object(folder / "model_index.json").get("_class_name")
    if kind != "GlmImagePipeline":
        raise CheckpointError(f"The checkpoint in {folder} is a {kind}, not a GlmImagePipeline; name another folder.")


def missing(folder: Path) -> list[str]:
    """The files that the released layout needs and `folder` lacks; the end of weights that were cut short counts."""
    names = [name for name in _FILES if not (folder / name).is_file()]
    for part, stem in _WEIGHTS.items():
        names += _missing_weights(folder / part, stem)
    return names


def _missing_weights(part: Path, stem: str) -> list[str]:
    files = _shards(part, stem)
    lacking = [file for file in files if not file.is_file()]
    short = [file for file in files if file not in lacking and not _is_whole(file)]
    return [f"{part.name}/{file.name}" for file in lacking] + [f"the end of {part.name}/{file.name}" for file in short]


def shards(part: Path) -> list[Path]:
    """The files that hold the weights of a part's folder, as its index lists them. Raises CheckpointError."""
    return _shards(part, _WEIGHTS[part.name])


def _shards(part: Path, stem: str) -> list[Path]:
    index = part / f"{stem}.safetensors.index.json"
    if not index.is_file():
        return [part / f"{stem}.safetensors"]
    listed = _object(index).get("weight_map")
    if not isinstance(listed, dict):
        raise CheckpointError(f"The file {index} lists no weights; download or write the checkpoint again.")
    return [part / name for name in sorted({str(shard) for shard in listed.values()})]


def layout(folder: Path) -> list[Path]:
    """Every file of a checkpoint that belongs to it, with its model card and licence."""
    return [file for pattern in (*_DOWNLOAD, "README.md", "LICENSE*") for file in sorted(folder.glob(pattern))]


def _is_whole(path: Path) -> bool:
    """Whether a safetensors file ends where its header says; a broken copy or the pointer of Git LFS does not."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if 8 + length > size:
            return False
        try:
            tensors = [entry for name, entry in json.loads(file.read(length)).items() if name != "__metadata__"]
            return 8 + length + max((int(entry["data_offsets"][1]) for entry in tensors), default=0) == size
        except (ValueError, TypeError, KeyError, IndexError, AttributeError):
            return False


def read_defaults(folder: Path) -> Defaults:
    """`atelier.json` where it stands, and the world's sizes; else the release's 1024 px, 50 steps, guidance 1.5, under
    the folder's name."""
    path = folder / "atelier.json"
    if not path.is_file():
        return Defaults(name=_name(folder))
    data = _object(path)
    known = {field.name: field.type for field in fields(Defaults)}
    for key, value in data.items():
        kind = {"name": str, "keep": bool, "repeats": bool}.get(key)
        good = isinstance(value, kind) if kind else _is_number(value, whole=key != "guidance")
        if key not in known or not good:
            raise CheckpointError(
                f"The file {path} says {key} = {value!r}, which has no meaning; correct it or remove it."
            )
    return Defaults(**{"name": _name(folder), **data, "sizes": sizes_of(read_world(folder))})


def write_defaults(folder: Path, defaults: Defaults) -> None:
    """Stores `defaults` where `read_defaults` finds them."""
    data = {name: value for name, value in asdict(defaults).items() if name != "sizes"}
    text = json.dumps(data, indent=2, sort_keys=True) + "\n"
    (folder / "atelier.json").write_text(text, encoding="utf-8")


def read_world(folder: Path) -> dict[str, Any] | None:
    """What the checkpoint knows (`world.json`), or None where it does not say."""
    path = folder / "world.json"
    return _object(path) if path.is_file() else None


def sizes_of(world: Mapping[str, Any] | None) -> tuple[Size, ...]:
    """Sizes of the pictures that a checkpoint learned, where its world says so."""
    told = (world or {}).get("sizes")
    if not isinstance(told, list) or not all(isinstance(size, str) for size in told):
        return ()
    try:
        return tuple(map(Size.parse, told))
    except RequestError:
        return ()


def letter_of(world: Mapping[str, Any] | None) -> Size | None:
    """Pixels that every letter of a checkpoint takes across and down, where its world says so."""
    lettering = (world or {}).get("lettering")
    sides = lettering.get("letter") if isinstance(lettering, Mapping) else None
    if isinstance(sides, list) and len(sides) == 2 and all(type(side) is int and side > 0 for side in sides):
        return Size(*sides)
    return None


def _name(folder: Path) -> str:
    """The hub id of a snapshot in the hub's cache, else the folder's own name."""
    if folder.parent.name == "snapshots" and folder.parent.parent.name.startswith("models--"):
        return folder.parent.parent.name.removeprefix("models--").replace("--", "/", 1)
    return folder.resolve().name


def _is_number(value: object, *, whole: bool) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, int) and value > 0 if whole else isinstance(value, (int, float)) and value >= 0


def _object(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"The file {path} cannot be read ({error}); download or write the checkpoint again."
        ) from None
    if not isinstance(data, dict):
        raise CheckpointError(f"The file {path} is not a JSON object; download or write the checkpoint again.")
    return data
