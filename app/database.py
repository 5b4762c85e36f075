"""The SQLite file behind the index: opened with the tables of this version, or made anew. Knows what no row means."""

from __future__ import annotations

import sqlite3
from pathlib import Path

VERSION = 1
BUSY = 30.0
"""Seconds to wait while another process writes."""
_SCHEMA = """
CREATE TABLE pictures (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, trashed INTEGER NOT NULL, file TEXT NOT NULL,
    marks INTEGER NOT NULL, star INTEGER NOT NULL, tags TEXT NOT NULL, prompt TEXT NOT NULL, task TEXT NOT NULL,
    width INTEGER NOT NULL, height INTEGER NOT NULL, sha TEXT NOT NULL);
CREATE INDEX by_sha ON pictures (sha);
CREATE TABLE tags (picture INTEGER NOT NULL, tag TEXT NOT NULL, folded TEXT NOT NULL);
CREATE INDEX by_picture ON tags (picture);
CREATE INDEX by_tag ON tags (folded);
CREATE TABLE edges (picture INTEGER NOT NULL, child TEXT NOT NULL, parent TEXT NOT NULL, place INTEGER NOT NULL);
CREATE INDEX by_owner ON edges (picture);
CREATE INDEX by_child ON edges (child);
CREATE INDEX by_parent ON edges (parent);
CREATE VIRTUAL TABLE words USING fts5 (prompt, tags, tokenize = 'unicode61 remove_diacritics 2');
"""


def open_database(path: Path) -> sqlite3.Connection:
    """The index at `path` with the tables of this version, made anew where it has others."""
    db = sqlite3.connect(path, timeout=BUSY, isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("BEGIN IMMEDIATE")
        if db.execute("PRAGMA user_version").fetchone()[0] != VERSION:
            _empty(db)
            for statement in _SCHEMA.split(";\n"):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {VERSION}")
        db.execute("COMMIT")
    except BaseException:
        db.close()
        raise
    return db


def _empty(db: sqlite3.Connection) -> None:
    """Drops the tables of another version; those inside a virtual table go with it."""
    virtual = db.execute("SELECT name FROM sqlite_master WHERE sql LIKE 'CREATE VIRTUAL%'").fetchall()
    for (name,) in virtual:
        db.execute(f'DROP TABLE "{name}"')
    for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
        db.execute(f'DROP TABLE "{name}"')


def is_damage(error: sqlite3.Error) -> bool:
    """The class itself, none below it: "file is not a database", "malformed"."""
    return type(error) is sqlite3.DatabaseError


def inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except OSError:
        return -1


def remove(path: Path) -> None:
    """Takes the index away, with what SQLite keeps beside it. Raises OSError."""
    for end in ("", "-wal", "-shm"):
        path.with_name(path.name + end).unlink(missing_ok=True)
