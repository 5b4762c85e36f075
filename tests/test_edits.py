"""Tasks with references: what is asked is what changes, what is kept is equal, and the evaluation has its own words."""

import itertools
import random
from collections import Counter

import numpy as np
import pytest

from glmimage.errors import TrainingError
from glmimage.prompting import quoted
from glmimage.train import __main__ as train_main
from glmimage.train import edits
from glmimage.train.art import STYLES, THINGS, Art
from glmimage.train.captions import STYLE_WORDS, SYNONYMS
from glmimage.train.chinese import NAMES
from glmimage.train.chinese import STYLES as STYLES_ZH
from glmimage.train.edits import Sample, sample
from glmimage.train.instructions import HELD_OUT_INSTRUCTIONS, INSTRUCTIONS
from glmimage.train.layout import labels, render
from glmimage.train.loop import scene_rng
from glmimage.train.sheet import captioned_pictures
from glmimage.train.words import GREETINGS, HELD_OUT_GREETINGS, HELD_OUT_WORDS, WORDS
from glmimage.train.world import FULL, GRAMMARS, SMALL, TASKED, sample_scene
from tests.stickers import discs


@pytest.fixture(scope="module")
def art() -> Art:
    return discs()


def drawn(task: str | None, count: int, split: str = "train", language: str | None = None) -> list[Sample]:
    return [
        sample(scene_rng(split, index), FULL, task, held_out=split == "evaluate", language=language)
        for index in range(count)
    ]


def names(kind: str, language: str) -> tuple[str, ...]:
    return NAMES[kind][1:] if language == "zh" else SYNONYMS.get(kind, (kind,))


def test_same_seed_same_sample():
    assert drawn(None, 40) == drawn(None, 40)
    assert drawn(None, 40) != drawn(None, 40, "evaluate")


def test_another_voice_says_the_same_exercise():
    for task in FULL.tasks:
        several = [
            sample(scene_rng("train", 3), FULL, task, language="en", voice=random.Random(voice)) for voice in range(9)
        ]
        assert len({(each.scene, each.references) for each in several}) == 1
        assert len({each.prompt for each in several}) > 2


def test_exercises_of_the_first_level_are_its_scenes():
    for index in range(20):
        assert sample(scene_rng("train", index), SMALL).scene == sample_scene(scene_rng("train", index))


def test_every_task_and_language_comes_up():
    found = {(each.task, each.language) for each in drawn(None, 400)}
    assert found == set(itertools.product(FULL.tasks, set(FULL.languages)))
    assert set(FULL.tasks) == set(edits.TASKS)
    assert sample(scene_rng("train", 0), SMALL).task == "text"


def test_tasks_come_as_often_as_the_world_says():
    found = Counter(sample(scene_rng("train", index), TASKED).task for index in range(2000))
    share = sum(TASKED.tasks.values())
    for task, weight in TASKED.tasks.items():
        assert found[task] / 2000 == pytest.approx(weight / share, abs=0.03)


@pytest.mark.parametrize("task", edits.WHOLE)
def test_what_is_kept_is_equal_and_all_else_is_what_was_asked(task: str, art: Art):
    shares = []
    for each in drawn(task, 25):
        before, after = render(each.references[0], art), render(each.scene, art)
        kept, changed = each.kept(art), each.changed()
        assert before.shape == after.shape
        assert kept.shape == after.shape[:2]
        assert (before[kept] == after[kept]).all()
        assert not kept.reshape(changed.shape[0], 32, changed.shape[1], 32).any((1, 3))[changed].any()
        if task != "background":
            assert kept[~changed.repeat(32, 0).repeat(32, 1)].all()
        shares.append(kept.mean())
        grids = labels(each.references[0]), each.labels()
        planes = grids[0] != grids[1]
        assert planes.any(), "nothing was asked"
        assert not planes[:5, ~changed].any()
        assert planes[5].any() == (task == "background")
    assert max(shares) > 0.1


def test_replace_remove_and_add_change_one_thing_and_name_it():
    for each in drawn("replace", 30) + drawn("remove", 30) + drawn("add", 30):
        before, after = set(each.references[0].things), set(each.scene.things)
        gone, come = before - after, after - before
        assert (len(gone), len(come)) == {"replace": (1, 1), "remove": (1, 0), "add": (0, 1)}[each.task]
        for thing in gone | come:
            assert any(name in each.prompt for name in names(thing.kind, each.language))
        if each.task == "replace":
            (old,), (new,) = gone, come
            assert (new.row, new.col, new.cells, new.style) == (old.row, old.col, old.cells, old.style)


def test_a_thing_that_is_there_twice_is_told_by_its_place():
    seen = 0
    for each in drawn("remove", 400, language="zh"):
        (old,) = set(each.references[0].things) - set(each.scene.things)
        if [thing.kind for thing in each.references[0].things].count(old.kind) > 1:
            seen += 1
            assert "的" in each.prompt
    assert seen


