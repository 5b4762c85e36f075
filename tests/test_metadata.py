"""Settings travel in the picture and come back; files are whole or absent."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import IO
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from glmimage import metadata
from glmimage.errors import PictureError, RequestError
from glmimage.events import Line, PriorTokens, Report, Result
from glmimage.metadata import Settings
from glmimage.request import Reference, Region, Request, Sampling

REQUEST = Request(
    prompt='写着“新年快乐”的海报\nand "HELLO" \N{PARTY POPPER}',
    width=96,
    height=64,
    count=3,
    seed=5,
    steps=4,
    guidance=1.5,
    references=(Reference(path="a.png", role="the cat"),),
    regions=(Region(text="HELLO", box=(0.1, 0.2, 0.3, 0.4)),),
    sampling=Sampling(temperature=0.8),
)


def result(request: Request = REQUEST, index: int = 2) -> Result:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    prior = PriorTokens(np.arange(6).reshape(2, 3), np.arange(4).reshape(2, 2))
    seeds = request.layout_seed_of(index), request.paint_seed_of(index)
    seconds = {"layout": 1.25, "painting": 2.0}
    report = Report((Line("HELLO", "HELO", False, 0.8), Line("新年快乐", "新年快乐", True, 1.0)))
    return Result(Image.fromarray(pixels), request, index, *seeds, prior, seconds, "tiny", report)


def test_everything_comes_back(tmp_path: Path) -> None:
    made = result()
    path = tmp_path / "a.png"
    metadata.write(made, path)
    settings = metadata.read(path)
    assert settings is not None
    assert settings.request == REQUEST
    assert (settings.index, settings.layout_seed, settings.paint_seed, settings.checkpoint) == (2, 7, 7, "tiny")
    assert settings.seconds == {"layout": 1.25, "painting": 2.0}
    assert settings.prior is not None
    assert np.array_equal(settings.prior.target, made.prior.target)
    assert settings.prior.preview is not None
    assert settings.report == made.report
    with Image.open(path) as picture:
        assert np.array_equal(picture, made.image)
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


def test_other_tools_read_the_parameters(tmp_path: Path) -> None:
    metadata.write(result(), tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        *prompt, last = picture.text["parameters"].split("\n")
    assert "\n".join(prompt) == REQUEST.prompt
    assert last == "Steps: 4, Sampler: Euler, CFG scale: 1.5, Seed: 7, Size: 96x64, Model: tiny"


def test_again_makes_this_one_picture() -> None:
    again = Settings.of(result()).again
    assert (again.count, again.layout_seed_of(0), again.paint_seed_of(0)) == (1, 7, 7)
    locked = Settings.of(result(replace(REQUEST, layout_seed=11))).again
    assert (locked.count, locked.layout_seed_of(0), locked.paint_seed_of(0)) == (1, 11, 7)
    assert "Layout seed: 11" in Settings.of(result(replace(REQUEST, layout_seed=11))).parameters


def test_pictures_of_others_have_no_settings(tmp_path: Path) -> None:
    picture = Image.new("RGB", (4, 4))
    picture.save(tmp_path / "a.png")
    picture.save(tmp_path / "a.jpg")
    assert metadata.read(tmp_path / "a.png") is None
    assert metadata.read(tmp_path / "a.jpg") is None


def test_what_is_no_picture_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("not a picture")
    metadata.write(result(), tmp_path / "b.png")
    whole = (tmp_path / "b.png").read_bytes()
    (tmp_path / "b.png").write_bytes(whole[: len(whole) // 2])
    for name in ("a.png", "b.png", "c.png"):
        with pytest.raises(PictureError, match=name):
            metadata.read(tmp_path / name)


@pytest.mark.parametrize(
    "change",
    [
        {"version": 99},
        {"index": "2"},
        {"layout_seed": None},
        {"request": {"prompt": ""}},
        {"request": 7},
        {"prior": {"target": [[1], [2, 3]]}},
        {"prior": {"target": [[-1]]}},
        {"prior": {"target": "x"}},
        {"report": [{"wanted": "a"}]},
    ],
)
def test_settings_made_by_hand_are_checked(tmp_path: Path, change: dict[str, object]) -> None:
    chunks = PngInfo()
    chunks.add_text(metadata.KEY, json.dumps(Settings.of(result()).to_json() | change))
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png", pnginfo=chunks)
    with pytest.raises(RequestError):
        metadata.read(tmp_path / "a.png")


def test_damaged_settings_are_said(tmp_path: Path) -> None:
    chunks = PngInfo()
    chunks.add_text(metadata.KEY, '{"version": 1,')
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png", pnginfo=chunks)
    with pytest.raises(RequestError, match="damaged"):
        metadata.read(tmp_path / "a.png")


def test_a_failed_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_text("old")

    def break_off(image: Image.Image, settings: Settings, file: IO[bytes]) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(metadata, "save", break_off)
    with pytest.raises(PictureError, match="No space left"):
        metadata.write(result(), path)
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]
    with pytest.raises(PictureError, match="No such file"):
        metadata.write(result(), tmp_path / "missing" / "a.png")


def test_the_picture_says_that_a_model_made_it(tmp_path: Path) -> None:
    metadata.write(result(), tmp_path / "a.png")
    packet = ElementTree.fromstring(metadata.read_texts(tmp_path / "a.png")["XML:com.adobe.xmp"])
    (about,) = packet.iter("{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description")
    assert about.attrib["{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"] == (
        "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
    )
    assert about.attrib["{http://ns.adobe.com/xap/1.0/}CreatorTool"] == "GLM-Image Atelier"
    chunks = (tmp_path / "a.png").read_bytes()
    # An uncompressed iTXt, as XMP's specification wants it.
    assert b"iTXtXML:com.adobe.xmp\0\0\0\0\0<?xpacket begin=" in chunks


def test_a_stripped_picture_says_nothing(tmp_path: Path) -> None:
    metadata.write(result(), tmp_path / "a.png")
    with (tmp_path / "b.png").open("wb") as file:
        metadata.strip(tmp_path / "a.png", file)
    assert metadata.read_texts(tmp_path / "b.png") == {}
    with Image.open(tmp_path / "a.png") as whole, Image.open(tmp_path / "b.png") as bare:
        assert np.array_equal(whole, bare)
        assert bare.info == {}


def test_what_a_history_adds_comes_back(tmp_path: Path) -> None:
    ancestry = {"pictures/x.png": ("inputs/y.png", "z")}
    settings = replace(Settings.of(result()), key="k", ancestry=ancestry, foreign="text of others")
    metadata.write(result(), tmp_path / "a.png", settings)
    for whole in (True, False):
        again = metadata.read(tmp_path / "a.png", whole=whole)
        assert again is not None
        assert (again.key, again.ancestry, again.foreign) == ("k", ancestry, "text of others")
    assert metadata.read_texts(tmp_path / "a.png")["parameters"] == "text of others"


def test_importing_it_is_cheap() -> None:
    code = "import sys, glmimage.metadata; sys.exit(any(name in sys.modules for name in ('torch', 'numpy', 'PIL')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
