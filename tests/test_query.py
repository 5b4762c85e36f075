"""What a person types finds what it should, and is never an error."""

from __future__ import annotations

import sqlite3
from datetime import date

import pytest

from app.query import LARGEST_PAGE, Query, conditions, spread

TEXTS = (
    'a cat and "HELLO"',
    "写着“新年快乐”的海报 panda",
    "Café at night \N{PARTY POPPER} 50% off_now ２０２６",
    "a caterpillar in the new year",
)


def found(query: Query) -> list[int]:
    """The conditions on a table with nothing but texts; numbers of those that match."""
    where, values = conditions(query)
    db = sqlite3.connect(":memory:")
    db.execute("CREATE TABLE pictures (id INTEGER PRIMARY KEY, prompt, tags DEFAULT '', trashed DEFAULT 0, key, star)")
    db.execute("CREATE VIRTUAL TABLE words USING fts5 (prompt, tags, tokenize = 'unicode61 remove_diacritics 2')")
    for number, text in enumerate(TEXTS):
        db.execute(
            "INSERT INTO pictures (id, prompt, key, star) VALUES (?, ?, ?, ?)",
            (number, text, f"2026-01-0{number + 1}/", 0),
        )
        db.execute("INSERT INTO words (rowid, prompt) VALUES (?, ?)", (number, spread(text)))
    return [number for (number,) in db.execute(f"SELECT id FROM pictures WHERE {where} ORDER BY id", values)]


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("", [0, 1, 2, 3]),
        ("cat", [0, 3]),
        ('"cat"', [0]),
        ("CAT hel", [0]),
        ('"new year"', [3]),
        ('"year new"', []),
        ("新年", [1]),
        ("年快", [1]),
        ("快新", []),
        ("报", [1]),
        ("海报 pan", [1]),
        ("cafe", [2]),
        ("\N{PARTY POPPER}", [2]),
        ("%", [2]),
        ("off_n", [2]),
        ("2026", [2]),
    ],
)
def test_words_are_found_by_their_beginnings_and_chinese_anywhere(text: str, numbers: list[int]) -> None:
    assert found(Query(text=text)) == numbers


@pytest.mark.parametrize(
    "text",
    [
        '"',
        'a"b',
        "OR",
        "AND NOT",
        "NEAR(a b)",
        "prompt:cat",
        "^cat",
        "*",
        "(" * 900,
        "\0",
        "cat\0",
        "\ud800",
        "'; --",
        "-cat",
    ],
)
def test_nothing_that_is_typed_is_an_error(text: str) -> None:
    assert set(found(Query(text=text, wordings=(text, text)))) <= set(range(len(TEXTS)))


def test_a_wording_stands_in_the_prompt_as_a_whole() -> None:
    assert found(Query(wordings=("in the new year",))) == [3]
    assert found(Query(wordings=("in the new",))) == [3]
    assert found(Query(wordings=("in the ne",))) == []
    assert found(Query(wordings=("in the new", "新年快乐"))) == [1, 3]
    assert found(Query(wordings=("in the … year", "…"))) == [3]
    assert found(Query(wordings=("in the … year … no such",))) == []
    assert found(Query(text="cat", wordings=("new year", "新年快乐"))) == [3]


def test_days_are_inclusive() -> None:
    assert found(Query(since=date(2026, 1, 2), until=date(2026, 1, 3))) == [1, 2]
    assert found(Query(until=date(2026, 1, 1))) == [0]


def test_pages_have_a_size() -> None:
    assert [Query(limit=limit).page for limit in (-1, 0, 5, 10**9)] == [1, 1, 5, LARGEST_PAGE]
