"""What the prior is shown in training beside the codes: where to look for each, and where the next thing will begin.

Learned from the codes' loss alone, copying comes last: a look at the wrong letter teaches nothing of where the right
one is. Because everything is drawn from scenes, the right place is known, and two heads of the layer in the middle are
shown it while the prior is trained (guided attention: Tachibana et al. 2017, there for speech).

Where a thing or a word begins is told by one code of the many before it, so a place that has to be worked out (a box in
percent, a word centred by its letters) is learned slowly. A read-out after the same layer has to know it at every
code, long before it is needed.

What is found so is in the state that all later layers read. The model and its use are as before.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from glmimage.train.captions import QUOTES
from glmimage.train.edits import WHOLE, Sample
from glmimage.train.layout import Scene
from glmimage.train.words import columns

NOWHERE = -1
"""Of a code for which there is nothing to look at."""
HEADS = {"letter": 0, "cell": -1}
"""What is looked for -> the head; they read the first and the last key head."""
AHEAD = ("thing", "word")
"""Kinds of what is read out where it begins next."""
LONGEST = 16
"""Cells along a side, at most, of a picture in which that can be read out."""
_MARKS = tuple(dict.fromkeys(QUOTES))


def letters(scene: Scene, prompt: str, offsets: Sequence[tuple[int, int]]) -> Tensor:
    """[h, w]: for each cell of a letter the token that spells it in the prompt, right of a word its closing mark.

    `offsets`: (first, last) character of each of the prompt's tokens. A word that the prompt does not quote is looked
    for nowhere.
    """
    # Of a character of several tokens the last one, which has seen it whole.
    token = {place: number for number, (first, last) in enumerate(offsets) for place in range(first, last)}
    found = torch.full(scene.grid, NOWHERE)
    for word in scene.words:
        begin = max(prompt.find(f"{left}{word.text}{right}") for left, right in _MARKS)
        if begin < 0:
            continue
        col = word.col
        for place, letter in enumerate(word.text, begin + 1):
            found[word.row : word.row + 2, col : col + columns(letter)] = token[place]
            col += columns(letter)
        # Another word's letter that stands there comes before or after this.
        beside = found[word.row : word.row + 2, col : col + 1]
        beside[beside == NOWHERE] = token[begin + 1 + len(word.text)]
    return found


def cells(each: Sample) -> Tensor:
    """[h, w]: for each cell the code of the references that it comes from, counted through them in their order.

    Of an edited picture the one in its place, whether it is kept or not; of a subject its own part.
    """
    grid = each.scene.grid
    found = torch.full(grid, NOWHERE)
    if each.task in WHOLE:
        return torch.arange(found.numel()).view(grid)
    if each.task != "subjects":
        return found
    left, first = [], 0
    for picture in each.references:
        left.append((first, picture))
        first += picture.grid[0] * picture.grid[1]
    for thing in each.scene.things:
        for begin, picture in left:
            shown = picture.things[0]
            if (shown.kind, shown.style) == (thing.kind, thing.style):
                part = torch.arange(thing.cells) * shown.cells // thing.cells
                rows, cols = shown.row + part[:, None], shown.col + part
                found[thing.area] = begin + rows * picture.grid[1] + cols
                left.remove((begin, picture))
                break
    return found


def ahead(scene: Scene) -> Tensor:
    """[2 * len(AHEAD), h, w]: the row and the column, each plus one, of what of a kind begins at or after each cell.

    In reading order; 0 where nothing more begins. Raises ValueError for a scene of more than `LONGEST` cells a side.
    """
    rows, cols = scene.grid
    if max(scene.grid) > LONGEST:
        raise ValueError(f"A scene of {rows} x {cols} cells is larger than {LONGEST} a side.")
    found = torch.zeros(2 * len(AHEAD), rows * cols, dtype=torch.long)
    begins = [(each.row, each.col) for each in scene.things], [(each.row, each.col) for each in scene.words]
    for kind, places in enumerate(begins):
        for row, col in sorted(places, reverse=True):
            found[2 * kind, : row * cols + col + 1] = row + 1
            found[2 * kind + 1, : row * cols + col + 1] = col + 1
    return found.view(-1, rows, cols)


def missed(query: Tensor, key: Tensor, at: Tensor, wanted: Tensor) -> Tensor:
    """Mean of -log of the attention that falls on the wanted places; 0 where there are none.

    query, key [B, L, D] of one head, turned and scaled; at [B, K] the asking states, wanted [B, K] the places or
    `NOWHERE`.
    """
    asking = query.float().gather(1, at[..., None].expand(-1, -1, query.shape[-1]))
    scores = asking @ key.float().mT
    scores = scores.masked_fill(torch.arange(key.shape[1]) > at[..., None], -torch.inf)
    losses = F.cross_entropy(scores.flatten(0, 1), wanted.flatten(), ignore_index=NOWHERE, reduction="sum")
    return losses / (wanted != NOWHERE).sum().clamp(min=1)
