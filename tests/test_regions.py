"""Regions: which strings belong to which boxes; the decoder's extra columns are the bias that they stand for."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from glmimage import decoder, stages, tasks
from glmimage.decoder import Conditions, Painter
from glmimage.engine import Engine
from glmimage.errors import RequestError
from glmimage.geometry import Size, preview_cells
from glmimage.glyphs import encode_glyphs, token_counts
from glmimage.prompting import prompt_ids, quoted, region_words
from glmimage.regions import OTHERS, OWN, Ties, apart, cover, match, tie
from glmimage.request import Defaults, Region, Request
from tests.test_decoder import conditions, noise, reference

if TYPE_CHECKING:
    from glmimage.models import Stack

TOP, LEFT = Region(text="你好", box=(0, 0, 1, 0.5)), Region(text="HI", box=(0, 0.25, 1 / 3, 1))
REQUEST = Request(prompt="a cat, “你好” and 'more' and \"HI\"", regions=(TOP, LEFT), region_strength=1.5)


def test_tokens_are_counted_as_they_are_encoded(tiny_stack: Stack) -> None:
    for texts in ((), ("HI",), ("HI", "你好"), ("", "a", "bc")):
        assert sum(token_counts(tiny_stack, texts)) == encode_glyphs(tiny_stack, texts).shape[1]
    assert token_counts(tiny_stack, ("HI", "你好")) == [4, 8]


def test_cover() -> None:
    assert cover((0, 0, 1, 1), (2, 3)).tolist() == [[1.0] * 3] * 2
    shares = cover((0.25, 0.5, 0.75, 1), (2, 2))
    torch.testing.assert_close(shares, torch.tensor([[0.0, 0.0], [0.5, 0.5]]))
    torch.testing.assert_close(cover((0.4, 0.4, 0.6, 0.6), (1, 1)), torch.tensor([[0.04]]))


def test_equal_strings_go_in_order() -> None:
    boxes = tuple(Region(text=text, box=(0, 0, 1, 1)) for text in ("HI", "A", "HI"))
    assert match(boxes, ("A", "HI", "b", "HI")) == [1, 0, 3]
    with pytest.raises(RequestError, match="'HI' does not stand in quotation marks"):
        match(boxes, ("A", "HI"))


def test_ties(tiny_stack: Stack) -> None:
    ties = tie(tiny_stack, REQUEST, (4, 6))
    assert ties is not None
    assert quoted(REQUEST.prompt) == ("more", "你好", "HI")
    assert ties.tokens_ST.tolist() == [[0] * 5 + [1] * 7 + [0] * 3, [0] * 12 + [1] * 3]
    own, other = 1.5 * OWN, -1.5 * OTHERS
    # The boxes overlap in the second row; the upper box is the two upper rows.
    assert ties.patches_SN[0].view(4, 6).tolist() == [
        *([own] * 6 for _ in range(2)),
        *([other] * 2 + [0] * 4 for _ in range(2)),
    ]
    assert ties.patches_SN[1].view(4, 6).tolist() == [
        [other] * 6,
        [own] * 2 + [other] * 4,
        *([own] * 2 + [0] * 4 for _ in range(2)),
    ]


def test_a_text_alone_has_no_other_box(tiny_stack: Stack) -> None:
    ties = tie(tiny_stack, replace(REQUEST, regions=(TOP,)), (4, 6))
    assert ties is not None
    assert ties.patches_SN.tolist() == [[1.5 * OWN] * 12 + [0] * 12]


def test_nothing_to_tie(tiny_stack: Stack) -> None:
    assert tie(tiny_stack, replace(REQUEST, regions=()), (4, 6)) is None
    assert tie(tiny_stack, replace(REQUEST, region_strength=0), (4, 6)) is None


@pytest.mark.parametrize("count", [0, 2])
def test_the_bias_is_that_of_an_attention_mask(tiny_stack: Stack, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Pictures in a batch, with guidance and references, against the same forward pass with the matrix of all pairs."""
    references = tuple(reference(tiny_stack, 2, 3, seed) for seed in range(count))
    wanted = conditions(tiny_stack, references, pictures=2)
    glyph_tokens = wanted.glyphs.shape[1]
    patches = torch.randn(3, 24, generator=torch.Generator().manual_seed(0))
    tokens = torch.zeros(3, glyph_tokens)
    tokens[0, :6], tokens[1, 6:9], tokens[2, 9:] = 1, 1, 1
    ours = velocity(tiny_stack, replace(wanted, ties=Ties(patches, tokens)))

    bias = torch.zeros(24 + glyph_tokens, 24 + glyph_tokens)
    bias[:24, 24:] = patches.t() @ tokens
    bias[24:, :24] = bias[:24, 24:].t()
    attend = F.scaled_dot_product_attention

    def masked(queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, **_: object) -> torch.Tensor:
        rows, columns = queries.shape[-2], keys.shape[-2]
        before = columns - len(bias)
        # The branch without text has fewer tokens, a reference only its own.
        if before < 0 or columns == 24 + wanted.empty_glyphs.shape[1]:
            return attend(queries, keys, values)
        return attend(queries, keys, values, attn_mask=F.pad(bias, (before, 0))[:rows])

    monkeypatch.setattr(decoder.F, "scaled_dot_product_attention", masked)
    theirs = velocity(tiny_stack, wanted)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    monkeypatch.undo()
    assert (ours - velocity(tiny_stack, wanted)).abs().max() > 1e-3


