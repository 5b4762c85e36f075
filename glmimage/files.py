"""Files that are there whole or not at all, whatever ends the process.

Written beside their place first, brought to the disk, then renamed. What a killed process leaves behind ends in
`UNFINISHED` and begins with a dot. Knows nothing of what is in the files.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO

UNFINISHED = ".part"
_ABANDONED = 3600.0
"""Seconds after which an unfinished file belongs to nobody."""


def write_whole(path: Path, write: Callable[[IO[bytes]], object], *, lasting: bool = True) -> None:
    """What `write` puts into the file appears at `path`, in place of what was there. Raises OSError.

    Unless `lasting`, a machine that loses power soon after may lose it, which is much faster.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}{UNFINISHED}")
    try:
        with part.open("wb") as file:
            write(file)
            if lasting:
                file.flush()
                os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    if lasting:
        _settle(path.parent)


def move(source: Path, target: Path) -> None:
    """Renames within one file system, and makes the folder. Raises OSError."""
    target.parent.mkdir(parents=True, exist_ok=True)
    source.replace(target)
    _settle(target.parent)


def sweep(folders: Iterable[Path]) -> None:
    """Removes what an earlier run was writing below them when it was ended; recent files may be another run's."""
    for folder in folders:
        for part in folder.rglob(f".*{UNFINISHED}"):
            with suppress(OSError):
                if part.stat().st_mtime < time.time() - _ABANDONED:
                    part.unlink()


def _settle(folder: Path) -> None:
    """The names in a folder, too, reach the disk. Windows opens no folders."""
    if os.name != "posix":
        return
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
