"""Where the prior is to look for each code: shown in training, beside the codes.

Learned from the codes' loss alone, copying comes last: a look at the wrong letter teaches nothing of where the right
one is. Because everything is drawn from scenes, the right place is known, and a few heads of the layer in the middle
and the one before it are shown it while the prior is trained (guided attention: Tachibana et al. 2017, there for
speech): letters and cells that are copied, and, before them, the numbers that say where a word begins.

What is found so is in the state that all later layers read. The model and its use are as before.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from glmimage.train.captions import QUOTES
from glmimage.train.edits import WHOLE, Sample
from glmimage.train.layout import Scene, cells_in
from glmimage.train.words import columns

NOWHERE = -1
"""Of a code for which there is nothing to look at."""
HEADS: Mapping[str, tuple[int, int]] = {
    "letter": (1, 0),
    "cell": (1, -1),
    "row": (0, 0),
    "column": (0, -1),
    "begin": (0, 1),
}
"""What is looked for -> layer, 1 in the middle and 0 before it, and head, of at least four; they read
the first and the last key head."""
RESTING = ("letter", "row", "column", "begin")
"""Where such a thing is nowhere, its head rests on the prompt's last token: so it also knows when a word begins."""
_MARKS = tuple(dict.fromkeys(QUOTES))
_CELL = re.compile(r"[^\"“”「」']*?(?:column (\d+), row (\d+)|第(\d+)列、第(\d+)行)")
"""From the end of a quoted text to where it begins, as `region_words` says it."""


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


def sides(scene: Scene, prompt: str, offsets: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, columns and beginnings [h, w] each: in the row where a word in a box is said to begin, up to its end, the
    token that says so; in its column, down to its end, that of the column. Of several words the next one. Where the two
    meet, the row's token once more: it follows both numbers, so it alone can tell whose row and column these are."""
    token = {place: number for number, (first, last) in enumerate(offsets) for place in range(first, last)}
    rows, cols, begins = (torch.full(scene.grid, NOWHERE) for _ in range(3))
    said = []
    for word in scene.words:
        ends = [prompt.find(f"{left}{word.text}{right}") + len(word.text) + 2 for left, right in _MARKS]
        if word.box and (match := _CELL.match(prompt, max(ends))) and max(ends) >= len(word.text) + 2:
            column, row = (1, 2) if match[1] else (3, 4)
            row_of, col_of = cells_in(word.box, word.text, scene.grid)
            said.append((row_of, col_of, columns(word.text), token[match.end(row) - 1], token[match.end(column) - 1]))
    for row, col, width, number, _ in sorted(said, key=lambda each: each[1]):
        begins[row, col] = number
        until = rows[row, : col + width]
        until[until == NOWHERE] = number
    for row, col, _, _, number in sorted(said):
        until = cols[: row + 2, col]
        until[until == NOWHERE] = number
    return rows, cols, begins


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
