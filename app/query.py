"""What can be asked of the index, what it answers, and how a question becomes SQL.

Words are found by their beginnings; Chinese and other scripts without spaces anywhere, because each of their letters is
a token of its own and a term is a phrase of them; signs that FTS5 has no tokens for by looking through the text.
Nothing that a person types is an error. Knows no database.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from app.storage import Picture

LONGEST_QUERY = 500
LARGEST_PAGE = 500

_WITHOUT_SPACES = re.compile(r"[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]")
_TERM = re.compile(r'"([^"]+)"|([^\s"]+)')


@dataclass(frozen=True, kw_only=True, slots=True)
class Query:
    """Which pictures; every condition must hold."""

    text: str = ""
    """Words of the prompt or the tags; a word finds those that begin with it, one in "quotes" only itself."""
    wordings: tuple[str, ...] = ()
    """At least one of them stands in the prompt as a whole, such as the words of a style preset; "…" is anything."""
    task: str = ""
    star: bool = False
    tag: str = ""
    since: date | None = None
    until: date | None = None
    """That day included."""
    trashed: bool = False
    """Those in the trash instead of the others."""
    cursor: str = ""
    """`Found.cursor` of the page before."""
    limit: int = 60

    @property
    def page(self) -> int:
        return max(1, min(self.limit, LARGEST_PAGE))


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A picture as the index knows it."""

    picture: Picture
    prompt: str
    """"" for a picture without settings."""
    task: str
    width: int
    height: int
    star: bool
    tags: tuple[str, ...]
    trashed: bool

    @property
    def key(self) -> str:
        return self.picture.key


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """One page of what was found, newest first."""

    pictures: tuple[Entry, ...]
    cursor: str
    """For the next page; "" at the end."""
    total: int
    """Of all pages."""
    unread: int = 0
    """Files that are still being read, after a start without an index; search again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """How many pictures there are of what; the trash counts only in `trashed`."""

    total: int = 0
    starred: int = 0
    trashed: int = 0
    tasks: Mapping[str, int] = field(default_factory=dict)
    tags: Mapping[str, int] = field(default_factory=dict)


def spread(text: str) -> str:
    """Text as it is indexed: letters of scripts without spaces stand alone, compatible forms are one."""
    plain = unicodedata.normalize("NFKC", text).encode("utf-8", "ignore").decode()
    return _WITHOUT_SPACES.sub(r" \g<0> ", plain.replace("\0", " "))


def conditions(query: Query) -> tuple[str, list[Any]]:
    """SQL that holds for the pictures of the query, whatever page, and its values."""
    where = ["trashed = ?"]
    values: list[Any] = [query.trashed]
    phrases, signs = _terms(query.text[:LONGEST_QUERY])
    if wordings := [told for wording in query.wordings if (told := _wording(wording))]:
        phrases.append(f"{{prompt}} : ({' OR '.join(wordings)})")
    if phrases:
        where.append("id IN (SELECT rowid FROM words WHERE words MATCH ?)")
        values.append(" AND ".join(phrases))
    for sign in signs:
        where.append("instr(prompt || tags, ?) > 0")
        values.append(sign)
    for condition, value in (
        ("task = ?", query.task),
        ("id IN (SELECT picture FROM tags WHERE folded = ?)", query.tag.casefold()),
        ("key > ?", query.since.isoformat() if query.since else ""),
        # "0" follows "/": every key of that day is smaller.
        ("key < ?", f"{query.until.isoformat()}0" if query.until else ""),
    ):
        if value:
            where.append(condition)
            values.append(value)
    if query.star:
        where.append("star")
    return " AND ".join(where), values


def _terms(text: str) -> tuple[list[str], list[str]]:
    """FTS5 phrases of what a person typed, and terms that FTS5 has no tokens for."""
    phrases: list[str] = []
    signs: list[str] = []
    for exact, loose in _TERM.findall(text):
        if phrase := _phrase(exact or loose):
            phrases.append(phrase if exact else f"{phrase} *")
        else:
            signs.append((exact or loose).encode("utf-8", "ignore").decode())
    return phrases, [sign for sign in signs if sign.strip("\0")]


def _wording(text: str) -> str:
    """All that stands around "…"."""
    parts = [phrase for part in text.split("…") if (phrase := _phrase(part))]
    return f"({' AND '.join(parts)})" if parts else ""


def _phrase(text: str) -> str:
    words = spread(text).replace('"', " ")
    return f'"{" ".join(words.split())}"' if any(map(str.isalnum, words)) else ""
