"""A process that uses the store is killed, several use it at once: nothing is lost, listed twice or broken."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from app.history import History, Query
from app.storage import Storage
from glmimage import metadata
from tests.test_history import result
from tests.test_index import contents, delete

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = 200

posix = pytest.mark.skipif(sys.platform == "win32", reason="children are forked and killed with SIGKILL")


def nursery(kind: str, data_dir: Path) -> list[Any]:
    command = [sys.executable, "-m", "tests.nursery", kind, str(data_dir), str(ROUNDS)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def listed(data_dir: Path) -> list[str]:
    """All that the gallery would show, page by page."""
    history, cursor, keys = History(data_dir), "", []
    history.catch_up()
    while True:
        found = history.search(Query(cursor=cursor, limit=50))
        keys += [entry.key for entry in found.pictures]
        if not (cursor := found.cursor):
            assert found.total == len(keys)
            history.close()
            return keys


def sound(data_dir: Path) -> None:
    """The index is no wreck, and says what one made anew would say."""
    before = contents(data_dir)
    db = sqlite3.connect(Storage(data_dir).index)
    assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    db.execute("INSERT INTO words (words) VALUES ('integrity-check')")
    db.rollback()
    db.close()
    delete(data_dir)
    assert len(listed(data_dir)) == sum(not row[1] for row in before["pictures"])
    assert contents(data_dir) == before


@posix
def test_killed_while_saving(tmp_path: Path) -> None:
    reported = nursery("saves", tmp_path)
    assert len(reported) > ROUNDS // 2
    keys = listed(tmp_path)
    assert len(set(keys)) == len(keys), "nothing is listed twice"
    assert set(reported) <= set(keys), "nothing is lost that was reported as done"
    assert keys == [picture.key for picture in History(tmp_path).newest(10**6)]
    for key in keys:
        with Image.open(tmp_path / "pictures" / key) as picture:
            picture.load()
            assert picture.size == (192, 192)
        assert metadata.read(tmp_path / "pictures" / key) is not None
    sound(tmp_path)


@posix
def test_killed_while_starring_tagging_trashing_and_writing_the_index(tmp_path: Path) -> None:
    assert sum(nursery("marks", tmp_path)) > ROUNDS
    history = History(tmp_path)
    history.catch_up()
    pages = [history.search(Query(trashed=trashed)).pictures for trashed in (False, True)]
    assert sum(map(len, pages)) == 4
    for entry in (*pages[0], *pages[1]):
        marks = history.storage.read_marks(entry.key)
        assert (entry.star, entry.tags) == (marks.star, marks.tags)
        assert entry.picture.path.is_file()
    history.close()
    sound(tmp_path)


WORKING = """
import sys
from pathlib import Path
from app.history import History, Query
from tests.nursery import result
history, name = History(Path(sys.argv[1])), sys.argv[2]
(shared,) = history.newest(1)
print("ready", flush=True)
sys.stdin.readline()
made = result(64)
for number in range(12):
    key = history.add(made).key
    history.tag(shared.key, add=[f"{name}{number}"]) if number < 6 else history.tag(key, add=[name])
    history.trash(key) if number % 4 == 0 else history.star(key)
    history.search(Query(text="noise"))
    print(key, flush=True)
"""


def test_several_processes_share_a_folder(tmp_path: Path) -> None:
    history = History(tmp_path)
    shared = history.add(result()).key
    children = [
        subprocess.Popen(
            [sys.executable, "-c", WORKING, str(tmp_path), name],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in "abc"
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    # The first to make the index are all of them at once.
    history.close()
    delete(tmp_path)
    answers = []
    for child in children:
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()
    for child in children:
        answers += (child.communicate()[0] or "").split()
        assert child.returncode == 0
    assert len(answers) == 36
    there = {f"{path.parent.name}/{path.name}" for path in tmp_path.rglob("*.png")}
    assert there == {shared, *answers}
    entry = History(tmp_path).entry(shared)
    assert entry is not None
    assert set(entry.tags) == {f"{name}{number}" for name in "abc" for number in range(6)}, "no tag overwrote another"
    again = History(tmp_path)
    again.catch_up()
    counts = again.counts()
    assert (counts.total, counts.trashed, counts.starred) == (28, 9, 27)
    again.close()
    sound(tmp_path)


def test_several_threads_share_a_history(tmp_path: Path) -> None:
    history = History(tmp_path)
    shared = history.add(result()).key
    faults: list[BaseException] = []

    def work(name: str) -> None:
        try:
            for number in range(6):
                key = history.add(result(number)).key
                history.tag(shared, add=[f"{name}{number}"])
                history.star(key)
                assert history.search(Query(star=True)).total > 0
                history.counts()
                history.lineage(key)
        except BaseException as fault:
            faults.append(fault)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    entry = history.entry(shared)
    assert entry is not None
    assert len(entry.tags) == 24
    assert history.search(Query(star=True)).total == 24
    history.close()
    sound(tmp_path)
