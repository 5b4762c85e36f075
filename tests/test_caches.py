"""What the data folder holds, and what of it can be cleared."""

from __future__ import annotations

from pathlib import Path

import pytest

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
