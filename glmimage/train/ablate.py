"""Ablations: what single decisions of the recipe are worth, in small and on a fixed budget.

| name | question | arms |
|---|---|---|
| codes | is what semantic codes say easier to learn? | a tokenizer that learns to tell and redraw; to redraw alone |
| preview | does a preview grid help to put things in their place at 512 px? | none; with it; at a higher weight |
| embeddings | may the text's embeddings stay as they are after a first alignment? | trained on; frozen |
| conditions | what does the decoder take from glyphs and references? | with; without |

`conditions` paints with the checkpoint from the codes of true pictures, and gives the spread between halves of the
cases. The others train reduced priors from nothing, each arm twice from other seeds, for equal processor time (not time
on the clock: the machine may be busy). `codes` trains the tokenizers from nothing, too, for equally many steps, which
come on top. All arms of `preview` go on from one prior that learned the pictures at half size, as the makers' stages
do, and that begins and weighs its cells as the recipe's: from nothing, or with all cells alike, hardly
anything is in its place at 512 px in that time.
"""

from __future__ import annotations

import copy
import itertools
import random
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from glmimage import latents
from glmimage.decoder import Conditions, denoise
from glmimage.errors import TrainingError
from glmimage.geometry import Size
from glmimage.glyphs import encode_glyphs
from glmimage.models import Stack
from glmimage.prompting import PromptIds, prompt_ids, quoted
from glmimage.proofread import likeness
from glmimage.references import prepare
from glmimage.request import Reference
from glmimage.train import marking
from glmimage.train.art import CELL, Art
from glmimage.train.decoder import misspelled
from glmimage.train.edits import Sample
from glmimage.train.evaluate import cases
from glmimage.train.glance import CodeTable, PriorAlone, drawn_grids, true_codes
from glmimage.train.layout import Scene, labels, render
from glmimage.train.loop import mixed_precision, scene_rng
from glmimage.train.lora import code_losses
from glmimage.train.prior import cell_weights, start_codes, start_neighbours
from glmimage.train.probe import probe
from glmimage.train.recipe import SCHEDULES
from glmimage.train.release import MINIATURE, build_prior
from glmimage.train.tokenizer import WEIGHTS, halve, train_tokenizer
from glmimage.train.world import GRAMMARS, SMALL, TASKED, World, sample_scene

REDUCED = replace(MINIATURE, prior_layers=3, prior_hidden=128, prior_heads=2, prior_kv_heads=1, prior_intermediate=384)
SEEDS = (0, 1)
BATCH = 8
RATE = 2e-3
SCENES, HELD_OUT = 4096, 96
OBJECTIVES = {"semantic": WEIGHTS, "reconstruction alone": {"redrawn": sum(WEIGHTS.values())}}
"""Of the tokenizers of `codes`, at the same weight in all. In both, cells with nothing but ground weigh little."""
CODEBOOK_STEPS = 700
"""Of the tokenizers of `codes`, a third of the recipe's: equal steps, since they are equal in size."""
TOLD = ("thing", "letter")
PROBED = (600, 300)
"""Scenes that the probe of a tokenizer is fitted to and tried on."""
PREVIEW_WEIGHT = 3.0
DRAWN = 96
"""Pictures drawn for each arm of `preview`."""
PAINTED = 40
"""Pictures painted for each arm of `conditions`."""
ALIGNED = 0.2
"""Share of an arm's time after which its text embeddings are frozen."""
FEW_THINGS = replace(SMALL, things=SMALL.things[:4], grounds=("white", "blue"), grids={(16, 16): 1})
"""At 512 px, one thing a picture: small enough to be learned within the budget. (Of eight things on ten grounds, up to
three a picture, no arm drew any in 10 minutes.)"""


