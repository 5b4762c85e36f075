"""What the script of the text layout is told: the canvas's size, the pictures beneath the boxes, what was read in them.

One JSON value, made anew from a snapshot and the history whenever something is to be said. Knows no widgets.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from typing import Any

from app import easel
from app.board import COLORS, LETTERINGS, MOST_BOXES
from app.history import Picture
from app.jobs import Job
from app.library import Preset
from app.page import Visit
from app.words import CATALOGUE, LANGUAGES, Words
from glmimage.events import Report
from glmimage.geometry import PRIOR_CELL, Size
from glmimage.request import Request


def furnish() -> str:
    """A script with what never changes: the words in both languages, colours, letterings."""
    words = {
        language: {key: both[place] for key, both in CATALOGUE.items() if key.startswith("board.")}
        for place, language in enumerate(LANGUAGES)
    }
    data = {
        "words": words,
        "colors": [{"name": name, "zh": chinese, "css": css} for name, (chinese, css) in COLORS.items()],
        "letterings": [{"name": name, "zh": chinese} for name, chinese in LETTERINGS.items()],
        "cell": PRIOR_CELL,
        "most": MOST_BOXES,
    }
    # "<" could end the script element.
    return f"window.atelierBoard = {json.dumps(data, ensure_ascii=False)};".replace("<", "\\u003c")


def view(visit: Visit, place: easel.Place, size: Size, told: Mapping[str, Any]) -> str:
    """`told`: the number of the edit that was seen, the advice for its boxes, whether this answers a draft."""
    current = visit.snapshot.current
    job = current if current is not None and current.tab == place.tab and place.chosen is None else None
    pictures = _working(job, visit) if job else _finished(visit, place)
    return json.dumps(
        {
            "width": size.width,
            "height": size.height,
            "pictures": pictures,
            "working": job is not None,
            "chosen": bool(place.chosen),
            **told,
        },
        ensure_ascii=False,
    )


def _working(job: Job, visit: Visit) -> list[dict[str, Any]]:
    """Finished, being made, or still blank."""
    done = [picture for key in job.pictures if (picture := visit.history.find(key)) is not None]
    previews = {index: (image, stage) for index, image, stage in job.previews}
    pictures = [_entry(picture, visit) for picture in done]
    for index in range(len(done), job.request.count):
        image, stage = previews.get(index, (None, "layout"))
        pictures.append(
            {
                "key": f"job-{job.number}-{index}",
                "url": easel.data_url(image) if image else "",
                "width": job.request.width,
                "height": job.request.height,
                "sketch": stage == "layout",
                "done": False,
                "lines": _lines(job.request, None),
            }
        )
    return pictures


def _finished(visit: Visit, place: easel.Place) -> list[dict[str, Any]]:
    return [_entry(picture, visit) for picture in easel.pictures_shown(visit.snapshot, visit.history, place)]


def _entry(picture: Picture, visit: Visit) -> dict[str, Any]:
    settings = visit.history.settings(picture)
    request = settings.request if settings else None
    return {
        "key": picture.key,
        "url": easel.file_url(picture.path),
        "width": request.width if request and request.width else 1,
        "height": request.height if request and request.height else 1,
        "sketch": False,
        "done": True,
        "alt": request.prompt if request else "",
        "lines": _lines(request, settings.report if settings else None) if request else [],
    }


def _lines(request: Request, report: Report | None) -> list[dict[str, Any]]:
    """What was wanted in each box, and what was read there; None where nobody looked."""
    read = report.lines if report is not None and len(report.lines) == len(request.regions) else None
    return [
        {
            "text": region.text,
            "box": region.box,
            "read": read[index].read if read else None,
            "match": bool(read and read[index].match),
        }
        for index, region in enumerate(request.regions)
    ]


def templates(presets: tuple[Preset, ...], words: Words) -> str:
    """A card for each template, with a drawing of its boxes; one's own can be deleted."""
    cards = []
    for preset in presets:
        wide, high = (preset.width or 1, preset.height or 1)
        factor = 48 / max(wide, high)
        boxes = "".join(
            f'<rect x="{left * wide * factor:.1f}" y="{top * high * factor:.1f}"'
            f' width="{(right - left) * wide * factor:.1f}" height="{(bottom - top) * high * factor:.1f}" rx="1"/>'
            for left, top, right, bottom in (region.box for region in preset.regions)
        )
        title, key = escape(preset.title(words.language)), escape(preset.key)
        forget = ""
        if preset.own:
            said = escape(words("regions.forget", name=preset.title(words.language)))
            forget = (
                f'<button type="button" class="forget" data-act="forget" data-key="{key}" aria-label="{said}"'
                f' title="{said}">×</button>'
            )
        cards.append(
            f'<span class="template"><button type="button" data-act="template" data-key="{key}">'
            f'<svg viewBox="0 0 {wide * factor:.1f} {high * factor:.1f}" width="{wide * factor:.0f}"'
            f' height="{high * factor:.0f}" aria-hidden="true">{boxes}</svg><span>{title}</span></button>'
            f"{forget}</span>"
        )
    name = escape(words("regions.templates"))
    return (
        f'<p class="caption">{name}</p><div class="templates" role="group" aria-label="{name}">{"".join(cards)}</div>'
    )


def written(prompt: str, words: Words) -> str:
    """The prompt as it will be, or why there is none yet."""
    if not prompt:
        return f'<p class="written hint">{escape(words("regions.prompt.hint"))}</p>'
    return f'<p class="written">{escape(words("regions.prompt"))} <span class="will">{escape(prompt)}</span></p>'
