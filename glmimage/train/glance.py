"""A quick look at a prior in training: what its codes say, read without painting and without OCR.

A table, built once from true scenes, tells what stands in a cell that got a code. Codes are drawn as the engine draws
them, for exercises of the evaluation, and what the table reads in them is compared with what was asked. The ceilings
are what it reads in the codes of the true pictures.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import GlmImageForConditionalGeneration, GlmImageProcessor

from glmimage.geometry import Size
from glmimage.models import Stack
from glmimage.prior import generate_prior
from glmimage.prompting import PromptIds, prompt_ids
from glmimage.train.art import CELL, STICKER_CELLS, Art
from glmimage.train.edits import WHOLE, Sample, sample
from glmimage.train.layout import ALL_CLASSES, LABELS, Scene, Thing, Word, labels, render, taken
from glmimage.train.loop import scene_rng
from glmimage.train.tokenizer import encode, halve, to_pixels
from glmimage.train.words import CHARACTERS, LETTERS, columns
from glmimage.train.world import World

SMOOTHING = 0.05
"""Added to every count: a code that was never seen in a sticker is unlikely there, not impossible."""
FIRST = {LETTERS: 1, CHARACTERS: 1 + 2 * len(LETTERS)}
"""The first class of an alphabet's letters, each of which has one a cell: column by column, top to bottom."""
GROUND_RIGHT = 0.6
"""Share of a picture's free cells that have to show the asked ground."""
Codes = NDArray[np.int64]


@torch.no_grad()
def true_codes(model: GlmImageForConditionalGeneration, picture: NDArray[np.uint8]) -> Codes:
    """The tokenizer's codes of a picture: [H/32, W/32]."""
    pixels = to_pixels([halve(picture)])
    codes: Codes = encode(model.model.visual, model.model.vqmodel, pixels)[0].numpy()
    return codes


@dataclass(frozen=True, slots=True)
class CodeTable:
    """How likely each class of each label is in a cell with a code."""

    chances: Mapping[str, NDArray[np.float64]]
    """Label -> logarithm of the share, [codes, classes]."""

    @classmethod
    def of(cls, model: GlmImageForConditionalGeneration, art: Art, world: World, scenes: int = 1500) -> CodeTable:
        """Counts over pictures of the "train" split's exercises, wanted ones and references."""
        counts = {name: np.zeros((_codes(model), ALL_CLASSES[name])) for name in LABELS}
        seen = index = 0
        while seen < scenes:
            each = sample(scene_rng("train", index), world)
            for scene in (each.scene, *each.references):
                codes, grid = true_codes(model, render(scene, art)), labels(scene)
                for name, classes in zip(LABELS, grid, strict=True):
                    np.add.at(counts[name], (codes.ravel(), classes.ravel()), 1)
                seen += 1
            index += 1
        return cls({name: np.log(_share(table)) for name, table in counts.items()})

    def read(self, codes: Codes, label: str) -> NDArray[np.int64]:
        """The likeliest class in each cell: [h, w]."""
        likeliest: NDArray[np.int64] = self.chances[label][codes].argmax(-1)
        return likeliest

    def sticker(self, codes: Codes, asked: Thing) -> tuple[int, int]:
        """(thing, style) classes of what stands at the place of `asked`, wherever in it, however large; 0 = nothing."""
        things, styles = self.chances["thing"][codes], self.chances["style"][codes]
        parts = self.chances["part"][codes]
        best, answer = -np.inf, (0, 0)
        for window, part in _windows(asked):
            area = things[window].mean((0, 1))
            fit = np.take_along_axis(parts[window], part[..., None], -1).mean() + area.max()
            if fit > best:
                best, answer = fit, (int(area.argmax()), int(styles[window].mean((0, 1)).argmax()))
        return answer

    def letters(self, codes: Codes, asked: Word) -> list[bool]:
        """Whether each letter stands in its columns, upper or lower case."""
        chances = self.chances["letter"][codes[asked.row : asked.row + 2]]
        found, col = [], asked.col
        for letter in asked.text:
            alphabet = LETTERS if letter in LETTERS else CHARACTERS
            likeliest = _likeliest(chances, alphabet, col)
            found.append(likeliest is not None and likeliest.lower() == letter.lower())
            col += columns(letter)
        return found

    def doubled(self, codes: Codes, asked: Word, others: NDArray[np.bool_]) -> bool:
        """Whether letters stand beside a word; `others`: the cells of other words, [h, w]."""
        chances = self.chances["letter"][codes[asked.row : asked.row + 2]]
        free = ~others[asked.row] & ~others[asked.row + 1]
        beside = (asked.col - 1, asked.col + columns(asked.text))
        return any(
            0 <= col < codes.shape[1] and free[col] and _likeliest(chances, LETTERS, col) is not None for col in beside
        )


