"""What leaves the studio carries what it should, or nothing."""

from __future__ import annotations

import json
import os
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from app import export
from app.history import History, StoreError
from glmimage import metadata
from tests.test_history import Clock, result


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path, now=Clock())


def test_a_zip_carries_pictures_and_all_that_is_known_of_them(history: History) -> None:
    one, two, three = (history.add(result(seed, f"写 {seed}")) for seed in (1, 2, 3))
    history.star(two.key)
    history.tag(two.key, add=["新"])
    history.trash(three.key)
    path = history.zip([one.key, two.key, two.key, three.key, "../../etc/passwd"])
    assert path.parent == history.storage.exports
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        names = [two.key.replace("/", "-"), one.key.replace("/", "-")]
        assert archive.namelist() == [*names, "pictures.json"]
        assert archive.read(names[0]) == two.path.read_bytes()
        about = json.loads(archive.read("pictures.json"))
    assert [(one["file"], one["star"], one["tags"]) for one in about] == [
        (names[0], True, ["新"]),
        (names[1], False, []),
    ]
    assert metadata.Settings.from_json(about[0]["settings"]).request.prompt == "写 2"


def test_a_stripped_zip_carries_pixels_alone(history: History, tmp_path: Path) -> None:
    pictures = [history.add(result(seed, "secret words")) for seed in (1, 2)]
    path = history.zip([picture.key for picture in pictures], strip=True)
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["0001.png", "0002.png"]
        archive.extractall(tmp_path / "out")
    for name, picture in (("0001.png", pictures[1]), ("0002.png", pictures[0])):
        data = (tmp_path / "out" / name).read_bytes()
        for chunk in (b"tEXt", b"iTXt", b"zTXt", b"eXIf", b"secret", b"glmimage"):
            assert chunk not in data
        with Image.open(tmp_path / "out" / name) as bare, Image.open(picture.path) as whole:
            assert bare.tobytes() == whole.tobytes()
    assert b"secret" not in path.read_bytes()


def test_one_picture_leaves_bare(history: History) -> None:
    picture = history.add(result())
    bare = history.bare(picture.key)
    assert metadata.read_texts(bare) == {}
    assert picture.path.name not in bare.name
    with pytest.raises(StoreError, match="no longer there"):
        history.bare("../x")


def test_pictures_of_one_size_are_compared_as_they_are(history: History) -> None:
    one, two = history.add(result(1)), history.add(result(2))
    assert history.pair(one, two) == (one.path, two.path)


def test_pictures_of_two_shapes_get_margins_to_be_compared(history: History) -> None:
    one, two = history.add(result(1, side=256)), history.add(result(2, side=512))
    wide = replace(two, path=two.path.with_name("wide.png"))
    Image.new("RGB", (512, 128), "red").save(wide.path)
    left, right = history.pair(one, wide)
    with Image.open(left) as framed:
        assert framed.size == (512, 256)
        assert framed.getpixel((10, 128)) == framed.getpixel((500, 128)) == (0x8A, 0x86, 0x7C)
    with Image.open(right) as framed:
        assert framed.size == (512, 256)
        assert framed.getpixel((256, 128)) == (255, 0, 0)
        assert framed.getpixel((256, 5)) == (0x8A, 0x86, 0x7C)


def test_nothing_makes_no_zip(history: History) -> None:
    with pytest.raises(StoreError, match="choose some"):
        history.zip(["nothing"])


def test_exports_go_after_a_day(history: History) -> None:
    picture = history.add(result())
    old, recent = history.bare(picture.key), history.bare(picture.key)
    os.utime(old, (time.time() - export.KEPT - 60,) * 2)
    history.zip([picture.key])
    assert not old.exists()
    assert recent.exists()
