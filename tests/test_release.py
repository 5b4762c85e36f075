"""The released layout: ids, tokenizer, configs and files, and that plain upstream classes load and run it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import GlmImagePipeline
from transformers import PreTrainedTokenizerFast

from glmimage.checkpoint import verify
from glmimage.errors import TrainingError
from glmimage.train import release
from glmimage.train.release import MINIATURE, TINY, build_tokenizer
from tests.conftest import CAPTIONS


@pytest.fixture(scope="module")
def tokenizer(tiny: Path) -> PreTrainedTokenizerFast:
    """As stored and loaded again by plain transformers."""
    return PreTrainedTokenizerFast.from_pretrained(tiny / "processor")


@pytest.fixture(scope="module")
def pipeline(tiny: Path) -> Any:
    return GlmImagePipeline.from_pretrained(tiny, dtype=torch.float32)


def pieces(tokenizer: PreTrainedTokenizerFast, text: str) -> list[str]:
    return [tokenizer.decode([id]) for id in tokenizer(text).input_ids]


def test_ids_stand_as_in_the_release(tokenizer: PreTrainedTokenizerFast) -> None:
    assert tokenizer.convert_tokens_to_ids("<|dit_token_0|>") == 0
    assert tokenizer.convert_tokens_to_ids("<|dit_token_63|>") == 63
    assert (tokenizer.bos_token, tokenizer.bos_token_id) == ("<|dit_token_64|>", 64)
    assert (tokenizer.eos_token, tokenizer.eos_token_id) == ("<|dit_token_65|>", 65)
    first_text = TINY.vision_vocabulary
    for word in ("<|endoftext|>", "<sop>", "<eop>", "<|image|>"):
        assert tokenizer.convert_tokens_to_ids(word) >= first_text + 256
    assert min(tokenizer("any text 123 你好").input_ids) >= first_text
    assert tokenizer.image_token == "<|image|>"
    assert tokenizer.grid_bos_token == "<sop>"
    assert tokenizer.grid_eos_token == "<eop>"


@pytest.mark.parametrize("text", [*CAPTIONS, "Ünïcödé ☂ 新年快乐\n\ttabs  ", "\x00\x7f", "🎉" * 3, "a <sop> b"])
def test_any_text_comes_back(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_digits_are_single_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    assert pieces(tokenizer, "16 8") == ["1", "6", " ", "8"]
    assert pieces(tokenizer, "<sop>16 16<eop>") == ["<sop>", "1", "6", " ", "1", "6", "<eop>"]
    assert pieces(tokenizer, "x2y") == ["x", "2", "y"]


@pytest.mark.parametrize(
    "quoted", ["'background'", '"background"', "“background”", "「background」", '"two background words"', "'don't'"]
)
def test_quoted_text_is_spelled(tokenizer: PreTrainedTokenizerFast, quoted: str) -> None:
    text = f"the background {quoted} background"
    start = text.index(quoted)
    spelled = tokenizer(text, return_offsets_mapping=True)
    inside = [end - begin for begin, end in spelled["offset_mapping"] if start <= begin < start + len(quoted)]
    assert max(inside) == 1
    # The same word outside is one piece.
    assert pieces(tokenizer, text)[-1] == " background"


def test_apostrophes_do_not_spell(tokenizer: PreTrainedTokenizerFast) -> None:
    assert " background" in pieces(tokenizer, "don't background it's")


def test_equal_captions_give_equal_tokenizers() -> None:
    first, second = (build_tokenizer(CAPTIONS, TINY).backend_tokenizer.to_str() for _ in range(2))
    assert first == second


def test_a_tokenizer_learns_words_of_another_language_and_keeps_its_ids() -> None:
    before = build_tokenizer(CAPTIONS, TINY)
    after = release.extend_tokenizer(before, ["猫", "熊猫", "，"], 500)
    for text in (*CAPTIONS, "<sop>8 8<eop><|image|>", "ü"):
        assert after(text).input_ids == before(text).input_ids
    assert pieces(after, "熊猫，猫") == ["熊猫", "，", "猫"]
    assert min(after("熊猫，猫").input_ids) >= len(before)
    # What is quoted is spelled all the same.
    assert pieces(after, '"熊猫a"')[-2:] == ["a", '"']
    assert after("熊猫").input_ids[0] not in after('"熊猫a"').input_ids
    assert after.decode(after("一只熊猫").input_ids) == "一只熊猫"
    again = release.extend_tokenizer(after, ["猫", "熊猫", "，"], 500)
    assert len(again) == len(after)


def test_equal_seeds_give_equal_weights_and_leave_the_global_generator() -> None:
    before = torch.get_rng_state()
    first, second, third = (release.build_parts(TINY, CAPTIONS, seed) for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    weights = [parts.transformer.proj_out.weight for parts in (first, second, third)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_zero_decoder() -> None:
    decoder = release.build_decoder(TINY, zero=True)
    assert not decoder.proj_out.weight.any()
    assert not decoder.transformer_blocks[0].norm1.linear.weight.any()
    assert release.build_decoder(TINY).proj_out.weight.any()


def test_write_keeps_the_parts_as_they_are(tmp_path: Path) -> None:
    parts = release.build_parts(TINY, CAPTIONS, 0)
    release.write(tmp_path / "out", parts, TINY.defaults)
    assert parts.vae.dtype == torch.float32
    verify(tmp_path / "out")
    stored = json.loads((tmp_path / "out" / "vision_language_encoder" / "config.json").read_text())
    assert stored["dtype"] == "bfloat16"
    assert json.loads((tmp_path / "out" / "atelier.json").read_text())["width"] == TINY.side


def test_a_checkpoint_that_finds_no_room_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, parts = tmp_path / "out", release.build_parts(TINY, CAPTIONS, 0)
    release.write(folder, parts, TINY.defaults)
    (folder / "README.md").write_text("mine")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def full(*asked: Any, **named: Any) -> None:
        raise Exception("No space left on device (os error 28)")  # as a fast tokenizer does

    monkeypatch.setattr(type(parts.processor), "save_pretrained", full)
    changed = release.build_parts(TINY, CAPTIONS, 1)
    with pytest.raises(TrainingError, match=r"cannot be written \(No space left.*make room or name another folder"):
        release.write(folder, changed, TINY.defaults)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert list(tmp_path.iterdir()) == [folder]
    monkeypatch.undo()
    release.write(folder, changed, TINY.defaults)
    verify(folder)
    assert (folder / "README.md").read_text() == "mine"
    assert before != {path: path.read_bytes() for path in before}


def test_generation_config_is_complete(tiny: Path) -> None:
    config = json.loads((tiny / "vision_language_encoder" / "generation_config.json").read_text())
    assert (config["do_sample"], config["temperature"], config["top_p"], config["top_k"]) == (True, 0.9, 0.75, 0)
    assert config["suppress_tokens"] == list(range(TINY.codes, TINY.vision_vocabulary))


def test_image_processor(pipeline: Any) -> None:
    processor = pipeline.processor.image_processor
    assert (processor.patch_size, processor.merge_size, processor.temporal_patch_size) == (16, 1, 1)
    assert list(processor.image_mean) == [0.5] * 3
    assert list(processor.image_std) == [0.5] * 3


def test_the_plain_pipeline_paints(pipeline: Any) -> None:
    """Loaded by upstream alone, which asks nothing of us; plain `generate()` fills every grid."""
    codes, _, _ = pipeline.generate_prior_tokens(
        "a cat 'HI'", 64, 96, device=torch.device("cpu"), generator=torch.Generator().manual_seed(0)
    )
    assert codes.shape == (1, 4 * 6)
    assert int(codes.max()) < TINY.codes
    picture = pipeline("a cat 'HI'", height=64, width=96, num_inference_steps=2, prior_token_ids=codes).images[0]
    assert picture.size == (96, 64)


def test_miniature_is_small_enough() -> None:
    """At most 60 MB in bf16, and its parts as the design has them."""
    with torch.device("meta"):
        modules = [
            release.build_vae(MINIATURE),
            release.build_decoder(MINIATURE),
            release.build_glyph_encoder(MINIATURE),
            release.build_prior(MINIATURE, build_tokenizer(CAPTIONS, MINIATURE)),
        ]
    count = sum(parameter.numel() for module in modules for parameter in module.parameters())
    assert 15e6 < count < 29e6
