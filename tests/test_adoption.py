"""A dropped picture brings back what it can and says what it could not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from app.history import History, Query
from glmimage import metadata
from glmimage.errors import PictureError
from glmimage.metadata import Settings
from glmimage.request import Reference
from tests.test_history import Clock, result
from tests.test_parameters import WEBUI


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path / "data", now=Clock())


def foreign(path: Path, **texts: str) -> Path:
    chunks = PngInfo()
    for name, text in texts.items():
        chunks.add_text(name, text)
    Image.effect_noise((96, 64), 90).convert("RGB").save(path, pnginfo=chunks)
    return path


def test_a_picture_of_another_studio_of_ours_comes_with_everything(history: History, tmp_path: Path) -> None:
    made = History(tmp_path / "other").add(result(prompt="新年 picture"))
    adopted = history.adopt(made.path)
    assert adopted.missing == ()
    assert adopted.settings is not None
    assert adopted.picture.key == made.key, "it keeps its place in time"
    assert history.settings(adopted.picture).again == metadata.read(made.path).again  # type: ignore[union-attr]
    assert history.search(Query(text="新年")).total == 1
    with Image.open(made.path) as before, Image.open(adopted.picture.path) as after:
        assert before.tobytes() == after.tobytes()


def test_what_is_here_already_is_not_taken_twice(history: History, tmp_path: Path) -> None:
    picture = history.add(result())
    copy = tmp_path / "copy.png"
    copy.write_bytes(picture.path.read_bytes())
    assert history.adopt(copy).picture == picture
    history.trash(picture.key)
    adopted = history.adopt(copy)
    assert (adopted.picture, adopted.known) == (picture, True)
    assert history.newest(9) == [picture]


def test_a_picture_that_was_painted_over_elsewhere_gets_a_place_of_its_own(history: History, tmp_path: Path) -> None:
    picture = history.add(result())
    settings = metadata.read(picture.path)
    metadata.write_picture(Image.new("RGB", (256, 256), "red"), settings, tmp_path / "red.png")
    adopted = history.adopt(tmp_path / "red.png")
    assert adopted.picture != picture
    assert adopted.settings is not None
    assert adopted.settings.key == adopted.picture.key
    assert len(history.newest(9)) == 2


def test_a_lost_picture_finds_its_children_again(history: History, tmp_path: Path) -> None:
    parent = history.add(result())
    made = result(prompt="child")
    child = history.add(replace(made, request=replace(made.request, references=(Reference(path=str(parent.path)),))))
    saved = tmp_path / "saved.png"
    saved.write_bytes(parent.path.read_bytes())
    history.trash(parent.key)
    history.empty_trash()
    history.adopt(saved)
    assert [(one.key, one.state) for one in history.lineage(child.key).ancestors] == [(parent.key, "kept")]


def test_another_programs_text_is_restored_and_the_rest_said(history: History, tmp_path: Path) -> None:
    adopted = history.adopt(foreign(tmp_path / "a.png", parameters=WEBUI))
    assert adopted.settings is not None
    assert adopted.settings.request.prompt.startswith("a foggy harbour")
    assert any("negative prompt" in sentence for sentence in adopted.missing)
    stored = metadata.read_texts(adopted.picture.path)
    assert stored["parameters"] == WEBUI, "as the other program wrote it"
    assert history.search(Query(text="harbour")).total == 1


def test_without_settings_the_picture_alone_is_taken(history: History, tmp_path: Path) -> None:
    adopted = history.adopt(foreign(tmp_path / "a.png", comment="x"))
    assert adopted.settings is None
    assert adopted.missing == ("The picture carries no settings that this program can read.",)
    assert metadata.read_texts(adopted.picture.path) == {}
    (entry,) = history.search(Query()).pictures
    assert (entry.prompt, entry.picture) == ("", adopted.picture)


def ours(change: Callable[[dict[str, Any]], object]) -> str:
    data = Settings.of(result()).to_json()
    change(data)
    return json.dumps(data)


def test_settings_of_another_version_give_way_to_the_text(history: History, tmp_path: Path) -> None:
    text = ours(lambda data: data.update(version=99))
    adopted = history.adopt(foreign(tmp_path / "a.png", glmimage=text, parameters="a cat\nSteps: 3"))
    assert adopted.settings is not None
    assert (adopted.settings.request.prompt, adopted.settings.request.steps) == ("a cat", 3)
    assert "version" in adopted.missing[0]


@pytest.mark.parametrize("text", ["{", "[]", "[" * 100_000, '{"version": 1}', "null"])
def test_damaged_settings_are_said(history: History, tmp_path: Path, text: str) -> None:
    adopted = history.adopt(foreign(tmp_path / "a.png", glmimage=text))
    assert adopted.settings is None
    assert adopted.missing


def test_files_of_this_machine_are_never_named_from_outside(history: History, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    Image.new("RGB", (64, 64)).save(secret)

    def name_it(data: dict[str, Any]) -> None:
        for path in (str(secret), "inputs/../../secret.png", "/etc/passwd"):
            data["request"]["references"].append({"path": path, "role": ""})
        data["request"]["mask"] = str(secret)
        data["request"]["content"] = 0.5

    adopted = history.adopt(foreign(tmp_path / "a.png", glmimage=ours(name_it)))
    assert adopted.settings is not None
    assert adopted.settings.request.references == ()
    assert (adopted.settings.request.mask, adopted.settings.request.content) == (None, 0.0)
    assert len(adopted.missing) == 4
    assert str(secret).encode() not in adopted.picture.path.read_bytes()


@pytest.mark.parametrize("key", ["../../x.png", "9999-99-99/093000-120-7-1f2e.png", "x", "2026-01-31/../a.png", ""])
def test_a_place_from_outside_is_one_of_ours_or_none(history: History, tmp_path: Path, key: str) -> None:
    adopted = history.adopt(foreign(tmp_path / "a.png", glmimage=ours(lambda data: data.update(key=key))))
    assert adopted.picture.key != key
    assert adopted.picture.path.parent.parent == history.folder


def test_what_is_no_picture_is_refused(history: History, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("text")
    (tmp_path / "b.png").symlink_to(foreign(tmp_path / "c.png"))
    for name in ("a.png", "b.png", "d.png"):
        with pytest.raises(PictureError, match=name):
            history.adopt(tmp_path / name)
    assert history.newest(9) == []
