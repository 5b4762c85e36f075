"""Quoted strings to glyph embeddings: what tells the decoder how the wanted words are spelled.

Equal to `GlmImagePipeline._get_glyph_embeds` for one prompt, its quirks included, because the decoder was trained on
them: each string is read alone, as bytes with an end token; when the NUMBER of strings is even, every string gets one
pad in front, which is attended and kept; the strings' embeddings follow each other in the order of `prompting.quoted`.

Departures from upstream:
1. Strings over the limit are refused, not cut.
2. "<pad>" or "</s>" inside quotation marks is text, not a token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor
from transformers import ByT5Tokenizer, T5EncoderModel

from glmimage.errors import GlyphError

LONGEST = 2048
"""Most tokens of one string: its UTF-8 bytes and the end token."""


class GlyphReader(Protocol):
    """What is needed of a `models.Stack`."""

    @property
    def glyph_encoder(self) -> T5EncoderModel: ...
    @property
    def glyph_tokenizer(self) -> ByT5Tokenizer: ...


@torch.no_grad()
def encode_glyphs(stack: GlyphReader, texts: Sequence[str]) -> Tensor:
    """[1, T, width] in the glyph encoder's dtype; no texts is the same as one empty text (T = 1: the end token).

    Raises GlyphError for a text that is too long.
    """
    tokenizer, encoder = stack.glyph_tokenizer, stack.glyph_encoder
    rows = _rows(tokenizer, texts)
    longest = max(len(row) for row in rows)
    ids = torch.tensor([row + [tokenizer.pad_token_id] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    ids, mask = ids.to(encoder.device), mask.to(encoder.device)
    embeddings: Tensor = encoder(ids, attention_mask=mask).last_hidden_state
    return embeddings[mask.bool()][None]


def token_counts(stack: GlyphReader, texts: Sequence[str]) -> list[int]:
    """How many of the embeddings each text takes, in their order."""
    return [len(row) for row in _rows(stack.glyph_tokenizer, texts)]


def check_glyphs(stack: GlyphReader, texts: Sequence[str]) -> None:
    """Raises GlyphError for what `encode_glyphs` would refuse; costs nothing, so that nobody waits for a refusal."""
    for text in texts:
        _ids(stack.glyph_tokenizer, text)


def _rows(tokenizer: ByT5Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    texts = list(texts) or [""]
    front = [tokenizer.pad_token_id] * ((len(texts) + 1) % 2)
    return [front + _ids(tokenizer, text) for text in texts]


def _ids(tokenizer: ByT5Tokenizer, text: str) -> list[int]:
    """The text's bytes, after the ids that the special tokens take, and the end token."""
    ids = [byte + tokenizer.offset for byte in text.encode("utf-8")] + [tokenizer.eos_token_id]
    if len(ids) > LONGEST:
        raise GlyphError(
            f"The quoted text {text[:20]!r}... has {len(ids) - 1} bytes and at most {LONGEST - 1} can be written;"
            " shorten it or split it into several quoted texts."
        )
    return ids
