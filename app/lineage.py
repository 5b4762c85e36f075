"""What a picture was made from, and what was made from it, over any number of steps.

Each picture carries the ancestry of the pictures that it was made from, so a chain holds together when one of them is
gone for good. Names are those of `storage`. Knows no page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from app.index import Index
from app.storage import PICTURES, Storage
from glmimage.metadata import Settings

LARGEST_FAMILY = 200
"""Relatives in one direction; a page shows no more."""
LARGEST_ANCESTRY = 400
"""Pictures whose origin one picture carries; about 60 bytes each."""

State = Literal["kept", "trashed", "given", "gone"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Relative:
    """A picture before or after another one."""

    name: str
    steps: int
    """1: directly made from it, or it from that."""
    state: State
    """"given": brought by a person; "gone": its file is no more."""
    path: Path | None

    @property
    def key(self) -> str:
        """In the history; "" for what was given."""
        return self.name.removeprefix(PICTURES) if self.name.startswith(PICTURES) else ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Lineage:
    """The nearest first; where two were used at once, in the order in which they were."""

    ancestors: tuple[Relative, ...]
    descendants: tuple[Relative, ...]


def trace(index: Index, storage: Storage, key: str) -> Lineage:
    """The family of one picture: a key of the history, or the name of one that a person brought."""
    name = PICTURES + key if storage.path(key) is None else key
    return Lineage(ancestors=_walk(storage, name, index.parents), descendants=_walk(storage, name, index.children))


def _walk(storage: Storage, start: str, step: Callable[[str], Iterable[str]]) -> tuple[Relative, ...]:
    """Breadth first; a circle, which a picture made by hand may claim, ends where it closes."""
    seen, front = {start}, [start]
    found: list[Relative] = []
    for distance in range(1, LARGEST_FAMILY + 1):
        front = [name for name in dict.fromkeys(name for one in front for name in step(one)) if name not in seen]
        seen.update(front)
        if not front or len(found) >= LARGEST_FAMILY:
            break
        found += [_relative(storage, name, distance) for name in front]
    return tuple(found[:LARGEST_FAMILY])


def _relative(storage: Storage, name: str, steps: int) -> Relative:
    key = name.removeprefix(PICTURES)
    if name.startswith(PICTURES):
        path = storage.path(name)
        state: State = "trashed" if storage.find(key, trashed=True) else "kept"
    else:
        path, state = storage.path(name), "given"
    there = path is not None and path.is_file()
    return Relative(name=name, steps=steps, state=state if there else "gone", path=path if there else None)


def ancestry(parents: Iterable[str], read: Callable[[str], Settings | None]) -> dict[str, tuple[str, ...]]:
    """Origins of the pictures among `parents` and of all before them; `read` gives the settings of a key, as stored."""
    origins: dict[str, tuple[str, ...]] = {}
    for name in parents:
        settings = read(name.removeprefix(PICTURES)) if name.startswith(PICTURES) else None
        if settings is None:
            continue
        if made := tuple(reference.path for reference in settings.request.references):
            origins[name] = made
        origins |= {name: tuple(made) for name, made in settings.ancestry.items() if name not in origins}
    return dict(list(origins.items())[:LARGEST_ANCESTRY])
