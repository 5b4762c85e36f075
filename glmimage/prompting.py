"""What the two text readers see of a prompt: the prior its ids, the glyph encoder its quoted strings; boxes in words.

Prompt layout of the prior (transformers' `GlmImageProcessor`), without and with references:
    {prompt}<sop>rows columns<eop><sop>rows columns<eop><image start>             target grid, then preview grid
    {<image start>codes<image end>}*{prompt}<sop>rows columns<eop><image start>   target grid only
Ids are equal to the processor's for every prompt without special words. Knows no models and no pictures.

Departures from upstream:
1. Words like `<|image|>` or `<sop>` typed by a person are text. Upstream takes them for tokens, which breaks the layout
   and for `<|image|>` crashes.
2. A straight apostrophe opens a quoted string only where a word could begin and closes it only where one could end, so
   that "don't ... it's", "the dogs' ... the cats'" and "rock 'n' roll" quote nothing; upstream takes what stands
   between any two of them. A prompt without apostrophes inside or at the edge of unquoted words, and without empty or
   space-padded single quotes, gives upstream's strings in upstream's order (by kind of quotation mark, not by place).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING, Any

from glmimage.errors import RequestError
from glmimage.geometry import Grid, Size
from glmimage.request import Region

if TYPE_CHECKING:
    from transformers import GlmImageProcessor, PreTrainedTokenizerFast

Span = tuple[int, int]
"""[first, last)."""
Token = tuple[int, Span]
"""An id, and the characters that it spells."""
_NONE: Span = (0, 0)

# Letters of scripts that write apostrophes inside words (Latin, Greek, Cyrillic) and digits; not \w, because Chinese
# puts no space before an opening quote. Every pattern means the same to Python's `re` and to the tokenizer's Oniguruma.
_WORD = "[0-9A-Za-z\u00c0-\u024f\u0370-\u04ff]"
_IN_WORD = f"(?<={_WORD})'(?={_WORD})"
_AND = f"n'(?!{_WORD})|N' [A-Z]"  # rock 'n' roll, Rock 'N' Roll
_KINDS = (
    (rf"(?<!{_WORD})'(?![\s']|{_AND})", f"(?:[^']|{_IN_WORD})+", rf"(?<!\s)'(?!{_WORD})"),
    ("\u201c", "[^\u201c\u201d]*", "\u201d"),
    ('"', '[^"]*', '"'),
    ("\u300c", "[^\u300c\u300d]*", "\u300d"),
)
"""(opening, content, closing) in upstream's order: '..', \u201c..\u201d, "..", \u300c..\u300d."""

QUOTED = "|".join(f"(?:{opening}{content}{closing})" for opening, content, closing in _KINDS)
"""One quoted string with its marks, of any of the four kinds, without groups; for pre-tokenizers."""

_STRINGS = tuple(re.compile(f"{opening}({content}){closing}") for opening, content, closing in _KINDS)

_PLACE = "\ue000"
"""Stands for the prompt while the chat template is rendered; a private-use character that no template has."""


def quoted(prompt: str) -> tuple[str, ...]:
    """The strings between quotation marks, without the marks, that the glyph encoder reads; may hold empty strings.

    Order and content are upstream's (`GlmImagePipeline.get_glyph_texts`) but for apostrophes, as said above.
    """
    return tuple(text for kind in _STRINGS for text in kind.findall(prompt))


PLACES = (
    ("top left", "top centre", "top right"),
    ("left", "centre", "right"),
    ("bottom left", "bottom centre", "bottom right"),
)
"""Names of the nine parts of a picture; the middle ones are a quarter of it wide and high."""
_AT = {
    "top left": ("at the top left", "左上角"),
    "top centre": ("at the top", "顶部"),
    "top right": ("at the top right", "右上角"),
    "left": ("on the left", "左边"),
    "centre": ("in the centre", "中间"),
    "right": ("on the right", "右边"),
    "bottom left": ("at the bottom left", "左下角"),
    "bottom centre": ("at the bottom", "底部"),
    "bottom right": ("at the bottom right", "右下角"),
}
"""Place -> (English, Chinese) as `region_words` says it."""
_MARKS = {"en": (('"', '"'), ("“", "”"), ("「", "」")), "zh": (("“", "”"), ('"', '"'), ("「", "」"))}
PERCENT_STEP = 5
"""Sides of a box are said in these steps: a person draws no finer, and a model has fewer numbers to learn."""


