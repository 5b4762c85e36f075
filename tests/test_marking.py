"""Real pictures are marked right, spoiled ones wrong; words are read where they belong."""

import numpy as np
import pytest

from glmimage.train import grounds
from glmimage.train.art import Art
from glmimage.train.edits import sample
from glmimage.train.layout import Scene, Thing, Word, render
from glmimage.train.loop import scene_rng
from glmimage.train.marking import BEST_PSNR, Marker, ground_of, psnr, shrink
from glmimage.train.world import FULL, SMALL, TASKED
from tests.stickers import discs


@pytest.fixture(scope="module")
def art() -> Art:
    return discs()


@pytest.fixture(scope="module")
def marker(art: Art) -> Marker:
    return Marker(art, FULL, threads=1)


def test_a_sticker_is_told_by_the_share_of_its_contrast(marker: Marker, art: Art):
    scene = Scene("beach", (Thing("cat", "ink", 1, 0, 3),))
    stickers = marker.stickers[3]
    index = stickers.keys.index(("cat", "ink"))
    spot = (slice(8, 32), slice(0, 24))
    bare = shrink(grounds.paint("beach", (8, 8)))
    drawn = shrink(render(scene, art))
    for share in (0.0, 0.5, 1.0):
        window = (bare + share * (drawn - bare))[spot]
        ratio = stickers.unexplained(window[None], bare[spot][None])[0]
        assert ratio[index] == pytest.approx((1 - share) ** 2, abs=1e-3)


@pytest.mark.parametrize("ground", ["blue", "meadow", "red above green"])
def test_stickers_are_found_in_their_place_alone(marker: Marker, art: Art, ground: str):
    asked = Thing("dog", "flat", 0, 0, 3)
    scene = Scene(ground, (Thing("dog", "flat", 1, 1, 2), Thing("owl", "cartoon", 5, 5, 3)))
    picture = render(scene, art)
    assert marker.sticker_at(picture, scene, asked) == ("dog", "flat")
    assert marker.sticker_at(picture, scene, Thing("dog", "flat", 0, 6, 2)) == ("", "")
    assert marker.sticker_at(picture, scene, Thing("dog", "flat", 6, 6, 2)) == ("owl", "cartoon")


def test_grounds_are_told_by_most_of_the_free_cells(art: Art):
    for ground in ("white", "night sky", "red beside blue", "blue beside red"):
        picture = render(Scene(ground, (Thing("cat", "ink", 0, 0, 4),)), art)
        assert ground_of(picture, FULL) == ground
    picture[:224] = grounds.GROUNDS["green"]
    assert ground_of(picture, SMALL) == "green"
    free = np.zeros((8, 8), dtype=bool)
    free[7, 4:] = True
    assert ground_of(picture, SMALL, free) == "red"


@pytest.mark.parametrize("text", ["Wizard", "RIBBON", "新年快乐"])
def test_words_are_read_where_they_belong(marker: Marker, art: Art, text: str):
    word = Word(text, "white", 6, 0, box=(0.0, 0.7, 1.0, 1.0))
    picture = render(Scene("blue", (), (word,)), art)
    assert text.lower() in marker.read(picture, word)
    assert text.lower() not in marker.read(picture, Word(text, "white", 0, 0))
    assert not marker.read(render(Scene("blue", ()), art), word)


@pytest.mark.parametrize("task", FULL.tasks)
def test_the_wanted_picture_is_right_and_the_one_before_is_not(marker: Marker, art: Art, task: str):
    right = wrong = 0.0
    for index in range(5):
        each = sample(scene_rng("evaluate", index), FULL, task, held_out=True)
        marks = marker.mark(render(each.scene, art), each)
        score = {"replace": "edit", "remove": "edit", "add": "edit", "background": "edit", "word": "edit"}.get(task)
        score = score or {"style": "style_transfer", "style_reference": "style_transfer", "text": "things"}.get(
            task, task
        )
        right += sum(marks[score]) / len(marks[score]) / 5
        assert marks.get("edit_kept_psnr", [BEST_PSNR]) == [BEST_PSNR]
        if each.references and each.references[0].grid == each.scene.grid:
            before = marker.mark(render(each.references[0], art), each)
            wrong += sum(before[score]) / len(before[score]) / 5
    # Discs of near colours and a letter read as its like.
    assert right >= 0.8
    assert wrong <= 0.3


def test_a_half_removed_sticker_is_not_removed(marker: Marker, art: Art):
    each = sample(scene_rng("evaluate", 3), TASKED, "remove", held_out=True)
    was, now = (render(scene, art).astype(float) for scene in (each.references[0], each.scene))
    ghost = (0.6 * was + 0.4 * now).astype(np.uint8)
    assert marker.mark(ghost, each)["edit"] == [0.0]
    faint = (0.3 * was + 0.7 * now).astype(np.uint8)
    assert marker.mark(faint, each)["edit"] == [1.0]


def test_psnr_of_known_answers():
    grey = np.full((4, 4, 3), 100, dtype=np.uint8)
    assert psnr(grey, grey) == BEST_PSNR
    assert psnr(grey, grey + 10) == pytest.approx(28.13, abs=0.01)


def test_a_word_counts_anywhere_in_its_box_and_nowhere_else(marker: Marker, art: Art):
    asked = Word("RIBBON", "white", 2, 1, box=(0.0, 0.1, 1.0, 0.7))
    for row, right in ((1, True), (3, True), (4, True), (6, False)):
        picture = render(Scene("blue", (), (Word("RIBBON", "white", row, 1),)), art)
        assert ("ribbon" in marker.read(picture, asked)) == right, row
