"""What is read of a prompt, said under it while it is typed.

The strings that the glyph encoder will see, what in the prompt looks meant but is not read so (an unclosed mark, a text
without marks), what is too long, and which words this checkpoint never saw. Knows no widgets and no model.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import escape
from itertools import islice, takewhile

from app.vocabulary import Vocabulary, bare
from app.words import Words
from glmimage.prompting import QUOTED, quoted

LONGEST = 2047
"""UTF-8 bytes of one string that the glyph encoder takes (`glmimage.glyphs`)."""
MOST_SAID = 8
"""Words or strings in one line."""

_QUOTED = re.compile(QUOTED)
_MARKS = re.compile("[\"“”「」]|(?<![0-9A-Za-z\u00c0-\u04ff])'(?=[^\\W\\d_])")
"""What is left of quotation marks once every pair is taken out; an apostrophe only where it opens something."""
_MEANT = re.compile(
    r"\b(?:saying|says|reading|reads|titled|"
    r"(?:the\s+)?(?:words?|letters?|texts?|captions?|titles?|slogans?|headlines?|labels?)(?:\s+(?:says|reads))?)\s*:?\s+"
    # Looked at, not taken: another text may be meant further on.
    r"(?=(?P<text>[^\n\"“”「」',.;:]+))",
    re.IGNORECASE,
)
_MEANT_ZH = re.compile(r"(?:写着|写有|写上|字样是|标题是|标题为)\s*[:：]?\s*(?P<text>[^\s\"“”「」',.;:，。；：]{1,12})")
_NO_TEXT = (
    " a an the in on at of to from for with and or is are be should must that which by above below over under"
    " underneath written printed painted drawn here there it as large small big red green blue white black yellow"
    " orange purple pink gray grey gold silver bold box boxes style "
)
"""What follows "the text" without being one, and what ends one."""
_MOST_MEANT = 6
"""Words."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """What is to be said of one prompt."""

    strings: tuple[str, ...]
    stray: tuple[str, ...] = ()
    """Marks that are part of no pair."""
    unquoted: tuple[str, ...] = ()
    """Texts that seem meant to be written and have no marks."""
    too_long: tuple[str, ...] = ()
    unpractised: tuple[str, ...] = ()
    """Strings that the checkpoint did not learn to write."""
    unknown: tuple[str, ...] = ()


def read(prompt: str, vocabulary: Vocabulary | None = None, names: str = "") -> Reading:
    """`names`: words that mean something in this prompt though the checkpoint never saw them."""
    strings = quoted(prompt)
    rest, unquoted = _QUOTED.sub(" ", prompt), _unquoted(prompt)
    unknown = vocabulary.unknown(prompt) if vocabulary is not None else ()
    meant, called = " ".join(unquoted).split(), {bare(name) for name in names.split()}
    return Reading(
        strings=strings,
        stray=tuple(dict.fromkeys(_MARKS.findall(rest))),
        unquoted=unquoted,
        too_long=tuple(text for text in strings if len(text.encode("utf-8")) > LONGEST),
        unpractised=tuple(text for text in strings if vocabulary is not None and vocabulary.unwritable(text)),
        unknown=tuple(word for word in unknown if word not in meant and bare(word) not in called),
    )


def html(reading: Reading, words: Words, checkpoint: str, *, hint: bool = False) -> str:
    """One line for what is written, or with `hint` how to write something; then one for all that deserves a look."""
    lines = []
    if reading.strings:
        marks = " ".join(f"<mark>{escape(_short(string))}</mark>" for string in reading.strings)
        lines = [f'<p class="written">{escape(words("create.written"))} {marks}</p>']
    elif hint:
        lines = [f'<p class="written hint">{escape(words("create.written.hint"))}</p>']
    for key, said in (
        ("read.stray", reading.stray),
        ("read.unquoted", reading.unquoted),
        ("read.too_long", reading.too_long),
        ("read.unpractised", reading.unpractised),
        ("read.unknown", reading.unknown),
    ):
        if said:
            text = ", ".join(_short(one) for one in said[:MOST_SAID])
            kind = "unknown" if key == "read.unknown" else "warning"
            lines.append(
                f'<p class="read is-{kind}">{escape(words(key, text=text, limit=LONGEST, name=checkpoint))}</p>'
            )
    # It stays where nothing is said, so that a screen reader tells what comes.
    return f'<div class="reading" aria-live="polite">{"".join(lines)}</div>'


def offer(vocabulary: Vocabulary | None, words: Words, checkpoint: str) -> str:
    """The checkpoint's words as chips that a click puts into the prompt; nothing for a checkpoint without."""
    if vocabulary is None:
        return ""
    groups = "".join(
        f'<div class="group"><h2>{escape(words(f"vocabulary.{name}"))}</h2><div>'
        + "".join(f'<button type="button" data-insert="{escape(one)}">{escape(one)}</button>' for one in phrases)
        + "</div></div>"
        for name, phrases in vocabulary.groups.items()
    )
    title = escape(words("vocabulary.title", name=checkpoint))
    return f'<details class="vocabulary"><summary>{title}</summary>{groups}</details>'


def _unquoted(prompt: str) -> tuple[str, ...]:
    # A string is replaced by marks alone, so that what follows it is not taken for the text.
    plain = _QUOTED.sub('""', prompt)
    found = [_meant(match["text"]) for match in _MEANT.finditer(plain)]
    found += [match["text"] for match in _MEANT_ZH.finditer(plain)]
    return tuple(dict.fromkeys(filter(None, found)))


def _meant(rest: str) -> str:
    """As much of what follows as may be the text."""
    words = takewhile(lambda word: f" {word.lower()} " not in _NO_TEXT, rest.split())
    return " ".join(islice(words, _MOST_MEANT))


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:38]}…"
