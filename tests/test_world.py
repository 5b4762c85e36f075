"""The sticker world: deterministic, snapped, labelled as drawn, and worded as it is."""

import hashlib
from collections import Counter

import numpy as np
import pytest

from glmimage.prompting import quoted
from glmimage.train import world
from glmimage.train.art import LETTERS, STYLES, THINGS, Art
from glmimage.train.layout import ALL_CLASSES, cells_in, line_row, taken
from glmimage.train.loop import scene_rng
from glmimage.train.words import CHARACTERS, GREETINGS, HELD_OUT_GREETINGS, LONGEST, columns
from tests.stickers import discs


@pytest.fixture(scope="module")
def art() -> Art:
    return discs()


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
            assert scene.word.row - world.LINE_ROWS[scene.word.line] in (0, 1)
            taken[scene.word.area] += 1
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
            ids = grid[3, scene.word.row, scene.word.col : scene.word.col + len(scene.word.text)]
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


def test_the_evaluations_cases_are_those_of_all_scores_so_far():
    """Scores are compared over time: the first level's cases stay equal to the last letter."""
    digest = hashlib.sha256()
    for index in range(300):
        rng = scene_rng("evaluate", index)
        scene = world.sample_scene(rng, held_out=True)
        text, left_open = world.caption(scene, rng, held_out=True)
        digest.update(world.labels(scene).astype("<i8").tobytes())
        digest.update(text.encode())
        digest.update(",".join(sorted(left_open)).encode())
    assert digest.hexdigest() == "b51cc515277be5a3bbe52a686195e3bc471e9ea6fd32e09fc0ea918af77ba6a6"


def late(word: world.Word) -> tuple[int, int]:
    """Rows and columns that a word stands late by."""
    if word.box:
        row, col = cells_in(word.box, word.text, word.grid)
    else:
        row, col = line_row(word.line, word.grid[0]), (word.grid[1] - columns(word.text)) // 2
    return word.row - row, word.col - col


def test_some_of_trainings_words_are_late_and_none_of_the_evaluations():
    def lates(split: str) -> Counter[tuple[int, int]]:
        drawn = full_scenes(split)
        return Counter(late(word) for scene in drawn if not scene.stacked for word in scene.words)

    assert set(lates("evaluate")) == {(0, 0)}
    trained = lates("train")
    assert set(trained) == {(0, 0), (0, 1), (1, 0)}
    assert 0.05 < 1 - trained[0, 0] / trained.total() < 0.12
    right = [word for scene in full_scenes("train") for word in scene.words if late(word)[1] and not scene.stacked]
    assert right
    assert all(word.col + columns(word.text) < word.grid[1] for word in right)
    # Two lines of one text stay together.
    stacks = [scene for scene in full_scenes("train") if scene.stacked]
    assert any(scene.words[0].col + scene.words[1].col for scene in stacks)


def full_scenes(split: str, count: int = 300) -> list[world.Scene]:
    held_out = split == "evaluate"
    return [world.sample_scene(scene_rng(split, index), held_out, world=world.FULL) for index in range(count)]


def test_the_last_level_has_everything():
    scenes = full_scenes("train", 1500)
    assert {scene.grid for scene in scenes} == set(world.FULL.grids)
    assert {thing.kind for scene in scenes for thing in scene.things} == set(THINGS)
    assert {scene.ground for scene in scenes} > {*world.GROUNDS, "meadow", "night sky", "beach", "snow"}
    assert any(" above " in scene.ground for scene in scenes)
    assert any(" beside " in scene.ground for scene in scenes)
    assert any(scene.stacked for scene in scenes)
    texts = {word.text for scene in scenes for word in scene.words}
    assert texts >= set(GREETINGS)
    assert {len(text) for text in texts} == set(range(1, LONGEST + 1))
    assert any(word.box for scene in scenes for word in scene.words)
    for rows, cols in world.FULL.grids:
        assert 192 <= min(rows, cols) * 32 <= max(rows, cols) * 32 <= 512


def test_the_last_level_is_snapped_readable_and_free_of_overlaps():
    for scene in full_scenes("train") + full_scenes("evaluate"):
        cells = sum(taken([item], scene.grid).astype(int) for item in (*scene.things, *scene.words))
        assert cells.max() == 1
        # Nothing hangs over an edge.
        assert cells.sum() == sum(t.cells**2 for t in scene.things) + sum(2 * columns(w.text) for w in scene.words)
        assert len({thing.place for thing in scene.things}) == len(scene.things)
        for word in scene.words:
            assert word.color in world.contrasting(scene.ground)
            if word.box:
                assert late(word) in ((0, 0), (0, 1), (1, 0))
                assert 0 <= word.box[0] < word.box[2] <= 1
                assert 0 <= word.box[1] < word.box[3] <= 1


def test_labels_of_the_last_level_say_what_is_drawn(art):
    for scene in full_scenes("train", 60):
        picture, grid = world.render(scene, art), world.labels(scene)
        rows, cols = scene.grid
        assert picture.shape == (rows * 32, cols * 32, 3)
        assert grid.shape == (len(world.LABELS), rows, cols)
        for name, plane in zip(world.LABELS, grid, strict=True):
            assert plane.max() < ALL_CLASSES[name]
        bare = world.render(world.Scene(scene.ground, (), (), scene.grid), art)
        same = (picture == bare).reshape(rows, 32, cols, 32, 3).all((1, 3, 4))
        assert same[(grid[0] == 0) & (grid[3] == 0)].all()
        for word in scene.words:
            upper = grid[3, word.row, word.col : word.col + columns(word.text)]
            assert (upper % 2 == 1).all(), "the upper half has the odd labels"
            base = 1 + 2 * len(LETTERS)
            read = [LETTERS[(i - 1) // 2] if i < base else CHARACTERS[(i - base) // 4] for i in upper]
            wide = "".join(letter * columns(letter) for letter in word.text)
            assert "".join(read) == wide


@pytest.mark.parametrize("language", ["en", "zh"])
def test_captions_quote_every_word_in_both_languages(language):
    for index, scene in enumerate(full_scenes("evaluate", 200)):
        text, left_open = world.caption(scene, scene_rng("test", index), True, language)
        assert left_open <= {"ink"}
        assert sorted(quoted(text)) == sorted(word.text for word in scene.words)
        assert "{" not in text
        if language == "en" and scene.ground in (*world.GROUNDS, "meadow", "night sky", "beach", "snow"):
            assert scene.ground in text
        if language == "zh":
            outside = text
            for written in quoted(text):
                outside = outside.replace(written, "")
            assert not [letter for letter in outside if letter.isascii() and letter.isalpha() and letter not in "D"]


def test_greetings_of_the_evaluation_are_made_of_characters_that_training_writes():
    assert len(GREETINGS) == 40
    assert not set(GREETINGS) & set(HELD_OUT_GREETINGS)
    assert set("".join(HELD_OUT_GREETINGS)) <= set(CHARACTERS)


def test_each_level_describes_itself():
    first, second, third, last = (world.describe(each) for each in world.WORLDS.values())
    assert world.describe() == world.describe(world.SHIPPED)
    assert len(first["things"]) == len(second["things"]) == len(third["things"]) == 33
    assert len(last["things"]) == 49
    assert first["languages"] == ["en"]
    assert second["languages"] == third["languages"] == last["languages"] == ["en", "zh"]
    assert "256x256" in second["sizes"]
    assert "512x512" in third["sizes"]
    assert set(first) < set(second) == set(third) < set(last)
