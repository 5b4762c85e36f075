"""Scores of a checkpoint, end to end, on scenes and sentence frames that training never saw.

Each case is a scene of the "evaluate" split: its caption goes through the engine as a person's prompt would, and the
picture is compared with the stickers as the world draws them, and read by RapidOCR. `ceilings` are the same scores of
the real pictures after a round trip through the VAE: what a perfect prior and decoder would reach.

Word accuracy and NED are CVTG-2K's: wanted words found among the words read / wanted words, and the mean over wanted
words of 1 - Levenshtein / longer length to the closest word read; both without regard to case.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from glmimage import latents
from glmimage.engine import Engine
from glmimage.errors import TrainingError
from glmimage.events import Progress, Result
from glmimage.request import Request
from glmimage.train.art import CELL, STICKER_CELLS, Art
from glmimage.train.loop import scene_rng
from glmimage.train.sheet import contact_sheet
from glmimage.train.world import GRID, GROUNDS, LINE_ROWS, SHIPPED, Scene, Thing, caption, paste, render, sample_scene

SCALE = 4
"""Pictures are compared at a quarter of their size: what a sticker is, not how sharp it is."""
Picture = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Case:
    prompt: str
    scene: Scene


@dataclass(slots=True)
class Marks:
    """What was right, one number for each asked thing, style, ground or word."""

    things: list[float] = field(default_factory=list)
    styles: list[float] = field(default_factory=list)
    backgrounds: list[float] = field(default_factory=list)
    word_accuracy: list[float] = field(default_factory=list)
    ned: list[float] = field(default_factory=list)

    def means(self) -> dict[str, float]:
        return {name: round(_mean(getattr(self, name)), 4) for name in self.__slots__}

    def intervals(self) -> dict[str, list[float]]:
        found = {name: wilson(getattr(self, name)) for name in self.__slots__ if name != "ned"}
        spread = float(np.std(self.ned)) / math.sqrt(max(1, len(self.ned)))
        centre = _mean(self.ned)
        found["ned"] = (max(0.0, centre - 1.96 * spread), min(1.0, centre + 1.96 * spread))
        return {name: [round(low, 4), round(high, 4)] for name, (low, high) in found.items()}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def wilson(values: Sequence[float]) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927)."""
    count = len(values)
    if not count:
        return 0.0, 1.0
    share, z = _mean(values), 1.96
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    return max(0.0, middle - half), min(1.0, middle + half)


def cases(count: int) -> list[Case]:
    """The same cases for every checkpoint: scenes, words and frames of the evaluation alone."""
    made = []
    for index in range(count):
        rng = scene_rng("evaluate", 1_000_000 + index)
        scene = sample_scene(rng, held_out=True)
        made.append(Case(caption(scene, rng, held_out=True)[0], scene))
    return made


# -- marking a picture -----------------------------------------------------------------------------------------------


class Marker:
    """Knows every sticker of the shipped world over every ground, and reads words."""

    def __init__(self, art: Art) -> None:
        self.keys = {
            cells: [key for key in art.stickers if key[0] in SHIPPED.things and key[2] == cells]
            for cells in STICKER_CELLS
        }
        self.templates: dict[tuple[str, int], NDArray[np.float32]] = {}
        for ground, color in GROUNDS.items():
            for cells in STICKER_CELLS:
                drawn = [_small(_on(color, art.stickers[key])) for key in self.keys[cells]]
                self.templates[ground, cells] = np.stack(drawn)
        try:
            from rapidocr import RapidOCR
        except ImportError as error:
            raise TrainingError(
                "The evaluation reads words with RapidOCR: install requirements-dev.txt, then start again."
            ) from error
        self.reader = RapidOCR(params={"Global.log_level": "critical"})

    def mark(self, picture: Picture, scene: Scene, marks: Marks) -> None:
        marks.backgrounds.append(float(ground_of(picture) == scene.ground))
        for thing in scene.things:
            kind, style = self.sticker_at(picture, scene.ground, thing)
            marks.things.append(float(kind == thing.kind))
            marks.styles.append(float(style == thing.style))
        if scene.word and len(scene.word.text) >= 3:
            wanted = scene.word.text.lower()
            words = self.read(picture, scene.word.line)
            marks.word_accuracy.append(float(wanted in words))
            marks.ned.append(max((likeness(wanted, word) for word in words), default=0.0))

    def sticker_at(self, picture: Picture, ground: str, asked: Thing) -> tuple[str, str]:
        """(kind, style) of the sticker that explains the asked place best, wherever in it and however large.

        A sticker explains a square of the picture by the share of its own contrast with the ground that is found there.
        """
        small = _small(picture)
        color = np.array(GROUNDS[ground], dtype=np.float32) / 255
        best, answer = math.inf, ("", "")
        for cells in STICKER_CELLS:
            templates = self.templates[ground, cells]
            energy = ((templates - color) ** 2).mean((1, 2, 3))
            side = cells * CELL // SCALE
            for row in range(GRID - cells + 1):
                for col in range(GRID - cells + 1):
                    if Thing("", "", row, col, cells).place != asked.place:
                        continue
                    top, left = row * CELL // SCALE, col * CELL // SCALE
                    window = small[top : top + side, left : left + side]
                    errors = ((templates - window) ** 2).mean((1, 2, 3)) / energy
                    index = int(errors.argmin())
                    if errors[index] < best:
                        best = float(errors[index])
                        kind, style, _ = self.keys[cells][index]
                        answer = (kind, style)
        # Plain ground is explained to 1 by every sticker: nothing stands there.
        return answer if best < 0.9 else ("", "")

    def read(self, picture: Picture, line: str) -> list[str]:
        """The words on a line of the picture, lower case: what stands there read in one piece, and its parts."""
        top = LINE_ROWS[line] * CELL
        band = Image.fromarray(picture[top : top + 2 * CELL])
        # Detection wants margins and letters of a usual size.
        framed = Image.new("RGB", (band.width + 64, band.height + 64), band.getpixel((2, 2)))
        framed.paste(band, (32, 32))
        large = framed.resize((framed.width * 2, framed.height * 2), Image.Resampling.BICUBIC)
        found = self.reader(np.asarray(large)[..., ::-1])
        boxes, texts = getattr(found, "boxes", None), getattr(found, "txts", None)
        if boxes is None or texts is None:
            return []
        ordered = sorted(zip(boxes, texts, strict=True), key=lambda pair: float(pair[0][:, 0].min()))
        parts = [word for _, text in ordered for word in text.lower().split()]
        return list(dict.fromkeys([*parts, "".join(parts)])) if parts else []


