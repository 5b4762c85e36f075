"""What a page shows of the worker, as HTML: the picture or its sketch, progress, the film strip, a picture's settings.

Pure functions of a snapshot and the history. The markup keeps its structure from one moment to the next, because the
page compares it with what stands there and changes only what differs. Knows no widgets and no events; a click says what
it wants in `data-act` and about what in `data-key`.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from app.history import History, Picture
from app.jobs import Job, Sketched, Snapshot
from app.presets import Example
from app.words import Words
from glmimage.events import Report
from glmimage.hub import bytes_text
from glmimage.metadata import Settings

if TYPE_CHECKING:
    from PIL.Image import Image

STRIP_LENGTH = 48
PREVIEW_SIDE = 640
"""Previews are scaled down to this before they are sent; the big checkpoint's would be megabytes."""


@dataclass(frozen=True, slots=True)
class Place:
    """Which tab's easel it is, what was clicked there, and which tabs take a picture from it."""

    tab: str
    chosen: str | None = None
    takers: tuple[str, ...] = ()
    """With the tab's own name for one that goes on from its pictures."""
    sketching: bool = False
    """The sketches are looked at, not the pictures."""
    picked: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of a film strip that a tab fills itself."""

    url: str
    key: str
    """In the history, or what the tab's own `act` is told."""
    title: str
    act: str = "choose"
    shown: bool = False
    """It is looked at, though not as a finished picture."""


def file_url(path: Path) -> str:
    """Where the page's server offers a file from its allowed folders."""
    return "gradio_api/file=" + quote(path.resolve().as_posix())


def thumbnail_url(path: Path, side: int = 128) -> str:
    """A small picture that can be kept in a text."""
    from PIL import Image

    with Image.open(path) as image:
        return data_url(image, side)


def complaint(sentence: str) -> str:
    """An error where the person is looking."""
    return f'<p class="complaint" role="alert">{escape(sentence)}</p>' if sentence else ""


def head(snapshot: Snapshot, words: Words) -> str:
    """The state of the model and the two switches, for the head of the page."""
    name = escape(snapshot.defaults.name)
    text, amount = _loading(snapshot, words)
    loading = f'{escape(text)} <span aria-hidden="true">{amount}</span>' if amount else escape(text)
    failed = words("state.failed", name=name)
    said = {"loading": loading, "ready": name, "failed": failed}[snapshot.readiness]
    switches = "".join(
        f'<button type="button" class="switch is-{kind}" data-switch="{kind}" aria-label="{escape(text)}"'
        f' title="{escape(text)}">{face}</button>'
        for kind, text, face in (
            ("language", words("head.language.label"), escape(words("head.language"))),
            ("theme", words("head.theme"), '<i aria-hidden="true"></i>'),
        )
    )
    return (
        '<div class="head">'
        f'<span class="status is-{snapshot.readiness}" role="status"><i></i><span>{said}</span></span>'
        f'<span class="offline">{escape(words("head.offline"))}</span>{switches}</div>'
    )


def picture_area(
    snapshot: Snapshot,
    history: History,
    place: Place,
    welcome: str,
    words: Words,
    alone: Callable[[Picture], str] | None = None,
) -> str:
    """The large area and the progress under it; `welcome` is what stands there before the first picture, `alone` how a
    single finished one is shown, "" where that is as everywhere."""
    shown = pictures_shown(snapshot, history, place)
    current = _own(snapshot, place)
    sketched = snapshot.sketched.get(place.tab)
    if place.chosen is None and current is not None:
        sheets = _working(current, history, words)
    elif place.sketching and sketched is not None:
        sheets = _sketches(sketched, place.picked, words)
    elif len(shown) == 1 and alone is not None and (own := alone(shown[0])):
        sheets = own
    elif shown:
        sheets = _sheets(
            [_sheet(file_url(one.path), _ratio(history, one), one.key, _alt(history, one, words)) for one in shown]
        )
    else:
        sheets = welcome
    return f'<div class="easel"><div class="stage">{sheets}</div>{_progress(snapshot, place, words)}</div>'


def progress_area(snapshot: Snapshot, place: Place, words: Words) -> str:
    """The progress alone, for a tab that shows its pictures in its own way."""
    return f'<div class="easel">{_progress(snapshot, place, words)}</div>'


def shelf(
    snapshot: Snapshot, history: History, place: Place, words: Words, frames: Sequence[Frame] | None = None
) -> str:
    """The settings of the picture that is shown, and the film strip: `frames`, or else the newest pictures."""
    shown = pictures_shown(snapshot, history, place)
    idle = place.chosen is not None or _own(snapshot, place) is None
    label = _label(history, shown, place, words) if idle else _NO_LABEL
    if frames is None:
        frames = [
            Frame(file_url(history.thumbnail(one)), one.key, _title(one, words)) for one in history.newest(STRIP_LENGTH)
        ]
    return f'<div class="shelf">{label}{_strip(snapshot, frames, {one.key for one in shown}, place, words)}</div>'


