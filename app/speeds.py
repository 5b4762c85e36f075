"""How fast a checkpoint works on this machine, measured from its own pictures and kept in the data folder.

What a stage costs is one number for a size (and, for the layout, for how many pictures are drawn together): seconds for
a code, for a step of painting, for a decoding. Another size is told from the nearest one by its pixels. Knows no model.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from glmimage.errors import RequestError
from glmimage.events import Progress
from glmimage.files import write_whole
from glmimage.request import Request

FRESH = 0.5
"""Weight of the newest measurement."""
SKETCH_STEPS = 6
"""About how many steps a sketch is painted in; a guess is enough here."""
_ORDER = ("loading", "references", "layout", "glyphs", "painting", "decoding", "reading")

Rates = dict[str, float]
"""`stage/pixels/together` -> seconds for a code, a step, a decoding, a reference."""


class Speeds:
    """Measured speeds of all checkpoints; safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._rates: dict[str, Rates] = _read(path)

    def learn(self, checkpoint: str, request: Request, seconds: Mapping[str, float]) -> None:
        """Takes in what one picture of a resolved request took, by stage (`Result.seconds`)."""
        units = {stage: unit for stage, unit in _units(request).items() if seconds.get(stage, 0) > 0 and unit}
        with self._lock:
            rates = self._rates.setdefault(checkpoint, {})
            for stage, unit in units.items():
                # A picture has its share of a batch's layout.
                spent = seconds[stage] * (request.count if stage in ("layout", "references") else 1)
                key = _key(stage, request)
                before = rates.get(key, spent / unit)
                rates[key] = before + (spent / unit - before) * FRESH
            _write(self._path, self._rates)

    def expect(self, checkpoint: str, request: Request, sketching: bool = False) -> float | None:
        """Seconds that a request will take; None while that cannot be told."""
        stages = self._stages(checkpoint, request, sketching)
        if stages is None:
            return None
        each = stages["painting"] + stages["decoding"]
        return stages["references"] + stages["layout"] + each * request.count

    def left(
        self, checkpoint: str, request: Request, progress: Progress, spent: float, sketching: bool = False
    ) -> float | None:
        """Seconds until a running request is done: this stage by its own pace once it has one, the rest as expected."""
        stages = self._stages(checkpoint, request, sketching)
        if stages is None:
            return None
        share = progress.step / max(progress.total, 1)
        paced = progress.step >= 2 and spent >= 0.5
        expected = stages.get(progress.stage, 0.0)
        left = spent / share * (1 - share) if paced and share else expected * (1 - share)
        place = _ORDER.index(progress.stage)
        each = stages["painting"] + stages["decoding"]
        if place < _ORDER.index("painting"):
            left += sum(stages.get(stage, 0.0) for stage in _ORDER[place + 1 : 4]) + each * request.count
        else:
            left += sum(stages.get(stage, 0.0) for stage in _ORDER[place + 1 :]) + each * (
                request.count - progress.picture - 1
            )
        return left

    def _stages(self, checkpoint: str, request: Request, sketching: bool) -> dict[str, float] | None:
        """Seconds of each stage, of one picture where pictures are made alone; None without a size or a measurement."""
        try:
            units = _units(request, sketching)
        except RequestError:
            return None
        with self._lock:
            rates = self._rates.get(checkpoint, {})
            seconds = {stage: unit * _nearest(rates, stage, request) if unit else 0.0 for stage, unit in units.items()}
        return None if any(math.isnan(value) for value in seconds.values()) else seconds


def _units(request: Request, sketching: bool = False) -> dict[str, float]:
    """Codes, steps, decodings and references of a request."""
    size = request.size
    target, preview = math.prod(size.prior_grid), math.prod(size.preview_grid)
    codes = preview if sketching else target if request.references else target + preview
    if request.layout is not None and not sketching:
        codes = 0 if request.layout.target is not None else target
    steps = SKETCH_STEPS if sketching else (request.steps or 0) * (1 - request.content)
    guided = 2 if (request.guidance or 0) > 1 else 1
    return {"references": len(request.references), "layout": codes, "painting": steps * guided, "decoding": 1}


def _key(stage: str, request: Request) -> str:
    together = request.count if stage == "layout" else 1
    return f"{stage}/{request.size.width * request.size.height}/{together}"


def _nearest(rates: Rates, stage: str, request: Request) -> float:
    """The rate of the nearest size and batch that was measured; NaN where none was."""
    pixels, together = (int(part) for part in _key(stage, request).split("/")[1:])
    known = [tuple(int(part) for part in key.split("/")[1:]) for key in rates if key.startswith(f"{stage}/")]
    if not known:
        return math.nan
    size, batch = min(known, key=lambda one: (abs(math.log(one[0] / pixels)), abs(one[1] - together)))
    # A code costs the same in a larger grid, a step and a decoding do not.
    scale = 1.0 if stage in ("layout", "references") else pixels / size
    return rates[f"{stage}/{size}/{batch}"] * scale


def _read(path: Path) -> dict[str, Rates]:
    """What is there and makes sense: a lost file costs nothing but a few guesses."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return {
            str(name): {
                str(key): float(rate)
                for key, rate in rates.items()
                if float(rate) > 0 and all(int(part) > 0 for part in key.split("/")[1:]) and key.count("/") == 2
            }
            for name, rates in data.items()
        }
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _write(path: Path, rates: Mapping[str, Rates]) -> None:
    text = json.dumps(rates)
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, lambda file: file.write(text.encode()))
