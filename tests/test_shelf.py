"""Prepared references on disk: encoded once, found again by another process, never trusted."""

from __future__ import annotations

import os
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

import pytest
import torch
from safetensors.torch import load_file, save_file

from glmimage import references
from glmimage.models import Stack
from glmimage.references import PreparedReference, prepare
from glmimage.request import Reference
from glmimage.shelf import Shelf, fingerprint
from tests.test_prompting import noise_picture

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "encoded")


@pytest.fixture(autouse=True)
def _nothing_in_memory(tiny_stack: Stack) -> Iterator[None]:
    tiny_stack.kept.pop("references", None)
    yield
    tiny_stack.kept.pop("references", None)


def read(stack: Stack, shelf: Shelf, path: Path, encoding: bool) -> PreparedReference:
    """Prepares a picture with nothing in memory; whether it is encoded is as expected."""
    stack.kept.pop("references", None)
    at_work = mock.Mock(side_effect=nullcontext)
    with mock.patch.object(references, "encode_codes", wraps=references.encode_codes) as encode:
        (prepared,) = prepare(stack, [Reference(path=str(path))], shelf, at_work)
    assert encode.called is at_work.called is encoding
    return prepared


def picture(folder: Path, seed: int = 0) -> Path:
    path = folder / f"{seed}.png"
    noise_picture(96, 64, seed).save(path)
    return path


def files(shelf: Shelf) -> list[Path]:
    return sorted(shelf.folder.rglob("*.safetensors"))


def test_the_second_use_encodes_nothing(tiny: Path, tiny_stack: Stack, shelf: Shelf, tmp_path: Path) -> None:
    path = picture(tmp_path)
    first = read(tiny_stack, shelf, path, encoding=True)
    second = read(tiny_stack, shelf, path, encoding=False)
    other = read(Stack.load(tiny), Shelf(shelf.folder), path, encoding=False)
    for again in (second, other):
        assert torch.equal(again.codes, first.codes)
        assert torch.equal(again.latents, first.latents)
        assert (again.codes.dtype, again.size, again.digest) == (first.codes.dtype, first.size, first.digest)
    (file,) = files(shelf)
    assert set(load_file(file)) == {"codes", "latents"}
    assert shelf.nbytes == file.stat().st_size < 16 * 2**10


def test_another_picture_or_checkpoint_is_another_file(
    tiny: Path, tiny_stack: Stack, shelf: Shelf, tmp_path: Path
) -> None:
    read(tiny_stack, shelf, picture(tmp_path), encoding=True)
    read(tiny_stack, shelf, picture(tmp_path, 1), encoding=True)
    read(Stack.load(tiny, dtype=torch.float64), shelf, picture(tmp_path), encoding=True)
    copy = tmp_path / "copy"
    shutil.copytree(tiny, copy)
    assert fingerprint(Stack.load(copy)) == fingerprint(tiny_stack)
    for part, name, same in (
        ("vae", "encoder.conv_in.weight", False),
        ("vision_language_encoder", "model.visual.blocks.0.attn.proj.weight", False),
        ("vision_language_encoder", "model.language_model.norm.weight", True),
    ):
        (file,) = (copy / part).glob("*.safetensors")
        held = load_file(file)
        before = fingerprint(Stack.load(copy))
        save_file({**held, name: held[name] + 0.01}, file, {"format": "pt"})
        assert (fingerprint(Stack.load(copy)) == before) is same, name
    assert len(files(shelf)) == 3


@pytest.mark.parametrize("damage", ["cut", "empty", "noise", "shape", "codes", "numbers", "names"])
def test_a_bad_file_is_encoded_again(tiny_stack: Stack, shelf: Shelf, tmp_path: Path, damage: str) -> None:
    path = picture(tmp_path)
    first = read(tiny_stack, shelf, path, encoding=True)
    (file,) = files(shelf)
    held = load_file(file)
    changed = {
        "shape": held | {"latents": held["latents"][..., :-1].contiguous()},
        "codes": held | {"codes": held["codes"] + 10**6},
        "numbers": held | {"latents": held["latents"] * torch.nan},
        "names": {"codes": held["codes"]},
    }
    if damage in changed:
        save_file(changed[damage], file)
    else:
        whole = file.read_bytes()
        file.write_bytes({"cut": whole[:-100], "empty": b"", "noise": os.urandom(2000)}[damage])
    again = read(tiny_stack, shelf, path, encoding=True)
    assert torch.equal(again.latents, first.latents)
    read(tiny_stack, shelf, path, encoding=False)


def test_what_was_used_least_recently_makes_room(tiny_stack: Stack, shelf: Shelf, tmp_path: Path) -> None:
    paths = [picture(tmp_path, seed) for seed in range(4)]
    for moment, path in enumerate(paths[:3]):
        read(tiny_stack, shelf, path, encoding=True)
        for file in files(shelf):
            if file.stat().st_mtime > 1000:
                os.utime(file, (moment, moment))
    read(tiny_stack, shelf, paths[0], encoding=False)
    shelf.most = shelf.nbytes
    read(tiny_stack, shelf, paths[3], encoding=True)
    assert shelf.nbytes <= shelf.most
    for path, encoding in ((paths[0], False), (paths[2], False), (paths[3], False), (paths[1], True)):
        read(tiny_stack, shelf, path, encoding=encoding)
    shelf.clear()
    assert (shelf.nbytes, files(shelf)) == (0, [])


def test_a_disk_that_takes_nothing_is_no_fault(tiny_stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    shelf = Shelf(tmp_path / "file")
    read(tiny_stack, shelf, picture(tmp_path), encoding=True)
    read(tiny_stack, shelf, picture(tmp_path), encoding=True)
    assert shelf.nbytes == 0
