"""Reference pictures: sizes, and codes and latents equal to upstream's."""

from __future__ import annotations

import json
import os
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from glmimage import references
from glmimage.errors import PictureError
from glmimage.geometry import Size
from glmimage.models import Stack
from glmimage.references import encode_codes, fit, prepare, sizes
from glmimage.request import Reference
from glmimage.train.release import MINIATURE
from glmimage.train.world import SIZED
from tests.test_prompting import noise_picture


@pytest.mark.parametrize("size", [(96, 64), (128, 128), (256, 64)])
def test_codes_are_upstreams(tiny_stack: Stack, size: tuple[int, int]) -> None:
    picture = noise_picture(*size)
    inputs = tiny_stack.processor.image_processor(images=[picture], return_tensors="pt")
    features = tiny_stack.prior.get_image_features(inputs["pixel_values"], inputs["image_grid_thw"]).pooler_output
    theirs = tiny_stack.prior.get_image_tokens(features)
    ours = encode_codes(tiny_stack, picture)
    assert ours.shape == (size[1] // 32, size[0] // 32)
    assert ours.flatten().tolist() == theirs.tolist()
    assert len(set(theirs.tolist())) > 1


def test_latents_are_the_vaes(tiny_stack: Stack, tmp_path: Path) -> None:
    picture = noise_picture(96, 64)
    picture.save(tmp_path / "a.png")
    prepared = prepare(tiny_stack, [Reference(path=str(tmp_path / "a.png"))])[0]
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None] / 127.5 - 1
    config = tiny_stack.vae.config
    mean, std = (torch.tensor(value).view(1, -1, 1, 1) for value in (config.latents_mean, config.latents_std))
    with torch.no_grad():
        theirs = (tiny_stack.vae.encode(pixels).latent_dist.mode() - mean) / std
    assert torch.allclose(prepared.latents, theirs, atol=1e-5)


@pytest.mark.parametrize("size", [(100, 70), (400, 101), (640, 480), (63, 64), (2000, 501), (16, 16), (16, 64)])
def test_one_resize_for_both_encoders(tiny_stack: Stack, tmp_path: Path, size: tuple[int, int]) -> None:
    noise_picture(*size).save(tmp_path / "a.png")
    prepared = prepare(tiny_stack, [Reference(path=str(tmp_path / "a.png"))])[0]
    rows, columns = prepared.codes.shape
    assert (prepared.size.height, prepared.size.width) == (32 * rows, 32 * columns)
    assert prepared.latents.shape[-2:] == (4 * rows, 4 * columns)
    # The grid is the one that upstream's processor gives the file itself.
    inputs = tiny_stack.processor.image_processor(images=[Image.open(tmp_path / "a.png")], return_tensors="pt")
    assert inputs["image_grid_thw"].tolist() == [[1, rows, columns]]


def test_a_picture_that_fits_is_not_touched(tiny_stack: Stack) -> None:
    picture = noise_picture(96, 128)
    assert fit(picture, tiny_stack) is picture


def test_a_picture_larger_or_smaller_than_was_learned_gets_the_checkpoints_own_number_of_pixels(
    tiny_stack: Stack, tmp_path: Path
) -> None:
    learned = replace(tiny_stack, defaults=replace(tiny_stack.defaults, width=96, height=96, max_pixels=96 * 96))
    for given, wanted in (((64, 64),) * 2, ((96, 64),) * 2, ((320, 320), (96, 96)), ((40, 40), (96, 96))):
        picture = Image.new("RGB", given)
        picture.save(tmp_path / "given.png")
        assert fit(picture, learned).size == wanted
        assert sizes(learned, [Reference(path=str(tmp_path / "given.png"))]) == (Size(*wanted),)
    assert fit(Image.new("RGB", (320, 320)), tiny_stack).size == (320, 320)
    assert fit(Image.new("RGB", (40, 40)), tiny_stack).size == (64, 64)


def test_every_picture_of_the_miniatures_world_is_a_reference_as_it_is(tiny_stack: Stack) -> None:
    limits = json.loads(Path("assets/miniature/processor/processor_config.json").read_text(encoding="utf-8"))
    processor = deepcopy(tiny_stack.processor)
    processor.image_processor.size = type(processor.image_processor.size)(**limits["image_processor"]["size"])
    learned = replace(MINIATURE.defaults, max_pixels=512 * 512)
    stack = replace(tiny_stack, processor=processor, defaults=learned)
    for rows, columns in SIZED.grids:
        picture = Image.new("RGB", (32 * columns, 32 * rows))
        assert fit(picture, stack) is picture


def test_kept_by_content(tiny_stack: Stack, tmp_path: Path) -> None:
    paths = [tmp_path / f"{index}.png" for index in range(references.KEPT + 2)]
    for index, path in enumerate(paths):
        noise_picture(64, 64, index).save(path)
    copy = tmp_path / "copy.png"
    copy.write_bytes(paths[-1].read_bytes())
    prepared = prepare(tiny_stack, [Reference(path=str(path)) for path in paths])
    assert len(tiny_stack.kept["references"]) == references.KEPT
    assert prepare(tiny_stack, [Reference(path=str(copy))])[0] is prepared[-1]
    noise_picture(64, 64, 99).save(paths[-1])
    assert prepare(tiny_stack, [Reference(path=str(paths[-1]))])[0] is not prepared[-1]


def test_paths_that_are_refused(tiny_stack: Stack, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (tmp_path / "none.png", tmp_path, pipe, Path("/dev/zero"), Path("a\0b")):
        with pytest.raises(PictureError):
            prepare(tiny_stack, [Reference(path=str(path))])
