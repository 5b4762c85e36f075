"""What a page shows of the worker, as HTML: the picture or its sketch, progress, the film strip, a picture's settings.

Pure functions of a snapshot and the history. The markup keeps its structure from one moment to the next, because the
page compares it with what stands there and changes only what differs. Knows no widgets and no events; a click says what
it wants in `data-act` and about what in `data-key`.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from app.history import History, Picture
from app.presets import Example
from app.run import Job, Snapshot
from glmimage.events import Stage
from glmimage.hub import bytes_text
from glmimage.metadata import Settings
from glmimage.prompting import quoted

if TYPE_CHECKING:
    from PIL.Image import Image

STRIP_LENGTH = 48
PREVIEW_SIDE = 640
"""Previews are scaled down to this before they are sent; the big checkpoint's would be megabytes."""

STAGES: dict[Stage, str] = {
    "loading": "Loading the model",
    "references": "Looking at the reference pictures",
    "layout": "Sketching the layout",
    "glyphs": "Reading the words to write",
    "painting": "Painting",
    "decoding": "Developing the picture",
}


def file_url(path: Path) -> str:
    """Where the page's server offers a file from its allowed folders."""
    return "gradio_api/file=" + quote(path.resolve().as_posix())


def written(prompt: str) -> str:
    """Which words of the prompt the glyph encoder will be given."""
    words = quoted(prompt)
    if words:
        marks = " ".join(f"<mark>{escape(word)}</mark>" for word in words)
        return f'<p class="written">Will be written: {marks}</p>'
    return '<p class="written hint">Put words in "quotation marks" to have them written in the picture.</p>'


def complaint(sentence: str) -> str:
    """An error where the person is looking."""
    return f'<p class="complaint" role="alert">{escape(sentence)}</p>' if sentence else ""


def status(snapshot: Snapshot) -> str:
    """The state of the model, for the head of the page."""
    name = escape(snapshot.defaults.name)
    text, amount = _loading(snapshot)
    loading = f'{escape(text)} <span aria-hidden="true">{amount}</span>' if amount else escape(text)
    said = {"loading": loading, "ready": name, "failed": f"{name} could not be loaded"}
    return f'<span class="status is-{snapshot.readiness}" role="status"><i></i>{said[snapshot.readiness]}</span>'


def picture_area(snapshot: Snapshot, history: History, chosen: str | None, examples: Sequence[Example]) -> str:
    """The large area and the progress under it."""
    shown = _shown(snapshot, history, chosen)
    current = snapshot.current
    if chosen is None and current is not None:
        sheets = _working(current, history)
    elif shown:
        sheets = _sheets(
            [_sheet(file_url(one.path), _ratio(history, one), one.key, _alt(history, one)) for one in shown]
        )
    else:
        sheets = _welcome(examples)
    return f'<div class="easel"><div class="stage">{sheets}</div>{_progress(snapshot)}</div>'


def shelf(snapshot: Snapshot, history: History, chosen: str | None) -> str:
    """The settings of the picture that is shown, and the film strip."""
    shown = _shown(snapshot, history, chosen)
    idle = chosen is not None or snapshot.current is None
    label = _label(history, shown) if idle else _NO_LABEL
    return f'<div class="shelf">{label}{_strip(snapshot, history, {one.key for one in shown}, chosen)}</div>'


def _shown(snapshot: Snapshot, history: History, chosen: str | None) -> list[Picture]:
    keys = [chosen] if chosen is not None else list(snapshot.latest)
    return [picture for key in keys if (picture := history.find(key)) is not None]


