"""Drafts: codes that a prior draws for training's prompts, for a decoder that learns on.

A prior's codes are not those of any picture. What they leave open, a decoder that learned from pictures alone decides
somehow, and after a thousand steps more it decides otherwise: eyes ran together in faces that had been whole, far more
than stickers from true codes had become worse. So a run that goes on from a finished checkpoint asks its teacher
about such codes, too, on the teacher's own way from noise to a picture (as Salimans and Ho 2022, "Progressive
distillation", on data): there is no true picture to learn from.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import GlmImageForConditionalGeneration, GlmImageProcessor

from glmimage.geometry import Size
from glmimage.prompting import prompt_ids, quoted
from glmimage.train.art import CELL, Art
from glmimage.train.edits import Sample
from glmimage.train.exercises import exercise
from glmimage.train.glance import CodeTable, PriorAlone, drawn_grids
from glmimage.train.layout import SQUARE
from glmimage.train.loop import store, text_tensor
from glmimage.train.world import World

FILE = "drafts.safetensors"
FIRST = 500_000
"""Exercises from here on are prompted with: no shard holds them."""
EACH = 4
"""Drafts of a prompt, which cost little more than one."""


@dataclass(frozen=True, slots=True, eq=False)
class Drafts:
    codes: Tensor
    """[N, h, w] int64."""
    letters: Tensor
    things: Tensor
    """[N, h, w] int64: what the codes stand for, as far as single ones tell; 0 = none."""
    texts: list[tuple[str, ...]]
    """What the prompt of each has in quotation marks."""

    @classmethod
    def load(cls, work: Path) -> Drafts | None:
        """Those of a work folder, if it has any."""
        path = work / FILE
        if not path.exists():
            return None
        stored = load_file(path)
        said = json.loads(bytes(stored["texts"].tolist()).decode())
        codes, letters, things = (stored[name].long() for name in ("codes", "letters", "things"))
        return cls(codes, letters, things, [tuple(texts) for texts in said])

    def some(self, count: int, generator: torch.Generator) -> Drafts:
        """So many at random."""
        rows = torch.randint(len(self.codes), (count,), generator=generator)
        return Drafts(self.codes[rows], self.letters[rows], self.things[rows], [self.texts[row] for row in rows])


def _prompted(world: World) -> Iterator[tuple[int, Sample]]:
    """Squares with things that are told in English, without end."""
    index = FIRST
    while True:
        each = exercise(world, index, random.Random(index))
        if each.language == "en" and each.scene.grid == SQUARE and each.scene.things and not each.references:
            yield index, each
        index += 1


def write_drafts(
    model: GlmImageForConditionalGeneration,
    processor: GlmImageProcessor,
    art: Art,
    world: World,
    prompts: int,
    work: Path,
) -> None:
    """Draws `EACH` for so many prompts of a world and stores them in the work folder, in place of others."""
    table, stack = CodeTable.of(model, art, world), PriorAlone.of(model, processor)
    rows, cols = SQUARE
    codes, texts = list[Tensor](), list[tuple[str, ...]]()
    for index, each in _prompted(world):
        prompt = prompt_ids(processor, each.prompt, Size(cols * CELL, rows * CELL), [])
        codes += map(torch.from_numpy, drawn_grids(stack, prompt, range(EACH * index, EACH * (index + 1))))
        texts += [quoted(each.prompt)] * EACH
        if len(texts) == EACH * prompts:
            break
    drawn = torch.stack(codes)
    read = {f"{name}s": torch.from_numpy(table.read(drawn.numpy(), name)) for name in ("letter", "thing")}
    grids = {name: grid.to(torch.int16) for name, grid in {"codes": drawn, **read}.items()}
    store({**grids, "texts": text_tensor(json.dumps(texts))}, work / FILE)
    print(f"{len(drawn)} drafts in {work / FILE}", flush=True)
