"""Sentences that were put together in English, said in Chinese: whoever raises a fault knows no language but its own.

As with gettext the English is the key. A template has slots in braces; the one that accounts for most letters of a
sentence is taken, and what fills its slots is said in Chinese, too, where it is known: a field's name, a remedy, a
whole sentence. What stands in “quotation marks” is somebody's own and stays.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from app.words.checkpoints import CHECKPOINTS
from app.words.faults import FAULTS
from app.words.plans import PLANS

TEMPLATES: Mapping[str, str] = {**FAULTS, **CHECKPOINTS, **PLANS}

_SLOT = re.compile(r"\{(\w+)\}")
_JOINT = re.compile(r"(?<=[.!?]) |; |, |\n")
_JOINTS = {" ": "", "; ": "；", ", ": "、", "\n": "\n"}
"""Where sentences, or the parts of a list, are joined, and how Chinese joins them."""
_NUMBER = re.compile(r"-?\d[\d.,]*")
"""What a slot of the name "number" takes alone."""
LONGEST = 2000
"""Letters; what is longer is no sentence of ours."""
MOST_JOINTS = 12
MOST_PLACES = 4
"""Where one part of a template is looked for in a sentence: what fills the slot before it may hold that part, too."""


def chinese(sentence: str) -> str:
    """What is not known stays as it is."""
    return _best(sentence).text if len(sentence) <= LONGEST else sentence


class _Said(NamedTuple):
    known: int
    """Letters of the English that templates account for."""
    text: str


@dataclass(frozen=True, slots=True)
class _Template:
    parts: tuple[str, ...]
    """What stands around the slots: one more than there are slots."""
    names: tuple[str, ...]
    chinese: str

    @classmethod
    def of(cls, english: str, chinese: str) -> _Template:
        pieces = _SLOT.split(english)
        return cls(tuple(pieces[::2]), tuple(pieces[1::2]), chinese)

    def fills(self, text: str) -> Iterator[tuple[str, ...]]:
        """What the slots hold, in every way in which the template is the whole text."""
        first, last = self.parts[0], self.parts[-1]
        if not self.names:
            yield from [()] if text == first else []
        elif len(text) >= len(first) + len(last) and text.startswith(first) and text.endswith(last):
            yield from _between(text[len(first) : len(text) - len(last)], self.parts[1:-1])

    def said(self, fill: tuple[str, ...]) -> _Said | None:
        """None where something else than a number stands for one."""
        known, values = sum(map(len, self.parts)), {}
        for before, name, held in zip(self.parts, self.names, fill, strict=False):
            if name == "number" and not _NUMBER.fullmatch(held):
                return None
            said = _Said(0, held) if before.endswith("“") else _best(held)
            known += said.known
            values[name] = said.text
        # A whole sentence in a slot brings its own full stop.
        return _Said(known, self.chinese.format(**values).replace("。。", "。"))


def _between(text: str, parts: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The text cut at these parts in their order."""
    if not parts:
        yield (text,)
        return
    at = -1
    for _ in range(MOST_PLACES):
        at = text.find(parts[0], at + 1)
        if at < 0:
            return
        for rest in _between(text[at + len(parts[0]) :], parts[1:]):
            yield text[:at], *rest


@lru_cache(maxsize=1)
def _templates() -> Mapping[str, list[_Template]]:
    """By the first letter; "" for those that begin with a slot."""
    found: dict[str, list[_Template]] = {}
    for english, chinese in TEMPLATES.items():
        template = _Template.of(english, chinese)
        found.setdefault(template.parts[0][:1], []).append(template)
    return found


@lru_cache(maxsize=4096)
def _best(text: str) -> _Said:
    """As one sentence or as several, whichever accounts for more."""
    best = _whole(text)
    for joint, _ in zip(_JOINT.finditer(text), range(MOST_JOINTS), strict=False):
        one, rest = _whole(text[: joint.start()]), _best(text[joint.end() :])
        if one.known + rest.known > best.known:
            between = _JOINTS[joint.group()] if one.known and rest.known else joint.group()
            best = _Said(one.known + rest.known, one.text + between + rest.text)
    return best


@lru_cache(maxsize=4096)
def _whole(text: str) -> _Said:
    best, known = _Said(0, text), _templates()
    for template in (*known.get(text[:1], ()), *known.get("", ())):
        for fill in template.fills(text):
            said = template.said(fill)
            if said is not None and said.known > best.known:
                best = said
    return best
