"""The sticker world: deterministic, snapped, labelled as drawn, and worded as it is."""

import numpy as np
import pytest

from glmimage.prompting import quoted
from glmimage.train import world
from glmimage.train.art import LETTERS, STICKER_CELLS, STYLES, THINGS, Art, letter_tiles
from glmimage.train.loop import scene_rng


@pytest.fixture(scope="module")
def art() -> Art:
    """Stand-in stickers (one plain disc a thing): the icon packages are for training only."""
    stickers = {}
    for index, (thing, style, cells) in enumerate((t, s, c) for t in THINGS for s in STYLES for c in STICKER_CELLS):
        side = cells * 32
        rows, cols = np.mgrid[:side, :side]
        sticker = np.zeros((side, side, 4), dtype=np.uint8)
        sticker[..., :3] = (index * 37 % 256, index * 91 % 256, index * 53 % 256)
        sticker[..., 3] = 255 * ((rows - side / 2) ** 2 + (cols - side / 2) ** 2 < (side / 2) ** 2)
        stickers[thing, style, cells] = sticker
    return Art(stickers=stickers, letters=letter_tiles())


def scenes(split: str, count: int = 300, held_out: bool = False) -> list[world.Scene]:
    return [world.sample_scene(scene_rng(split, index), held_out) for index in range(count)]


def test_same_seed_same_scene_and_caption():
    for index in range(20):
        a, b = scene_rng("train", index), scene_rng("train", index)
        first, second = world.sample_scene(a), world.sample_scene(b)
        assert first == second
        assert world.caption(first, a) == world.caption(second, b)


def test_stickers_and_words_do_not_overlap_and_lie_on_the_grid():
    for scene in scenes("train"):
        taken = np.zeros((world.GRID, world.GRID), dtype=int)
        for thing in scene.things:
            assert 0 <= thing.row <= world.GRID - thing.cells
            assert 0 <= thing.col <= world.GRID - thing.cells
            taken[thing.row : thing.row + thing.cells, thing.col : thing.col + thing.cells] += 1
        if scene.word:
            row = world.LINE_ROWS[scene.word.line]
            taken[row : row + 2, scene.word.col : scene.word.col + len(scene.word.text)] += 1
            assert scene.word.col >= 0
            assert scene.word.col + len(scene.word.text) <= world.GRID
        assert taken.max() == 1


def test_labels_say_what_is_drawn(art):
    for scene in scenes("train", 60):
        picture, grid = world.render(scene, art), world.labels(scene)
        ground = np.array(world.GROUNDS[scene.ground])
        cells = picture.reshape(world.GRID, 32, world.GRID, 32, 3)
        plain = (cells == ground).all((1, 3, 4))
        assert plain[(grid[0] == 0) & (grid[3] == 0)].all()
        for thing in scene.things:
            middle = thing.row + thing.cells // 2, thing.col + thing.cells // 2
            assert grid[0][middle] == 1 + list(THINGS).index(thing.kind)
            assert grid[1][middle] == 1 + list(STYLES).index(thing.style)
        if scene.word:
            row = world.LINE_ROWS[scene.word.line]
            ids = grid[3, row, scene.word.col : scene.word.col + len(scene.word.text)]
            assert "".join(LETTERS[(i - 1) // 2] for i in ids) == scene.word.text


def test_words_can_be_read_on_their_ground():
    for scene in scenes("train"):
        if scene.word:
            assert scene.word.color in world.contrasting(scene.ground)
    for ground in world.GROUNDS:
        assert len(world.contrasting(ground)) >= 2


def test_captions_name_what_is_asked():
    for index, scene in enumerate(scenes("evaluate", held_out=True)):
        text, left_open = world.caption(scene, scene_rng("test", index), held_out=True)
        assert scene.ground in text
        assert not left_open & {"place", "ground", "line", "style"}
        assert quoted(text) == ((scene.word.text,) if scene.word else ())
        for thing in scene.things:
            assert any(name in text for name in world.SYNONYMS.get(thing.kind, (thing.kind,)))
            assert any(place in text for place in world.PLACE_WORDS[thing.place])
            assert any(style in text for style in world.STYLE_WORDS[thing.style])


def test_training_never_sees_the_evaluations_frames_words_or_seeds():
    assert not set(world.FRAMES) & set(world.HELD_OUT_FRAMES)
    assert not set(world.WORDLESS_FRAMES) & set(world.HELD_OUT_WORDLESS_FRAMES)
    assert not {word.lower() for word in world.WORDS} & {word.lower() for word in world.HELD_OUT_WORDS}
    assert scene_rng("train", 5).random() != scene_rng("evaluate", 5).random()


def test_thirds_cover_the_picture():
    names = {world.Thing("cat", "flat", row, col, 2).place for row in range(7) for col in range(7)}
    assert names == {place for row in world.PLACES for place in row}
