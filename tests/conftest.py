"""Fixtures of every test: a tiny random checkpoint in the released layout, and the stack loaded from it."""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Before torch is imported: on models this small a second thread costs more than it gives, most of all when it is busy.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# What is measured of the processor is noted there, for the tests alone.
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="atelier-tests-")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # So shells begin what runs in the background; programs that tests begin would take it over, and ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)

if TYPE_CHECKING:
    from glmimage.models import Stack

CAPTIONS = (
    "a soft 3D cat in the top left on a blue background",
    "a flat dog in the centre, green background, with the word 'HELLO' at the bottom",
    'three stickers in a row on white: an apple, a car and a star, "Good Day" in red letters',
    "写着“新年快乐”的红色背景",
)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder in the released layout with tiny random weights. Read only: copy it to change it."""
    from glmimage.train import release

    folder: Path = tmp_path_factory.mktemp("tiny") / "checkpoint"
    release.build(folder, release.TINY, CAPTIONS, seed=0)
    return folder


@pytest.fixture(scope="session")
def tiny_stack(tiny: Path) -> Stack:
    """The stack of `tiny` on the CPU in float32."""
    from glmimage.models import Stack

    return Stack.load(tiny)