def _small(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    height, width = picture.shape[:2]
    blocks = picture.reshape(height // SCALE, SCALE, width // SCALE, SCALE, 3)
    small: NDArray[np.float32] = (blocks.mean((1, 3)) / 255).astype(np.float32)
    return small


def _on(color: tuple[int, int, int], sticker: Picture) -> Picture:
    canvas = np.empty((*sticker.shape[:2], 3), dtype=np.uint8)
    canvas[:] = color
    paste(canvas, sticker, 0, 0)
    return canvas


def ground_of(picture: Picture) -> str:
    """The ground whose colour is nearest to most of the picture."""
    colors = np.array(list(GROUNDS.values()), dtype=np.float32)
    pixels = picture[::SCALE, ::SCALE].reshape(-1, 1, 3).astype(np.float32)
    nearest = ((pixels - colors) ** 2).sum(-1).argmin(-1)
    return list(GROUNDS)[int(np.bincount(nearest, minlength=len(colors)).argmax())]


def likeness(wanted: str, read: str) -> float:
    """1 - Levenshtein distance / length of the longer."""
    row = list(range(len(read) + 1))
    for i, letter in enumerate(wanted, 1):
        previous, row[0] = row[0], i
        for j, other in enumerate(read, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (letter != other))
    return 1 - row[-1] / max(len(wanted), len(read), 1)


# -- the evaluation --------------------------------------------------------------------------------------------------


def paint(engine: Engine, case: Case, seed: int) -> Picture:
    for event in engine.run(Request(prompt=case.prompt, seed=seed)):
        if isinstance(event, Result):
            return np.asarray(event.image.convert("RGB"))
        assert not isinstance(event, Progress) or event.total
    raise AssertionError("the engine ended without a result")


@torch.no_grad()
def round_trip(engine: Engine, picture: Picture) -> Picture:
    """The picture through the checkpoint's VAE and back."""
    pixels = latents.to_tensor(Image.fromarray(picture)).to(engine.stack.device, engine.stack.dtype)
    back = latents.decode(engine.stack.vae, latents.encode(engine.stack.vae, pixels))
    return np.asarray(latents.to_picture(back[0] if back.dim() == 4 else back))


def evaluate(checkpoint: str, art: Art, *, cases: int = 100, sheet: Path | None = None) -> dict[str, object]:
    """The scores as plain numbers, `cases`, and the maps `intervals` (95 %) and `ceilings`."""
    from tqdm import tqdm

    engine = Engine.load(checkpoint)
    marker, asked = Marker(art), _cases(cases)
    marks, ceiling, pictures = Marks(), Marks(), []
    for index, case in enumerate(tqdm(asked, desc="evaluating", disable=None)):
        picture = paint(engine, case, seed=index)
        marker.mark(picture, case.scene, marks)
        marker.mark(round_trip(engine, render(case.scene, art)), case.scene, ceiling)
        pictures.append(picture)
    if sheet:
        contact_sheet(pictures).save(sheet)
    return {**marks.means(), "cases": cases, "intervals": marks.intervals(), "ceilings": ceiling.means()}


_cases = cases


def table(report: Mapping[str, object]) -> str:
    """The report for people."""
    intervals, ceilings = report["intervals"], report["ceilings"]
    assert isinstance(intervals, dict)
    assert isinstance(ceilings, dict)
    lines = [f"{report['cases']} cases", f"{'':16}{'score':>8}{'95 %':>18}{'ceiling':>10}"]
    for name, (low, high) in intervals.items():
        score = report[name]
        lines.append(f"{name:16}{score:8.3f}{f'{low:.3f} - {high:.3f}':>18}{ceilings[name]:10.3f}")
    return "\n".join(lines)
