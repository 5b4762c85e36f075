"""What can be read in a picture, against what was wanted; and painting again until it reads right.

The reading is RapidOCR's (PP-OCR: Chinese and English; its models lie in the wheel, nothing is fetched). Detection
wants margins and letters of a usual size, so a picture or a box of it gets a frame and small ones are enlarged. Case,
spaces and the width of letters count for nothing: readers get them wrong more often than painters.
Knows no models of ours: what it paints with is handed in.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glmimage.errors import MachineError, PictureError, RequestError, Stopped
from glmimage.events import Event, Line, Note, Preview, Progress, Report, Result
from glmimage.pictures import read_file, read_picture
from glmimage.prompting import quoted
from glmimage.request import LARGEST_SEED, Region, Request

if TYPE_CHECKING:
    import threading

    from PIL.Image import Image

MOST_ATTEMPTS = 20
FRAME = 32
"""Pixels around what is read, in the colour of its corner."""
SMALL, LARGE = 512, 1280
"""Pictures whose longer side has at most so many pixels are read at twice their size, and none at a larger one."""
SCALES = (1.0, 0.5, 0.25)
"""Of that size, tried until all reads right: letters that fill a fifth of a large picture are found in a small one."""
MARGIN = 0.15
"""Of a box's height, on all sides: letters that stick out of their box can still be read."""

Run = Callable[[Request, "threading.Event | None"], Iterator[Event]]
"""`Engine.run`."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of letters that was read in one piece."""

    text: str
    box: tuple[float, float, float, float]
    """Left, top, right, bottom in pixels of the picture; the frame may reach outside."""


class Proofreader:
    """Reads pictures. The reader is loaded with the first one and serves one thread at a time."""

    def __init__(self, threads: int = 1) -> None:
        self._threads = threads
        self._reader: Any = None

    def read(self, image: Image, wanted: Sequence[Region | str]) -> Report:
        """What stands in each region, or what in the whole picture is likest to each text; in the order of `wanted`.

        Raises MachineError where the reader is not installed.
        """
        texts = [text for text in wanted if isinstance(text, str)]
        anywhere = iter(self._read_anywhere(image, texts) if texts else ())
        return Report(
            tuple(next(anywhere) if isinstance(item, str) else self._read_region(image, item) for item in wanted)
        )

    def look(self, image: Image, scale: float = 1.0) -> list[Piece]:
        """All that can be read, line by line, at `scale` times the usual size.

        Raises MachineError where the reader is not installed.
        """
        import numpy as np

        framed, scale = _frame(image, scale)
        read = self._load()(np.asarray(framed)[..., ::-1], use_det=True, use_cls=True, use_rec=True)
        corners, texts = getattr(read, "boxes", None), getattr(read, "txts", None)
        if corners is None or texts is None:
            return []
        pieces = []
        for corner, text in zip(corners, texts, strict=True):
            sides = (*corner.min(axis=0), *corner.max(axis=0))
            left, top, right, bottom = (float(side) / scale - FRAME for side in sides)
            pieces.append(Piece(text, (left, top, right, bottom)))
        return _in_lines(pieces)

    def _read_anywhere(self, image: Image, texts: Sequence[str]) -> list[Line]:
        best: list[Line] = []
        for scale in SCALES:
            found = [*map(_line, texts, _choose(texts, self.look(image, scale)))]
            best = [*map(_better_of, best, found)] if best else found
            if all(line.match for line in best):
                break
        return best

    def _read_region(self, image: Image, region: Region) -> Line:
        """The whole of what stands in the box; a text that no line is found in is read as one line."""
        left, top, right, bottom = region.box
        margin = MARGIN * (bottom - top) * image.height
        box = (
            max(0, round(left * image.width - margin)),
            max(0, round(top * image.height - margin)),
            min(image.width, round(right * image.width + margin)),
            min(image.height, round(bottom * image.height + margin)),
        )
        part = image.crop(box)
        best = _line(region.text, "")
        for scale in SCALES:
            texts = [piece.text for piece in self.look(part, scale)]
            best = _better_of(best, _line(region.text, " ".join(texts)))
            if best.match:
                return best
        return _better_of(best, _line(region.text, self._read_line(part)))

    def _read_line(self, image: Image) -> str:
        """The picture taken for one line, where detection finds none: a single letter, say."""
        import numpy as np

        read = self._load()(np.asarray(image.convert("RGB"))[..., ::-1], use_det=False, use_cls=False, use_rec=True)
        return "".join(getattr(read, "txts", None) or ())

    def _load(self) -> Any:
        if self._reader is None:
            self._reader = open_reader(self._threads)
        return self._reader


