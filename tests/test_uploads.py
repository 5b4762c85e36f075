"""Hostile files at the door: a sentence each, nothing outside the data folder, memory bounded."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from app import uploads
from app.uploads import take
from glmimage.errors import PictureError

ROOT = Path(__file__).resolve().parent.parent


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(*extra: bytes, size: tuple[int, int] = (64, 64), pixels: bytes | None = None) -> bytes:
    """A grey PNG with chunks of any kind before its pixels, or with pixels that are deflated already."""
    if pixels is None:
        pixels = zlib.compress((b"\0" + b"\x80" * size[0]) * size[1])
    header = struct.pack(">IIBBBBB", *size, 8, 0, 0, 0, 0)
    body = b"".join((chunk(b"IHDR", header), *extra, chunk(b"IDAT", pixels), chunk(b"IEND", b"")))
    return b"\x89PNG\r\n\x1a\n" + body


def deflated(block: bytes, times: int) -> bytes:
    """A whole zlib stream of `block` so many times, without deflating each."""
    squeeze = zlib.compressobj(9, wbits=-15)
    piece = squeeze.compress(block) + squeeze.flush(zlib.Z_FULL_FLUSH)
    check = 1
    for _ in range(times):
        check = zlib.adler32(block, check)
    return b"\x78\xda" + piece * times + squeeze.flush() + struct.pack(">I", check)


@cache
def huge_png() -> bytes:
    """900 million pixels of one colour, every one of them there."""
    return png(size=(30_000, 30_000), pixels=deflated((b"\0" + b"\x80" * 30_000) * 100, 300))


@cache
def bomb() -> bytes:
    """A gibibyte of zeros."""
    return deflated(bytes(2**22), 2**8)


def encoded(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def jpeg() -> bytes:
    return encoded(Image.effect_noise((200, 100), 90).convert("RGB"), "JPEG", quality=90)


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "30,000 x 30,000": (huge_png, "million"),
    "truncated JPEG": (lambda: jpeg()[:1500], "damaged"),
    "text": (lambda: b"hello, I am no picture", "no picture"),
    "empty": (lambda: b"", "empty"),
    "zTXt bomb": (lambda: png(chunk(b"zTXt", b"a\0\0" + bomb())), "damaged"),
    "iTXt bomb": (lambda: png(chunk(b"iTXt", b"a\0\1\0\0\0" + bomb())), "damaged"),
    "pixels missing": (lambda: png(pixels=b""), "damaged"),
    "too small": (lambda: png(size=(8, 8)), "at least 16"),
    "too long": (lambda: png(size=(500, 20)), "4:1"),
    "svg": (lambda: b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>', "no picture"),
    "postscript": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "no picture"),
}


def halves(left: str = "red", right: str = "blue", mode: str = "RGB") -> Image.Image:
    picture = Image.new("RGBA", (64, 32), left)
    picture.paste(Image.new("RGBA", (32, 32), right), (32, 0))
    return picture.convert(mode)


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn clockwise
    return encoded(halves(), "JPEG", exif=exif)


ODD: dict[str, Callable[[], bytes]] = {
    "cmyk.jpg": lambda: encoded(halves(mode="CMYK"), "JPEG"),
    "16bit.png": lambda: encoded(Image.fromarray(np.repeat(np.uint16([[0x4000] * 32 + [0xC000] * 32]), 32, 0))),
    "palette.png": lambda: encoded(halves(right="#0000ff00", mode="RGBA").quantize()),
    "moving.gif": lambda: encoded(halves(), "GIF", save_all=True, append_images=[Image.new("RGB", (64, 32))] * 3),
    "turned.jpg": turned,
    "a.webp": lambda: encoded(halves(), "WEBP", lossless=True),
}
"""Pictures that are taken though few programs write them."""


def assert_taken(kept: Path, name: str) -> None:
    """What is kept of one of `ODD` looks as it should."""
    ends = {"16bit.png": ((63,) * 3, (191,) * 3), "palette.png": ((255, 0, 0), (255, 255, 255))}
    first, last = ends.get(name, ((255, 0, 0), (0, 0, 255)))
    with Image.open(kept) as picture:
        assert (picture.mode, picture.format, picture.info) == ("RGB", "PNG", {}), name
        assert picture.size == ((32, 64) if name == "turned.jpg" else (64, 32)), name
        assert picture.getpixel((5, 5)) == pytest.approx(first, abs=4), name
        assert picture.getpixel((picture.width - 5, picture.height - 5)) == pytest.approx(last, abs=4), name


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(("make", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_hostile_files_are_refused_with_a_sentence(tmp_path: Path, make: Callable[[], bytes], words: str) -> None:
    brought = tmp_path / "brought.png"
    brought.write_bytes(make())
    with pytest.raises(PictureError, match=words) as caught:
        take(brought, tmp_path / "data")
    said = str(caught.value)
    assert "brought.png" in said
    assert str(tmp_path) not in said
    assert "\n" not in said
    assert files(tmp_path) == ["brought.png"]


def save(path: Path, picture: Image.Image, **options: object) -> Path:
    picture.save(path, **options)
    return path


@pytest.mark.parametrize("name", ODD)
def test_every_kind_of_picture_becomes_upright_rgb(tmp_path: Path, name: str) -> None:
    brought = tmp_path / name
    brought.write_bytes(ODD[name]())
    kept = take(brought, tmp_path / "data")
    assert kept.parent == tmp_path / "data" / "inputs"
    assert_taken(kept, name)


def swapped() -> bytes:
    """The profile of an RGB in which red is blue and blue red."""
    data = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return data.replace(b"rXYZ", b"?XYZ", 1).replace(b"bXYZ", b"rXYZ", 1).replace(b"?XYZ", b"bXYZ", 1)


def inks() -> bytes:
    """The profile of a press whose cyan is green; every other ink gives black."""
    # Lab of 8 bits at the corners of the four inks, of which the first changes last.
    corners = [(0, 128, 128)] * 16
    corners[0], corners[8] = (255, 128, 128), (118, 76, 178)
    line = bytes(range(256))
    unit = struct.pack(">9i", *(65536 if place % 4 == 0 else 0 for place in range(9)))
    table = b"mft1" + bytes(4) + bytes((4, 3, 2, 0)) + unit + 4 * line + bytes(sum(corners, ())) + 3 * line
    tags = struct.pack(">I4sII", 1, b"A2B0", 128 + 16, len(table))
    white = struct.pack(">3i", 63190, 65536, 54061)
    kind = struct.pack(
        ">I4sI4s4s4s12s4s28s", 144 + len(table), b"", 0x02400000, b"prtr", b"CMYK", b"Lab ", b"", b"acsp", b""
    )
    return (kind + white).ljust(128, b"\0") + tags + table


def test_a_colour_profile_is_followed_and_gone(tmp_path: Path) -> None:
    red = Image.new("RGB", (64, 32), "red")
    cyan = Image.new("CMYK", (64, 32), (255, 0, 0, 0))
    own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    kinds: list[tuple[Image.Image, str, bytes, tuple[int, int, int]]] = [
        (red, "own.png", own, (255, 0, 0)),
        (red, "swapped.png", swapped(), (0, 0, 255)),
        (red.convert("RGBA"), "alpha.png", swapped(), (0, 0, 255)),
        (red.quantize(), "palette.png", swapped(), (0, 0, 255)),
        (red, "damaged.png", swapped()[:200], (255, 0, 0)),
        (red, "of-a-press.png", inks(), (255, 0, 0)),
        (cyan, "inks.jpg", inks(), (0, 128, 0)),
        (cyan, "damaged.jpg", inks()[:100], (0, 255, 255)),
        (cyan, "of-a-screen.jpg", own, (0, 255, 255)),
    ]
    for picture, name, profile, wanted in kinds:
        with Image.open(take(save(tmp_path / name, picture, icc_profile=profile), tmp_path / "data")) as kept:
            assert (kept.mode, kept.info) == ("RGB", {}), name
            assert kept.getpixel((5, 5)) == pytest.approx(wanted, abs=3), name


def test_the_same_file_is_kept_once_under_its_hash(tmp_path: Path) -> None:
    one = save(tmp_path / "one.png", Image.new("RGB", (64, 64)))
    two = tmp_path / "two; rm -rf .png"
    two.write_bytes(one.read_bytes())
    assert take(one, tmp_path / "data") == take(two, tmp_path / "data")
    assert len(files(tmp_path / "data")) == 1


def test_links_folders_pipes_and_devices_are_refused(tmp_path: Path) -> None:
    secret = save(tmp_path / "secret.png", Image.new("RGB", (64, 64)))
    link, pipe = tmp_path / "link.png", tmp_path / "pipe.png"
    link.symlink_to(secret)
    os.mkfifo(pipe)
    for path in (link, pipe, tmp_path, tmp_path / "none.png", Path("/dev/zero"), Path("a\0b"), tmp_path / ("x" * 999)):
        with pytest.raises(PictureError) as caught:
            take(path, tmp_path / "data")
        assert "\n" not in str(caught.value)
        assert "\0" not in str(caught.value)
    assert not (tmp_path / "data").exists()


def test_large_pictures_are_kept_smaller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "LARGEST_SIDE", 128)
    brought = save(tmp_path / "a.png", Image.new("RGB", (300, 150)))
    with Image.open(take(brought, tmp_path / "data")) as kept:
        assert kept.size == (128, 64)


def test_a_disk_that_refuses_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(PictureError, match="No space left"):
        take(save(tmp_path / "a.png", Image.new("RGB", (64, 64))), tmp_path / "data")
    assert files(tmp_path / "data") == []


BOUNDED = """
import resource, sys
from pathlib import Path
from app.uploads import take
from glmimage.errors import PictureError
import PIL.Image, PIL.PngImagePlugin, PIL.JpegImagePlugin
PIL.Image.init()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in map(Path, sys.argv[2:]):
    try:
        take(path, Path(sys.argv[1]))
    except PictureError:
        pass
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is counted in other units elsewhere")
def test_bombs_take_little_memory(tmp_path: Path) -> None:
    bombs = {name: make() for name, (make, _) in REFUSED.items()} | {"profile": png(chunk(b"iCCP", b"a\0\0" + bomb()))}
    for number, data in enumerate(bombs.values()):
        (tmp_path / f"{number}.png").write_bytes(data)
    paths = [str(tmp_path / f"{number}.png") for number in range(len(bombs))]
    command = [sys.executable, "-c", BOUNDED, str(tmp_path / "data"), *paths]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 100, "MiB above what Pillow itself takes"