LETTER = Size(32, 64)
DEFAULTS = Defaults(min_side=128)


def boxed(*boxes: tuple[str, tuple[float, float, float, float]]) -> Request:
    regions = tuple(Region(text=text, box=box) for text, box in boxes)
    base = Request(prompt="-", width=128, height=256)
    return tasks.with_cells(tasks.regions(base, "a cat", regions), LETTER, DEFAULTS)


def test_a_row_of_codes_sees_the_texts_that_stand_in_it(tiny_stack: Stack) -> None:
    request = boxed(("HI", (0, 0, 1, 0.25)), ("A", (0, 0.5, 0.5, 0.75)), ("BC", (0.5, 0.5, 1, 0.75)))
    prompt = prompt_ids(tiny_stack.processor, request.prompt, request.resolve(DEFAULTS).size)
    hidden = apart(request, prompt, LETTER)
    assert hidden is not None
    assert hidden.shape == (prompt.count, len(prompt.ids))

    def seen(row: Tensor) -> str:
        """What is left of the prompt, as the row of codes reads it."""
        spans = {span for span, gone in zip(prompt.spells, row.tolist(), strict=True) if not gone}
        return " ".join("".join(request.prompt[first:last] for first, last in sorted(spans)).split())

    (preview_rows, preview_columns), (rows, columns) = prompt.drawn
    preview, target = hidden.split([preview_rows * preview_columns, rows * columns])
    first, *others = (region_words(region) for region in request.regions)
    assert [seen(row) for row in target[::columns]] == [
        *[f"a cat, {first} and and"] * 2,
        *["a cat, and and"] * 2,
        *[f"a cat, and {others[0]} and {others[1]}"] * 2,
        *["a cat, and and"] * 2,
    ]
    # The whole row, and every row of the preview as the row that it shows.
    assert torch.equal(target, target[::columns].repeat_interleave(columns, 0))
    shown = preview_cells((rows, columns), (preview_rows, preview_columns))[0]
    assert torch.equal(preview, target[::columns][shown].repeat_interleave(preview_columns, 0))


def test_nothing_is_hidden_where_nobody_knows_whose_rows_are_whose(tiny_stack: Stack) -> None:
    request = boxed(("HI", (0, 0, 1, 0.25)))
    prompt = prompt_ids(tiny_stack.processor, request.prompt, Size(128, 256))
    assert apart(request, prompt, LETTER) is not None
    assert apart(request, prompt, None) is None
    assert apart(replace(request, region_strength=0), prompt, LETTER) is None
    assert apart(replace(request, prompt=f"{request.prompt}."), prompt, LETTER) is None
    bare = tasks.regions(request, "a cat", [Region(text="HI", box=(0, 0, 1, 0.25))])
    assert apart(bare, prompt, LETTER) is None
    assert apart(tasks.text(request, "a cat"), prompt, LETTER) is None


def test_the_engine_hides_boxes_of_a_world_whose_letters_have_one_size(
    tiny_stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = replace(boxed(("HI", (0, 0, 1, 0.25)), ("A", (0, 0.5, 1, 1))), steps=1)
    hidden: list[Tensor | None] = []
    draw = stages.generate_prior
    monkeypatch.setattr(
        stages, "generate_prior", lambda *args, **named: hidden.append(named["hidden_NT"]) or draw(*args, **named)
    )
    for world in (None, {"lettering": {"letter": [32, 64]}}):
        list(Engine(tiny_stack, world).run(request, previews=False))
    assert hidden[0] is None
    assert hidden[1] is not None
    assert torch.equal(
        hidden[1], apart(request, prompt_ids(tiny_stack.processor, request.prompt, Size(128, 256)), LETTER)
    )


def velocity(stack: Stack, wanted: Conditions) -> torch.Tensor:
    with torch.no_grad():
        return Painter(stack.decoder, wanted, torch.tensor([500.0])).velocity(noise(2), 0)


def test_without_ties_the_buffers_are_as_wide_as_a_head(tiny_stack: Stack) -> None:
    plain = Painter(tiny_stack.decoder, conditions(tiny_stack), torch.tensor([500.0]))
    assert all(buffer.shape[-1] == branch.width for branch in plain._branches for buffer in branch.wide)
    ties = Ties(torch.zeros(3, 24), torch.zeros(3, conditions(tiny_stack).glyphs.shape[1]))
    tied = Painter(tiny_stack.decoder, replace(conditions(tiny_stack), ties=ties), torch.tensor([500.0]))
    extra = [branch.wide[0].shape[-1] - branch.width for branch in tied._branches]
    assert extra == [8, 0], "two columns a string, rounded up; none in the branch without text"
