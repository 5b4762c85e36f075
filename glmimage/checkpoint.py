"""Checkpoints on disk: which folder a name means, whether it is whole, and what its optional files say.

The released layout is `model_index.json` and a folder for each of seven parts. Beside it may stand `atelier.json`
(default size, steps, guidance, range of sides) and `world.json` (what a small model knows). Only safetensors count.
Knows no torch; reaches the network only for a hub id that is neither the miniature nor a folder.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from glmimage.errors import CheckpointError
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
_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)
_DOWNLOAD = ("*.json", "*.safetensors", "*.jinja", "*.txt", "*.model")


def find(name: str) -> Path:
    """The folder of checkpoint `name`: "miniature", an existing folder, or else a hub id, which is downloaded.

    Raises CheckpointError; the folder is not verified.
    """
    if name == MINIATURE:
        return ASSETS / MINIATURE
    folder = Path(name).expanduser()
    if name.strip() and folder.is_dir():
        return folder
    if not _HUB_ID.fullmatch(name):
        raise CheckpointError(
            f"There is no checkpoint {name!r}; name a folder that exists, a hub id such as zai-org/GLM-Image,"
            f" or {MINIATURE}."
        )
    return _download(name)


def _download(hub_id: str) -> Path:
    """The hub's snapshot in its own cache; resumes what an earlier attempt left."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(hub_id, allow_patterns=list(_DOWNLOAD)))
    # The hub client raises its own, httpx's and the system's errors; for a person all of them mean one thing.
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"The checkpoint {hub_id!r} could not be downloaded ({reason});"
            " check the name and the network, then try again."
        ) from error


def verify(folder: Path) -> None:
    """Raises CheckpointError naming every file that the released layout needs and `folder` lacks."""
    if not folder.is_dir():
        raise CheckpointError(f"There is no checkpoint folder {folder}; train or download one, or name another.")
    missing = [name for name in _FILES if not (folder / name).is_file()]
    for part, stem in _WEIGHTS.items():
        missing += _missing_weights(folder / part, stem)
    if missing:
        raise CheckpointError(
            f"The checkpoint in {folder} is not whole: {', '.join(missing)} missing; download or write it again."
        )
    kind = _object(folder / "model_index.json").get("_class_name")
    if kind != "GlmImagePipeline":
        raise CheckpointError(f"The checkpoint in {folder} is a {kind}, not a GlmImagePipeline; name another folder.")


def _missing_weights(part: Path, stem: str) -> list[str]:
    index = part / f"{stem}.safetensors.index.json"
    if index.is_file():
        shards = _object(index).get("weight_map")
        if not isinstance(shards, dict):
            raise CheckpointError(f"The file {index} lists no weights; download or write the checkpoint again.")
        names = sorted({str(shard) for shard in shards.values()})
    else:
        names = [f"{stem}.safetensors"]
    return [f"{part.name}/{name}" for name in names if not (part / name).is_file()]


def read_defaults(folder: Path) -> Defaults:
    """`atelier.json` where it stands; else the release's 1024 px, 50 steps, guidance 1.5, under the folder's name."""
    path = folder / "atelier.json"
    if not path.is_file():
        return Defaults(name=_name(folder))
    data = _object(path)
    known = {field.name: field.type for field in fields(Defaults)}
    for key, value in data.items():
        good = isinstance(value, str) if key == "name" else _is_number(value, whole=key != "guidance")
        if key not in known or not good:
            raise CheckpointError(
                f"The file {path} says {key} = {value!r}, which has no meaning; correct it or remove it."
            )
    return Defaults(**{"name": _name(folder), **data})


def write_defaults(folder: Path, defaults: Defaults) -> None:
    """Stores `defaults` where `read_defaults` finds them."""
    text = json.dumps(asdict(defaults), indent=2, sort_keys=True) + "\n"
    (folder / "atelier.json").write_text(text, encoding="utf-8")


def read_world(folder: Path) -> dict[str, Any] | None:
    """What the checkpoint knows (`world.json`), or None where it does not say."""
    path = folder / "world.json"
    return _object(path) if path.is_file() else None


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
