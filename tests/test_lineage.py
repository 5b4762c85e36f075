"""Families of pictures hold together, whatever is deleted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from app.history import History, Picture, Query
from app.lineage import Relative
from app.uploads import take
from glmimage import metadata
from glmimage.request import Reference
from tests.test_history import Clock, result
from tests.test_index import delete


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path / "data", now=Clock())


def add(history: History, *sources: Path, prompt: str = "edited") -> Picture:
    made = result(prompt=prompt)
    references = tuple(Reference(path=str(path)) for path in sources)
    return history.add(replace(made, request=replace(made.request, references=references, task="edit")))


def seen(relatives: tuple[Relative, ...]) -> list[tuple[str, int, str]]:
    return [(one.key or one.name, one.steps, one.state) for one in relatives]


def test_a_chain_of_edits_goes_up_and_down(history: History, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "photo.png")
    photo = take(tmp_path / "photo.png", tmp_path / "data")
    first = add(history, photo)
    second = add(history, first.path)
    third = add(history, second.path)
    other = add(history, first.path, photo)
    up, down = (lineage := history.lineage(third.key)).ancestors, lineage.descendants
    assert seen(up) == [(second.key, 1, "kept"), (first.key, 2, "kept"), (f"inputs/{photo.name}", 3, "given")]
    assert up[-1].path == photo
    assert down == ()
    assert seen(history.lineage(first.key).descendants) == [
        (second.key, 1, "kept"),
        (other.key, 1, "kept"),
        (third.key, 2, "kept"),
    ]
    assert [one.steps for one in history.lineage(other.key).ancestors] == [1, 1], "the photo is nearest as itself"


def test_a_deleted_parent_leaves_the_chain_whole(history: History, tmp_path: Path) -> None:
    first = add(history)
    second = add(history, first.path)
    third = add(history, second.path)
    fourth = add(history, third.path)
    history.trash(second.key)
    assert seen(history.lineage(third.key).ancestors) == [(second.key, 1, "trashed"), (first.key, 2, "kept")]
    history.empty_trash()
    third.path.unlink()
    history.close()
    delete(tmp_path / "data")
    again = History(tmp_path / "data")
    ancestors = seen(again.lineage(fourth.key).ancestors)
    assert ancestors == [(third.key, 1, "gone"), (second.key, 2, "gone"), (first.key, 3, "kept")]
    assert seen(again.lineage(first.key).descendants)[-1] == (fourth.key, 3, "kept")


def test_a_picture_that_was_brought_back_is_known_again(history: History, tmp_path: Path) -> None:
    first = add(history)
    download = tmp_path / "download (1).png"
    download.write_bytes(first.path.read_bytes())
    second = add(history, take(download, tmp_path / "data"))
    assert seen(history.lineage(second.key).ancestors) == [(first.key, 1, "kept")]
    assert seen(history.lineage(first.key).descendants) == [(second.key, 1, "kept")]


def test_a_picture_names_its_sources_by_their_place_in_the_folder(history: History, tmp_path: Path) -> None:
    first = add(history)
    second = add(history, first.path)
    stored = metadata.read(second.path)
    assert stored is not None
    assert [reference.path for reference in stored.request.references] == [f"pictures/{first.key}"]
    assert str(tmp_path).encode() not in second.path.read_bytes()
    moved = (tmp_path / "data").rename(tmp_path / "moved")
    again = History(moved)
    picture = again.find(second.key)
    assert picture is not None
    settings = again.settings(picture)
    assert settings is not None
    assert settings.request.references[0].path == str(moved / "pictures" / first.key)
    again.trash(first.key)
    settings = again.settings(picture)
    assert settings is not None
    assert Path(settings.request.references[0].path).is_file(), "also while it lies in the trash"
    assert seen(again.lineage(second.key).ancestors) == [(first.key, 1, "trashed")]


def test_a_mask_is_named_by_its_place_too(history: History, tmp_path: Path) -> None:
    Image.new("L", (256, 256)).save(tmp_path / "mask.png")
    mask = take(tmp_path / "mask.png", tmp_path / "data")
    made = result()
    request = replace(made.request, references=(Reference(path=str(mask)),), mask=str(mask), task="edit")
    picture = history.add(replace(made, request=request))
    stored = metadata.read(picture.path)
    assert stored is not None
    assert stored.request.mask == f"inputs/{mask.name}"
    assert history.settings(picture).request.mask == str(mask)  # type: ignore[union-attr]


def test_a_circle_ends(history: History) -> None:
    one, two = add(history), add(history)
    for picture, parent in ((one, two), (two, one)):
        settings = metadata.read(picture.path)
        assert settings is not None
        request = replace(settings.request, references=(Reference(path=f"pictures/{parent.key}"),))
        with Image.open(picture.path) as image:
            image.load()
        metadata.write_picture(image, replace(settings, request=request), picture.path)
    again = History(history.storage.root)
    assert again.search(Query()).total == 2
    again.catch_up()
    assert seen(again.lineage(one.key).ancestors) == [(two.key, 1, "kept")]
    assert seen(again.lineage(one.key).descendants) == [(two.key, 1, "kept")]