def open_reader(threads: int) -> Any:
    """RapidOCR with so many threads (0: its own choice). Raises `MachineError` where it is not installed."""
    try:
        from rapidocr import RapidOCR
    except ImportError as error:
        raise MachineError(
            f"RapidOCR, which reads the pictures, cannot be loaded ({error}); install requirements.txt again."
        ) from error
    engine = {"EngineConfig.onnxruntime.intra_op_num_threads": threads} if threads else {}
    return RapidOCR(params={"Global.log_level": "critical", **engine})


def _frame(image: Image, scale: float) -> tuple[Image, float]:
    """The picture with a frame, and the factor by which both are larger than it was."""
    from PIL import Image as images

    image = image.convert("RGB")
    corner = image.getpixel((min(2, image.width - 1), min(2, image.height - 1)))
    framed = images.new("RGB", (image.width + 2 * FRAME, image.height + 2 * FRAME), corner)
    framed.paste(image, (FRAME, FRAME))
    longer = max(image.size)
    scale *= 2 if longer <= SMALL else min(1.0, LARGE / longer)
    size = (max(1, round(framed.width * scale)), max(1, round(framed.height * scale)))
    return framed if size == framed.size else framed.resize(size, images.Resampling.BICUBIC), scale


def _in_lines(pieces: Sequence[Piece]) -> list[Piece]:
    """In reading order: what overlaps by half its height stands on one line, from left to right."""
    lines: list[list[Piece]] = []
    for piece in sorted(pieces, key=lambda piece: piece.box[1] + piece.box[3]):
        _, top, _, bottom = piece.box
        for line in lines:
            first, last = line[0].box[1], line[0].box[3]
            if min(bottom, last) - max(top, first) >= min(bottom - top, last - first) / 2:
                line.append(piece)
                break
        else:
            lines.append([piece])
    return [piece for line in lines for piece in sorted(line, key=lambda piece: piece.box[0])]


def _choose(wanted: Sequence[str], pieces: Sequence[Piece]) -> list[str]:
    """For each text the words, one or several in a row, that are likest to it; none is taken twice."""
    words = [word for piece in pieces for word in piece.text.split()]
    free = [True] * len(words)
    chosen = [""] * len(wanted)

    def likest(text: str) -> tuple[float, range]:
        best, span = 0.0, range(0)
        for first in range(len(words)):
            for last in range(first + 1, len(words) + 1):
                if not free[last - 1]:
                    break
                alike = likeness(text, "".join(words[first:last]))
                if alike > best:
                    best, span = alike, range(first, last)
        return best, span

    # What is exact first, so that no other text takes a part of it; long ones first: their words may be others' texts.
    for least in (1.0, 0.0):
        for index in sorted(range(len(wanted)), key=lambda index: -len(wanted[index])):
            if chosen[index]:
                continue
            alike, span = likest(wanted[index])
            if alike < least:
                continue
            for place in span:
                free[place] = False
            chosen[index] = " ".join(words[place] for place in span)
    return chosen


def _line(wanted: str, read: str) -> Line:
    alike = likeness(wanted, read)
    return Line(wanted=wanted, read=read, match=alike == 1.0, likeness=alike)


def _better_of(one: Line, other: Line) -> Line:
    return other if (other.likeness, bool(other.read)) > (one.likeness, bool(one.read)) else one


def likeness(wanted: str, read: str) -> float:
    """1 - Levenshtein distance / length of the longer; case, spaces and the width of letters count for nothing."""
    wanted, read = _plain(wanted), _plain(read)
    row = list(range(len(read) + 1))
    for i, letter in enumerate(wanted, 1):
        previous, row[0] = row[0], i
        for j, other in enumerate(read, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (letter != other))
    return 1 - row[-1] / max(len(wanted), len(read), 1)


def _plain(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())


# --- until it reads right ---------------------------------------------------------------------------------------------