def test_words_are_changed_to_the_one_in_quotation_marks():
    for each in drawn("word", 40):
        (new,) = set(each.scene.words) - set(each.references[0].words)
        (old,) = set(each.references[0].words) - set(each.scene.words)
        assert new.text in quoted(each.prompt)
        assert set(quoted(each.prompt)) <= {old.text, new.text}
        assert new.color == old.color


def test_styles_are_named_or_shown():
    for each in drawn("style", 30):
        (style,) = {thing.style for thing in each.scene.things}
        words = (STYLES_ZH if each.language == "zh" else STYLE_WORDS)[style]
        assert any(word in each.prompt for word in words)
    for each in drawn("style_reference", 30):
        content, shown = each.references
        assert {thing.style for thing in shown.things} == {thing.style for thing in each.scene.things}
        assert [thing.kind for thing in content.things] == [thing.kind for thing in each.scene.things]


def test_subjects_keep_thing_and_style_and_are_told_apart():
    for each in drawn("subjects", 60):
        portraits = [reference.things for reference in each.references]
        assert all(len(things) == 1 for things in portraits)
        assert not any(reference.words for reference in each.references)
        shown = sorted((things[0].kind, things[0].style) for things in portraits)
        assert shown == sorted((thing.kind, thing.style) for thing in each.scene.things)
        assert 1 <= len(shown) <= 3
        if len({kind for kind, _ in shown}) < len(shown):
            assert sum(str(number) in each.prompt for number in (1, 2, 3)) or any(
                word in each.prompt for word in ("first", "second", "third", "第")
            )


def test_training_never_says_or_writes_what_the_evaluation_does():
    assert INSTRUCTIONS.keys() == HELD_OUT_INSTRUCTIONS.keys()
    for task, frames in INSTRUCTIONS.items():
        for language in GRAMMARS:
            assert not set(frames[language]) & set(HELD_OUT_INSTRUCTIONS[task][language])
    for grammar in GRAMMARS.values():
        assert not set(grammar.frames) & set(grammar.held_out_frames)
        assert not set(grammar.wordless_frames) & set(grammar.held_out_wordless_frames)
    assert not set(GREETINGS) & set(HELD_OUT_GREETINGS)
    trained, asked = drawn(None, 500), drawn(None, 500, "evaluate")
    assert not {each.prompt for each in trained} & {each.prompt for each in asked}
    written = [{text for each in split for text in quoted(each.prompt)} for split in (trained, asked)]
    assert not written[0] & {*HELD_OUT_GREETINGS, *HELD_OUT_WORDS}
    assert not written[1] & {*GREETINGS, *WORDS}


def test_an_unknown_task_or_language_is_one_sentence(capsys, tmp_path, art, monkeypatch):
    with pytest.raises(TrainingError, match=r"no task 'repaint'; choose one of: text, regions, .*\.$"):
        sample(scene_rng("train", 0), FULL, "repaint")
    with pytest.raises(TrainingError, match=r"level 1 has no language 'zh'; choose one of: en\.$"):
        sample(scene_rng("train", 0), SMALL, language="zh")
    monkeypatch.setattr("glmimage.train.art.load_art", lambda work: art)
    wrong = ["--work", str(tmp_path), "world", "--show", str(tmp_path / "sheet.png"), "--level", "1", "--task", "add"]
    assert train_main.main(wrong) == 2
    assert "no task 'add'" in capsys.readouterr().err


def test_a_sheet_shows_references_wanted_picture_and_prompt(tmp_path, art, monkeypatch):
    from PIL import Image

    monkeypatch.setattr("glmimage.train.art.load_art", lambda work: art)
    path = tmp_path / "sheet.png"
    assert train_main.main(["world", "--show", str(path), "--task", "replace", "--count", "3"]) == 0
    for words in (["--split", "evaluate"], ["--task", "replace"], ["--language", "zh"], ["--style", "ink"]):
        assert train_main.main(["world", "--folder", str(path.parent / "single"), *words]) == 2
    sheet = np.asarray(Image.open(path).convert("RGB"))
    wanted = render(sample(scene_rng("train", 0), FULL, "replace").scene, art)
    left = 8 + wanted.shape[1] + 8
    assert (sheet[8 : 8 + wanted.shape[0], left : left + wanted.shape[1]] == wanted).all()


def test_every_name_is_there_in_both_languages():
    assert set(NAMES) == set(THINGS)
    assert set(STYLES_ZH) == set(STYLES)
    texts = [name for kind in THINGS for name in NAMES[kind][1:]]
    assert len(texts) == len(set(texts))


def test_captioned_pictures_show_the_thing_and_say_it(tmp_path, art):
    captioned_pictures(tmp_path, art, SMALL, 3, "octopus", "flat")
    pictures = sorted(tmp_path.glob("*.png"))
    assert [path.name for path in pictures] == ["000.png", "001.png", "002.png"]
    for path in pictures:
        captions = path.with_suffix(".txt").read_text().splitlines()
        assert len(set(captions)) > 5
        assert all("octopus" in caption for caption in captions)
    with pytest.raises(TrainingError, match="no art for the style 'oil'"):
        captioned_pictures(tmp_path, art, SMALL, 1, "octopus", "oil")
