"""Files are there whole or not at all."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import IO

import pytest

from glmimage.files import move, sweep, write_whole


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def half(file: IO[bytes]) -> None:
        file.write(b"ne")
        assert path.read_text() == "old"
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_whole(path, half)
    assert path.read_text() == "old"
    write_whole(path, lambda file: file.write(b"new"))
    assert path.read_text() == "new"
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


def test_moving_makes_the_folder(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    move(tmp_path / "a", tmp_path / "deep" / "down" / "b")
    assert (tmp_path / "deep" / "down" / "b").read_text() == "a"
    assert not (tmp_path / "a").exists()


def test_only_old_leavings_are_swept(tmp_path: Path) -> None:
    names = (".a.png.1f.part", ".b.png.1f.part", "c.part")
    for name in names:
        (tmp_path / name).write_text("half")
    for name in (names[0], names[2]):
        os.utime(tmp_path / name, (time.time() - 7200,) * 2)
    sweep([tmp_path, tmp_path / "none"])
    assert {path.name for path in tmp_path.iterdir()} == {names[1], names[2]}, "recent ones and whole files stay"
