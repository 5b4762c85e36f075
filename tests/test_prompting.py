"""Prompt ids against upstream's processor, and quoted strings against upstream's pipeline."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from diffusers import GlmImagePipeline
from PIL import Image

from glmimage.errors import RequestError
from glmimage.geometry import Size
from glmimage.models import Stack
from glmimage.prompting import PLACES, place_of, prompt_ids, quoted, region_words
from glmimage.request import Region

PROMPTS = (
    "a cat",
    "  a cat\nwith spaces  ",
    "a soft 3D cat 'CAT 16', \"Hello\" and “hi” and 「你好」",
    "don't, it's 5 o'clock",
    "写着“新年快乐”的红色背景 🎉",
    "16 16",
    "a <b> c <",
)
SIZES = (Size(256, 256), Size(512, 128), Size(64, 96))


def upstream_inputs(stack: Stack, prompt: str, size: Size, pictures: list[Image.Image]) -> Any:
    content: list[dict[str, Any]] = [{"type": "image", "image": picture} for picture in pictures]
    content.append({"type": "text", "text": prompt})
    return stack.processor.apply_chat_template(
        [[{"role": "user", "content": content}]],
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"target_h": size.height, "target_w": size.width},
    )


def noise_picture(width: int, height: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("references", [0, 1, 2])
def test_ids_are_the_processors(tiny_stack: Stack, prompt: str, size: Size, references: int) -> None:
    sizes = (Size(96, 64), Size(128, 160))[:references]
    pictures = [noise_picture(size.width, size.height) for size in sizes]
    theirs = upstream_inputs(tiny_stack, prompt, size, pictures)
    ours = prompt_ids(tiny_stack.processor, prompt, size, [size.prior_grid for size in sizes])
    assert list(ours.ids) == theirs["input_ids"][0].tolist()
    # Theirs lists sources, then the target, then the preview; ours what is drawn in the order of drawing.
    grids = [(rows, columns) for _, rows, columns in theirs["image_grid_thw"].tolist()]
    assert list(ours.references) == grids[:references]
    assert list(ours.drawn) == grids[references:][::-1]
    assert ours.count == sum(rows * columns for rows, columns in ours.drawn)


@pytest.mark.parametrize(
    "word", ["<|image|>", "<sop>", "<eop>", "<|endoftext|>", "<|dit_token_64|>", "<|dit_token_65|>", "<|dit_token_5|>"]
)
@pytest.mark.parametrize("grids", [(), ((2, 3),)])
def test_special_words_typed_by_a_person_are_text(
    tiny_stack: Stack, word: str, grids: tuple[tuple[int, int], ...]
) -> None:
    tokenizer = tiny_stack.processor.tokenizer
    special = set(tokenizer.added_tokens_decoder)
    with_word = prompt_ids(tiny_stack.processor, f"a {word} cat", Size(64, 64), grids)
    without = prompt_ids(tiny_stack.processor, "a cat", Size(64, 64), grids)
    assert [id for id in with_word.ids if id in special] == [id for id in without.ids if id in special]
    assert word in tokenizer.decode(with_word.ids)
    assert min(id for id in with_word.ids if id not in special) >= tiny_stack.prior.config.text_config.vision_vocab_size


def test_special_words_that_are_not_marked_special_are_text_too(tiny_stack: Stack) -> None:
    """A checkpoint may add plain words to its tokenizer; the switch for special ones does not free those."""
    import copy

    processor = copy.deepcopy(tiny_stack.processor)
    processor.tokenizer.add_tokens(["<plain>"])
    ids = prompt_ids(processor, "a <plain> cat", Size(64, 64)).ids
    assert processor.tokenizer.convert_tokens_to_ids("<plain>") not in ids
    assert "a <plain> cat" in processor.tokenizer.decode(ids)


@pytest.mark.parametrize("prompt", [*PROMPTS[2:], "a <sop> cat"])
@pytest.mark.parametrize("grids", [(), ((2, 3),)])
def test_spans_are_what_each_id_spells(tiny_stack: Stack, prompt: str, grids: tuple[tuple[int, int], ...]) -> None:
    ours = prompt_ids(tiny_stack.processor, prompt, Size(64, 64), grids)
    assert len(ours.spells) == len(ours.ids)
    spelled = [(id, span) for id, span in zip(ours.ids, ours.spells, strict=True) if span != (0, 0)]
    plain = tiny_stack.processor.tokenizer(prompt, add_special_tokens=False, split_special_tokens=True)
    assert [id for id, _ in spelled] == plain.input_ids
    assert {place for _, span in spelled for place in range(*span)} == set(range(len(prompt)))


PLAIN = (
    "no quotes",
    "a 'cat' and a 'dog'",
    "a \"cat\", “a dog” and 「鱼」, then 'one more'",
    "写着'你好'的牌子",
    '"" “” 「」',
    "say “one “two” three”",
    "two\n'lines\nlong'",
)


@pytest.mark.parametrize("prompt", PLAIN)
def test_quoted_is_upstreams_where_no_apostrophe_misleads_it(prompt: str) -> None:
    assert list(quoted(prompt)) == GlmImagePipeline.get_glyph_texts(None, prompt)[0]


@pytest.mark.parametrize(
    ("prompt", "strings"),
    [
        ("don't say it's", ()),
        ("rock 'n' roll, Rock 'N' Roll", ()),
        ("the letter 'N' in red", ("N",)),
        ("the dogs' bowl and the cats' bed", ()),
        ("the '90s and the '80s", ()),
        ("O'Neil's 'bar' isn't 'open'", ("bar", "open")),
        ("'don't stop'", ("don't stop",)),
        ("it's a sign 'OPEN'.", ("OPEN",)),
        ("l'été 'ÉTÉ' d'or", ("ÉTÉ",)),
        ("\"it's\" 'x'", ("x", "it's")),
    ],
)
def test_apostrophes_are_not_quotes(prompt: str, strings: tuple[str, ...]) -> None:
    """Upstream is wrong here: it takes what stands between any two apostrophes for a quoted string."""
    assert quoted(prompt) == strings


def test_quoted_is_quick_on_long_odd_prompts() -> None:
    for piece in ("'", "' ", "a'a ", "'a", "“", '"'):
        quoted(piece * (20_000 // len(piece)))


def test_a_box_is_said_by_place_and_sides() -> None:
    region = Region(text="HELLO", box=(0.04, 0.1, 0.61, 0.36), color="white")
    assert (
        region_words(region) == 'the text "HELLO" in white at the top left, from 5% to 60% across and 10% to 35% down'
    )
    plain = Region(text="新年", box=(0.6, 0.7, 1, 1))
    assert region_words(plain, "zh") == "文字“新年”位于右下角，横向60%到100%、纵向70%到100%"
    assert quoted(region_words(plain, "zh")) == ("新年",)
    thin = region_words(Region(text="a", box=(0.999, 0.5, 1, 0.501)))
    assert "from 95% to 100% across and 50% to 55% down" in thin


def test_the_text_of_a_box_keeps_its_own_quotation_marks() -> None:
    said = region_words(Region(text='say "hi"', box=(0, 0, 1, 1)))
    assert '“say "hi"”' in said
    with pytest.raises(RequestError, match="every kind of quotation mark"):
        region_words(Region(text='"“「', box=(0, 0, 1, 1)))


def test_nine_places_cover_the_picture() -> None:
    named = [[place_of(x, y) for x in (0.1, 0.5, 0.9)] for y in (0.1, 0.5, 0.9)]
    assert named == [list(row) for row in PLACES]
