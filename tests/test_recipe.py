"""The recipe from its first stage to a checkpoint that paints, in tiny, on the levels that are asked for."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from glmimage.checkpoint import read_defaults
from glmimage.engine import Engine
from glmimage.events import Result
from glmimage.request import Request
from glmimage.train import art, exercises, recipe, tokenizer
from glmimage.train.__main__ import main, numbers
from glmimage.train.release import TINY, build_parts
from tests.stickers import discs


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "MINIATURE", replace(TINY, prior_layers=4))
    monkeypatch.setattr(recipe, "CAPTIONS", 200)
    monkeypatch.setattr(exercises, "SHARD", 32)
    monkeypatch.setattr(exercises, "FEWEST", 2)
    monkeypatch.setattr(tokenizer, "QUANTIZE_FROM", 1)
    monkeypatch.setattr(tokenizer, "STARTED_FROM", 1)
    monkeypatch.setattr(art, "load_art", lambda work: discs())
    merge, probe = tokenizer.merge_grounds, "glmimage.train.probe.probe"
    monkeypatch.setattr(tokenizer, "merge_grounds", lambda *rest: merge(*rest, count=128))
    monkeypatch.setattr(probe, lambda *rest: {})


@pytest.mark.parametrize(("levels", "known"), [("1:0.5,3", 3), ("1:0.2,4:0.8", 4)])
def test_every_stage_is_one_command(small: None, tmp_path: Path, levels: str, known: int):
    def run(*words: str) -> None:
        assert main(["--work", str(tmp_path), "--threads", "1", "--levels", levels, *words]) == 0

    for stage in ("vae", "vae_decoder", "tokenizer"):
        run(stage, "--steps", "2", "--batch", "2")
    run("exercises", "--shards", "0:1")
    names = {path.name.rsplit("-", 1)[0] for path in tmp_path.glob("*-0000.safetensors")}
    assert names == {f"{kind}-{level}" for kind in ("codes", "latents") for level in (1, known)}
    begun = ["--work", str(tmp_path), "--threads", "1", "--levels", "1", "prior"]
    assert main([*begun, "--steps", "1", "--batch", "4", "--eager"]) == 0
    for stage in ("prior", "decoder"):
        run(stage, "--steps", "2", "--batch", "4", "--eager")
    run("export", "--output", str(tmp_path / "made"))
    described = json.loads((tmp_path / "made" / "world.json").read_text(encoding="utf-8"))
    assert described["languages"] == ["en", "zh"]
    # All that was learned may be asked for.
    assert read_defaults(tmp_path / "made").max_pixels == 512 * 512
    events = Engine.load(str(tmp_path / "made")).run(Request(prompt="a cat", width=64, height=64, steps=1))
    assert any(isinstance(event, Result) for event in events)


def test_a_language_that_comes_later_begins_with_what_english_knows():
    parts = build_parts(TINY, ["a cat, a fox"], 3)
    english = parts.processor.tokenizer(" cat").input_ids
    before = parts.vision_language_encoder.model.language_model.embed_tokens.weight.clone()
    recipe.learn_languages(parts)
    after = parts.vision_language_encoder.model.language_model.embed_tokens.weight
    assert len(after) == parts.vision_language_encoder.config.text_config.vocab_size == len(parts.processor.tokenizer)
    assert torch.equal(after[: len(before)], before)
    for said, meant in (("猫咪", english), ("，", parts.processor.tokenizer(",").input_ids)):
        assert torch.allclose(after[parts.processor.tokenizer(said).input_ids], before[meant].mean(0))
    recipe.learn_languages(parts)
    assert parts.vision_language_encoder.model.language_model.embed_tokens.weight is after


@pytest.mark.parametrize("shards", ["x", "3:3", "-1:2", ":", "5:"])
def test_shards_that_are_none_are_refused(shards: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(["exercises", f"--shards={shards}"])
    assert "is no range of shards such as 0:8" in capsys.readouterr().err
    assert (numbers("3"), numbers("3:8")) == ((3, 4), (3, 8))


@pytest.mark.parametrize("minutes", ["0", "-1", "nan", "inf", "x"])
def test_no_time_is_no_ablation(minutes: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(["ablate", "codes", f"--minutes={minutes}"])
    assert "is no number above 0" in capsys.readouterr().err


@pytest.mark.parametrize("said", ["prior --steps=0", "vae --batch=-1", "evaluate --cases=x", "prior --rate=0"])
def test_numbers_that_are_none_are_refused(said: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(said.split())
    assert "number above 0" in capsys.readouterr().err


def test_a_work_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "file").write_text("")
    assert main(["--work", str(tmp_path / "file" / "work"), "vae"]) == 2
    said = capsys.readouterr().err
    assert "cannot be made" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("levels", ["5", "1:x", "", "2:0", "1:-1"])
def test_levels_that_are_none_are_refused(levels: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(["--levels", levels, "prior"])
    assert "names no levels of the world (1, 2, 3, 4)" in capsys.readouterr().err
