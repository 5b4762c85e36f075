"""What the data folder holds, and what of it can be cleared."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from huggingface_hub import constants

from app import caches
from app.storage import Storage, StoreError


def test_sizes_are_of_the_files_and_clearing_leaves_the_rest(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    for folder, size in ((storage.encoded / "a", 100), (storage.thumbnails, 30), (storage.pictures / "2026-01-01", 7)):
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(b"x" * size)
    found = caches.sizes(storage)
    assert (found["encoded"], found["thumbnails"], found["pictures"], found["exports"]) == (100, 30, 7, 0)
    assert caches.clear(storage, "encoded") == 100
    assert caches.clear(storage, "encoded") == 0
    assert caches.sizes(storage) == found | {"encoded": 0}


def test_abandoned_uploads_go_and_those_on_their_way_stay(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    abandoned, arriving = (storage.arriving / folder / "cat.png" for folder in ("0123", "4567"))
    for path in (abandoned, arriving):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x" * 50)
    then = time.time() - caches.ABANDONED - 60
    os.utime(abandoned, (then, then))
    assert caches.sizes(storage)["arriving"] == 100
    assert caches.clear(storage, "arriving") == 50
    assert arriving.exists()
    assert list(storage.arriving.iterdir()) == [arriving.parent]


def test_subjects_and_downloaded_checkpoints_are_counted_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, storage = tmp_path / "hub", Storage(tmp_path / "data")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    assert "checkpoints" not in caches.sizes(storage), "no cache at all"
    for name, part, size in (("ours", "vision_language_encoder", 300), ("others", "unet", 7000)):
        folder = cache / f"models--someone--{name}" / "snapshots" / ("a" * 40) / part
        folder.mkdir(parents=True)
        (folder / "weights").write_bytes(b"x" * size)
    storage.subjects.mkdir(parents=True)
    (storage.subjects / "mia.png").write_bytes(b"x" * 20)
    found = caches.sizes(storage)
    assert (found["subjects"], found["checkpoints"]) == (20, 300)
    for name in ("subjects", "checkpoints"):
        with pytest.raises(StoreError, match="cannot be cleared"):
            caches.clear(storage, name)


@pytest.mark.parametrize("name", ["pictures", "trash", "inputs", "root", "../..", ""])
def test_nothing_else_can_be_cleared(tmp_path: Path, name: str) -> None:
    storage = Storage(tmp_path)
    storage.pictures.mkdir()
    (storage.pictures / "file").touch()
    with pytest.raises(StoreError, match="cannot be cleared"):
        caches.clear(storage, name)
    assert (storage.pictures / "file").exists()


def test_links_are_not_followed(tmp_path: Path) -> None:
    storage = Storage(tmp_path / "data")
    storage.exports.mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").write_bytes(b"x" * 1000)
    try:
        (storage.exports / "link").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    except OSError:
        pytest.skip("no links here")
    assert caches.sizes(storage)["exports"] < 1000
    caches.clear(storage, "exports")
    assert (tmp_path / "elsewhere" / "file").exists()