def welcome(title: str, how: str, cards: str) -> str:
    """What stands there before the first picture."""
    return f'<div class="welcome"><h2>{escape(title)}</h2>{how}{cards}</div>'


def cards(examples: Sequence[Example], words: Words) -> str:
    """Examples, one click each: what goes in, what came of it, and the prompt."""
    made = "".join(
        f'<button type="button" class="card" data-act="example" data-key="{number}" data-once>'
        f"{_faces(example)}<span>{escape(example.title(words.language))}</span></button>"
        for number, example in enumerate(examples)
    )
    return f'<div class="cards">{made}</div>' if made else ""


def _own(snapshot: Snapshot, place: Place) -> Job | None:
    """The running job, where it is this tab's."""
    current = snapshot.current
    return current if current is not None and current.tab == place.tab else None


def pictures_shown(snapshot: Snapshot, history: History, place: Place) -> list[Picture]:
    if place.sketching and place.chosen is None:
        return []
    keys = [place.chosen] if place.chosen is not None else list(snapshot.latest.get(place.tab, ()))
    return [picture for key in keys if (picture := history.find(key)) is not None]


def _working(job: Job, history: History, words: Words) -> str:
    """One sheet for each picture of the job: finished, being made, or still blank."""
    ratio = _ratio_of(job)
    previews = {index: (image, stage) for index, image, stage in job.previews}
    done = [picture for key in job.pictures if (picture := history.find(key)) is not None]
    sheets = [_sheet(file_url(one.path), ratio, one.key, job.request.prompt) for one in done]
    sheets += [_sheet(data_url(one.image), ratio, "", job.request.prompt) for one in job.sketches]
    for index in range(len(sheets), job.count):
        image, stage = previews.get(index, (None, "layout"))
        kind = "is-sketch" if stage == "layout" else "is-paint"
        sheets.append(_sheet(data_url(image) if image else "", ratio, "", words("easel.preview"), kind))
    return _sheets(sheets)


def _ratio_of(job: Job) -> float:
    """Width by height; the first preview says it where the request leaves it to a reference."""
    if job.request.width and job.request.height:
        return job.request.width / job.request.height
    return next((image.width / image.height for _, image, _ in job.previews), 1.0)


def _sketches(sketched: Sketched, picked: frozenset[int], words: Words) -> str:
    """Each can be picked, several at once."""
    ratio = (sketched.request.width or 1) / (sketched.request.height or 1)
    sheets = [
        f'<button type="button" class="sheet is-pick" style="--ratio:{ratio:.4f}" data-act="pick"'
        f' data-key="{one.index}" aria-pressed="{"true" if one.index in picked else "false"}"'
        f' aria-label="{escape(words("easel.sketch", number=one.index + 1))}">'
        f'<img src="{data_url(one.image)}" alt=""><i aria-hidden="true"></i></button>'
        for one in sketched.sketches
    ]
    return f'{_sheets(sheets)}<p class="how">{escape(words("easel.pick"))}</p>'


def _sheets(sheets: list[str]) -> str:
    return f'<div class="sheets of-{len(sheets)}">{"".join(sheets)}</div>'


def _sheet(url: str, ratio: float, key: str, alt: str, kind: str = "") -> str:
    picture = f'<img src="{url}" alt="{escape(alt)}">' if url else '<span class="blank"></span>'
    acts = f'data-act="choose" data-key="{escape(key)}"' if key else "disabled"
    return f'<button type="button" class="sheet {kind}" style="--ratio:{ratio:.4f}" {acts}>{picture}</button>'


def kept_layout(thumbnail: Path, words: Words) -> str:
    """Whose layout is kept, and a way to let it go."""
    return (
        f'<div class="slot is-layout"><img src="{file_url(thumbnail)}" alt=""><div class="aside">'
        f'<p>{escape(words("create.layout"))}</p><div class="acts"><button type="button" data-act="drop-layout">'
        f"{escape(words('create.layout.drop'))}</button></div></div></div>"
    )


def _faces(example: Example) -> str:
    shown = [*example.pictures, *([example.thumbnail] if example.thumbnail else [])]
    images = "".join(f'<img src="{file_url(one)}" alt="">' for one in shown)
    return f'<span class="faces of-{len(shown)}">{images}</span>' if shown else ""


