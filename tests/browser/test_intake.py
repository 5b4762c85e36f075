"""Files at every slot where a person brings one: hostile ones are a sentence each, odd ones come in as they look."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.library import LARGEST_IMPORT, Library
from tests.browser.visits import Visit, browsed, expect, loaded
from tests.test_uploads import ODD, REFUSED, assert_taken

pytestmark = browsed

SLOTS = [
    ("edit", "#edit-easel", "clear.source"),
    ("style", "#style-easel", "clear.content"),
    ("style", "#style-like", "clear.like"),
    ("subjects", "#subjects-easel", "clear.0"),
]
"""Tab, where its slot is at first, what empties it again."""


def enter(visit: Visit, tab: str) -> Any:
    page = visit.open()
    page.locator(f"#tab-{tab}-button").click()
    return page


def chooser(page: Any, place: str) -> Any:
    return page.locator(f"{place} .slot.is-empty input[type=file]")


def left_over(visit: Visit) -> list[Path]:
    storage = visit.history.storage
    return [path for folder in (storage.inputs, storage.arriving) for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize(("tab", "place"), [slot[:2] for slot in SLOTS])
def test_what_is_refused_is_told_and_leaves_nothing(visit: Visit, tmp_path: Path, tab: str, place: str) -> None:
    page = enter(visit, tab)
    said = page.locator(f"#{tab}-complaint .complaint")
    for number, (make, words) in enumerate(REFUSED.values()):
        brought = tmp_path / f"brought{number}.png"
        brought.write_bytes(make())
        chooser(page, place).set_input_files(brought)
        expect(said).to_contain_text(words)
        expect(said).to_contain_text(brought.name)
    assert left_over(visit) == []
    assert visit.engine.requests == []


@pytest.mark.parametrize(("tab", "place", "clear"), SLOTS)
def test_odd_pictures_come_in_as_they_look(visit: Visit, tmp_path: Path, tab: str, place: str, clear: str) -> None:
    page = enter(visit, tab)
    for odd, make in ODD.items():
        brought = tmp_path / odd
        brought.write_bytes(make())
        chooser(page, place).set_input_files(brought)
        expect(page.locator(f"#tab-{tab} [data-act='{clear}']")).to_be_visible()
        kept = visit.history.storage.inputs / f"{hashlib.sha256(brought.read_bytes()).hexdigest()}.png"
        assert_taken(kept, odd)
        assert loaded(page, f"img[src*='{kept.name}']")
        page.locator(f"#tab-{tab} [data-act='{clear}']").click()
        expect(chooser(page, place)).to_have_count(1)
    assert len(left_over(visit)) == len(ODD)


def test_odd_pictures_that_are_dropped_on_the_gallery_hang_there(visit: Visit, tmp_path: Path) -> None:
    page = enter(visit, "gallery")
    for number, (odd, make) in enumerate(ODD.items(), 1):
        brought = tmp_path / odd
        brought.write_bytes(make())
        page.locator(".bring input").set_input_files(brought)
        expect(page.locator(".shot")).to_have_count(number)
        assert_taken(visit.history.newest(1)[0].path, odd)
        assert loaded(page, ".shot img")
    assert left_over(visit) == []


SAID = {"kind": "style", "name": "Mine", "words": "in my style"}
NO_PRESETS: dict[str, tuple[Callable[[], bytes], str]] = {
    **{name: (make, "no JSON") for name, (make, _) in REFUSED.items()},
    "brackets": (lambda: b"[" * 100_000, "no JSON"),
    "too large": (lambda: b" " * (LARGEST_IMPORT + 1), "too large"),
    "none": (lambda: b'{"presets": []}', "no presets"),
    "another kind": (lambda: json.dumps(SAID | {"kind": "model"}).encode(), "kind 'model'"),
    "a path": (lambda: json.dumps(SAID | {"key": "../../x.json"}).encode(), "unknown fields key"),
    "a script": (lambda: json.dumps(SAID | {"thumbnail": "javascript:alert(1)"}).encode(), "thumbnail"),
    "one of two": (lambda: json.dumps({"presets": [SAID, {}]}).encode(), "kind None"),
}


def test_what_is_no_preset_is_told_and_leaves_nothing(visit: Visit, tmp_path: Path) -> None:
    page = enter(visit, "system")
    chooser = page.locator("#system-presets input[type=file]")
    library, said = Library(visit.history.storage.root), page.locator("#system-presets .error")
    brought = tmp_path / "brought.json"
    for make, words in NO_PRESETS.values():
        brought.write_text(json.dumps(SAID | {"words": 7}))
        chooser.set_input_files(brought)
        expect(said).to_contain_text("its words")
        brought.write_bytes(make())
        chooser.set_input_files(brought)
        expect(said).to_contain_text(words)
    assert not [preset for preset in library.presets("style") if preset.own]
    assert left_over(visit) == []
    name = "<img src=x onerror=alert(1)>"
    brought.write_text(json.dumps(SAID | {"name": name}))
    chooser.set_input_files(brought)
    expect(page.locator("#system-presets [data-change=rename]")).to_have_value(name)
    expect(said).to_have_count(0)
    assert [preset.title("en") for preset in library.presets("style") if preset.own] == [name]
