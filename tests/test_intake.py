"""What a browser says of an upload: believed of the upload folder alone, and gone from there afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from app import intake
from app.words import Words
from glmimage.errors import PictureError


@pytest.fixture
def arriving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "arriving"))
    folder = tmp_path / "arriving" / "0123abcd"
    folder.mkdir(parents=True)
    return folder


def test_an_upload_is_kept_and_leaves_nothing_behind(arriving: Path, tmp_path: Path) -> None:
    Image.new("RGB", (40, 30), "red").save(arriving / "cat.png")
    kept = intake.take(str(arriving / "cat.png"), tmp_path / "data")
    assert kept.parent == tmp_path / "data" / "inputs"
    assert not arriving.exists()
    (tmp_path / "arriving" / "1").mkdir()
    broken = tmp_path / "arriving" / "1" / "cat.png"
    broken.write_bytes(b"nothing")
    with pytest.raises(PictureError, match=r"cat\.png"):
        intake.take(str(broken), tmp_path / "data")
    assert not broken.exists()


def test_no_other_file_is_looked_at(arriving: Path, tmp_path: Path) -> None:
    private = tmp_path / "private.png"
    Image.new("RGB", (40, 30)).save(private)
    (arriving / "link.png").symlink_to(private)
    (tmp_path / "arriving" / "folder").symlink_to(tmp_path)
    places = ["", "\0", "/etc/passwd", str(private), str(arriving), str(arriving / ".." / ".." / "private.png")]
    places += [str(arriving / "link.png"), str(tmp_path / "arriving" / "folder" / "private.png")]
    for place in places:
        with pytest.raises(PictureError):
            intake.take(place, tmp_path / "data")
        assert private.is_file()
    assert not (tmp_path / "data").exists()


def test_a_slot_is_empty_or_full(tmp_path: Path) -> None:
    empty = intake.slot("source", Words(), said="<The picture>")
    assert 'data-take="source"' in empty
    assert "&lt;The picture&gt;" in empty
    assert "clear.source" not in empty
    full = intake.slot("source", Words("zh"), said="图片", picture=tmp_path / "a b.png", many=True)
    assert "a%20b.png" in full
    assert 'data-act="clear.source"' in full
    assert " multiple" in full