def _progress(snapshot: Snapshot, place: Place, words: Words) -> str:
    job, name = snapshot.current, snapshot.defaults.name
    text, count, left, share = "", "", "", 0.0
    if job is not None and job.progress is not None:
        progress = job.progress
        text = words("easel.stopping") if job.stopping else words(f"stage.{progress.stage}")
        count = f"{progress.step}/{progress.total}"
        # The layouts of all pictures are drawn together.
        if progress.pictures > 1 and progress.stage in ("painting", "decoding", "reading"):
            count += " · " + words("easel.picture_of", number=progress.picture + 1, total=progress.pictures)
        left = _left(job.seconds_left, words)
        share = progress.step / max(progress.total, 1)
    elif snapshot.transfer is not None:
        text, count = _loading(snapshot, words)
        share = snapshot.transfer.done / max(snapshot.transfer.total, 1)
    elif job is not None:
        loading = snapshot.readiness == "loading"
        text = words("easel.waiting_model", name=name) if loading else words("easel.starting")
    elif snapshot.waiting and (ahead := snapshot.waiting[0].ahead):
        text, left = words("queue.behind", count=ahead), _left(snapshot.waiting[0].begins_in, words)
    elif snapshot.waiting:
        loading = snapshot.readiness == "loading"
        text = words("easel.waiting_model", name=name) if loading else words("easel.starting")
    if job is not None and job.tab != place.tab:
        text = words("easel.elsewhere", tab=words(f"tab.{job.tab}")) + " · " + text
    busy = "is-busy" if text else ""
    bar = (
        f'<div class="bar" role="progressbar" aria-label="{escape(words("easel.progress"))}" aria-valuemin="0"'
        f' aria-valuemax="100" aria-valuenow="{share * 100:.0f}"><i style="width:{share * 100:.1f}%"></i></div>'
    )
    line = (
        f'<div class="line"><span class="what" aria-live="polite">{escape(text)}</span>'
        f'<span class="count">{count}</span><span class="left">{left}</span></div>'
    )
    told = _own(snapshot, place) or snapshot.last.get(place.tab)
    said = "".join(f'<p class="note">{escape(words.said(note))}</p>' for note in told.notes) if told else ""
    waiting = _waiting(snapshot, words)
    return f'<div class="progress {busy}">{line}{bar}<div class="notes">{said}</div>{waiting}</div>'


def _loading(snapshot: Snapshot, words: Words) -> tuple[str, str]:
    """What happens to the model, and how much of that is done; that changes too often to be read aloud."""
    name, transfer = snapshot.defaults.name, snapshot.transfer
    if transfer is None:
        return words("state.loading", name=name), ""
    licence = transfer.release.licence if transfer.release is not None else ""
    said = words(f"state.{transfer.doing}", name=name) + (words("state.licence", licence=licence) if licence else "")
    share = 100 * transfer.done // max(transfer.total, 1)
    return said, words("state.of", done=bytes_text(transfer.done), total=bytes_text(transfer.total), share=share)


def _left(seconds: float | None, words: Words) -> str:
    return words("easel.left", time=_minutes(seconds)) if seconds is not None else ""


def _waiting(snapshot: Snapshot, words: Words) -> str:
    """The queue: what comes in which place, and about when."""
    rows = ""
    for job in snapshot.waiting:
        when = words("queue.begins", time=_minutes(job.begins_in)) if job.begins_in is not None else ""
        rows += (
            f"<li><b>{1 + job.ahead}</b><span>{escape(job.request.prompt)}</span><small>{escape(when)}</small>"
            f'<button type="button" data-act="remove" data-key="{job.number}"'
            f' aria-label="{escape(words("queue.remove.label"))}">{escape(words("queue.remove"))}</button></li>'
        )
    return f'<ol class="waiting" aria-label="{escape(words("queue.label"))}">{rows}</ol>'


def _strip(snapshot: Snapshot, frames: Sequence[Frame], shown: set[str], place: Place, words: Words) -> str:
    live, current = "", _own(snapshot, place)
    if current is not None:
        pressed = "true" if place.chosen is None else "false"
        previews = current.previews
        image = f'<img src="{data_url(previews[0][1])}" alt="">' if previews else '<span class="blank"></span>'
        live = (
            f'<button type="button" class="frame is-live" data-act="live" aria-pressed="{pressed}"'
            f' aria-label="{escape(words("easel.live"))}">{image}</button>'
        )
    sketched = snapshot.sketched.get(place.tab)
    if sketched is not None and current is None:
        pressed = "true" if place.sketching and place.chosen is None else "false"
        live = (
            f'<button type="button" class="frame is-sketches" data-act="sketches" aria-pressed="{pressed}"'
            f' aria-label="{escape(words("easel.sketches"))}">'
            + "".join(f'<img src="{data_url(one.image, 96)}" alt="">' for one in sketched.sketches[:6])
            + "</button>"
        )
    following = current is not None and place.chosen is None
    made = "".join(
        f'<button type="button" class="frame" data-act="{one.act}" data-key="{escape(one.key)}"'
        f' aria-pressed="{"true" if (one.shown or one.key in shown) and not following else "false"}"'
        f' aria-label="{escape(one.title)}"><img src="{one.url}" alt="" loading="lazy"></button>'
        for one in frames
    )
    label = escape(words("easel.pictures"))
    return f'<div class="strip" role="group" aria-label="{label}">{live}{made}</div>'


