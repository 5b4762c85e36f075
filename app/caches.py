"""What the data folder holds, in bytes, and what of it can be cleared because it is made again when it is needed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from app.storage import Storage, StoreError

CLEARED = ("encoded", "thumbnails", "exports")
KEPT = ("pictures", "trash", "inputs")


def sizes(storage: Storage) -> dict[str, int]:
    """Bytes of each kind, those that can be cleared last."""
    return {name: sum(size for _, size in _files(getattr(storage, name))) for name in (*KEPT, *CLEARED)}


def clear(storage: Storage, name: str) -> int:
    """Deletes what is in one of `CLEARED`; returns the bytes. What is just being used stays. Raises StoreError."""
    if name not in CLEARED:
        raise StoreError(f"{name!r} cannot be cleared; choose one of {', '.join(CLEARED)}.")
    freed = 0
    for path, size in _files(getattr(storage, name)):
        try:
            path.unlink()
        except OSError:
            continue
        freed += size
    return freed


def _files(folder: Path) -> Iterator[tuple[Path, int]]:
    """Every file below, links not followed."""
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place, name)
            try:
                yield path, path.lstat().st_size
            except OSError:
                continue
