"""The creative tasks as requests: each says what it wants in words that the miniature is trained on.

`base` is a request that carries what all tasks share: size, count, seeds, steps, guidance, sampling, layout; the rest
of it is replaced. Words are English ("en") or Chinese ("zh"), as told or as the prompt is written.
Subjects are `Reference`s with a `name`, by which the scene's prompt calls them ("Mia"), and perhaps a `role` that says
what they are ("cat"): the model reads "the cat from picture 1". Knows no models and opens no pictures.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from glmimage.errors import RequestError
from glmimage.geometry import Size
from glmimage.prompting import QUOTED, Span, first_cell, region_words
from glmimage.request import Defaults, Reference, Region, Request

MOST_SUBJECTS = 4
STYLE_WORDS = {"en": "turn the picture into {style} style", "zh": "改成{style}风格"}
STYLE_OF_WORDS = {
    "en": "paint the first picture in the style of the second",
    "zh": "用第二张图的风格画第一张图",
}
_JOINTS = {"en": (", ", " and "), "zh": ("，", "，")}
"""What stands before the regions, and between them."""

_CHINESE = re.compile("[\u3400-\u9fff]")
_LETTER = "[0-9A-Za-z_\u00c0-\u024f\u0370-\u04ff]"
"""Letters of scripts with spaces between words: a name of theirs is found as a whole word only."""
_ARTICLE = re.compile(r"(?:the|a|an|this|these)\s+", re.IGNORECASE)
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth")
_FIGURES = "一二三四五六七八九"
_NUMBERED = re.compile(
    rf"\b(?:picture|image|photo)\s+(?P<number>\d+)\b|\b(?P<ordinal>{'|'.join(_ORDINALS)})\s+(?:picture|image|photo)\b"
    rf"|图(?:片|像)?\s*(?P<number_zh>\d+)|第\s*(?P<figure>[{_FIGURES}]|\d+)\s*张图",
    re.IGNORECASE,
)
_QUOTED = re.compile(QUOTED)


def language_of(prompt: str) -> str:
    """ "zh" for a prompt with Chinese characters outside its quoted strings, else "en"."""
    return "zh" if _CHINESE.search(_QUOTED.sub("", prompt)) else "en"


def text(base: Request, prompt: str) -> Request:
    """A picture from a prompt alone."""
    return _clean(base, prompt, task="text")


def regions(base: Request, prompt: str, regions: Sequence[Region], language: str | None = None) -> Request:
    """A picture with texts in boxes: `prompt` says all but the texts, and may be empty."""
    if not regions:
        raise RequestError("There is no text box; draw one, or use text to image.")
    language = language or language_of(prompt + "".join(region.text for region in regions))
    said = region_clauses(regions, language)
    prompt = prompt.strip().rstrip(",，")
    said = f"{prompt}{_JOINTS[language][0]}{said}" if prompt else said
    return _clean(base, said, task="regions", regions=tuple(regions))


def region_clauses(regions: Sequence[Region], language: str) -> str:
    """All boxes as `regions` says them at the end of its prompt."""
    return _JOINTS[language][1].join(region_words(region, language) for region in regions)


def with_cells(request: Request, letter: Size | None, defaults: Defaults) -> Request:
    """The request with where its texts begin said in place of their boxes (`prompting.first_cell`).

    letter: pixels of every letter of the checkpoint, None where they have no one size: then, and where the prompt does
    not end with the boxes as `regions` words them, the request as it is.
    """
    language = _told_in(request)
    if letter is None or language is None:
        return request
    size = request.resolve(defaults).size
    regions = tuple(replace(region, cell=first_cell(region, letter, size)) for region in request.regions)
    before = request.prompt.removesuffix(region_clauses(request.regions, language))
    return replace(request, prompt=before + region_clauses(regions, language), regions=regions)


def clauses(request: Request) -> list[Span]:
    """Which characters of the prompt say each box; none where it does not end with them as `regions` words them."""
    language = _told_in(request)
    if language is None:
        return []
    spans: list[Span] = []
    last = len(request.prompt)
    for region in reversed(request.regions):
        first = last - len(region_words(region, language))
        spans.append((first, last))
        last = first - len(_JOINTS[language][1])
    return spans[::-1]


def _told_in(request: Request) -> str | None:
    """The language that the prompt's end says the boxes in, if it does."""
    told = (language for language in _JOINTS if request.prompt.endswith(region_clauses(request.regions, language)))
    return next(told, None) if request.regions else None