def place_of(x: float, y: float) -> str:
    """The name, one of `PLACES`, of the part of the picture where a point lies; x and y as shares of it, 0..1."""
    column, row = (0 if share < 0.375 else 2 if share > 0.625 else 1 for share in (x, y))
    return PLACES[row][column]


def _percents(low: float, high: float) -> tuple[int, int]:
    steps = 100 // PERCENT_STEP
    first, last = round(low * steps), round(high * steps)
    if first == last:
        first, last = (first - 1, last) if last == steps else (first, last + 1)
    return first * PERCENT_STEP, last * PERCENT_STEP


def first_cell(region: Region, letter: Size, size: Size) -> tuple[int, int]:
    """Column and row, from 1, where a region's text begins in a picture of a size, in letters of one size.

    Counted in letters' widths: aligned in the box, in the middle of its height, and inside the picture. Wide characters
    (Chinese) take two letters' width.
    """
    cols, rows = size.width / letter.width, size.height / letter.width
    wide = min(sum(2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in region.text), cols)
    high = min(letter.height / letter.width, rows)
    x0, y0, x1, y1 = region.box
    begin = {"left": x0 * cols, "centre": (x0 + x1) / 2 * cols - wide / 2, "right": x1 * cols - wide}[region.align]
    left = min(max(round(begin), 0), cols - wide)
    top = min(max(round((y0 + y1) / 2 * rows - high / 2), 0), rows - high)
    return int(left) + 1, int(top) + 1


def region_words(region: Region, language: str = "en") -> str:
    """A text box as a clause of a prompt, "en" or "zh": the text in quotation marks, its colour, place and sides:
    `the text "HELLO" in white at the top left, from 5% to 60% across and 10% to 35% down`.

    Where the text's first cell is known that is said, and neither sides nor alignment; the miniature is trained on
    these very words, so whoever asks it for a box should use them: a small model hits what it need not work out.
    `the text "HELLO" in white at the top left, column 1, row 2`.
    Lettering and alignment are said only where they are not the usual ones: the miniature knows neither.
    Raises RequestError for a text in which every kind of double quotation mark occurs.
    """
    for left, right in _MARKS[language]:
        if left not in region.text and right not in region.text:
            break
    else:
        raise RequestError(
            f"The text {region.text!r} has every kind of quotation mark, so that none can stand around it;"
            " leave one kind out."
        )
    x0, y0, x1, y1 = region.box
    (first, last), (upper, lower) = _percents(x0, x1), _percents(y0, y1)
    english, chinese = _AT[place_of((x0 + x1) / 2, (y0 + y1) / 2)]
    if region.cell is not None:
        column, row = region.cell
        if language == "zh":
            said = f"{region.color}文字{left}{region.text}{right}{_lettering_zh(region)}位于{chinese}"
            return f"{said}，第{column}列、第{row}行"
        return f"the text {left}{region.text}{right}{_lettering(region)} {english}, column {column}, row {row}"
    if language == "zh":
        return (
            f"{region.color}文字{left}{region.text}{right}{_lettering_zh(region)}位于{chinese}，"
            f"横向{first}%到{last}%、纵向{upper}%到{lower}%"
        )
    return (
        f"the text {left}{region.text}{right}{_lettering(region)} {english},"
        f" from {first}% to {last}% across and {upper}% to {lower}% down"
    )


def _lettering(region: Region) -> str:
    look = f"{region.color} {region.style} letters" if region.style else region.color
    said = f" in {look.strip()}" if look else ""
    return said if region.align == "centre" or region.cell else f"{said}, {region.align}-aligned,"


