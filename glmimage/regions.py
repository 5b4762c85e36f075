"""Text boxes to an attention bias in the decoder that ties each string's glyph tokens to its box.

A patch inside a string's box attends more to that string and less to those of other boxes, and the string's tokens
attend more to the patches inside their box and less to those of others. What lies in no box is left alone, as are
strings without one, references, and the branch without text: attention there has other uses than spelling, and a bias
on it costs the whole picture. The bias is small numbers for each string and patch: `decoder` adds them to the dot
products by a few more columns of queries and keys, so that no matrix of all pairs is built and the fast kernels stay.
Knows no layers. The published model has nothing of this; at strength 0 there is nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from glmimage.errors import RequestError
from glmimage.geometry import Grid
from glmimage.glyphs import GlyphReader, token_counts
from glmimage.prompting import quoted
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
