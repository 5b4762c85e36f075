"""The `parameters` text that many programs write into their pictures, and what of it makes sense for this model.

    a prompt of any number of lines
    Negative prompt: what it should not show
    Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 123, Size: 512x512, Model: "name, with comma", ...

The format has no specification; stable-diffusion-webui's writer is the one that others follow. Whatever has no meaning
here is said in a sentence instead of being dropped silently. Knows no files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from glmimage.errors import RequestError
from glmimage.geometry import Size
from glmimage.pictures import printable
from glmimage.request import Request

_LAST = re.compile(r"\s*Steps: ?\d", re.ASCII)
_NEGATIVE = "Negative prompt:"
_PAIR = re.compile(r'\s*([A-Za-z][\w /()+-]*?):\s*("(?:[^"\\]|\\.)*"|[^,]*)(?:,|$)', re.ASCII)
_EXTRA = re.compile(r"<(lora|lyco|hypernet):([^:>]+)[^>]*>")
_WEIGHT = re.compile(r"\(([^():]+):\s*\d+(?:\.\d+)?\)")
_SILENT = re.compile(r".*\b(hash(es)?|version|rng)", re.IGNORECASE)
"""What nobody misses."""
LONGEST_TEXT = 100_000
LONGEST_SAID = 120


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameters:
    """The text in its parts, as they stood."""

    prompt: str
    negative: str
    values: Mapping[str, str]


def read(text: str) -> Parameters:
    """Takes any text apart; what has no line of values is all prompt."""
    lines = text[:LONGEST_TEXT].replace("\r\n", "\n").split("\n")
    last = max((number for number, line in enumerate(lines) if _LAST.match(line)), default=len(lines))
    values = {name: _unquoted(value) for name, value in _PAIR.findall(" ".join(lines[last:]))}
    said = lines[:last]
    cut = next((number for number, line in enumerate(said) if line.startswith(_NEGATIVE)), len(said))
    negative = "\n".join(said[cut:]).removeprefix(_NEGATIVE).strip()
    return Parameters(prompt="\n".join(said[:cut]).strip(), negative=negative, values=values)


def restore(parameters: Parameters, width: int, height: int) -> tuple[Request | None, tuple[str, ...]]:
    """A request with what this model understands, and a sentence for everything else.

    `width` and `height` are the picture's, for a text that does not say them. None without a prompt.
    """
    missing: list[str] = []
    prompt = _plain(parameters.prompt, missing)
    if parameters.negative:
        missing.append(f"The negative prompt “{_short(parameters.negative)}” was left out: this model has none.")
    values = dict(parameters.values)
    fields: dict[str, Any] = _size(values.pop("Size", f"{width}x{height}"), missing)
    for name, field, kind in (("Seed", "seed", int), ("Steps", "steps", int), ("CFG scale", "guidance", float)):
        fields |= _number(name, field, kind, values.pop(name, None), missing)
    if model := values.pop("Model", ""):
        missing.append(f"It was made with “{_short(model)}”: the same seed gives another picture here.")
    others = [f"{name} {_short(value)}".strip() for name, value in values.items() if not _SILENT.match(name)]
    if others:
        missing.append(f"Without meaning here: {', '.join(others)}.")
    try:
        return Request(prompt=prompt, **fields), tuple(missing)
    except RequestError as error:
        return None, (*missing, f"The prompt cannot be used. {error}" if prompt else "It carries no prompt.")


def _plain(prompt: str, missing: list[str]) -> str:
    """The prompt without what addresses other models."""
    for kind, name in dict.fromkeys(_EXTRA.findall(prompt)):
        missing.append(f"The {kind} “{_short(name)}” was left out: it belongs to another model.")
    prompt = _EXTRA.sub("", prompt)
    plain = prompt
    # Weights may stand inside one another.
    while (lighter := _WEIGHT.sub(r"\1", plain)) != plain:
        plain = lighter
    if plain != prompt:
        missing.append("The weights of words, as in (fog:1.2), were left out: this model knows none.")
    return re.sub(r"[ \t]+", " ", plain).strip(" ,\n")


def _size(text: str, missing: list[str]) -> dict[str, Any]:
    match = re.fullmatch(r"\s*(\d{1,5})\s*x\s*(\d{1,5})\s*", text, re.ASCII)
    try:
        size = Size.snap(*map(int, match.groups())) if match else None
    except RequestError as error:
        missing.append(str(error))
        return {}
    if size is None:
        missing.append(f"The size “{_short(text)}” was left out: it is none.")
        return {}
    if str(size) != text.replace(" ", ""):
        missing.append(f"The size {_short(text)} became {size}: sides are multiples of 32.")
    return {"width": size.width, "height": size.height}


def _number(
    name: str, field: str, kind: type[int] | type[float], text: str | None, missing: list[str]
) -> dict[str, Any]:
    """The field, where a request may have that value."""
    if text is None:
        return {}
    try:
        value: dict[str, Any] = {field: kind(text)}
        Request(prompt="a", **value)
    except (ValueError, RequestError):
        missing.append(f"{name} {_short(text)} was left out: it is not in the range of this program.")
        return {}
    return value


def _unquoted(value: str) -> str:
    """Values with commas are written as JSON strings."""
    if value.startswith('"'):
        try:
            return str(json.loads(value))
        except ValueError:
            return value.strip('"')
    return value.strip()


def _short(text: str) -> str:
    line = " ".join(printable(" ".join(text.split())[: LONGEST_SAID // 2]).split())
    return line if len(text) <= LONGEST_SAID // 2 else f"{line}…"
