"""The text of other programs: what is understood is restored, everything else is said."""

from __future__ import annotations

import pytest

from app.parameters import read, restore
from glmimage.request import LARGEST_SEED

WEBUI = """a (foggy:1.2) harbour, <lora:boats:0.8> at dawn,
second line: with a colon
Negative prompt: blurry, text
and more
Steps: 25, Sampler: DPM++ 2M Karras, CFG scale: 7.5, Seed: 1234567890, Size: 500x750, Model hash: abc, \
Model: "dream, v5", Clip skip: 2, Lora hashes: "boats: 1a2b, other: 3c", Version: v1.9.0"""


def test_the_text_is_taken_apart() -> None:
    parameters = read(WEBUI)
    assert parameters.prompt == "a (foggy:1.2) harbour, <lora:boats:0.8> at dawn,\nsecond line: with a colon"
    assert parameters.negative == "blurry, text\nand more"
    assert parameters.values["Sampler"] == "DPM++ 2M Karras"
    assert parameters.values["Model"] == "dream, v5"
    assert parameters.values["Lora hashes"] == "boats: 1a2b, other: 3c"


def test_what_is_understood_is_restored_and_the_rest_is_said() -> None:
    request, missing = restore(read(WEBUI), 500, 750)
    assert request is not None
    assert request.prompt == "a foggy harbour, at dawn,\nsecond line: with a colon"
    assert (request.width, request.height) == (512, 736)
    assert (request.seed, request.steps, request.guidance) == (1234567890, 25, 7.5)
    for words in (
        "negative prompt “blurry, text and more”",
        "lora “boats”",
        "(fog:1.2)",
        "500x750 became 512x736",
        "“dream, v5”",
        "Sampler DPM++ 2M Karras, Clip skip 2.",
    ):
        assert sum(words in sentence for sentence in missing) == 1, words
    assert not any("hash" in sentence or "Version" in sentence for sentence in missing)


def test_our_own_text_is_read() -> None:
    text = 'a cat and "HELLO"\nSteps: 4, Sampler: Euler, CFG scale: 1.5, Seed: 7, Size: 96x64, Model: tiny'
    request, _ = restore(read(text), 1, 1)
    assert request is not None
    assert (request.prompt, request.steps, request.seed) == ('a cat and "HELLO"', 4, 7)
    assert (request.width, request.height) == (96, 64)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("Steps: 20, Seed: -1", "Seed -1"),
        (f"Steps: 20, Seed: {LARGEST_SEED + 1}", "Seed"),
        ("Steps: 20, Seed: x", "Seed x"),
        ("Steps: 5000", "Steps 5000"),
        ("Steps: 20, CFG scale: 99", "CFG scale 99"),
        ("Steps: 20, CFG scale: nan", "CFG scale nan"),
        ("Steps: 20, Size: 64x640", "4:1"),
        ("Steps: 20, Size: 0x0", "0x0"),
        ("Steps: 20, Size: big", "big"),
    ],
)
def test_values_out_of_range_are_left_out(line: str, words: str) -> None:
    request, missing = restore(read(f"a cat\n{line}"), 64, 64)
    assert request is not None
    assert request.prompt == "a cat"
    assert [sentence for sentence in missing if words in sentence]


def test_a_text_without_values_is_a_prompt_for_a_picture_of_its_size() -> None:
    request, missing = restore(read("nothing but\r\nwords"), 96, 64)
    assert request is not None
    assert (request.prompt, request.width, request.height, missing) == ("nothing but\nwords", 96, 64, ())


@pytest.mark.parametrize("text", ["", "\n\n", "Steps: 20", "Negative prompt: x\nSteps: 20", "<lora:a:1>\nSteps: 3"])
def test_without_a_prompt_there_is_no_request(text: str) -> None:
    request, missing = restore(read(text), 64, 64)
    assert request is None
    assert "no prompt" in missing[-1]


@pytest.mark.parametrize("text", ["a" * 10**6, "(" * 50_000, '"' * 50_000 + "\nSteps: 1, " + '"' * 50_000, "\ud800"])
def test_texts_without_sense_end_in_sentences(text: str) -> None:
    request, missing = restore(read(text), 64, 64)
    assert request is not None or missing
    assert all("\n" not in sentence and len(sentence) < 400 for sentence in missing)


def test_weights_inside_one_another_are_taken_out() -> None:
    request, _ = restore(read("((deep:1.1) fog:1.2) and (plain) words"), 64, 64)
    assert request is not None
    assert request.prompt == "deep fog and (plain) words"
