"""Children that use the store and are killed with SIGKILL at any moment; run as a process of its own.

    python -m tests.nursery saves|marks DATA_DIR ROUNDS

The store is imported once and the children are forked, so a child costs milliseconds. Prints what they had reported
as done, as JSON lines; for "marks" it holds the files against that after every kill.
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from app.history import History
from app.storage import Marks
from glmimage.events import PriorTokens, Result
from glmimage.request import Request

LONGEST_LIFE = 0.03
"""Seconds in which a child is killed after what it was left to do; saving one picture takes about a third."""
State = dict[str, tuple[bool, Marks]]
"""Key: in the trash, and its marks."""


def result(side: int) -> Result:
    image = Image.effect_noise((side, side), 90).convert("RGB")
    request = Request(prompt="noise 噪声", width=side, height=side, steps=1, guidance=1.0)
    return Result(image, request, 0, 1, 1, PriorTokens(np.zeros((side // 32, side // 32), np.int64)))


def raise_child(life: Callable[[Callable[[str], None]], None], lines: int, chance: random.Random) -> list[str]:
    """Forks a child, kills it some time after it reported `lines` lines, and returns all that it reported."""
    ear, mouth = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            life(lambda line: os.write(mouth, f"{line}\n".encode()) and None)
        finally:
            os._exit(1)
    os.close(mouth)
    heard = b""
    while heard.count(b"\n") < lines:
        heard += os.read(ear, 4096)
    patience = chance.random() * LONGEST_LIFE
    while patience > 0.0005 and select.select([ear], [], [], patience)[0]:
        heard += os.read(ear, 4096)
        patience *= 0.7
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL, "the child failed before it was killed"
    while data := os.read(ear, 4096):
        heard += data
    os.close(ear)
    return heard.decode().splitlines()


def saves(data_dir: Path, rounds: int) -> None:
    made = result(192)

    def life(report: Callable[[str], None]) -> None:
        history = History(data_dir)
        while True:
            report(history.add(made).key)

    chance = random.Random(0)
    for number in range(rounds):
        for key in raise_child(life, number % 3, chance):
            print(json.dumps(key))


def deeds(keys: list[str], number: int) -> Iterator[tuple[Callable[[History], object], Callable[[State], None]]]:
    """An endless row of deeds, the same for the same number: what to do, and what it should come to."""
    chance = random.Random(number)
    while True:
        key, tag, on = chance.choice(keys), chance.choice("abcd"), chance.random() < 0.5

        def mark(state: State, key: str, change: Callable[[Marks], Marks]) -> None:
            state[key] = state[key][0], change(state[key][1])

        match chance.randrange(4):
            case 0:
                yield (
                    lambda history, key=key, on=on: history.star(key, on=on),
                    lambda state, key=key, on=on: mark(state, key, lambda marks: Marks(star=on, tags=marks.tags)),
                )
            case 1:
                yield (
                    lambda history, key=key, tag=tag: history.tag(key, add=[tag]),
                    lambda state, key=key, tag=tag: mark(
                        state,
                        key,
                        lambda marks: Marks(star=marks.star, tags=tuple(dict.fromkeys((*marks.tags, tag)))),
                    ),
                )
            case 2:
                yield (
                    lambda history, key=key, tag=tag: history.tag(key, remove=[tag]),
                    lambda state, key=key, tag=tag: mark(
                        state, key, lambda marks: Marks(star=marks.star, tags=tuple(t for t in marks.tags if t != tag))
                    ),
                )
            case _:
                yield (
                    lambda history, key=key, on=on: history.trash(key) if on else history.restore(key),
                    lambda state, key=key, on=on: state.update({key: (on, state[key][1])}),
                )


def marks(data_dir: Path, rounds: int) -> None:
    history = History(data_dir)
    keys = [history.add(result(64)).key for _ in range(4)]
    history.close()
    chance = random.Random(1)
    state: State = {key: (False, Marks()) for key in keys}
    for number in range(rounds):

        def life(report: Callable[[str], None], number: int = number) -> None:
            own = History(data_dir)
            for do, _ in deeds(keys, number):
                do(own)
                report("done")

        done = len(raise_child(life, number % 3, chance))
        future = deeds(keys, number)
        for _ in range(done):
            next(future)[1](state)
        later = dict(state)
        next(future)[1](later)
        storage = history.storage
        found = {key: (storage.find(key, trashed=True) is not None, storage.read_marks(key)) for key in keys}
        assert found in (state, later), f"round {number}: {found}, but {done} deeds were reported: {state}"
        assert all(storage.locate(key) for key in keys)
        state = found
        print(json.dumps(done))


if __name__ == "__main__":
    {"saves": saves, "marks": marks}[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))