def _working(job: Job, history: History) -> str:
    """One sheet for each picture of the job: finished, being made, or still blank."""
    width, height = job.request.width or 1, job.request.height or 1
    previews = {index: (image, stage) for index, image, stage in job.previews}
    done = [picture for key in job.pictures if (picture := history.find(key)) is not None]
    sheets = [_sheet(file_url(one.path), width / height, one.key, job.request.prompt) for one in done]
    for index in range(len(done), job.request.count):
        image, stage = previews.get(index, (None, "layout"))
        kind = "is-sketch" if stage == "layout" else "is-paint"
        sheets.append(_sheet(_data_url(image) if image else "", width / height, "", "Preview", kind))
    return _sheets(sheets)


def _sheets(sheets: list[str]) -> str:
    return f'<div class="sheets of-{len(sheets)}">{"".join(sheets)}</div>'


def _sheet(url: str, ratio: float, key: str, alt: str, kind: str = "") -> str:
    picture = f'<img src="{url}" alt="{escape(alt)}">' if url else '<span class="blank"></span>'
    acts = f'data-act="choose" data-key="{escape(key)}"' if key else "disabled"
    return f'<button type="button" class="sheet {kind}" style="--ratio:{ratio:.4f}" {acts}>{picture}</button>'


def _welcome(examples: Sequence[Example]) -> str:
    cards = "".join(
        f'<button type="button" class="card" data-act="example" data-key="{number}">'
        f"{_thumbnail(example)}<span>{escape(example.prompt)}</span></button>"
        for number, example in enumerate(examples)
    )
    return (
        '<div class="welcome"><h2>What shall we paint?</h2>'
        f'<p>Write it in the prompt, or start with one of these.</p><div class="cards">{cards}</div></div>'
    )


def _thumbnail(example: Example) -> str:
    return f'<img src="{file_url(example.thumbnail)}" alt="">' if example.thumbnail else ""


def _progress(snapshot: Snapshot) -> str:
    job = snapshot.current
    text, count, left, share = "", "", "", 0.0
    if job is not None and job.progress is not None:
        progress = job.progress
        text = "Stopping" if job.stopping else STAGES[progress.stage]
        count = f"{progress.step}/{progress.total}"
        # The layouts of all pictures are drawn together.
        if progress.pictures > 1 and progress.stage in ("painting", "decoding"):
            count += f" · picture {progress.picture + 1} of {progress.pictures}"
        left = f"{_minutes(job.seconds_left)} left" if job.seconds_left is not None else ""
        share = progress.step / max(progress.total, 1)
    elif snapshot.transfer is not None:
        text, count = _loading(snapshot)
        share = snapshot.transfer.done / max(snapshot.transfer.total, 1)
    elif job is not None:
        text = f"Waiting for {snapshot.defaults.name} to load" if snapshot.readiness == "loading" else "Starting"
    elif snapshot.waiting:
        text = f"Waiting for {snapshot.defaults.name} to load"
    busy = "is-busy" if text else ""
    bar = (
        f'<div class="bar" role="progressbar" aria-label="Progress" aria-valuemin="0" aria-valuemax="100"'
        f' aria-valuenow="{share * 100:.0f}"><i style="width:{share * 100:.1f}%"></i></div>'
    )
    line = (
        f'<div class="line"><span class="what" aria-live="polite">{escape(text)}</span>'
        f'<span class="count">{count}</span><span class="left">{left}</span></div>'
    )
    told = job or snapshot.last
    said = "".join(f'<p class="note">{escape(note)}</p>' for note in told.notes) if told else ""
    return f'<div class="progress {busy}">{line}{bar}<div class="notes">{said}</div>{_waiting(snapshot.waiting)}</div>'


def _loading(snapshot: Snapshot) -> tuple[str, str]:
    """What happens to the model, and how much of a download is done; that changes too often to be read aloud."""
    name, transfer = snapshot.defaults.name, snapshot.transfer
    if transfer is None:
        return f"Loading {name}…", ""
    licence = f" (licence: {transfer.release.licence})" if transfer.release.licence else ""
    doing = "Downloading" if transfer.doing == "downloading" else "Checking"
    return f"{doing} {name}{licence}", f"{bytes_text(transfer.done)} of {bytes_text(transfer.total)}"


