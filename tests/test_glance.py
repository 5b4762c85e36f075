"""What codes say is read right from a table whose codes each stand for one thing; drawing leaves the model alone."""

import numpy as np
import pytest
import torch

from glmimage.train import glance, release
from glmimage.train.art import Art
from glmimage.train.edits import sample
from glmimage.train.glance import CodeTable, code_scores, drawn_codes, glance_samples
from glmimage.train.layout import ALL_CLASSES, LABELS, SQUARE, Scene, Thing, Word, labels
from glmimage.train.loop import scene_rng
from glmimage.train.world import FULL, SMALL, TASKED
from tests.stickers import discs


@pytest.fixture(scope="module")
def art() -> Art:
    return discs()


@pytest.fixture(scope="module")
def parts() -> release.Parts:
    return release.build_parts(release.TINY, ["a cat on a blue background"], 3)


def perfect(*scenes: Scene) -> tuple[CodeTable, list[np.ndarray]]:
    """A code for every combination of labels, and the scenes in such codes."""
    grids = [labels(scene) for scene in scenes]
    kinds, codes = np.unique(np.concatenate([grid.reshape(6, -1) for grid in grids], 1), axis=1, return_inverse=True)
    chances = {}
    for name, classes in zip(LABELS, kinds, strict=True):
        table = np.full((kinds.shape[1], ALL_CLASSES[name]), -20.0)
        table[np.arange(len(classes)), classes] = 0
        chances[name] = table
    ends = np.cumsum([grid[0].size for grid in grids])[:-1]
    return CodeTable(chances), [
        part.reshape(grid.shape[1:]) for part, grid in zip(np.split(codes.ravel(), ends), grids, strict=True)
    ]


def test_a_sticker_is_found_wherever_it_stands_in_its_place():
    asked = Thing("cat", "ink", 0, 0, 3)
    there, elsewhere = Scene("blue", (Thing("cat", "ink", 1, 1, 2),)), Scene("blue", (Thing("cat", "ink", 5, 5, 3),))
    table, (near, far) = perfect(there, elsewhere)
    wanted = labels(there)[:2, 1, 1]
    assert table.sticker(near, asked) == tuple(wanted)
    assert table.sticker(far, asked)[0] == 0


@pytest.mark.parametrize(("text", "col"), [("HELLO", 2), ("I", 0), ("年年", 4)])
def test_words_are_read_letter_by_letter(text: str, col: int):
    word = Word(text, "white", 6, col)
    longer = Word(text + text[-1], "white", 6, col)
    other = Word("x" * len(text) if text.isascii() else "福福", "white", 6, col)
    bare = Scene("blue", ())
    table, (codes, wrong, empty) = perfect(*(Scene("blue", (), (each,)) for each in (word, other)), bare)
    assert table.letters(codes, word) == [True] * len(text)
    assert table.letters(wrong, word) == [False] * len(text)
    assert table.letters(empty, word) == [False] * len(text)
    nobody = np.zeros(SQUARE, dtype=bool)
    assert not table.doubled(codes, word, nobody)
    if text == "HELLO":
        table, (codes,) = perfect(Scene("blue", (), (longer,)))
        assert table.doubled(codes, word, nobody)
        nobody[:, 7] = True
        assert not table.doubled(codes, word, nobody)


@pytest.mark.parametrize("task", FULL.tasks)
def test_a_perfect_answer_is_right_and_the_picture_before_is_not(task: str, monkeypatch, parts, art):
    samples = [sample(scene_rng("evaluate", index), FULL, task, held_out=True) for index in range(6)]
    scenes = [each.scene for each in samples]
    before = [each.references[0] if each.references else each.scene for each in samples]
    table, codes = perfect(*scenes, *before)
    model, processor = parts.vision_language_encoder, parts.processor
    # The table's codes are no tokenizer's.
    kept = dict(zip([glance.render(scene, art).tobytes() for scene in (*scenes, *before)], codes, strict=True))
    monkeypatch.setattr(glance, "true_codes", lambda model, picture: kept[picture.tobytes()])
    right = code_scores(model, processor, samples, table, art, true=True)
    assert set(right.values()) == {1.0}
    if "kept" in right:
        monkeypatch.setattr(glance, "drawn_codes", lambda *_: codes[len(samples) :])
        unchanged = code_scores(model, processor, samples, table, art)
        assert unchanged[task] == 0
        assert unchanged["kept"] == 1


def test_drawing_leaves_the_model_as_it_is(parts, art):
    model, processor = parts.vision_language_encoder, parts.processor
    before = {key: value.clone() for key, value in model.state_dict().items()}
    samples = [
        sample(scene_rng("evaluate", index), FULL, task, held_out=True) for index, task in ((0, "text"), (1, "add"))
    ]
    drawn = drawn_codes(model, processor, samples, art)
    assert [codes.shape for codes in drawn] == [each.scene.grid for each in samples]
    again = drawn_codes(model, processor, samples, art)
    assert all(np.array_equal(one, other) for one, other in zip(drawn, again, strict=True))
    for key, value in model.state_dict().items():
        assert value.stride() == before[key].stride()
        assert torch.equal(value, before[key])


def test_the_table_counts_what_stands_in_the_cells(parts, art):
    model = parts.vision_language_encoder
    table = CodeTable.of(model, art, SMALL, scenes=3)
    scene = sample(scene_rng("train", 0), SMALL).scene
    codes = glance.true_codes(model, glance.render(scene, art))
    for name, chances in table.chances.items():
        np.testing.assert_allclose(np.exp(chances).sum(1), 1)
        used = chances[np.unique(codes)]
        assert (used.argmax(1) < ALL_CLASSES[name]).all()
    told = {(each.task, each.language) for each in glance_samples(TASKED, 2 * len(TASKED.tasks))}
    assert told == {(task, language) for task in TASKED.tasks for language in ("en", "zh")}
    assert {each.language for each in glance_samples(TASKED, 3, language="zh")} == {"zh"}
    samples = glance_samples(SMALL, 2)
    report = glance.report(model, parts.processor, samples, SMALL, art)
    assert {"things", "styles", "backgrounds", "text", "cases", "ceilings"} <= set(report)