def edit(base: Request, picture: str, instruction: str, mask: str | None = None) -> Request:
    """The picture changed as the instruction says; with a mask, only where that is white."""
    return _clean(base, instruction, task="edit", references=(Reference(path=picture, role="picture"),), mask=mask)


def style(
    base: Request,
    content: str,
    style_name: str | None = None,
    style_picture: str | None = None,
    strength: float = 1.0,
    language: str = "en",
) -> Request:
    """The picture `content` in a named style or in that of another picture.

    strength 0..1: at less than 1 the painting starts from the content's own latents, the later the weaker the style.
    """
    style_name = (style_name or "").strip()
    if bool(style_name) == bool(style_picture):
        raise RequestError("A style is a name or a picture; give one of the two.")
    if not 0 <= strength <= 1:
        raise RequestError(f"The strength {strength:g} is not between 0 and 1; 1 gives the style its whole say.")
    references = [Reference(path=content, role="content")]
    prompt = STYLE_WORDS[language].format(style=style_name)
    if style_picture:
        references.append(Reference(path=style_picture, role="style"))
        prompt = STYLE_OF_WORDS[language]
    share = round(1 - strength, 6)
    return _clean(base, prompt, task="style", references=tuple(references), content=share)


def subjects(base: Request, prompt: str, subjects: Sequence[Reference], language: str | None = None) -> Request:
    """A scene with the subjects of the pictures, each worded as the model knows it.

    Raises RequestError for what `find_subjects` finds amiss.
    """
    found = find_subjects(prompt, subjects)
    if found.faults:
        raise RequestError(found.faults[0])
    language = language or language_of(prompt)
    # "Mia from picture 1" has its number already.
    numbered = {mention.subject for mention in found.mentions if mention.worded}
    for mention in reversed(found.mentions):
        if not mention.worded:
            number = 0 if mention.subject in numbered else mention.subject + 1
            said = pictured(subjects[mention.subject], number, language)
            prompt = prompt[: mention.start] + said + prompt[mention.end :]
    return _clean(base, prompt, task="subjects", references=tuple(subjects))


def _clean(base: Request, prompt: str, **fields: object) -> Request:
    bare = replace(base, references=(), regions=(), mask=None, content=0.0)
    return replace(bare, prompt=prompt, **fields)  # type: ignore[arg-type]


# --- subjects ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Mention:
    """A place of the prompt, [start, end), where a subject is named."""

    start: int
    end: int
    subject: int
    """Counted from 0."""
    worded: bool = False
    """It is "picture 1" or the like, which the model knows as it stands."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Findings:
    """How a scene's prompt and its subjects fit each other; subjects are counted from 0."""

    mentions: tuple[Mention, ...]
    """In the prompt's order, none in another."""
    unnamed: tuple[int, ...]
    """Have no name to find them by."""
    alike: tuple[int, ...]
    """Have the name of an earlier one."""
    missing: tuple[int, ...]
    """Have a name that the prompt does not say."""
    unknown: tuple[str, ...]
    """What the prompt says of pictures that are not there: "picture 3"."""
    faults: tuple[str, ...]
    """All that, and the wrong number of subjects, as sentences; the scene can be painted where there is none."""


