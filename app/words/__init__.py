"""The page's words in English and Chinese, one catalogue: what the tests find missing here is missing on the page.

A word is `key: (English, Chinese)`, in the file of the tab that says it. Labels of widgets are translated by the
browser (`label`), everything that is written as HTML by `Words`, for the language that its visitor reads. Sentences of
the engine (errors, notes) come in English and are translated where they are shown (`Words.said`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.words import create, gallery, page, regions, sentences, system, tasks

if TYPE_CHECKING:
    from gradio.i18n import I18n, I18nData

Catalogue = Mapping[str, tuple[str, str]]

LANGUAGES = ("en", "zh")
CATALOGUE: Catalogue = {**page.WORDS, **create.WORDS, **tasks.WORDS, **gallery.WORDS, **regions.WORDS, **system.WORDS}


@dataclass(frozen=True, slots=True)
class Words:
    """The catalogue in one language."""

    language: str = "en"

    def __call__(self, key: str, **values: object) -> str:
        """The words under a key, with `values` put into its braces."""
        text = CATALOGUE[key][LANGUAGES.index(self.language)]
        return text.format(**values) if values else text

    def said(self, sentence: str) -> str:
        """A sentence that a fault or a note brings, in this language."""
        return sentences.chinese(sentence) if self.language == "zh" else sentence

    @classmethod
    def of(cls, language: str) -> Words:
        """For whatever a browser says; English where it is neither."""
        return cls("zh" if language.lower().startswith("zh") else "en")


def label(key: str) -> I18nData:
    """Words that a widget of Gradio's shows: its label, info, placeholder or value; without braces."""
    from gradio.i18n import I18nData

    assert key in CATALOGUE, f"{key} is not in the catalogue"
    return I18nData(key)


def browser_words() -> I18n:
    """What the browser needs for `label`, under the two names that browsers have for Chinese."""
    from gradio.i18n import I18n

    plain = {key: both for key, both in CATALOGUE.items() if "{" not in both[0]}
    english, chinese = ({key: both[number] for key, both in plain.items()} for number in (0, 1))
    return I18n(**{"en": english, "zh": chinese, "zh-CN": chinese})