@dataclass(frozen=True, slots=True)
class Table:
    """Arm -> figure -> what each seed or half gave."""

    name: str
    budget: str
    arms: Mapping[str, Mapping[str, Sequence[float]]]

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "budget": self.budget, "arms": self.arms}

    def to_markdown(self) -> str:
        figures = list(dict.fromkeys(figure for arm in self.arms.values() for figure in arm))
        lines = [f"Ablation `{self.name}`: {self.budget}.", "", f"| | {' | '.join(figures)} |"]
        lines.append("|---|" + "---|" * len(figures))
        for name, arm in self.arms.items():
            cells = [f"{mean(arm[figure]):.3f} ({_span(arm[figure])})" if figure in arm else "-" for figure in figures]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        return "\n".join(lines) + "\n"


def _span(values: Sequence[float]) -> str:
    return f"{min(values):.3f} to {max(values):.3f}"


def ablate(name: str, stack: Stack, art: Art, minutes: float) -> Table:
    """Runs one of `ABLATIONS`; `minutes` of processor time for all its priors. Raises TrainingError."""
    if name not in ABLATIONS:
        raise TrainingError(f"There is no ablation {name!r}; choose one of: {', '.join(ABLATIONS)}.")
    return ABLATIONS[name](stack, art, 60 * minutes)


# -- a reduced prior ---------------------------------------------------------------------------------------------------


