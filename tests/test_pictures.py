"""Untrusted picture files: every kind becomes upright RGB or one sentence."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glmimage import pictures
from glmimage.errors import PictureError
from glmimage.pictures import printable, read_file, read_picture
from tests.test_prompting import noise_picture
from tests.test_uploads import encoded


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims to be `width` x `height`."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


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


def test_files_that_are_not_opened(tmp_path: Path) -> None:
    pipe, link = tmp_path / "pipe", tmp_path / "link.png"
    os.mkfifo(pipe)
    link.symlink_to(tmp_path / "a.png")
    noise_picture(64, 64).save(tmp_path / "a.png")
    for path in (tmp_path / "none.png", tmp_path, pipe, Path("/dev/zero"), Path("a\0b")):
        with pytest.raises(PictureError):
            read_file(path)
    assert read_file(link) == (tmp_path / "a.png").read_bytes()
    with pytest.raises(PictureError, match=r"link\.png cannot be opened"):
        read_file(link, follow=False)


def test_a_file_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "LARGEST_FILE", 10)
    noise_picture(64, 64).save(tmp_path / "a.png")
    with pytest.raises(PictureError, match="save it smaller"):
        read_file(tmp_path / "a.png")


def test_names_in_sentences_are_one_short_line() -> None:
    assert printable("新年.png") == "新年.png"
    assert printable("a\nb\x1b[31m.png") == "a\ufffdb\ufffd[31m.png"
    assert len(printable("x" * 5000 + ".png")) == pictures.LONGEST_NAME + 1