def until_right(
    run: Run,
    request: Request,
    proofreader: Proofreader,
    *,
    attempts: int = 1,
    stop: threading.Event | None = None,
) -> Iterator[Event]:
    """The events of `run(request, stop)`, with what can be read in each result; a picture that does not read right is
    made again with other seeds, at most `attempts` times in all, and the best of its tries is its result.

    Wanted are the texts in boxes, or else the quoted strings; in an edit those that its picture does not show yet: what
    it does is named to be changed, moved or removed.
    Its seeds are in the result, so that it can be made again. A locked seed or a given layout stays; where nothing may
    change, there is one attempt. Stopped while trying again, the best so far is given before Stopped is raised.
    """
    if not 1 <= attempts <= MOST_ATTEMPTS:
        raise RequestError(f"The number of attempts {attempts} is not between 1 and {MOST_ATTEMPTS}; 3 is usual.")
    wanted: Sequence[Region | str] = request.regions or quoted(request.prompt)
    if not _can_differ(request) or not any(_plain(item if isinstance(item, str) else item.text) for item in wanted):
        attempts = 1
    there = request.references[0].path if request.task == "edit" and request.references and not request.regions else ""
    waiting: list[Result] = []
    with _closing(run(request, stop)) as events:
        for event in events:
            if isinstance(event, Result) and wanted:
                try:
                    if there:
                        wanted, there = _not_yet(wanted, there, proofreader), ""
                    if wanted:
                        report = yield from _reading(proofreader, event.image, wanted, event.index, request.count)
                        event = replace(event, report=report)
                except MachineError as error:
                    # The picture is worth keeping though nobody can read it.
                    yield Note(str(error))
                    wanted = ()
                if attempts > 1 and event.report is not None and not event.report.right:
                    waiting.append(event)
                    continue
            yield event
    while waiting:
        try:
            yield from _better(run, request, proofreader, waiting.pop(0), wanted, attempts, stop)
        except Stopped:
            yield from waiting
            raise


def _not_yet(wanted: Sequence[Region | str], path: str, proofreader: Proofreader) -> list[Region | str]:
    """What of it cannot be read in the picture of that file."""
    try:
        before = read_picture(read_file(Path(path)), path)
    except PictureError:
        # It has gone while it was painted from.
        return list(wanted)
    return [item for item, line in zip(wanted, proofreader.read(before, wanted).lines, strict=True) if not line.match]


def _better(
    run: Run,
    request: Request,
    proofreader: Proofreader,
    best: Result,
    wanted: Sequence[Region | str],
    attempts: int,
    stop: threading.Event | None,
) -> Iterator[Event]:
    """Tries a picture anew until it reads right; the last event, stopped or not, is the best of its tries."""
    index, count = best.index, request.count
    try:
        for attempt in range(1, attempts):
            yield Note(f"{_fault(best)}; attempt {attempt + 1} of {attempts}.")
            seed = (request.seed + attempt * count + index) % (LARGEST_SEED + 1)
            with _closing(run(replace(request, count=1, seed=seed), stop)) as events:
                for event in events:
                    match event:
                        case Progress():
                            yield replace(event, picture=index, pictures=count)
                        case Preview():
                            yield replace(event, picture=index)
                        case Result():
                            best = yield from _liker(best, event, wanted, proofreader)
            if best.report and best.report.right:
                break
    except Stopped:
        yield best
        raise
    yield best


def _reading(
    proofreader: Proofreader, image: Image, wanted: Sequence[Region | str], index: int, count: int
) -> Generator[Event, None, Report]:
    """What is read, and that it is being read: on a slow machine it takes as long as some steps of painting."""
    yield Progress("reading", 0, 1, index, count)
    report = proofreader.read(image, wanted)
    yield Progress("reading", 1, 1, index, count)
    return report


def _liker(
    best: Result, tried: Result, wanted: Sequence[Region | str], proofreader: Proofreader
) -> Generator[Event, None, Result]:
    """The one of the two that reads better, as a result of the first one's request."""
    assert best.report is not None
    request = best.request
    report = yield from _reading(proofreader, tried.image, wanted, best.index, request.count)
    if report.likeness <= best.report.likeness:
        return best
    return replace(tried, request=request, index=best.index, report=report)


def _fault(result: Result) -> str:
    assert result.report is not None
    wrong = next(line for line in result.report.lines if not line.match)
    reads = f"reads {wrong.read!r}" if wrong.read else "shows nothing to read"
    return f"Picture {result.index + 1} {reads} where it should say {wrong.wanted!r}"


def _can_differ(request: Request) -> bool:
    """Whether other seeds would change the picture."""
    laid_out = request.layout_seed is not None or (request.layout is not None and request.layout.target is not None)
    return not laid_out or request.paint_seed is None


@contextmanager
def _closing(events: Iterator[Event]) -> Iterator[Iterator[Event]]:
    """A run that ends where its reader does."""
    try:
        yield events
    finally:
        if isinstance(events, Generator):
            events.close()
