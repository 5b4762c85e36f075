"""What a browser says of an upload: believed of the upload folder alone, and gone from there afterwards."""

from __future__ import annotations

import io
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from app import intake, serve
from app.serve import Options, Studio
from app.words import Words
from glmimage.errors import PictureError
from tests.fakes import PORT, FakeEngine


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


@pytest.fixture
def studio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Studio]:
    monkeypatch.setattr(serve, "LARGEST_FILE", 1000)
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")
    options = Options(port=PORT, data_dir=tmp_path / "data", open_browser=False)
    studio = Studio.open(options, lambda choice: FakeEngine(), lambda text: None)
    yield studio
    studio.close()


def posted(studio: Studio, name: bytes, data: bytes) -> tuple[int, str]:
    """(status, what is answered)."""
    head = b'--bound\r\nContent-Disposition: form-data; name="files"; filename="' + name + b'"\r\n'
    body = head + b"Content-Type: image/png\r\n\r\n" + data + b"\r\n--bound--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=bound"}
    try:
        asked = urllib.request.Request(f"{studio.url}gradio_api/upload", body, headers)
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def test_an_upload_fills_no_disk(studio: Studio) -> None:
    arriving = studio.worker.history.storage.arriving
    assert posted(studio, b"a.png", bytes(1000))[0] == 200
    there = files(arriving)
    assert [path.stat().st_size for path in there] == [1000]
    status, said = posted(studio, b"b.png", bytes(1001))
    assert (status, "maximum allowed size" in said) == (413, True)
    assert files(arriving) == there


NAMES = {
    "up": b"../../evil.png",
    "absolute": b"/tmp/evil.png",
    "of Windows": b"..\\..\\evil.png",
    "parent": b"..",
    "long": b"x" * 300 + b".png",
    "long in Chinese": "图".encode() * 300 + b".png",
    "NUL": b"ev\0il.png",
    "encoded": b"%2e%2e%2fevil.png",
    "no UTF-8": b"\xff\xfe.png",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
def test_an_uploads_name_leads_nowhere(studio: Studio, tmp_path: Path, name: bytes) -> None:
    """It is refused, or it lies in a folder of its own among the uploads, from where it is taken in. What Gradio wrote
    of it before it refused it lies among them, too, and is swept."""
    arriving, before = studio.worker.history.storage.arriving, files(tmp_path)
    drawn = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(drawn, "PNG")
    status, said = posted(studio, name, drawn.getvalue())
    new = files(tmp_path) - before
    assert all(arriving in path.parents for path in new)
    if status == 200:
        (place,) = json.loads(said)
        assert Path(place).parent.parent == arriving
        assert {Path(place)} == new
        with Image.open(intake.take(place, tmp_path / "data")) as kept:
            assert kept.getpixel((5, 5)) == (255, 0, 0)
    else:
        assert 400 <= status < 500
        assert "Traceback" not in said
        assert not any(path.suffix for path in new), "under no name of theirs"
