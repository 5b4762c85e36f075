"""A picture beside what it was made from: the slider between before and after, and three in a row.

The slider is a range input over two pictures, so that it can be moved by keys and is read aloud; gr.ImageSlider is not,
and it would copy both files. Pure functions of files. Knows no widgets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from html import escape
from pathlib import Path

from app.easel import Frame, file_url
from app.history import History, Picture
from app.storage import PICTURES
from app.words import Words

LONGEST_TRAIL = 24


@dataclass(frozen=True, slots=True)
class Pane:
    """One picture of a row."""

    said: str
    picture: Path | None = None
    url: str = ""
    """Where it is no file of ours."""
    main: bool = False


def slider(before: Path, after: Path, words: Words, kind: str = "compare") -> str:
    """Both on top of each other; assets/brush.js moves the cut. `kind`: beginning of the keys of what is said."""
    width, height = size(after)
    left, right = escape(words(f"{kind}.before")), escape(words(f"{kind}.after"))
    return (
        f'<div class="compare" style="--ratio:{width / height:.4f}">'
        f'<img src="{file_url(after)}" alt="{right}"><img class="before" src="{file_url(before)}" alt="{left}">'
        f'<span class="tag is-before">{left}</span><span class="tag is-after">{right}</span>'
        '<span class="seam" aria-hidden="true"></span>'
        f'<input type="range" min="0" max="100" value="50" aria-label="{escape(words(f"{kind}.label"))}"></div>'
    )


def row(*panes: Pane) -> str:
    """Pictures side by side, the main one large."""
    return f'<div class="triptych of-{len(panes)}">{"".join(map(_pane, panes))}</div>'


def _pane(pane: Pane) -> str:
    url = pane.url or (file_url(pane.picture) if pane.picture else "")
    shown = f'<img src="{url}" alt="{escape(pane.said)}">' if url else letter(pane.said)
    width, height = size(pane.picture) if pane.picture else (1, 1)
    return (
        f'<figure class="{"is-main" if pane.main else "is-side"}" style="--ratio:{width / height:.4f}">{shown}'
        f"<figcaption>{escape(pane.said)}</figcaption></figure>"
    )


def letter(name: str) -> str:
    """What stands for a picture that there is none of."""
    return f'<span class="letter" aria-hidden="true">{escape(name[:1])}</span>'


@lru_cache(maxsize=256)
def size(picture: Path) -> tuple[int, int]:
    """Width and height; a stored picture never changes. A square for what is gone."""
    from PIL import Image

    try:
        with Image.open(picture) as opened:
            return opened.size
    except OSError:
        return 1, 1


def trail(history: History, source: Path, latest: Sequence[str], words: Words, *, shown: bool = False) -> list[Frame]:
    """A film strip: the changes that led to the picture `source`, itself, and all that was changed from it.

    `latest` differs when there are new pictures; `shown`: `source` is what is looked at.
    """
    frames: list[Frame] = []
    path: Path | None = source
    while path is not None and len(frames) < LONGEST_TRAIL:
        frame, path = _step(history, path, words)
        if frame is None:
            break
        frames.insert(0, frame)
    if frames and shown:
        frames[-1] = replace(frames[-1], shown=True)
    made = (history.find(key) for key in _descendants(history, history.storage.name(source), tuple(latest)))
    return frames + [frame for one in made if one is not None and (frame := _change(history, one, words)) is not None]


def _step(history: History, path: Path, words: Words) -> tuple[Frame | None, Path | None]:
    """The picture's frame, and the file that it was changed from."""
    name = history.storage.name(path)
    if name.startswith(PICTURES):
        picture = history.find(name.removeprefix(PICTURES))
        if picture is None:
            return None, None
        settings = history.settings(picture)
        changed = settings is not None and settings.request.task == "edit" and settings.request.references
        before = Path(settings.request.references[0].path) if settings is not None and changed else None
        frame = _change(history, picture, words)
        said = settings.request.prompt if settings else words("easel.unnamed")
        return frame or Frame(file_url(history.thumbnail(picture)), picture.key, said), before
    given = history.storage.path(name) is not None and path.is_file()
    return (Frame(file_url(path), name, words("trail.given"), "source") if given else None), None


def _change(history: History, picture: Picture, words: Words) -> Frame | None:
    """The frame of an edit's result."""
    settings = history.settings(picture)
    if settings is None or settings.request.task != "edit":
        return None
    title = words("trail.step", prompt=settings.request.prompt)
    return Frame(file_url(history.thumbnail(picture)), picture.key, title)


@lru_cache(maxsize=64)
def _descendants(history: History, name: str, latest: tuple[str, ...]) -> tuple[str, ...]:
    """Cached: the index is not asked at every step of a painting."""
    family = history.lineage(name.removeprefix(PICTURES)).descendants
    return tuple(one.key for one in family if one.state == "kept")
