"""Glyph embeddings: equal to upstream's, quirks included."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from diffusers import GlmImagePipeline

from glmimage.errors import GlyphError
from glmimage.glyphs import LONGEST, encode_glyphs
from glmimage.prompting import quoted

if TYPE_CHECKING:
    from glmimage.models import Stack


@pytest.fixture(scope="module")
def pipeline(tiny: Path) -> GlmImagePipeline:
    return GlmImagePipeline.from_pretrained(tiny, dtype=torch.float32)


@pytest.mark.parametrize(
    "prompt",
    [
        "no words at all",
        "a sign 'HELLO'",
        "two: \"one\" and 'three and more'",
        '“新年快乐” and 「福」 and "x"',
        "four 'a' \"bb\" “ccc” 「dddd」",
        'an empty "" one',
        'spaces "  MOON  " kept',
    ],
)
def test_equal_to_upstream(pipeline: GlmImagePipeline, tiny_stack: Stack, prompt: str) -> None:
    with torch.no_grad():
        wanted = pipeline._get_glyph_embeds(prompt)
    got = encode_glyphs(tiny_stack, quoted(prompt))
    assert got.shape == wanted.shape
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-6)


def test_no_text_is_the_end_token(tiny_stack: Stack) -> None:
    assert encode_glyphs(tiny_stack, ()).shape[1] == 1
    assert torch.equal(encode_glyphs(tiny_stack, ()), encode_glyphs(tiny_stack, ("",)))


def test_an_even_number_of_texts_pads_each(tiny_stack: Stack) -> None:
    assert encode_glyphs(tiny_stack, ("ab",)).shape[1] == 3
    assert encode_glyphs(tiny_stack, ("ab", "c")).shape[1] == 7


def test_special_words_are_text(tiny_stack: Stack) -> None:
    assert encode_glyphs(tiny_stack, ("</s>",)).shape[1] == 5


def test_too_long_is_refused(tiny_stack: Stack) -> None:
    assert encode_glyphs(tiny_stack, ("a" * (LONGEST - 1),)).shape[1] == LONGEST
    with pytest.raises(GlyphError, match="at most 2047"):
        encode_glyphs(tiny_stack, ("福" * 700,))
