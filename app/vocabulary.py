"""What a checkpoint says it knows (`world.json`), as a vocabulary for prompts: words to offer, and which are unknown.

A checkpoint that says nothing has no vocabulary; then nothing is offered and nothing is unknown. Knows no page.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from glmimage.prompting import QUOTED

_WORD = re.compile(r"[^\W_\u3400-\u9fff]+(?:['’][^\W\d_]+)*|[\u3400-\u9fff]+")
"""A word of a script with spaces, or a run of Chinese characters."""
_CHINESE = re.compile("[\u3400-\u9fff]")
_PLACE_WORDS = {"left": "on the left", "centre": "in the middle", "right": "on the right"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Vocabulary:
    """Words of one checkpoint."""

    words: frozenset[str]
    """All that its prompts were made of, in small letters; Chinese ones character by character."""
    languages: tuple[str, ...]
    groups: Mapping[str, tuple[str, ...]]
    """To be offered: "things", "styles", "grounds", "places" -> phrases of a prompt."""
    longest: int = 0
    """Letters of the longest text it writes; 0 = not said."""
    letters: str = ""
    """Characters that it writes; empty = not said."""

    @classmethod
    def of(cls, world: Mapping[str, Any] | None, language: str = "en") -> Vocabulary | None:
        """Of a world.json, which anybody may have written; None where it holds no words."""
        if not isinstance(world, Mapping) or not isinstance(world.get("words"), list):
            return None
        spoken = tuple(str(one) for one in _list(world.get("languages")))
        chinese = language == "zh" and "zh" in spoken
        lettering = world.get("lettering")
        lettering = lettering if isinstance(lettering, Mapping) else {}
        longest = lettering.get("longest")
        greetings = "".join(str(one) for one in _list(lettering.get("greetings")))
        return cls(
            words=frozenset(str(word).lower() for word in world["words"]),
            languages=spoken,
            groups=_chinese(world) if chinese else _english(world),
            longest=longest if isinstance(longest, int) else 0,
            letters=str(lettering.get("letters", "")) + greetings,
        )

    def unknown(self, prompt: str) -> tuple[str, ...]:
        """The words outside quotation marks that the checkpoint never saw, each once, in order."""
        found: dict[str, None] = {}
        for word in _WORD.findall(re.sub(QUOTED, " ", prompt)):
            if _CHINESE.match(word):
                parts = _unknown_runs(word, self.words)
            else:
                parts = [] if bare(word) in self.words else [word]
            found |= dict.fromkeys(parts)
        return tuple(found)

    def unwritable(self, text: str) -> bool:
        """Whether a quoted text is longer than what the checkpoint learned to write, or of other letters."""
        plain = re.sub(r"\s", "", text)
        return bool(self.longest and len(plain) > self.longest) or bool(self.letters and set(plain) - set(self.letters))


def bare(word: str) -> str:
    """In small letters, without the ending that says whose something is."""
    return word.lower().removesuffix("'s").removesuffix("’s")


def _unknown_runs(word: str, known: frozenset[str]) -> list[str]:
    return "".join(letter if letter not in known else " " for letter in word).split()


def _list(value: object) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else ()


def _english(world: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    things, styles, grounds = (world.get(name) for name in ("things", "styles", "grounds"))
    return _filled(
        things=[f"{_article(str(one))} {one}" for one in things] if isinstance(things, Mapping) else [],
        styles=[f"in {one} style" for one in styles] if isinstance(styles, Mapping) else [],
        grounds=[f"on {_article(str(one))} {one} background" for one in grounds]
        if isinstance(grounds, Mapping)
        else [],
        places=[_PLACE_WORDS.get(str(one), f"at the {one}") for one in _list(world.get("places"))],
    )


def _chinese(world: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    names = world.get("names_zh")
    names = names if isinstance(names, Mapping) else {}

    def first(group: str) -> list[str]:
        entries = names.get(group)
        return [str(one[0]) for one in entries.values() if _list(one)] if isinstance(entries, Mapping) else []

    return _filled(
        things=first("things"),
        styles=[f"{one}风格" for one in first("styles")],
        grounds=[f"{one}背景" for one in first("grounds")],
        places=["左上角", "顶部", "右上角", "左边", "中间", "右边", "左下角", "底部", "右下角"],
    )


def _filled(**groups: Sequence[str]) -> dict[str, tuple[str, ...]]:
    return {name: tuple(phrases) for name, phrases in groups.items() if phrases}


def _article(noun: str) -> str:
    return "an" if noun[:1] in "aeio" or noun.startswith("umbrella") else "a"