def find_subjects(prompt: str, subjects: Sequence[Reference]) -> Findings:
    """Looks for the subjects' names: whole words in any case, the longest first, not within quotation marks."""
    names = [_called(subject) for subject in subjects]
    keys = [name.casefold() for name in names]
    numbered, unknown = _numbered(prompt, len(subjects))
    mentions = [*numbered]
    for index in sorted(range(len(names)), key=lambda index: -len(names[index])):
        if names[index] and keys[index] not in keys[:index]:
            mentions += _named(prompt, names[index], index, mentions)
    said = {mention.subject for mention in mentions}
    unnamed = [index for index, name in enumerate(names) if not name and index not in said]
    alike = [index for index, key in enumerate(keys) if key and key in keys[:index] and index not in said]
    missing = [index for index, name in enumerate(names) if name and index not in said and index not in alike]
    faults = []
    if not 1 <= len(subjects) <= MOST_SUBJECTS:
        faults.append(f"A scene takes 1 to {MOST_SUBJECTS} subjects, not {len(subjects)}; add or remove pictures.")
    faults += [f"Picture {index + 1} has no name; give it one and say it in the prompt." for index in unnamed]
    faults += [f"Picture {index + 1} is called {names[index]!r} like another; name it otherwise." for index in alike]
    faults += [f"The prompt does not say {names[index]!r}; mention it or remove its picture." for index in missing]
    faults += [f"The prompt says {words!r}, which is not there; add that picture or reword." for words in unknown]
    return Findings(
        mentions=tuple(sorted(mentions, key=lambda mention: mention.start)),
        unnamed=tuple(unnamed),
        alike=tuple(alike),
        missing=tuple(missing),
        unknown=tuple(unknown),
        faults=tuple(faults),
    )


def noun(subject: Reference) -> str:
    """What a subject is, as far as it is told: its kind, or else its name."""
    return _bare(subject.role) or _called(subject)


def pictured(subject: Reference, number: int, language: str) -> str:
    """What the thing in picture `number` (from 1; 0: without it) is called: "the cat from picture 1"."""
    called = noun(subject)
    if language == "zh":
        return f"图{number}的{called}" if number else called
    # A name that is all there is may be a person's, which takes no article.
    proper = not _bare(subject.role) and called[:1].isupper() and called == subject.name.strip()
    said = called if proper else f"the {called}"
    return f"{said} from picture {number}" if number else said


def _called(subject: Reference) -> str:
    return _bare(subject.name) or _bare(subject.role)


def _bare(words: str) -> str:
    """Without the article."""
    return _ARTICLE.sub("", words.strip(), count=1) if _ARTICLE.match(words.strip()) else words.strip()


def _named(prompt: str, name: str, index: int, taken: Sequence[Mention]) -> Iterator[Mention]:
    """Where a name stands with its article, outside quotation marks and other mentions."""
    first = f"(?<!{_LETTER})" if re.match(_LETTER, name) else ""
    last = f"(?!{_LETTER})" if re.match(_LETTER, name[-1]) else ""
    words = r"\s+".join(re.escape(word) for word in name.split())
    spans = [match.span() for match in _QUOTED.finditer(prompt)]
    spans += [(mention.start, mention.end) for mention in taken]
    for match in re.finditer(rf"(?:\b{_ARTICLE.pattern})?{first}{words}{last}", prompt, re.IGNORECASE):
        if all(match.end() <= start or end <= match.start() for start, end in spans):
            yield Mention(match.start(), match.end(), index)


def _numbered(prompt: str, count: int) -> tuple[list[Mention], list[str]]:
    """Where the prompt itself counts pictures, and what it says of such as are not there."""
    quotes = [match.span() for match in _QUOTED.finditer(prompt)]
    mentions, unknown = [], []
    for match in _NUMBERED.finditer(prompt):
        if any(start <= match.start() < end for start, end in quotes):
            continue
        number = _number(match)
        if 1 <= number <= count:
            mentions.append(Mention(match.start(), match.end(), number - 1, worded=True))
        else:
            unknown.append(match.group())
    return mentions, unknown


def _number(match: re.Match[str]) -> int:
    if ordinal := match["ordinal"]:
        return _ORDINALS.index(ordinal.lower()) + 1
    said = match["number"] or match["number_zh"] or match["figure"]
    return _FIGURES.index(said) + 1 if said in _FIGURES else int(said[:6])