def _lettering_zh(region: Region) -> str:
    said = [f"{region.style}字体"] if region.style else []
    if region.align != "centre" and not region.cell:
        said.append({"left": "左对齐", "right": "右对齐"}[region.align])
    return f"（{'，'.join(said)}）" if said else ""


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptIds:
    """The prior's prompt: everything before the first code it draws."""

    ids: tuple[int, ...]
    """The image token's id stands wherever a code of a reference belongs, row by row."""
    image_token: int
    references: tuple[Grid, ...]
    """Code grids of the references, in the order of their places in `ids`."""
    drawn: tuple[Grid, ...]
    """Grids to draw, first to last: (preview, target), or (target,) with references."""
    spells: tuple[Span, ...] = ()
    """Characters [first, last) of what was asked for that each id spells; an empty span where it spells none."""

    @property
    def count(self) -> int:
        """Codes to draw."""
        return sum(rows * columns for rows, columns in self.drawn)


def prompt_ids(
    processor: GlmImageProcessor, prompt: str, size: Size, reference_grids: Sequence[Grid] = ()
) -> PromptIds:
    """Lays out `prompt` for a picture of `size` (a multiple of 32) made from references with these code grids."""
    tokenizer: PreTrainedTokenizerFast = processor.tokenizer
    grids = (size.prior_grid,) if reference_grids else (size.prior_grid, size.preview_grid)
    end = "".join(f"{processor.grid_bos_token}{rows} {columns}{processor.grid_eos_token}" for rows, columns in grids)
    end += processor.bos_token
    content: list[dict[str, Any]] = [{"type": "image"} for _ in reference_grids]

    def render(text: str) -> str:
        message = {"role": "user", "content": [*content, {"type": "text", "text": text}]}
        return str(processor.apply_chat_template([message], tokenize=False))

    added = {str(token): id for id, token in tokenizer.added_tokens_decoder.items()}
    before, after = render(_PLACE).split(_PLACE)
    if any(word in prompt for word in added):
        around = [[(id, _NONE) for id, _ in _tokens(tokenizer, text)] for text in (before, after + end)]
        tokens = [*around[0], *_plain_tokens(tokenizer, prompt, added.values()), *around[1]]
    else:
        tokens = [
            (id, _within(span, len(before), len(prompt))) for id, span in _tokens(tokenizer, render(prompt) + end)
        ]
    wide = list(_widen(tokens, processor.image_token_id, reference_grids))
    return PromptIds(
        ids=tuple(id for id, _ in wide),
        image_token=processor.image_token_id,
        references=tuple(reference_grids),
        drawn=grids[::-1],
        spells=tuple(span for _, span in wide),
    )


def _within(span: Span, start: int, length: int) -> Span:
    """The span counted from `start` on, as far as it lies in the `length` characters after it."""
    first, last = (min(max(place - start, 0), length) for place in span)
    return (first, last) if first < last else _NONE


def _tokens(tokenizer: PreTrainedTokenizerFast, text: str) -> list[Token]:
    if not text:
        return []
    read = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    return list(zip(read.input_ids, read.offset_mapping, strict=True))


def _plain_tokens(tokenizer: PreTrainedTokenizerFast, text: str, added: Iterable[int]) -> list[Token]:
    """The tokens of `text` with every special word spelled as text."""
    read = tokenizer(text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True)
    if set(read.input_ids).isdisjoint(added):
        return list(zip(read.input_ids, read.offset_mapping, strict=True))
    # The switch above frees only tokens marked special; others are taken out of a copy of the tokenizer.
    import json

    from tokenizers import Tokenizer

    bare = json.loads(tokenizer.backend_tokenizer.to_str()) | {"added_tokens": []}
    spelled = Tokenizer.from_str(json.dumps(bare)).encode(text, add_special_tokens=False)
    return list(zip(spelled.ids, spelled.offsets, strict=True))


def _widen(tokens: Iterable[Token], image_token: int, grids: Sequence[Grid]) -> Iterator[Token]:
    """Repeats the k-th image token for every code of the k-th grid."""
    left = iter(grids)
    for token in tokens:
        rows, columns = next(left) if token[0] == image_token else (1, 1)
        yield from repeat(token, rows * columns)
    assert next(left, None) is None, "the chat template makes one marker for each reference"
