"""Reference pictures: untrusted files, sizes, and codes and latents equal to upstream's."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from glmimage import references
from glmimage.errors import PictureError
from glmimage.models import Stack
from glmimage.references import encode_codes, fit, prepare, read_picture
from glmimage.request import Reference
from tests.test_prompting import noise_picture


def encoded(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims to be `width` x `height`."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


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


def test_transparency_is_laid_on_white() -> None:
    for picture in (
        Image.new("RGBA", (32, 32), (255, 0, 0, 0)),
        Image.new("LA", (32, 32), (0, 0)),
        Image.new("RGBA", (32, 32), (255, 0, 0, 0)).convert("P"),
    ):
        assert read_picture(encoded(picture)).getpixel((5, 5)) == (255, 255, 255)
    half = read_picture(encoded(Image.new("RGBA", (32, 32), (255, 0, 0, 128))))
    assert half.getpixel((0, 0)) == (255, 127, 127)


def test_modes_become_rgb() -> None:
    grey16 = Image.fromarray(np.full((32, 32), 0x8000, dtype=np.uint16))
    assert read_picture(encoded(grey16)).getpixel((0, 0)) == (127, 127, 127)
    assert read_picture(encoded(Image.new("1", (32, 32), 1))).getpixel((0, 0)) == (255, 255, 255)
    cmyk = read_picture(encoded(Image.new("CMYK", (32, 32), (0, 0, 0, 0)), "JPEG"))
    assert cmyk.mode == "RGB"
    assert min(cmyk.getpixel((0, 0))) > 250  # type: ignore[type-var, arg-type]


def test_the_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (32, 32), color) for color in ("red", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert read_picture(data).getpixel((0, 0)) == (255, 0, 0)


def test_orientation() -> None:
    picture = Image.new("RGB", (64, 32), "white")
    picture.paste("red", (0, 0, 32, 32))
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn clockwise: the left becomes the top
    upright = read_picture(encoded(picture, exif=exif))
    assert upright.size == (32, 64)
    assert upright.getpixel((16, 5)) == (255, 0, 0)
    assert upright.getpixel((16, 60)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no picture"),
        (b"hello", "no picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "no picture"),
        (bomb(20_000, 6_000), "pixels"),
        (bomb(2**31 - 1, 2**31 - 1), "pixels"),
        (bomb(64, 64), "damaged"),
        (encoded(noise_picture(64, 64))[:-2000], "damaged"),
        (encoded(noise_picture(15, 32)), "at least 16"),
        (encoded(noise_picture(32, 130)), "4:1"),
    ],
    ids=["empty", "text", "postscript", "large", "huge", "hollow", "cut", "small", "long"],
)
def test_files_that_are_refused(data: bytes, words: str) -> None:
    with pytest.raises(PictureError, match=words) as caught:
        read_picture(data, "a.png")
    assert "a.png" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_paths_that_are_refused(tiny_stack: Stack, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (tmp_path / "none.png", tmp_path, pipe, Path("/dev/zero"), Path("a\0b")):
        with pytest.raises(PictureError):
            prepare(tiny_stack, [Reference(path=str(path))])


def test_a_file_too_large(tiny_stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(references, "LARGEST_FILE", 10)
    noise_picture(64, 64).save(tmp_path / "a.png")
    with pytest.raises(PictureError, match="save it smaller"):
        prepare(tiny_stack, [Reference(path=str(tmp_path / "a.png"))])
