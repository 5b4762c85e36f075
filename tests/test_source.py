"""Masks as people draw them, the seam around them, and what a source holds."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image

from glmimage.errors import PictureError
from glmimage.references import prepare
from glmimage.request import Reference, Request
from glmimage.source import SEAM, Source, read_mask, read_source
from tests.test_prompting import noise_picture

if TYPE_CHECKING:
    from glmimage.models import Stack


def saved(picture: Image.Image, path: Path) -> str:
    picture.save(path)
    return str(path)


def drawn(
    mode: str = "L", size: tuple[int, int] = (128, 96), box: tuple[int, int, int, int] = (32, 32, 96, 64)
) -> Image.Image:
    mask = Image.new(mode, size)
    mask.paste("white", box)
    return mask


def source_of(
    stack: Stack, folder: Path, picture: Image.Image, mask: Image.Image | None = None, content: float = 0.0
) -> Source:
    reference = Reference(path=saved(picture, folder / "a.png"))
    path = None if mask is None else saved(mask, folder / "mask.png")
    request = Request(prompt="a", references=(reference,), mask=path, content=content)
    return read_source(stack, request, prepare(stack, [reference])[0])


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "RGBA", "LA"])
def test_white_and_opaque_may_change(tmp_path: Path, mode: str) -> None:
    mask = read_mask(saved(drawn(mode), tmp_path / "mask.png"), (128, 96), (128, 96))
    wanted = torch.zeros(96, 128)
    wanted[32:64, 32:96] = 1
    assert torch.equal(mask, wanted)


def test_a_mask_of_another_scale_is_fitted(tmp_path: Path) -> None:
    mask = read_mask(
        saved(drawn(size=(256, 192), box=(64, 64, 192, 128)), tmp_path / "mask.png"), (1000, 751), (128, 96)
    )
    assert mask.shape == (96, 128)
    assert mask[32:64, 32:96].all()
    assert mask.sum() == 32 * 64


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (drawn(size=(96, 96)), "another shape"),
        (Image.new("L", (128, 96)), "marks nothing"),
        (Image.new("RGBA", (128, 96), (255, 255, 255, 0)), "marks nothing"),
        (drawn(size=(12, 9)), "at least 16"),
    ],
)
def test_masks_that_are_refused(tmp_path: Path, mask: Image.Image, words: str) -> None:
    with pytest.raises(PictureError, match=words) as caught:
        read_mask(saved(mask, tmp_path / "mask.png"), (128, 96), (128, 96))
    assert str(caught.value).endswith(".")


def test_the_seam_is_outside_and_ends(tiny_stack: Stack, tmp_path: Path) -> None:
    source = source_of(tiny_stack, tmp_path, noise_picture(128, 96), drawn())
    row = source.share[48].tolist()
    assert row[32:96] == [1.0] * 64
    seam = row[32 - SEAM : 32]
    assert all(0 < one < other < 1 for one, other in pairwise(seam))
    assert set(row[: 32 - SEAM] + row[96 + SEAM :]) == {0.0}


def test_pixels_beyond_the_seam_are_the_sources(tiny_stack: Stack, tmp_path: Path) -> None:
    old, new = noise_picture(128, 96, 1), noise_picture(128, 96, 2)
    mixed = np.asarray(source_of(tiny_stack, tmp_path, old, drawn()).put_back(new))
    wanted = np.asarray(old).copy()
    wanted[32:64, 32:96] = np.asarray(new)[32:64, 32:96]
    beyond = np.ones((96, 128), dtype=bool)
    beyond[32 - SEAM : 64 + SEAM, 32 - SEAM : 96 + SEAM] = False
    inside = np.zeros_like(beyond)
    inside[32:64, 32:96] = True
    assert np.array_equal(mixed[beyond | inside], wanted[beyond | inside])
    assert np.array_equal(np.asarray(source_of(tiny_stack, tmp_path, old).put_back(new)), np.asarray(new))


def test_codes_of_cells_that_stay_are_known(tiny_stack: Stack, tmp_path: Path) -> None:
    source = source_of(tiny_stack, tmp_path, noise_picture(128, 96), drawn(box=(50, 50, 52, 52)))
    own = source.reference.codes.flatten().tolist()
    assert source.known_codes() == [*own[:5], -1, *own[6:]]
    assert source_of(tiny_stack, tmp_path, noise_picture(128, 96)).known_codes() == [-1] * 12


def test_what_a_layout_leaves_alone_stays(tiny_stack: Stack, tmp_path: Path) -> None:
    source = source_of(tiny_stack, tmp_path, noise_picture(160, 96))
    codes = source.reference.codes.numpy().copy()
    assert not source.keeping(codes).share.any(), "the layout is the source's own"
    codes[1, 0] = (codes[1, 0] + 1) % tiny_stack.codes
    share = source.keeping(codes).share
    assert (share[:, :64] == 1).all(), "the changed cell and those around it"
    assert not share[:, 64 + SEAM :].any()
    ground = source.reference.codes.numpy().copy()
    ground[:, :3] = (ground[:, :3] + 1) % tiny_stack.codes
    assert (source.keeping(ground).share == 1).all(), "a new ground goes on to the sides"
    masked = source_of(tiny_stack, tmp_path, noise_picture(160, 96), drawn(size=(160, 96), box=(0, 0, 32, 96)))
    assert torch.equal(masked.keeping(codes).share, torch.minimum(masked.share, share))


def test_a_start_between_noise_and_source(tiny_stack: Stack, tmp_path: Path) -> None:
    source = source_of(tiny_stack, tmp_path, noise_picture(128, 96), content=0.4)
    noise = torch.randn(2, 16, 12, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(source.start(noise, 1.0), noise)
    torch.testing.assert_close(source.start(noise, 0.0), source.reference.latents.expand(2, -1, -1, -1))
    assert torch.equal(source.hold(noise, noise, 0.3), noise), "without a mask everything is free"
    assert [source.skipped(steps) for steps in (1, 2, 5, 50)] == [0, 1, 2, 20]
    assert source_of(tiny_stack, tmp_path, noise_picture(128, 96), content=1.0).skipped(5) == 4


def test_a_picture_that_does_not_fit_is_resized_once(tiny_stack: Stack, tmp_path: Path) -> None:
    source = source_of(tiny_stack, tmp_path, noise_picture(130, 95), drawn(size=(130, 95)))
    assert source.picture.size == (128, 96)
    assert (source.reference.size.width, source.reference.size.height) == source.picture.size
    assert source.share.shape == (96, 128)
