"""The index says what the files say, whatever happened to it."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from app.history import History, Query
from app.storage import Storage
from tests.test_history import Clock, result

TABLES = {
    "pictures": "key, trashed, file, marks, star, tags, prompt, task, width, height, sha",
    "tags": "(SELECT key FROM pictures WHERE id = picture), tag, folded",
    "edges": "(SELECT key FROM pictures WHERE id = picture), child, parent, place",
    "words": "(SELECT key FROM pictures WHERE id = words.rowid), prompt, tags",
}


def contents(data_dir: Path) -> dict[str, list[Any]]:
    """Everything that the index holds, whatever its numbers are."""
    db = sqlite3.connect(Storage(data_dir).index)
    held = {table: sorted(db.execute(f"SELECT {columns} FROM {table}")) for table, columns in TABLES.items()}
    db.close()
    return held


def delete(data_dir: Path) -> None:
    for file in data_dir.glob("index.sqlite*"):
        file.unlink()


def keys(history: History, query: Query) -> list[str]:
    return [entry.key for entry in history.search(query).pictures]


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path, now=Clock())


def test_a_deleted_index_is_made_again_the_same(history: History, tmp_path: Path) -> None:
    made = [history.add(result(seed, f"picture {seed} 新年")).key for seed in range(20)]
    history.star(made[0], made[3])
    history.tag(made[3], made[4], add=["Best", "新"])
    history.trash(made[4], made[5])
    before = contents(tmp_path)
    history.close()
    delete(tmp_path)
    anew = History(tmp_path)
    anew.catch_up()
    assert contents(tmp_path) == before
    assert keys(anew, Query(star=True)) == [made[3], made[0]]
    assert keys(anew, Query(trashed=True)) == [made[5], made[4]]


@pytest.mark.parametrize("damage", [b"garbage" * 999, b"", b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_index_is_made_again(history: History, tmp_path: Path, damage: bytes) -> None:
    made = history.add(result()).key
    history.close()
    delete(tmp_path)
    Storage(tmp_path).index.write_bytes(damage)
    assert keys(History(tmp_path), Query()) == [made]


def test_an_index_damaged_while_it_is_used_is_made_again(history: History, tmp_path: Path) -> None:
    made = [history.add(result(seed)).key for seed in range(5)]
    assert len(keys(history, Query())) == 5
    history.close()
    db = sqlite3.connect(Storage(tmp_path).index)
    # The tables are there, but their pages are not what they say.
    db.execute("PRAGMA writable_schema = ON")
    db.execute("UPDATE sqlite_master SET rootpage = 99999 WHERE name = 'pictures'")
    db.commit()
    db.close()
    assert keys(History(tmp_path), Query()) == made[::-1]


def test_an_index_of_another_version_is_made_again(history: History, tmp_path: Path) -> None:
    made = history.add(result()).key
    history.close()
    db = sqlite3.connect(Storage(tmp_path).index)
    db.execute("DROP TABLE tags")
    db.execute("CREATE TABLE other (x)")
    db.execute("PRAGMA user_version = 99")
    db.commit()
    db.close()
    assert keys(History(tmp_path), Query()) == [made]


def test_deleting_the_index_under_a_running_studio_does_no_harm(history: History, tmp_path: Path) -> None:
    made = [history.add(result(seed)).key for seed in range(3)]
    assert len(keys(history, Query())) == 3
    delete(tmp_path)
    made.append(history.add(result(3)).key)
    assert keys(history, Query()) == made[::-1]


def test_what_happens_to_the_files_is_noticed(history: History) -> None:
    made = [history.add(result(seed)) for seed in range(3)]
    history.catch_up()
    made[1].path.unlink()
    copy = made[0].path.with_name("000000-000-0-abcd.png")
    copy.write_bytes(made[0].path.read_bytes())
    assert set(keys(history, Query())) == {made[0].key, made[2].key, f"{made[0].key[:10]}/{copy.name}"}


def test_pages_do_not_shift_when_pictures_come(history: History) -> None:
    made = [history.add(result(seed)).key for seed in range(7)]
    first = history.search(Query(limit=3))
    assert (first.total, [entry.key for entry in first.pictures]) == (7, made[:3:-1])
    history.add(result(99))
    second = history.search(Query(limit=3, cursor=first.cursor))
    third = history.search(Query(limit=3, cursor=second.cursor))
    assert [entry.key for entry in (*second.pictures, *third.pictures)] == made[3::-1]
    assert third.cursor == ""


def test_a_picture_that_cannot_be_read_is_listed_without_settings(history: History) -> None:
    picture = history.add(result())
    picture.path.write_bytes(b"not a picture")
    again = History(history.storage.root)
    again.catch_up()
    (entry,) = again.search(Query()).pictures
    assert (entry.key, entry.prompt, entry.task) == (picture.key, "", "")
