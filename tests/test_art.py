"""Art: rendered once, kept, and completed where something is missing; absent packages are one sentence."""

import json
import sys

import numpy as np
import pytest

from glmimage.errors import TrainingError
from glmimage.train import art
from glmimage.train.words import CHARACTERS, LETTERS

CIRCLE = '<circle cx="8" cy="8" r="6" fill="currentColor"/>'


@pytest.fixture
def packages(tmp_path, monkeypatch):
    monkeypatch.setattr(art, "THINGS", {"cat": "cat-face", "owl": "owl"})
    icons = {name: {"body": CIRCLE} for name in ("cat-face", "owl")}
    for package in art.STYLES.values():
        folder = tmp_path / "packages" / package
        folder.mkdir(parents=True)
        (folder / "icons.json").write_text(json.dumps({"icons": icons, "width": 16, "height": 16}))
    return tmp_path / "packages"


def test_stickers_are_rendered_once_and_missing_ones_are_added(tmp_path, packages):
    kept = np.full((64, 64, 4), 7, dtype=np.uint8)
    np.savez_compressed(tmp_path / "art.npz", **{"cat|flat|2": kept})
    first = art.load_art(tmp_path, packages)
    assert (first.stickers["cat", "flat", 2] == 7).all()
    owl = first.stickers["owl", "ink", 4]
    assert owl.shape == (128, 128, 4)
    # A dark disc with a white border, cut out of nothing.
    assert owl[64, 64].tolist() == [24, 24, 27, 255]
    assert owl[0, 0, 3] == 0
    edge = owl[64][owl[64, :, 3] == 255]
    assert edge[0, :3].tolist() == [255, 255, 255]
    again = art.load_art(tmp_path, tmp_path / "gone")
    assert again.stickers.keys() == first.stickers.keys()
    assert all((again.stickers[key] == first.stickers[key]).all() for key in first.stickers)


def test_missing_packages_are_one_sentence(tmp_path, packages, monkeypatch):
    with pytest.raises(TrainingError, match="run `npm ci`"):
        art.load_art(tmp_path, tmp_path / "gone")
    for name in ("pylopdf_fonts_zh_cn", "resvg_py", "matplotlib"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, name, None)
            with pytest.raises(TrainingError, match=rf"{name} .*requirements-dev\.txt"):
                art.load_art(tmp_path, packages)


def test_two_processes_may_write_the_cache_at_once(tmp_path, packages, monkeypatch):
    # Two shards encoded beside each other in a new work folder: the second finishes while the first writes.
    saved, beside = np.savez_compressed, iter([True, False])

    def save(file, **arrays):
        saved(file, **arrays)
        if next(beside):
            art.load_art(tmp_path, packages)

    monkeypatch.setattr(np, "savez_compressed", save)
    first = art.load_art(tmp_path, packages)
    assert set(art.load_art(tmp_path, tmp_path / "gone").stickers) == set(first.stickers)
    assert not list(tmp_path.glob(".*"))


def test_every_letter_and_character_fills_its_own_tile():
    tiles = art.letter_tiles() | art.character_tiles()
    assert set(tiles) == {*LETTERS, *CHARACTERS}
    assert len({tile.tobytes() for tile in tiles.values()}) == len(tiles)
    for character, tile in tiles.items():
        assert tile.shape == ((64, 64) if character in CHARACTERS else (64, 32))
        assert tile.max() == 255
        if character in CHARACTERS:
            # The whole of it, with a margin.
            assert not tile[0].any()
            assert not tile[-1].any()
            assert not tile[:, 0].any()
            assert not tile[:, -1].any()