def _likeliest(chances: NDArray[np.float64], alphabet: str, col: int) -> str | None:
    """The letter of an alphabet that stands in a column (and the next, if it is as wide); None where nothing does.

    `chances` [2, w, classes] of the two rows of a line.
    """
    cells = [(row, wide) for wide in range(columns(alphabet[0])) for row in range(2)]
    if col + columns(alphabet[0]) > chances.shape[1]:
        return None
    score, nothing = np.zeros(len(alphabet)), 0.0
    for index, (row, wide) in enumerate(cells):
        score += chances[row, col + wide, FIRST[alphabet] + index :: len(cells)][: len(alphabet)]
        nothing += chances[row, col + wide, 0]
    return alphabet[int(score.argmax())] if score.max() > nothing else None


def _codes(model: GlmImageForConditionalGeneration) -> int:
    return int(model.config.vq_config.num_embeddings)


def _share(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    smoothed = counts + SMOOTHING / counts.shape[1]
    share: NDArray[np.float64] = smoothed / smoothed.sum(1, keepdims=True)
    return share


def _windows(asked: Thing) -> list[tuple[tuple[slice, slice], Codes]]:
    """Every square of a sticker's size whose middle lies at the place of `asked`, and the parts in it."""
    rows, cols = asked.grid
    found = []
    for cells in STICKER_CELLS:
        for row in range(rows - cells + 1):
            for col in range(cols - cells + 1):
                thing = Thing(asked.kind, asked.style, row, col, cells, asked.grid)
                if thing.place == asked.place:
                    part = labels(Scene("white", (thing,), (), asked.grid))[2]
                    found.append((thing.area, part[thing.area]))
    return found


def glance_samples(world: World, count: int, task: str | None = None, language: str | None = None) -> list[Sample]:
    """Exercises with the evaluation's words and frames: the world's tasks and languages in turn, or one of them."""
    tasks = (task,) if task else tuple(dict.fromkeys(world.tasks))
    languages = (language,) if language else tuple(dict.fromkeys(world.languages))
    return [
        sample(
            scene_rng("evaluate", 2_000_000 + index),
            world,
            tasks[index % len(tasks)],
            held_out=True,
            # Every task in every language, whatever their numbers have in common.
            language=languages[index // len(tasks) % len(languages)],
        )
        for index in range(count)
    ]


@dataclass(frozen=True, kw_only=True, slots=True)
class PriorAlone:
    """What `generate_prior` reads of a `Stack`."""

    prior: GlmImageForConditionalGeneration
    processor: GlmImageProcessor
    codes: int
    device: torch.device
    dtype: torch.dtype = torch.float32
    kept: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, model: GlmImageForConditionalGeneration, processor: GlmImageProcessor) -> Stack:
        """Drawing lays the model's weights down anew: give it a copy of one that is in training."""
        return cast(Stack, cls(prior=model, processor=processor, codes=_codes(model), device=torch.device("cpu")))


def drawn_codes(
    model: GlmImageForConditionalGeneration,
    processor: GlmImageProcessor,
    samples: Sequence[Sample],
    art: Art,
) -> list[Codes]:
    """What the prior draws for each sample, its number as the seed: target grids [h, w].

    The model is copied first: drawing lays its weights down anew.
    """
    stack = PriorAlone.of(copy.deepcopy(model).eval().requires_grad_(False), processor)
    drawn = []
    for index, each in enumerate(samples):
        rows, cols = each.scene.grid
        references = [torch.from_numpy(true_codes(model, render(scene, art))) for scene in each.references]
        grids = [(len(codes), codes.shape[1]) for codes in references]
        prompt = prompt_ids(processor, each.prompt, Size(cols * CELL, rows * CELL), grids)
        drawn += drawn_grids(stack, prompt, [index], references)
    return drawn


def drawn_grids(
    stack: Stack, prompt: PromptIds, seeds: Sequence[int], references: Sequence[Tensor] = ()
) -> list[Codes]:
    """The target grids [h, w] that the prior draws for a prompt, one for each seed."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    draft = generate_prior(stack, prompt, generators, references=references)
    while True:
        try:
            next(draft)
        except StopIteration as done:
            return [np.asarray(drawn.target) for drawn in done.value]


def code_scores(
    model: GlmImageForConditionalGeneration,
    processor: GlmImageProcessor,
    samples: Sequence[Sample],
    table: CodeTable,
    art: Art,
    *,
    true: bool = False,
) -> dict[str, float]:
    """Shares that are right: things (kind and place), styles, backgrounds, words, letters; of edits, `kept` (unchanged
    cells that keep their code) and `TASK` for each task (what it asked for is there).

    `true`: of the true pictures' codes, which is the ceiling.
    """
    if true:
        drawn = [true_codes(model, render(each.scene, art)) for each in samples]
    else:
        drawn = drawn_codes(model, processor, samples, art)
    marks: defaultdict[str, list[float]] = defaultdict(list)
    for each, codes in zip(samples, drawn, strict=True):
        _mark(each, codes, table, marks)
        if each.task in WHOLE:
            before = true_codes(model, render(each.references[0], art))
            kept = ~each.changed() & (labels(each.references[0]) == each.labels()).all(0)
            if kept.any():
                marks["kept"].append(float((before == codes)[kept].mean()))
    return {name: round(sum(values) / len(values), 4) for name, values in marks.items()}


def _mark(each: Sample, codes: Codes, table: CodeTable, marks: defaultdict[str, list[float]]) -> None:
    scene, wanted = each.scene, each.labels()
    before = each.references[0] if each.task in WHOLE else None
    asked: list[bool] = []
    for thing in scene.things:
        kind, style = table.sticker(codes, thing)
        marks["things"].append(float(kind == wanted[0, thing.row, thing.col]))
        marks["styles"].append(float(style == wanted[1, thing.row, thing.col]))
        if before is None or thing not in before.things:
            asked.append(bool(marks["things"][-1] and marks["styles"][-1]))
    for word in scene.words:
        others = taken([other for other in scene.words if other != word], scene.grid)
        letters = table.letters(codes, word)
        whole = all(letters) and not table.doubled(codes, word, others)
        marks["letters"] += map(float, letters)
        marks["words"].append(float(whole))
        if before is None or word not in before.words:
            asked.append(whole)
    free = ~taken((*scene.things, *scene.words), scene.grid)
    ground = bool((table.read(codes, "ground") == wanted[5])[free].mean() >= GROUND_RIGHT)
    marks["backgrounds"].append(ground)
    if before is None or before.ground != scene.ground:
        asked.append(ground)
    gone = [thing for thing in before.things if thing not in scene.things] if each.task == "remove" and before else []
    asked += [table.sticker(codes, thing)[0] == 0 for thing in gone]
    marks[each.task].append(float(all(asked)))


def report(
    model: GlmImageForConditionalGeneration,
    processor: GlmImageProcessor,
    samples: Sequence[Sample],
    world: World,
    art: Art,
) -> dict[str, object]:
    """`code_scores` and, under `ceilings`, those of the true pictures' codes."""
    table = CodeTable.of(model, art, world)
    ceilings = code_scores(model, processor, samples, table, art, true=True)
    return {**code_scores(model, processor, samples, table, art), "cases": len(samples), "ceilings": ceilings}