def _title(picture: Picture, words: Words) -> str:
    """When it was made and from which seed, read from its key."""
    day, _, name = picture.key.partition("/")
    return words("easel.title", day=day, time=f"{name[:2]}:{name[2:4]}", seed=name.split("-")[2])


_NO_LABEL = '<div class="label"></div>'


def _label(history: History, shown: Sequence[Picture], place: Place, words: Words) -> str:
    """The card beside a picture: what was asked for, and what can be done with it."""
    if not shown:
        return _NO_LABEL
    settings = history.settings(shown[0])
    prompt = escape(settings.request.prompt if settings else words("easel.no_settings"))
    listed, acts = facts(settings, words) if settings else [], _acts(shown[0], settings is not None, place, words)
    # Of texts in boxes each box says it.
    report = settings.report if settings and not settings.request.regions else None
    proven = proof(report, words) if report else ""
    if len(shown) > 1:
        listed, acts, proven = [words("easel.several", count=len(shown)), words("easel.click_one")], "", ""
    items = "".join(f"<li>{escape(fact)}</li>" for fact in listed)
    said = f'<p class="said">{prompt}</p><ul class="facts">{items}</ul>{proven}'
    return f'<div class="label">{said}<div class="acts">{acts}</div></div>'


def _acts(picture: Picture, settings: bool, place: Place, words: Words) -> str:
    key = escape(picture.key)
    buttons = [("use", "", words("act.use")), ("repaint", "", words("act.repaint"))] if settings else []
    buttons += [
        ("send", to, words(f"act.send.{to}" if to != place.tab else f"act.further.{to}")) for to in place.takers
    ]
    made = "".join(
        f'<button type="button" data-act="{act}" data-to="{to}" data-key="{key}">{escape(text)}</button>'
        for act, to, text in buttons
    )
    name = escape(picture.path.name)
    return (
        f'{made}<a href="{file_url(picture.path)}" download="{name}" data-key="{key}"'
        f' data-bare="{escape(words("act.bare"))}">{escape(words("act.download"))}</a>'
    )


def facts(settings: Settings, words: Words) -> list[str]:
    request = settings.request
    seed = words("fact.seed", seed=settings.layout_seed)
    if settings.paint_seed != settings.layout_seed:
        seed = words("fact.seeds", layout=settings.layout_seed, paint=settings.paint_seed)
    said = [seed] if request.width is None else [f"{request.width} × {request.height}", seed]
    if request.steps is not None:
        said.append(words("fact.steps", steps=request.steps))
    if request.guidance is not None:
        said.append(words("fact.guidance", guidance=f"{request.guidance:g}"))
    if request.sampling.temperature is not None:
        said.append(words("fact.temperature", value=f"{request.sampling.temperature:g}"))
    if request.sampling.top_p is not None:
        said.append(words("fact.top_p", value=f"{request.sampling.top_p:g}"))
    if settings.seconds:
        said.append(words("fact.seconds", seconds=f"{sum(settings.seconds.values()):.1f}"))
    return [*said, settings.checkpoint] if settings.checkpoint else said


def proof(report: Report, words: Words) -> str:
    """What the proofreader read, text by text."""
    lines = ""
    for line in report.lines:
        found = "right" if line.match else "wrong" if line.read else "missing"
        text = escape(words(f"proof.{found}", wanted=line.wanted, read=line.read))
        lines += f'<li class="is-{"right" if line.match else "wrong"}">{text}</li>'
    return f'<ul class="proof">{lines}</ul>'


def _alt(history: History, picture: Picture, words: Words) -> str:
    settings = history.settings(picture)
    return settings.request.prompt if settings else words("easel.unnamed")


def _ratio(history: History, picture: Picture) -> float:
    settings = history.settings(picture)
    if settings is None or not settings.request.width or not settings.request.height:
        return 1.0
    return settings.request.width / settings.request.height


def data_url(image: Image, side: int = PREVIEW_SIDE) -> str:
    small = image.convert("RGB")
    small.thumbnail((side, side))
    kind = "PNG" if max(small.size) <= 96 else "JPEG"
    data = io.BytesIO()
    small.save(data, kind, quality=85)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(data.getvalue()).decode()}"


def _minutes(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 60}:{whole % 60:02d}"
