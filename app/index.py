"""What can be searched of the pictures, in SQLite: made from the files, and made again whenever it is missing.

Nothing is in here that the files do not say, so it may be deleted at any time. Every change is "look at the disk, write
down what is there" inside one write transaction, which is also the lock between threads and processes: whoever writes
last has seen the disk last. What was changed behind its back is found by the days' folders, whose times change.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from app.database import inode, is_damage, open_database, remove
from app.description import describe
from app.query import Counts, Entry, Found, Query, conditions, spread
from app.storage import PICTURES, Picture, Storage, StoreError, Trace

log = logging.getLogger(__name__)

PATIENCE = 0.5
"""Seconds that a search waits for the reading of new files; what is not read by then comes with the next."""
CHUNK = 8
"""Pictures read in one transaction; a search may wait that long."""

_ENTRY = "key, prompt, task, width, height, star, tags, trashed"
Answer = TypeVar("Answer")


class _Damaged(StoreError):
    """The index was not one; the next use makes it again."""


class Index:
    """One connection, used by one thread at a time."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._lock = threading.RLock()
        self._db: sqlite3.Connection | None = None
        self._inode = 0
        self._seen: dict[str, tuple[int, ...]] = {}
        self._reader: threading.Thread | None = None
        self._unread = 0
        self._closing = threading.Event()

    def close(self) -> None:
        self._closing.set()
        if self._reader is not None:
            self._reader.join()
        with self._lock:
            self._disconnect()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One write transaction; no other thread or process writes meanwhile. Raises StoreError."""
        with self._usable() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    db.execute("ROLLBACK")
                raise

    def refresh(self, *keys: str) -> None:
        """Writes down what the disk says of these pictures now. Raises StoreError."""
        with self.writing() as db:
            for key in keys:
                self.note(db, key)

    def note(self, db: sqlite3.Connection, key: str) -> None:
        """As `refresh`, inside `writing`."""
        trace = self._storage.trace(key)
        row = db.execute("SELECT id, file FROM pictures WHERE key = ?", (key,)).fetchone()
        if row is not None and (trace is None or row[1] != trace.file):
            for table, column in (("tags", "picture"), ("edges", "picture"), ("words", "rowid"), ("pictures", "id")):
                db.execute(f"DELETE FROM {table} WHERE {column} = ?", (row[0],))
            row = None
        if trace is not None:
            number = row[0] if row is not None else self._enter(db, key, trace)
            self._mark(db, number, key, trace)

    def search(self, query: Query) -> Found:
        """Raises StoreError where the data folder cannot be used."""
        where, values = conditions(query)
        page, place = where, list(values)
        if self._storage.is_key(query.cursor):
            page, place = f"{where} AND key < ?", [*values, query.cursor]
        limit = query.page

        def ask(db: sqlite3.Connection) -> tuple[list[Any], int]:
            rows = db.execute(
                f"SELECT {_ENTRY} FROM pictures WHERE {page} ORDER BY key DESC LIMIT ?", [*place, limit + 1]
            ).fetchall()
            return rows, db.execute(f"SELECT count(*) FROM pictures WHERE {where}", values).fetchone()[0]

        rows, total = self._ask(ask)
        return Found(
            pictures=tuple(self._entry(row) for row in rows[:limit]),
            cursor=rows[limit - 1][0] if len(rows) > limit else "",
            total=total,
            unread=self._unread,
        )

    def entry(self, key: str) -> Entry | None:
        """One picture, the trash included."""
        row = self._ask(lambda db: db.execute(f"SELECT {_ENTRY} FROM pictures WHERE key = ?", (key,)).fetchone())
        return None if row is None else self._entry(row)

    def counts(self) -> Counts:

        def ask(db: sqlite3.Connection) -> Counts:
            total, starred = db.execute(
                "SELECT count(*), coalesce(sum(star), 0) FROM pictures WHERE NOT trashed"
            ).fetchone()
            trashed = db.execute("SELECT count(*) FROM pictures WHERE trashed").fetchone()[0]
            tasks = db.execute("SELECT task, count(*) FROM pictures WHERE NOT trashed AND task != '' GROUP BY task")
            tags = db.execute(
                "SELECT min(tag), count(*) AS number FROM tags JOIN pictures ON id = picture WHERE NOT trashed"
                " GROUP BY folded ORDER BY number DESC, folded"
            )
            return Counts(total=total, starred=starred, trashed=trashed, tasks=dict(tasks), tags=dict(tags))

        return self._ask(ask)

    def parents(self, name: str) -> tuple[str, ...]:
        """Names of what the picture called `name` was made from, in their order."""
        with self._usable() as db:
            rows = db.execute(
                "SELECT DISTINCT parent, place FROM edges WHERE child = ? ORDER BY place, parent", (name,)
            ).fetchall()
            return tuple(dict.fromkeys(self._picture_of(db, parent) for parent, _ in rows))

    def children(self, name: str) -> tuple[str, ...]:
        """Names of what was made from the picture called `name`, oldest first."""
        with self._usable() as db:
            sha = db.execute("SELECT sha FROM pictures WHERE key = ?", (name.removeprefix(PICTURES),)).fetchone()
            also = f"inputs/{sha[0]}.png" if sha else name
            rows = db.execute(
                "SELECT DISTINCT child FROM edges WHERE parent IN (?, ?) ORDER BY child", (name, also)
            ).fetchall()
        return tuple(child for (child,) in rows)

    def catch_up(self, patience: float | None = None) -> None:
        """Reads what changed on the disk behind the index's back, in a thread; waits for it at most so long."""
        with self._lock:
            with self._usable() as db:
                if not self._seen:
                    days = db.execute("SELECT DISTINCT substr(key, 1, 10) FROM pictures")
                    self._seen = {day: () for (day,) in days}
            if self._reader is None or not self._reader.is_alive():
                now = self._storage.days()
                changed = {
                    day: now.get(day, ()) for day in now.keys() | self._seen if self._seen.get(day) != now.get(day)
                }
                if not changed:
                    return
                self._reader = threading.Thread(target=self._read, args=(changed,), name="index", daemon=True)
                self._reader.start()
            reader = self._reader
        reader.join(patience)

    def _ask(self, ask: Callable[[sqlite3.Connection], Answer]) -> Answer:
        """An answer from an index that knows what lies on the disk; once more where the index had to be made again."""
        for last in (False, True):
            try:
                self.catch_up(PATIENCE)
                with self._usable() as db:
                    return ask(db)
            except _Damaged:
                if last:
                    raise
        raise AssertionError

    def _read(self, states: Mapping[str, tuple[int, ...]]) -> None:
        """The reader's whole life; newest first, so that a page has something to show at once."""
        try:
            stale = [key for day in sorted(states, reverse=True) for key in self._stale(day)]
            for start in range(0, len(stale), CHUNK):
                self._unread = len(stale) - start
                if self._closing.is_set():
                    return
                self.refresh(*stale[start : start + CHUNK])
            self._seen.update(states)
        except (StoreError, OSError) as error:
            log.warning("The index could not be brought up to date: %s", error)
        finally:
            self._unread = 0

    def _stale(self, day: str) -> list[str]:
        """Keys of one day of which the index says something else than the disk."""
        with self._usable() as db:
            rows = db.execute(
                "SELECT key, trashed, file, marks FROM pictures WHERE key > ? AND key < ?", (f"{day}/", f"{day}0")
            ).fetchall()
        known = {key: Trace(trashed=bool(trashed), file=file, marks=marks) for key, trashed, file, marks in rows}
        keys = self._storage.keys(day) | known.keys()
        return sorted((key for key in keys if self._storage.trace(key) != known.get(key)), reverse=True)

    def _enter(self, db: sqlite3.Connection, key: str, trace: Trace) -> int:
        """The row of a picture as its file describes it; returns its number."""
        path = (self._storage.trash if trace.trashed else self._storage.pictures) / key
        about = describe(path)
        number = db.execute(
            "INSERT INTO pictures (key, trashed, file, marks, star, tags, prompt, task, width, height, sha)"
            " VALUES (?, 0, ?, -1, 0, '[]', ?, ?, ?, ?, ?)",
            (key, trace.file, about.prompt, about.task, about.width, about.height, about.sha),
        ).lastrowid
        assert number is not None
        name = PICTURES + key
        edges = {name: about.parents, **{child: made for child, made in about.ancestry.items() if child != name}}
        db.executemany(
            "INSERT INTO edges VALUES (?, ?, ?, ?)",
            [(number, child, parent, place) for child, made in edges.items() for place, parent in enumerate(made)],
        )
        db.execute("INSERT INTO words (rowid, prompt, tags) VALUES (?, ?, '')", (number, spread(about.prompt)))
        return number

    def _mark(self, db: sqlite3.Connection, number: int, key: str, trace: Trace) -> None:
        """Where the picture lies and what was said of it."""
        marks = self._storage.read_marks(key)
        db.execute(
            "UPDATE pictures SET trashed = ?, marks = ?, star = ?, tags = ? WHERE id = ?",
            (trace.trashed, trace.marks, marks.star, json.dumps(marks.tags, ensure_ascii=False), number),
        )
        db.execute("DELETE FROM tags WHERE picture = ?", (number,))
        db.executemany("INSERT INTO tags VALUES (?, ?, ?)", [(number, tag, tag.casefold()) for tag in marks.tags])
        db.execute("UPDATE words SET tags = ? WHERE rowid = ?", (spread(" | ".join(marks.tags)), number))

    def _entry(self, row: Sequence[Any]) -> Entry:
        key, prompt, task, width, height, star, tags, trashed = row
        folder = self._storage.trash if trashed else self._storage.pictures
        return Entry(
            picture=Picture(key, folder / key),
            prompt=prompt,
            task=task,
            width=width,
            height=height,
            star=bool(star),
            tags=tuple(json.loads(tags)),
            trashed=bool(trashed),
        )

    def _picture_of(self, db: sqlite3.Connection, name: str) -> str:
        """A picture of ours that was brought back as an upload is that picture."""
        if not name.startswith("inputs/"):
            return name
        row = db.execute("SELECT key FROM pictures WHERE sha = ?", (Path(name).stem,)).fetchone()
        return PICTURES + row[0] if row else name

    @contextmanager
    def _usable(self) -> Iterator[sqlite3.Connection]:
        """The connection; a file that is no index, or a damaged one, is replaced by an empty one."""
        with self._lock:
            try:
                yield self._connect()
            except sqlite3.Error as error:
                if damaged := is_damage(error):
                    log.warning("The index is damaged (%s) and is made again.", error)
                    self._disconnect()
                    remove(self._storage.index)
                raise (_Damaged if damaged else StoreError)(
                    f"The index {self._storage.index} cannot be used ({error}); try again, or delete it:"
                    " it is made again from the pictures."
                ) from error

    def _connect(self) -> sqlite3.Connection:
        path = self._storage.index
        if self._db is not None and inode(path) == self._inode:
            return self._db
        self._disconnect()
        self._storage.root.mkdir(parents=True, exist_ok=True)
        try:
            self._db = open_database(path)
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            log.warning("The index is damaged (%s) and is made again.", error)
            remove(path)
            self._db = open_database(path)
        self._inode = inode(path)
        return self._db

    def _disconnect(self) -> None:
        self._seen.clear()
        if self._db is not None:
            with suppress(sqlite3.Error):
                self._db.close()
            self._db = None
