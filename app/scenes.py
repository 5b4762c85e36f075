"""A scene and who is in it, as HTML: the prompt with its names lit up, what does not fit yet, the cards, the library.

Pure functions. What fits is found by `glmimage.tasks`; here it is said in the visitor's language.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from app.easel import file_url
from app.subjects import Subject
from app.vocabulary import Vocabulary
from app.words import Words
from glmimage.request import Reference
from glmimage.tasks import MOST_SUBJECTS, Findings, noun


@dataclass(frozen=True, slots=True)
class Card:
    """One picture of the cast; its name stands in a widget."""

    picture: str
    id: str = ""
    """In the library, where it is from there."""


def lit(prompt: str, findings: Findings) -> str:
    """What lies behind the prompt's text: the same letters, unseen, with a light under each name."""
    parts, end = [], 0
    for mention in findings.mentions:
        parts.append(escape(prompt[end : mention.start]))
        parts.append(f"<mark>{escape(prompt[mention.start : mention.end])}</mark>")
        end = mention.end
    return f'<div class="behind" aria-hidden="true">{"".join(parts)}{escape(prompt[end:])}\n</div>'


def faults(findings: Findings, subjects: Sequence[Reference], words: Words) -> list[str]:
    """A sentence for everything that keeps the scene from being painted."""
    said = [] if 1 <= len(subjects) <= MOST_SUBJECTS else [words("subjects.fault.none", most=MOST_SUBJECTS)]
    said += [words("subjects.fault.unnamed", number=index + 1) for index in findings.unnamed]
    said += [words("subjects.fault.alike", number=index + 1, name=_called(subjects[index])) for index in findings.alike]
    said += [words("subjects.fault.missing", name=_called(subjects[index])) for index in findings.missing]
    return said + [words("subjects.fault.unknown", words=unknown) for unknown in findings.unknown]


def told(
    findings: Findings,
    subjects: Sequence[Reference],
    prompt: str,
    words: Words,
    vocabulary: Vocabulary | None = None,
    checkpoint: str = "",
) -> str:
    """Who is in the scene, what is still missing, and whom a checkpoint of so few words cannot know by name; nothing
    while nobody is there."""
    if not subjects:
        return ""
    there = dict.fromkeys(mention.subject for mention in findings.mentions)
    marks = " ".join(f"<mark>{escape(_called(subjects[index], index, words))}</mark>" for index in there)
    lines = [f"{escape(words('subjects.there'))} {marks}"] if marks else []
    if prompt.strip():
        lines += [escape(fault) for fault in faults(findings, subjects, words)]
    elif not lines:
        lines = [escape(words("subjects.hint"))]
    strange = [one for one in subjects if vocabulary and vocabulary.unknown(noun(one))]
    lines += [escape(words("subjects.kind.unknown", checkpoint=checkpoint, name=_called(one))) for one in strange]
    return "".join(f'<p class="written">{line}</p>' for line in lines)


def card(index: int, one: Card, name: str, stored: Subject | None, kind: str, words: Words) -> str:
    """The picture and what can be done with it; the fields of its name and kind stand beside it."""
    if stored is None:
        keep = _button(f"subject-keep.{index}", words("subjects.keep"), words("subjects.keep.label", number=index + 1))
    elif (stored.name, stored.notes) != (" ".join(name.split()), kind.strip()):
        keep = _button(f"subject-keep.{index}", words("subjects.rekeep"), words("subjects.rekeep"))
    else:
        keep = f'<span class="kept">{escape(words("subjects.kept"))}</span>'
    remove = _button(f"clear.{index}", words("intake.clear"), words("intake.clear.label", name=name or str(index + 1)))
    return (
        f'<div class="portrait"><img src="{file_url(Path(one.picture))}"'
        f' alt="{escape(name or words("subjects.number", number=index + 1))}"></div>'
        f'<div class="acts">{keep}{remove}</div>'
    )


def cast(cards: Sequence[Card], names: Sequence[str], words: Words) -> str:
    """All of them large, before there is a picture of them."""
    figures = "".join(
        f'<figure><img src="{file_url(Path(one.picture))}" alt="">'
        f"<figcaption>{escape(name or words('subjects.number', number=index + 1))}</figcaption></figure>"
        for index, (one, name) in enumerate(zip(cards, names, strict=False))
    )
    return f'<div class="cast of-{len(cards)}">{figures}</div>'


def library(subjects: Sequence[Subject], used: Sequence[str], deleted: Subject | None, words: Words) -> str:
    """Those that were kept: one click puts one into the scene; what was deleted last can be brought back."""
    items = "".join(
        f'<li><button type="button" class="pick" data-act="subject-pick" data-key="{one.id}"'
        f' aria-pressed="{"true" if one.id in used else "false"}"><img src="{file_url(one.picture)}" alt="">'
        f"<span>{escape(one.name)}</span></button>"
        f'<button type="button" class="delete" data-act="subject-delete" data-key="{one.id}"'
        f' aria-label="{escape(words("subjects.delete", name=one.name))}"'
        f' title="{escape(words("subjects.delete", name=one.name))}">×</button></li>'
        for one in subjects
    )
    undo = ""
    if deleted is not None:
        button = _button("subject-undo", words("subjects.undo"), words("subjects.undo"), deleted.id)
        undo = f'<p class="undo" role="status">{escape(words("subjects.deleted", name=deleted.name))} {button}</p>'
    if not items:
        return undo
    name = escape(words("subjects.library"))
    return f'<p class="caption">{name}</p><ul class="saved" aria-label="{name}">{items}</ul>{undo}'


def _called(subject: Reference, index: int = 0, words: Words | None = None) -> str:
    name = subject.name.strip() or subject.role.strip()
    return name or (words("subjects.number", number=index + 1) if words else "")


def _button(act: str, text: str, label: str, key: str = "") -> str:
    return (
        f'<button type="button" data-act="{act}" data-key="{key}" aria-label="{escape(label)}">{escape(text)}</button>'
    )