def fit(model: nn.Module, loss_of: Callable[[random.Random], Tensor], seconds: float, seed: int) -> int:
    """Trains for so much processor time, the rate falling to zero over it; returns the steps it took."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=RATE, betas=(0.9, 0.98))
    start, steps, done = time.process_time(), 0, 0.0
    while done < 1:
        loss_of(random.Random(f"{seed}:{steps}")).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (steps + 1) / 20) * (1 - done)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        steps += 1
        done = (time.process_time() - start) / seconds
    return steps


@dataclass(frozen=True, slots=True)
class _Data:
    """Scenes and the codes of their grids."""

    scenes: list[Scene]
    grids: list[Tensor]
    """[scenes, h, w] of each grid, in the order in which they are drawn."""
    processor: Any
    weights: list[Tensor] | None = None
    """Of the codes, as `grids`; None = all count the same."""

    def prompt(self, index: int, rng: random.Random, held_out: bool = False) -> PromptIds:
        rows, cols = self.scenes[index].grid
        caption = GRAMMARS["en"].caption(self.scenes[index], rng, held_out)[0]
        ids = prompt_ids(self.processor, caption, Size(cols * CELL, rows * CELL))
        # The sizes that the prompt names are the same in all arms; what follows it differs.
        return replace(ids, drawn=tuple((grid.shape[1], grid.shape[2]) for grid in self.grids))

    def losses(self, model: Any, rows: Sequence[int], rng: random.Random, held_out: bool = False) -> list[Tensor]:
        """[B, codes] for each grid."""
        codes = torch.cat([grid[list(rows)].flatten(1) for grid in self.grids], 1)
        prompts = [self.prompt(row, rng, held_out) for row in rows]
        with mixed_precision():
            found = code_losses(model, prompts, codes, torch.device("cpu"))
        return list(found.split([grid[0].numel() for grid in self.grids], 1))


def _reduced(stack: Stack, seed: int) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_prior(REDUCED, stack.processor.tokenizer).train()
    model.model.visual.requires_grad_(False)
    model.model.vqmodel.requires_grad_(False)
    return model


def _coded(prior: Any, scenes: Sequence[Scene], draw: Callable[[Scene], np.ndarray]) -> Tensor:
    """Codes of pictures of one size: [scenes, h, w] int64."""
    # Into one tensor: thousands of small ones, each made after much larger ones, keep the allocator from giving those
    # back (4 MB for a picture of 512 px).
    codes = torch.empty(0)
    for index, scene in enumerate(scenes):
        found = torch.from_numpy(true_codes(prior, draw(scene)))
        if not index:
            codes = found.new_empty((len(scenes), *found.shape))
        codes[index] = found
    return codes


def _scenes(split: str, count: int, world: World) -> list[Scene]:
    return [sample_scene(scene_rng(split, index), split == "evaluate", 0.0, world) for index in range(count)]


def _train(
    data: _Data,
    stack: Stack,
    seconds: float,
    seed: int,
    aligned: float = 1.0,
    begun: Any = None,
) -> tuple[Any, int]:
    """`aligned`: share of the time after which the text's embeddings stay as they are; `begun`: a prior to go on from,
    which stays as it is."""
    model = copy.deepcopy(begun).train() if begun else _reduced(stack, seed)
    text = model.model.language_model.embed_tokens.weight.detach()[model.config.vq_config.num_embeddings :]
    start, kept = time.process_time(), text.clone()

    def freeze() -> None:
        # One matrix holds the codes' embeddings, too, which go on learning; so the text's are put back.
        if time.process_time() - start < aligned * seconds:
            kept.copy_(text)
        else:
            text.copy_(kept)

    def loss_of(rng: random.Random) -> Tensor:
        freeze()
        rows = rng.sample(range(len(data.scenes)), BATCH)
        losses = torch.cat(data.losses(model, rows, rng), 1)
        if data.weights is None:
            return losses.mean()
        weights = torch.cat([each[rows].flatten(1) for each in data.weights], 1)
        return (losses * weights).sum() / weights.sum()

    steps = fit(model, loss_of, seconds, seed)
    freeze()
    return model.eval(), steps


# -- codes -------------------------------------------------------------------------------------------------------------


def _codes(stack: Stack, art: Art, seconds: float) -> Table:
    scenes = [*_scenes("train", SCENES, SMALL), *_scenes("evaluate", HELD_OUT, SMALL)]
    share = seconds / (len(OBJECTIVES) * len(SEEDS))
    arms: dict[str, dict[str, list[float]]] = {name: {} for name in OBJECTIVES}
    for seed in SEEDS:
        for name, arm in arms.items():
            prior = _reduced(stack, seed)
            _learn_codes(prior, art, OBJECTIVES[name])
            told = probe(prior, art, SMALL, *PROBED)
            data, unseen = _divided(scenes, _coded(prior, scenes, partial(render, art=art)), stack)
            model, steps = _train(data, stack, share, seed)
            _note(arm, model, unseen, steps)
            for figure in TOLD:
                arm.setdefault(f"{figure} told by a code", []).append(told[figure])
            for figure in ("codes_used", "perplexity"):
                arm.setdefault(figure.replace("_", " "), []).append(told[figure])
    about = f"{CODEBOOK_STEPS} steps a tokenizer; nats a code on prompts and scenes never trained on"
    return Table("codes", f"{about}, {_time(share)} a prior, two seeds", arms)


def _learn_codes(prior: Any, art: Art, objectives: Mapping[str, float]) -> None:
    """Trains the tokenizer in `prior`."""
    visual, vqvae = prior.model.visual.requires_grad_(True), prior.model.vqmodel.requires_grad_(True)
    schedule = replace(SCHEDULES["tokenizer"], steps=CODEBOOK_STEPS)
    with tempfile.TemporaryDirectory() as folder:
        train_tokenizer(visual, vqvae, Path(folder), art, schedule, SMALL, objectives)


def _divided(scenes: list[Scene], codes: Tensor, stack: Stack) -> tuple[_Data, _Data]:
    """(to learn from, held out)."""
    return (
        _Data(scenes[:SCENES], [codes[:SCENES]], stack.processor),
        _Data(scenes[SCENES:], [codes[SCENES:]], stack.processor),
    )


@torch.no_grad()
def _note(arm: dict[str, list[float]], model: Any, unseen: _Data, steps: int) -> None:
    things = torch.from_numpy(np.stack([labels(scene)[0] > 0 for scene in unseen.scenes])).flatten(1)
    losses = torch.cat(
        [
            unseen.losses(model, range(first, first + BATCH), random.Random(first), held_out=True)[0]
            for first in range(0, len(unseen.scenes), BATCH)
        ]
    )
    for figure, value in (("loss", losses.mean()), ("loss of stickers", losses[things].mean()), ("steps", steps)):
        arm.setdefault(figure, []).append(float(value))


# -- embeddings --------------------------------------------------------------------------------------------------------


def _embeddings(stack: Stack, art: Art, seconds: float) -> Table:
    scenes = [*_scenes("train", SCENES, SMALL), *_scenes("evaluate", HELD_OUT, SMALL)]
    codes = _coded(stack.prior, scenes, partial(render, art=art))
    data, unseen = _divided(scenes, codes, stack)
    arms: dict[str, dict[str, list[float]]] = {}
    for name, aligned in (("trained on", 1.0), (f"frozen after {ALIGNED:.0%}", ALIGNED)):
        arm = arms[name] = {}
        for seed in SEEDS:
            model, steps = _train(data, stack, seconds / 4, seed, aligned)
            _note(arm, model, unseen, steps)
    about = f"text embeddings; nats a code on prompts and scenes never trained on, {_time(seconds / 4)} an arm"
    return Table("embeddings", f"{about}, two seeds", arms)


# -- preview -----------------------------------------------------------------------------------------------------------


def _preview(stack: Stack, art: Art, seconds: float) -> Table:
    scenes = _alone("train", SCENES)
    target = _coded(stack.prior, scenes, partial(render, art=art))
    preview = _coded(stack.prior, scenes, lambda scene: halve(render(scene, art)))
    # As the recipe weighs them until late in its run: at equal weights, stickers are too few to be learned in time.
    samples = [Sample(task="text", language="en", prompt="", references=(), scene=scene) for scene in scenes]
    weight = torch.stack([cell_weights(each, even=False) for each in samples])
    halved = nn.functional.max_pool2d(weight, 2)
    table = CodeTable.of(stack.prior, art, FEW_THINGS, 400)
    unseen = _alone("evaluate", DRAWN)
    choices = {
        "without preview": ([target], [weight]),
        "with preview": ([preview, target], [halved, weight]),
        f"with preview, weight {PREVIEW_WEIGHT:g}": ([preview, target], [PREVIEW_WEIGHT * halved, weight]),
    }
    share = seconds / len(SEEDS) / (1 + len(choices))
    figures = ("a sticker in its place", "the right thing in its place", "steps")
    arms: dict[str, dict[str, list[float]]] = {name: {figure: [] for figure in figures} for name in choices}
    for seed in SEEDS:
        prior = _reduced(stack, seed)
        start_codes(prior)
        start_neighbours(prior)
        small = _Data(scenes, [preview], stack.processor, [halved])
        begun, _ = _train(small, stack, share, seed, begun=prior)
        for name, (grids, weights) in choices.items():
            data = _Data(scenes, grids, stack.processor, weights)
            model, steps = _train(data, stack, share, seed, begun=begun)
            found = (*_placed(model, stack, _Data(unseen, grids, stack.processor), table), float(steps))
            for figure, value in zip(figures, found, strict=True):
                arms[name][figure].append(value)
    about = f"512 x 512, one of {len(FEW_THINGS.things)} things a picture, {DRAWN} pictures drawn an arm"
    budget = f"{_time(share)} at half size for all, then as long an arm, two seeds"
    return Table("preview", f"{about}, {budget}", arms)


def _alone(split: str, count: int) -> list[Scene]:
    """Scenes of `FEW_THINGS` with one thing each."""
    found = (sample_scene(scene_rng(split, index), split == "evaluate", 0.0, FEW_THINGS) for index in itertools.count())
    return list(itertools.islice((scene for scene in found if len(scene.things) == 1), count))


def _placed(model: Any, stack: Stack, asked: _Data, table: CodeTable) -> tuple[float, float]:
    """Shares of the asked things in whose place any sticker stands, and the right one."""
    placed, right = [], []
    alone = PriorAlone.of(model, stack.processor)
    for index, scene in enumerate(asked.scenes):
        prompt = asked.prompt(index, random.Random(index), held_out=True)
        (codes,) = drawn_grids(alone, prompt, [index])
        wanted = labels(scene)[0]
        for thing in scene.things:
            kind, _ = table.sticker(codes, thing)
            placed.append(float(kind > 0))
            right.append(float(kind == wanted[thing.row, thing.col]))
    return mean(placed), mean(right)


# -- conditions --------------------------------------------------------------------------------------------------------


def _conditions(stack: Stack, art: Art, seconds: float) -> Table:
    """`seconds` limit nothing here: the number of pictures does."""
    texts = [case.sample for case in cases(3 * PAINTED, "text", SMALL)]
    spelled = [each for each in texts if each.scene.word and len(each.scene.word.text) >= marking.SHORTEST][:PAINTED]
    marker = marking.Marker(art, SMALL, threads=1)
    arms: dict[str, dict[str, list[float]]] = {}
    for wrong in (False, True):
        codes_are = "codes of other letters" if wrong else "right codes"
        for glyphs in (True, False):
            figures = [_words(stack, art, marker, spelled[half::2], glyphs, wrong) for half in (0, 1)]
            arms[f"{codes_are}, {'with' if glyphs else 'without'} glyphs"] = {
                "words": [words for words, _ in figures],
                "ned": [ned for _, ned in figures],
            }
    edits = [case.sample for case in cases(PAINTED, "edit", TASKED)]
    for shown in (True, False):
        kept = [_kept(stack, art, edits[half::2], shown) for half in (0, 1)]
        arms[f"edits, {'with' if shown else 'without'} references"] = {"kept, dB": kept}
    return Table("conditions", f"{PAINTED} words and {PAINTED} edits, painted from true codes, halves", arms)


def _words(
    stack: Stack, art: Art, marker: marking.Marker, samples: Sequence[Sample], glyphs: bool, wrong: bool
) -> tuple[float, float]:
    """Word accuracy and NED."""
    found, near = [], []
    for index, each in enumerate(samples):
        word = each.scene.word
        assert word is not None
        codes = torch.from_numpy(true_codes(stack.prior, render(each.scene, art)))[None]
        if wrong:
            letters = torch.from_numpy(labels(each.scene)[3])[None]
            codes = misspelled(codes, letters, [True], torch.Generator().manual_seed(index))
        picture = _paint(stack, codes, quoted(each.prompt) if glyphs else (), [], index)
        read, wanted = marker.read(picture, word), word.text.lower()
        found.append(float(wanted in read))
        near.append(max((likeness(wanted, text) for text in read), default=0.0))
    return mean(found), mean(near)


def _kept(stack: Stack, art: Art, samples: Sequence[Sample], shown: bool) -> float:
    """Mean dB of what edits must leave."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for index, each in enumerate(samples):
            path = Path(folder) / f"{index}.png"
            before = render(each.references[0], art)
            Image.fromarray(before).save(path)
            codes = torch.from_numpy(true_codes(stack.prior, render(each.scene, art)))[None]
            references = prepare(stack, [Reference(path=str(path))]) if shown else []
            picture = _paint(stack, codes, quoted(each.prompt), references, index)
            kept = each.kept(art)
            if kept.any():
                found.append(marking.psnr(picture[kept], before[kept]))
    return mean(found)


def _paint(stack: Stack, codes: Tensor, strings: Sequence[str], references: Sequence[Any], seed: int) -> np.ndarray:
    conditions = Conditions(
        codes=codes,
        glyphs=encode_glyphs(stack, strings),
        empty_glyphs=encode_glyphs(stack, ()),
        references=references,
        guidance=stack.defaults.guidance,
    )
    shape = (1, stack.decoder.config.in_channels, *conditions.size.latent_grid)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    *_, last = denoise(stack.decoder, stack.scheduler_config, conditions, noise, steps=stack.defaults.steps)
    return np.asarray(latents.to_picture(latents.decode(stack.vae, last.latents)))


def _time(seconds: float) -> str:
    return f"{seconds / 60:.2g} minutes of one core"


ABLATIONS: Mapping[str, Callable[[Stack, Art, float], Table]] = {
    "codes": _codes,
    "preview": _preview,
    "embeddings": _embeddings,
    "conditions": _conditions,
}