def _waiting(jobs: Sequence[Job]) -> str:
    rows = "".join(
        f'<li><span>{escape(job.request.prompt)}</span><button type="button" data-act="remove" data-key="{job.number}"'
        f' aria-label="Remove from the queue">Remove</button></li>'
        for job in jobs
    )
    return f'<ol class="waiting" aria-label="Waiting">{rows}</ol>'


def _strip(snapshot: Snapshot, history: History, shown: set[str], chosen: str | None) -> str:
    live = ""
    if snapshot.current is not None:
        pressed = "true" if chosen is None else "false"
        previews = snapshot.current.previews
        image = f'<img src="{_data_url(previews[0][1])}" alt="">' if previews else '<span class="blank"></span>'
        live = (
            f'<button type="button" class="frame is-live" data-act="live" aria-pressed="{pressed}"'
            f' aria-label="The picture being painted">{image}</button>'
        )
    frames = "".join(
        f'<button type="button" class="frame" data-act="choose" data-key="{escape(one.key)}"'
        f' aria-pressed="{"true" if one.key in shown and not (live and chosen is None) else "false"}"'
        f' aria-label="{escape(one.title)}">'
        f'<img src="{file_url(history.thumbnail(one))}" alt="" loading="lazy"></button>'
        for one in history.newest(STRIP_LENGTH)
    )
    return f'<div class="strip" role="group" aria-label="Your pictures">{live}{frames}</div>'


_NO_LABEL = '<div class="label"></div>'


def _label(history: History, shown: Sequence[Picture]) -> str:
    """The card beside a picture: what was asked for, and what can be done with it."""
    if not shown:
        return _NO_LABEL
    picture = shown[0]
    settings = history.settings(picture)
    prompt = escape(settings.request.prompt) if settings else "This picture carries no settings."
    facts = _facts(settings) if settings else []
    acts = f'<a href="{file_url(picture.path)}" download="{escape(picture.path.name)}">Download</a>'
    if settings:
        acts = f'<button type="button" data-act="use" data-key="{escape(picture.key)}">Use settings</button>{acts}'
    if len(shown) > 1:
        facts, acts = [f"{len(shown)} pictures", "click one for its settings"], ""
    items = "".join(f"<li>{escape(fact)}</li>" for fact in facts)
    said = f'<p class="said">{prompt}</p><ul class="facts">{items}</ul>'
    return f'<div class="label">{said}<div class="acts">{acts}</div></div>'


def _facts(settings: Settings) -> list[str]:
    request = settings.request
    seed = f"seed {settings.layout_seed}"
    if settings.paint_seed != settings.layout_seed:
        seed = f"layout seed {settings.layout_seed}, paint seed {settings.paint_seed}"
    facts = [f"{request.width} × {request.height}", seed, f"{request.steps} steps", f"guidance {request.guidance:g}"]
    if request.sampling.temperature is not None:
        facts.append(f"temperature {request.sampling.temperature:g}")
    if request.sampling.top_p is not None:
        facts.append(f"top-p {request.sampling.top_p:g}")
    return [*facts, f"{sum(settings.seconds.values()):.1f} s", settings.checkpoint]


def _alt(history: History, picture: Picture) -> str:
    settings = history.settings(picture)
    return settings.request.prompt if settings else "A picture without settings"


def _ratio(history: History, picture: Picture) -> float:
    settings = history.settings(picture)
    if settings is None or not settings.request.width or not settings.request.height:
        return 1.0
    return settings.request.width / settings.request.height


def _data_url(image: Image) -> str:
    small = image.convert("RGB")
    small.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
    kind = "PNG" if max(small.size) <= 96 else "JPEG"
    data = io.BytesIO()
    small.save(data, kind, quality=85)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(data.getvalue()).decode()}"


def _minutes(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 60}:{whole % 60:02d}"
