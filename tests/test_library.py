"""Presets that people keep: format, files, and what comes from outside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from app import library
from app.library import Library, Preset
from app.presets import PresetError
from app.vocabulary import Vocabulary
from glmimage.checkpoint import read_world
from glmimage.errors import RequestError
from glmimage.request import Region

STYLE = {"kind": "style", "name": {"en": "Flat", "zh": "扁平"}, "words": "in flat style"}
TEMPLATE = {
    "kind": "template",
    "name": "Card",
    "regions": [{"text": "Hello", "box": [0.1, 0.1, 0.9, 0.3]}],
    "width": 640,
    "height": 384,
    "settings": {"region_strength": 1.5},
}
PIXEL = "data:image/png;base64,iVBORw0KGgo="


@pytest.fixture
def kept(tmp_path: Path) -> Library:
    return Library(tmp_path / "data", tmp_path / "shipped")


def style(**changes: Any) -> Preset:
    return Preset.from_json(STYLE | changes)


def test_the_programs_own_are_whole() -> None:
    shipped = Library(Path("no-such-folder"))
    assert shipped.faults() == ()
    styles = shipped.presets("style")
    assert len(styles) >= 12
    assert all(not one.own and one.name["zh"] and one.words["zh"] for one in styles)
    vocabulary = Vocabulary.of(read_world(library.FOLDER.parent / "assets" / "miniature"))
    assert vocabulary is not None
    known = [one.title("en") for one in styles if not vocabulary.unknown(one.said("en"))]
    assert known == ["Soft 3D", "Flat", "Cartoon", "Ink"], "the miniature's own are first"


@pytest.mark.parametrize("data", [STYLE, TEMPLATE, STYLE | {"thumbnail": PIXEL}])
def test_json_and_back(data: dict[str, Any]) -> None:
    preset = Preset.from_json(data)
    assert Preset.from_json(json.loads(json.dumps(preset.to_json()))) == preset


def test_words_follow_the_language() -> None:
    preset = style()
    assert (preset.title("zh"), preset.title("en"), preset.said("zh")) == ("扁平", "Flat", "in flat style")
    assert Preset.from_json(TEMPLATE).regions == (Region(text="Hello", box=(0.1, 0.1, 0.9, 0.3)),)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ([], "not a JSON object"),
        (STYLE | {"kind": "song"}, "kind 'song'"),
        (STYLE | {"colour": 1}, "unknown fields colour"),
        (STYLE | {"name": ""}, "its name is empty"),
        (STYLE | {"name": "x" * 61}, "longer than 60"),
        (STYLE | {"name": {"zh": "扁平"}}, "its name is neither"),
        (STYLE | {"words": 3}, "its words is neither"),
        ({"kind": "style", "name": "x"}, "needs words"),
        ({"kind": "size", "name": "x", "width": 64}, "needs width and height"),
        ({"kind": "size", "name": "x", "width": 1.5, "height": 64}, "width 1.5"),
        ({"kind": "template", "name": "x"}, "needs regions"),
        (TEMPLATE | {"regions": "abc"}, "regions are not a list"),
        (TEMPLATE | {"regions": [{"text": "a", "box": [0, 0, 2, 1]}]}, "region box"),
        (TEMPLATE | {"settings": {"speed": 1}}, "setting speed"),
        (TEMPLATE | {"settings": {"content": 2}}, "setting content"),
        (STYLE | {"thumbnail": "http://example.org/x.png"}, "thumbnail"),
        (STYLE | {"thumbnail": 'data:image/png;base64,"><script>'}, "thumbnail"),
    ],
)
def test_what_is_wrong_is_said(data: Any, reason: str) -> None:
    with pytest.raises(RequestError, match=reason):
        Preset.from_json(data)


def test_one_is_kept_renamed_and_deleted(kept: Library) -> None:
    made = kept.keep(style(name="../../My <b>flat</b>"))
    assert made.own
    assert [one.title("en") for one in kept.presets("style")] == ["../../My <b>flat</b>"]
    kept.rename(made.key, "Plain")
    assert kept.find(made.key) == style(name="Plain").__class__.from_json(STYLE | {"name": "Plain"}, made.key)
    with pytest.raises(PresetError, match="name is empty"):
        kept.rename(made.key, "  ")
    kept.delete(made.key)
    assert kept.presets("style") == ()


def test_what_is_not_ones_own_cannot_be_changed(kept: Library, tmp_path: Path) -> None:
    folder = tmp_path / "shipped" / "styles"
    folder.mkdir(parents=True)
    (folder / "flat.json").write_text(json.dumps(STYLE))
    for key in ("styles/flat.json", "own/../../x.json", "own/nothing.json", ""):
        with pytest.raises(PresetError, match="not one of yours"):
            kept.delete(key)
    assert (folder / "flat.json").is_file()


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"kind": "style"}', "[" * 100_000, "\ud800"])
def test_a_broken_file_is_named_and_left_out(kept: Library, tmp_path: Path, text: str) -> None:
    made = kept.keep(style())
    (tmp_path / "data" / "presets" / "broken.json").write_text(text, encoding="utf-8", errors="surrogatepass")
    assert [one.key for one in kept.presets("style")] == [made.key]
    (fault,) = (fault for fault in kept.faults() if "broken.json" in fault)
    assert "broken.json is left out" in fault


def test_presets_travel_between_studios(kept: Library, tmp_path: Path) -> None:
    keys = [kept.keep(style(thumbnail=PIXEL)).key, kept.keep(Preset.from_json(TEMPLATE)).key]
    file = tmp_path / "mine.json"
    file.write_text(kept.export(*keys), encoding="utf-8")
    other = Library(tmp_path / "other", tmp_path / "shipped")
    assert len(other.adopt(file)) == 2
    assert other.presets("style")[0].thumbnail == PIXEL
    assert other.presets("template")[0].regions == kept.presets("template")[0].regions


@pytest.mark.parametrize("text", ["", "{}", '{"presets": []}', '{"presets": 3}', '{"presets": [{"kind": "song"}]}'])
def test_what_cannot_be_imported_changes_nothing(kept: Library, tmp_path: Path, text: str) -> None:
    file = tmp_path / "strange.json"
    file.write_text(text)
    with pytest.raises(PresetError, match=r"\.$"):
        kept.adopt(file)
    mixed = tmp_path / "mixed.json"
    mixed.write_text(json.dumps({"presets": [STYLE, {"kind": "song"}]}))
    with pytest.raises(PresetError):
        kept.adopt(mixed)
    assert kept.presets("style") == ()
