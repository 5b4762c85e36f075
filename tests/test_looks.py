"""Where the prior is shown to look: the token of a letter, the cell that is kept, a subject's part."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from glmimage.train import edits, exercises, looks
from glmimage.train import prior as prior_stage
from glmimage.train.layout import Scene, Thing, Word, labels
from glmimage.train.loop import scene_rng
from glmimage.train.recipe import parts_of
from glmimage.train.words import LETTERS
from glmimage.train.world import TASKED

SHIPPED = Path("assets/miniature")


def _offsets(prompt: str) -> list[tuple[int, int]]:
    """A token for each character."""
    return [(place, place + 1) for place in range(len(prompt))]


def test_a_letter_looks_at_its_token_and_the_end_of_a_word_at_its_mark():
    prompt = 'a cat, "HI" below and “CATS”'
    scene = Scene("white", (), (Word("HI", "red", 6, 3), Word("CATS", "red", 0, 4)))
    found = looks.letters(scene, prompt, _offsets(prompt))
    for row in (6, 7):
        assert [prompt[place] for place in found[row, 3:6]] == ["H", "I", '"']
    assert [prompt[place] for place in found[0, 4:8]] == list("CATS")
    assert (found != looks.NOWHERE).sum() == 14


def test_a_word_that_is_not_quoted_whole_is_looked_for_nowhere():
    prompt = 'change "CATS" to "DOG"'
    scene = Scene("white", (), (Word("CAT", "red", 0, 0), Word("DOG", "red", 4, 0)))
    found = looks.letters(scene, prompt, _offsets(prompt))
    assert (found[:2] == looks.NOWHERE).all()
    assert found[4, :4].tolist() == [18, 19, 20, 21]


def test_a_character_of_several_tokens_is_read_at_its_last():
    scene = Scene("white", (), (Word("你A", "red", 0, 0),))
    found = looks.letters(scene, "「你A」", [(0, 1), (1, 2), (1, 2), (2, 3), (3, 4)])
    assert found[0, :4].tolist() == found[1, :4].tolist() == [2, 2, 3, 4]


def test_a_word_beside_another_keeps_its_own_letters():
    prompt = '"AB" "CD"'
    scene = Scene("white", (), (Word("CD", "red", 0, 2), Word("AB", "red", 0, 0)))
    found = looks.letters(scene, prompt, _offsets(prompt))
    assert [prompt[place] for place in found[0, :5]] == ["A", "B", "C", "D", '"']


def test_where_a_word_in_a_box_begins_is_looked_for_in_its_row_and_column():
    boxes = (0.3, 0.2, 0.75, 0.55), (0.1, 0.75, 0.5, 1.0)
    words = Word("CATS", "red", 2, 2, box=boxes[0]), Word("DOG", "red", 7, 1, box=boxes[1]), Word("NO", "red", 0, 0)
    prompt = 'the text "CATS" in red, column 3, row 3 and the text “DOG” on the left, column 2, row 7, and "NO"'
    rows, cols, begins = looks.sides(Scene("white", (), words), prompt, _offsets(prompt))
    said = [prompt.index(part) + len(part) - 1 for part in ("row 3", "row 7", "column 3", "column 2")]
    assert rows.unique().tolist() == sorted([looks.NOWHERE, said[0], said[1]])
    assert (rows[2, :6] == said[0]).all()
    assert (rows[6, :4] == said[1]).all(), "the row that is said, where the word is late"
    assert (rows != looks.NOWHERE).sum() == 10
    assert (cols[:4, 2] == said[2]).all()
    assert (cols[:8, 1] == said[3]).all()
    assert (cols != looks.NOWHERE).sum() == 12
    assert begins[2, 2] == said[0]
    assert begins[6, 1] == said[1]
    assert (begins != looks.NOWHERE).sum() == 2, "not where one word's row meets the other's column"
    plain = 'the text "CATS" on the left and the text "DOG", column 2, row 7'
    assert looks.sides(Scene("white", (), words[:1]), plain, _offsets(plain))[0].unique().tolist() == [looks.NOWHERE]


def test_a_subject_s_cells_look_at_its_parts():
    portrait = Scene("red", (Thing("cat", "flat", 2, 2, 4),))
    other = Scene("red", (Thing("dog", "flat", 3, 3, 2),))
    scene = Scene("blue", (Thing("dog", "flat", 0, 0, 2), Thing("cat", "flat", 6, 6, 2)))
    each = edits.Sample(task="subjects", language="en", prompt="", references=(portrait, other), scene=scene)
    found = looks.cells(each)
    assert found[:2, :2].tolist() == [[64 + 27, 64 + 28], [64 + 35, 64 + 36]]
    assert found[6:, 6:].tolist() == [[18, 20], [34, 36]]
    assert (found != looks.NOWHERE).sum() == 8


def test_what_is_missed_falls_as_the_look_is_right():
    key = torch.eye(4)[None] * 10
    query = torch.zeros(1, 4, 4)
    query[0, 3, 1] = 1
    right = looks.missed(query, key, torch.tensor([[3, 2]]), torch.tensor([[1, looks.NOWHERE]]))
    wrong = looks.missed(query, key, torch.tensor([[3]]), torch.tensor([[2]]))
    assert right < 0.001 < 9 < wrong
    assert looks.missed(query, key, torch.tensor([[3]]), torch.tensor([[looks.NOWHERE]])) == 0
    # What comes later cannot be looked at.
    assert looks.missed(query, key, torch.tensor([[0]]), torch.tensor([[0]])) == 0


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("task", ["regions", "word", "style_reference", "subjects"])
def test_a_batch_s_looks_are_at_what_the_codes_show(task: str, full: bool):
    """With codes that say what they are and where: letter and column, or the scene's own cell."""
    processor = parts_of(SHIPPED).processor
    drawn = (edits.sample(scene_rng("train", number), TASKED, task) for number in range(400))
    samples = [each for each in drawn if {scene.grid for scene in exercises.pictures_of(each)} == {(8, 8)}]
    samples = [each for each in samples if len(each.references) == len(samples[0].references)]
    data = exercises.Exercises.__new__(exercises.Exercises)
    data.samples = samples
    # A code is the number of its cell, in the target 1000 later.
    data.codes = [
        (torch.arange(64).view(8, 8) + 1000, *(torch.arange(64).view(8, 8) + 100 * number for number in range(3)))[
            : 1 + len(each.references)
        ]
        for each in samples
    ]
    rows = [index for index, each in enumerate(samples) if each.scene.words or task == "subjects"][:4]
    data.batch = lambda rng, size, kind: rows  # type: ignore[method-assign]
    data.prompt = lambda row, rng: samples[row].prompt  # type: ignore[method-assign]
    batch = prior_stage._batch(data, processor, random.Random(0), random.Random(0), len(rows), 0, full=full, even=False)
    names = processor.tokenizer.convert_ids_to_tokens
    read = seen = 0
    for index, row in enumerate(rows):
        grid = labels(samples[row].scene)[3].ravel()
        for name in looks.RESTING:
            blank = batch.looks[f"no {name}"][index]
            # Such a head has one place to rest on, what it looks for or where drawing begins; a repetition has none,
            # nor that for beginnings where no row is said.
            rests = (blank != looks.NOWHERE).int() + (batch.looks[name][index] != looks.NOWHERE)
            free = name == "begin" and (batch.looks["row"][index] == looks.NOWHERE).all()
            assert rests.max() == (0 if free else 1)
            repeated = 192 if full and not samples[row].references else 0
            assert len(rests) - rests.sum() == (len(rests) if free else repeated)
            assert set(blank.tolist()) <= {looks.NOWHERE, int(batch.at[index, 0])}
        for code, letter, cell in zip(
            batch.wanted[index] - 1000, batch.looks["letter"][index], batch.looks["cell"][index], strict=True
        ):
            if letter != looks.NOWHERE and grid[code]:
                assert names(int(batch.ids[index, letter])) == LETTERS[(grid[code] - 1) // 2]
                read += 1
            if cell != looks.NOWHERE:
                shown = int(batch.ids[index, cell])
                seen += 1
                if task == "regions":
                    assert shown == code + 1000
                elif task != "subjects":
                    assert shown == code
                else:
                    number, place = divmod(shown, 100)
                    portrait = labels(samples[row].references[number])[:2].reshape(2, -1)
                    wanted = labels(samples[row].scene)[:2].reshape(2, -1)
                    assert (portrait[:, place] == wanted[:, code]).all()
    assert seen
    assert read or task in ("style_reference", "subjects")
