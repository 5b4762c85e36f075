"""What the data folder holds, in bytes, and what of it can be cleared because it is made again when it is needed.

Beside it the checkpoints that were downloaded, which lie in the hub client's cache.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from app.storage import Storage, StoreError

CLEARED = ("encoded", "thumbnails", "exports", "arriving")
KEPT = ("pictures", "trash", "inputs", "subjects")
ABANDONED = 3600.0
"""Seconds after which nobody takes an upload in any more."""
_PART = "vision_language_encoder"
"""The folder by which one of our checkpoints is known in the hub's cache, where other programs' lie too."""


def sizes(storage: Storage) -> dict[str, int]:
    """Bytes of each kind, those that can be cleared last; no "checkpoints" where none was downloaded."""
    found = {name: _size(getattr(storage, name)) for name in KEPT}
    if downloaded := _downloaded():
        found["checkpoints"] = downloaded
    return found | {name: _size(getattr(storage, name)) for name in CLEARED}


def clear(storage: Storage, name: str) -> int:
    """Deletes what is in one of `CLEARED`; returns the bytes. What is just being used stays. Raises StoreError."""
    if name not in CLEARED:
        raise StoreError(f"{name!r} cannot be cleared; choose one of {', '.join(CLEARED)}.")
    return _delete(_files(getattr(storage, name))) if name != "arriving" else sweep(storage)


def sweep(storage: Storage) -> int:
    """Deletes the uploads that were abandoned, with their folders; returns the bytes."""
    before = time.time() - ABANDONED
    old = [(path, about) for path, about in _files(storage.arriving) if about.st_mtime < before]
    freed = _delete(old)
    for path, _ in old:
        with suppress(OSError):
            path.parent.rmdir()
    return freed


def _delete(files: Iterable[tuple[Path, os.stat_result]]) -> int:
    freed = 0
    for path, about in files:
        try:
            path.unlink()
        except OSError:
            continue
        freed += about.st_size
    return freed


def _downloaded() -> int:
    """Bytes of the checkpoints in the hub client's cache."""
    from huggingface_hub import constants, scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repositories = scan_cache_dir(constants.HF_HUB_CACHE).repos
    except (CacheNotFound, OSError, ValueError):
        return 0
    return sum(
        one.size_on_disk
        for one in repositories
        if any((revision.snapshot_path / _PART).is_dir() for revision in one.revisions)
    )


def _size(folder: Path) -> int:
    return sum(about.st_size for _, about in _files(folder))


def _files(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Every file below, links not followed."""
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place, name)
            try:
                yield path, path.lstat()
            except OSError:
                continue
