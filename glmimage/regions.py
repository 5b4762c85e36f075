"""Text boxes to attention: the decoder's to the strings, the prior's to what the prompt says of the boxes.

`tie` is a bias in the decoder that ties each string's glyph tokens to its box. A patch inside a string's box attends
more to that string and less to those of other boxes, and the string's tokens attend more to the patches inside their
box and less to those of others. What lies in no box is left alone, as are strings without one, references, and the
branch without text: attention there has other uses than spelling, and a bias on it costs the whole picture. The bias is
small numbers for each string and patch: `decoder` adds them to the dot products by a few more columns of queries and
keys, so that no matrix of all pairs is built and the fast kernels stay.

`apart` is a mask in the prior: a row of codes sees, of what the prompt says of boxes, that of the texts which stand in
it. A prior that sees all of it at every code takes the place or the letters of one text for another's.

Knows no layers. The published model has nothing of this; at strength 0 there is nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from glmimage import tasks
from glmimage.errors import RequestError
from glmimage.geometry import PRIOR_CELL, Grid, Size, preview_cells
from glmimage.glyphs import GlyphReader, token_counts
from glmimage.prompting import PromptIds, quoted
from glmimage.request import Region, Request

OWN, OTHERS = 0.5, 1.0
"""Added to a dot product inside the string's own box, and taken from it inside another's, at strength 1.

Measured on the miniature in training, on ten pictures with two words in boxes, at two timesteps: the flow loss on the
words is 0.2319 without, 0.2313 at strength 1 and 0.2415 at 3; with the boxes exchanged 0.2336 and 0.2446. The rest of
the picture keeps 0.143 and 0.145. A bias of 2 and more towards the own box, or one on all that is outside, blurs the
letters and costs the rest."""


@dataclass(frozen=True, slots=True, eq=False)
class Ties:
    """Which patches belong to which glyph tokens."""

    patches_SN: Tensor
    """[S, N] float32: a tied string's bias at each patch, positive inside its box, negative inside another's, 0
    elsewhere; a patch that the box's side cuts lies between."""
    tokens_ST: Tensor
    """[S, T] float32: 1 at the tokens of the string, 0 elsewhere."""


def tie(reader: GlyphReader, request: Request, grid: Grid) -> Ties | None:
    """The ties of a request's regions on a grid of patches (rows, columns); None where there is nothing to tie.

    Raises RequestError for a region whose text stands nowhere in quotation marks in the prompt.
    """
    texts = quoted(request.prompt)
    places = match(request.regions, texts)
    if not places or request.region_strength == 0:
        return None
    counts = token_counts(reader, texts)
    tokens = torch.zeros(len(places), sum(counts))
    inside = torch.stack([cover(region.box, grid).flatten() for region in request.regions])
    others = torch.zeros_like(inside)
    for row, place in enumerate(places):
        start = sum(counts[:place])
        tokens[row, start : start + counts[place]] = 1.0
        if len(places) > 1:
            others[row] = inside[[other for other in range(len(places)) if other != row]].amax(0)
    # Where boxes overlap, a patch belongs to both.
    others = (others - inside).clamp(min=0)
    return Ties(request.region_strength * (OWN * inside - OTHERS * others), tokens)


def apart(request: Request, prompt: PromptIds, letter: Size | None) -> Tensor | None:
    """[N, T] bool: which of the prompt's T tokens each of the N codes to draw does not see; None where all see all.

    letter: pixels of every letter of the checkpoint. Where they have no one size, and where the prompt does not say
    where each text begins (`tasks.with_cells`), nobody knows which rows are whose, and nothing is hidden.

    Measured on the miniature, on the codes drawn for 50 unseen prompts with two boxes or three, twice each: of 208
    words 0.58 are right and in their place where all see all, 0.70 where the texts' rows see their own alone, and 0.77
    where the other rows see none of them, either. Hiding the boxes in the prompt from each other adds nothing.
    """
    said = tasks.clauses(request)
    cells = [region.cell for region in request.regions if region.cell]
    if letter is None or not said or len(cells) < len(said) or request.region_strength == 0:
        return None
    grid = prompt.drawn[-1]
    above = torch.arange(grid[0])[:, None] * PRIOR_CELL
    begin = torch.tensor([(row - 1) * letter.width for _, row in cells])
    own_HR = (above < begin + letter.height) & (above + PRIOR_CELL > begin)
    spelled = torch.tensor(prompt.spells)
    said_RT = torch.stack([(spelled[:, 0] < last) & (spelled[:, 1] > first) for first, last in said])
    hidden_HT = said_RT.any(dim=0) & ~(own_HR[..., None] & said_RT).any(dim=1)
    rows = [row for shown in prompt.drawn for row in preview_cells(grid, shown)[0] for _ in range(shown[1])]
    return hidden_HT[rows]


def match(regions: Sequence[Region], texts: Sequence[str]) -> list[int]:
    """The number of each region's string among the prompt's quoted ones; of equal strings each takes the next."""
    free = list(range(len(texts)))
    places = []
    for region in regions:
        place = next((place for place in free if texts[place] == region.text), None)
        if place is None:
            raise RequestError(
                f"The region's text {region.text!r} does not stand in quotation marks in the prompt; write it there."
            )
        free.remove(place)
        places.append(place)
    return places


def cover(box: tuple[float, float, float, float], grid: Grid) -> Tensor:
    """[rows, columns] float32: the share of each patch that lies inside a box (left, top, right, bottom as 0..1)."""
    left, top, right, bottom = box
    down, across = (
        (
            torch.arange(1.0, count + 1).clamp(max=last * count) - torch.arange(float(count)).clamp(min=first * count)
        ).clamp(min=0)
        for count, first, last in ((grid[0], top, bottom), (grid[1], left, right))
    )
    return down[:, None] * across
