"""The recipe: which stages there are, how long each takes, and how their results become one checkpoint."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from glmimage.checkpoint import read_defaults
from glmimage.errors import TrainingError
from glmimage.models import Stack
from glmimage.request import Defaults
from glmimage.train.art import CELL
from glmimage.train.layout import SQUARE
from glmimage.train.loop import Schedule, load_weights, scene_rng
from glmimage.train.release import MINIATURE, Parts, build_parts, build_scheduler, extend_tokenizer, write
from glmimage.train.world import NAMES_OF, SIZED, SMALL, WORLDS, World, caption, describe, sample_scene, spoken

SCHEDULES: Mapping[str, Schedule] = {
    "vae": Schedule(steps=2200, rate=1.5e-3, batch=8, warmup=30, ema=0.99),
    "vae_decoder": Schedule(steps=3000, rate=1e-3, batch=8, warmup=30, ema=0.99),
    "tokenizer": Schedule(steps=2200, rate=1.5e-3, batch=64, warmup=50, muon=True),
    # Of these two the shipped weights had more in all, in several runs (the card counts them): losses still fall here.
    # Where to look is told by these biases against the rotary turn; at the common rate that takes thousands of steps.
    "prior": Schedule(steps=20_000, rate=1.5e-3, batch=16, ema=0.998, muon=True, faster=("q_proj.bias", "k_proj.bias")),
    "decoder": Schedule(steps=11_000, rate=1.5e-3, batch=16, ema=0.998, muon=True),
}
LEARNING_ON: Mapping[str, Any] = {"warmup": 20, "decay_from": 0.1, "ema": 0.98}
"""What is other in the decoder's where a finished one learns on: the rate falls almost from the beginning. Steps are as
long as the rate says, however small an error is, and at a plateau what whole pictures differ by from the teacher's
doubled in 260 steps, to fall with the rate."""
SHARDS: Mapping[str, Mapping[int, int]] = {
    "codes": {1: 48, 2: 96, 3: 96, 4: 192},
    "latents": {1: 24, 2: 24, 3: 16, 4: 48},
}
"""Kind -> level of the world -> encoded shards of 1024 exercises. Codes cost little, and a prior with 24 and 16 shards
learned them by heart: on new ones it lost twice as much. The decoder takes the exercises that have both. (Of the last
level nothing was trained yet.)"""
SHARES: Mapping[int, float] = {1: 0.2, 2: 0.4, 3: 0.4}
"""Level of the world -> share of the prior's and the decoder's training. Another choice (`--levels`) makes the stages
progressive: 1 alone at first, later 1 and 2, then 3, with sides of up to 512 px. (The shipped prior's last two runs had
0.15 of the first and 0.85 of the second.)"""
GLYPHS = ("text_encoder.", "transformer.glyph_projector.")
"""The glyph encoder and its projection, as parts of a checkpoint."""
CAPTIONS = 20_000
"""Captions that the prior's text pieces are learned from."""
MOST_PIECES = 1024
"""Of a language that comes later, the 256 bytes included."""
SPELLED = 1.0
"""Text pieces a character above which a language is spelled byte by byte, not read."""


def new_parts(seed: int = 0) -> Parts:
    """All parts of the miniature with random weights and the tokenizer learned on training captions in English."""
    rngs = (scene_rng("train", index) for index in range(CAPTIONS))
    return build_parts(MINIATURE, (caption(sample_scene(rng), rng)[0] for rng in rngs), seed, zero_decoder=True)


@torch.no_grad()
def learn_languages(parts: Parts) -> None:
    """Gives the prior text pieces for the languages of the world that its tokenizer can only spell byte by byte.

    What they name starts as what names it in English: a prior that knows "cat" need not learn cats again. The rest of
    them starts as the mean of all text. Always those of the highest level, so that a work folder can go on from one
    level to the next.
    """
    world, text = WORLDS[max(WORLDS)], parts.vision_language_encoder.config.text_config
    for language in dict.fromkeys(world.languages):
        tokenizer, model = parts.processor.tokenizer, parts.vision_language_encoder.model.language_model
        words = [*chain(*NAMES_OF.get(language, {}).values()), *spoken(replace(world, languages=(language,)))]
        pieces = sum(map(len, tokenizer(words, add_special_tokens=False).input_ids))
        if pieces <= SPELLED * sum(map(len, words)):
            continue
        known = len(tokenizer)
        parts.processor.tokenizer = tokenizer = extend_tokenizer(tokenizer, words, MOST_PIECES)
        before = model.embed_tokens.weight
        embedding = nn.Embedding(len(tokenizer), before.shape[1], device=before.device, dtype=before.dtype)
        embedding.weight[:known] = before
        embedding.weight[known:] = before[text.vision_vocab_size :].mean(0)
        told: dict[int, list[Tensor]] = {}
        for english, others in NAMES_OF[language].items():
            # As it stands in captions: words behind a space, marks behind nothing.
            meant = f" {english}" if english[0].isalnum() else english
            meaning = before[tokenizer(meant, add_special_tokens=False).input_ids].mean(0)
            for name in others:
                for piece in tokenizer(name, add_special_tokens=False).input_ids:
                    if piece >= known:
                        told.setdefault(piece, []).append(meaning)
        for piece, meanings in told.items():
            embedding.weight[piece] = torch.stack(meanings).mean(0)
        model.embed_tokens = embedding
        text.vocab_size = len(tokenizer)


def parts_of(folder: Path) -> Parts:
    """The parts of a finished checkpoint of these sizes, in float32, to train on from."""
    stack = Stack.load(folder, device="cpu", dtype=torch.float32)
    for part in (stack.glyph_encoder, stack.prior, stack.decoder, stack.vae):
        part.requires_grad_(True)  # loaded to be used, they are frozen
    return Parts(
        text_encoder=stack.glyph_encoder,
        tokenizer=stack.glyph_tokenizer,
        processor=stack.processor,
        vision_language_encoder=stack.prior,
        transformer=stack.decoder,
        vae=stack.vae,
        scheduler=build_scheduler(),
    )


def stage_state(
    work: Path, stage: str, *, needed: bool = True
) -> tuple[dict[str, Tensor], dict[str, Tensor], int] | None:
    """(weights, averaged weights, step) of a stage as its run stored them.

    Raises `TrainingError` naming the stage to run where `needed` and not there.
    """
    path = work / f"{stage}.pt"
    if not path.exists():
        if needed:
            raise TrainingError(f"The stage {stage} has not run yet: start `python -m glmimage.train {stage}` first.")
        return None
    state = torch.load(path, weights_only=True)
    return state["modules"], state["average"], state["step"]


def load_stage(work: Path, stage: str, modules: Mapping[str, nn.Module], *, needed: bool = True) -> int:
    """Loads a stage's weights (averaged where it kept an average) into `modules`; returns its step, 0 where it never
    ran."""
    found = stage_state(work, stage, needed=needed)
    if found is None:
        return 0
    weights, average, step = found
    weights = {**weights, **average}
    for name, module in modules.items():
        mine = {key.removeprefix(f"{name}."): value for key, value in weights.items() if key.startswith(f"{name}.")}
        load_weights(module, mine, work / f"{stage}.pt")
    return step


def load_vae(work: Path, parts: Parts, *, needed: bool = True) -> None:
    """The VAE's weights and the spread of its latents; its decoder half from its own stage where that ran."""
    if load_stage(work, "vae", {"vae": parts.vae}, needed=needed):
        path = work / "latents.json"
        if not path.exists():
            raise TrainingError(
                "The stage vae has not been finished: run `python -m glmimage.train vae` to its end first."
            )
        parts.vae.register_to_config(**json.loads(path.read_text(encoding="utf-8")))
    load_stage(work, "vae_decoder", {"vae_decoder": parts.vae.decoder}, needed=False)


def load_tokenizer(work: Path, parts: Parts, *, needed: bool = True) -> None:
    """Raises `TrainingError` where it is not finished: what learned from other codes would be worth nothing."""
    prior = parts.vision_language_encoder.model
    found = stage_state(work, "tokenizer", needed=needed)
    if found is not None and not found[0].get("codebook.finished"):
        raise TrainingError(
            "The stage tokenizer has not been finished: run `python -m glmimage.train tokenizer` to its end first."
        )
    load_stage(work, "tokenizer", {"visual": prior.visual, "vqvae": prior.vqmodel}, needed=needed)


def begun_parts(start: Path | None) -> Parts:
    """What stages begin from: a finished checkpoint or new weights, with text pieces for the world's languages."""
    parts = parts_of(start) if start else new_parts()
    learn_languages(parts)
    return parts


def trained_parts(work: Path, start: Path | None = None) -> Parts:
    """Everything that the work folder's stages have learned so far; what did not run there comes from `start`."""
    parts = begun_parts(start)
    load_vae(work, parts, needed=start is None)
    load_tokenizer(work, parts, needed=start is None)
    prior = parts.vision_language_encoder
    load_stage(work, "prior", {"text": prior.model.language_model, "lm_head": prior.lm_head}, needed=False)
    load_stage(work, "decoder", {"decoder": parts.transformer, "glyph_encoder": parts.text_encoder}, needed=False)
    return parts


def squares(shares: Mapping[int, float]) -> World:
    """What VAE and tokenizer learn from: square pictures of 256 px with all that the levels have. (The second and third
    differ from the first only in sizes, in where words stand, and in tasks.)"""
    highest = WORLDS[max(shares)]
    return replace(highest, grids={SQUARE: 1}) if highest.level > SIZED.level else SMALL


def export(
    work: Path,
    folder: Path,
    start: Path | None = None,
    share: float = 1.0,
    shares: Mapping[int, float] = SHARES,
    *,
    glyphs_anew: bool = False,
) -> None:
    """Writes the checkpoint in the released layout, with what the studio reads beside it.

    share: how far the weights go from those of `start`, 0, to what the stages learned since, 1 (Wortsman et al. 2022,
    "Robust fine-tuning of zero-shot models"): between, a run that learns on may keep what it began with and have what
    it learned. shares: of the levels of the world that were learned. glyphs_anew: the glyph encoder began at random, so
    there is nothing between; it and its projection are what they became. Raises `TrainingError` for another share, for
    one without a start, and where the start draws no codes.
    """
    if not 0 < share <= 1 or (share < 1 and start is None):
        raise TrainingError(
            f"The share {share} is not above 0 and up to 1, or there is nothing to go from; say --start, or leave"
            " --share out."
        )
    parts = trained_parts(work, start)
    if not parts.vision_language_encoder.generation_config.do_sample:
        # Painted at temperature 1 and without a nucleus, a good prior looks like a bad one.
        raise TrainingError(
            f"The checkpoint {start} does not say how codes are drawn; copy generation_config.json of the shipped"
            " prior into its vision_language_encoder."
        )
    if start is not None and share < 1:
        _between(begun_parts(start), parts, share, GLYPHS if glyphs_anew else ())
    write(folder, parts, _defaults(start, WORLDS[max(shares)]))
    told = json.dumps(describe(WORLDS[max(shares)]), indent=1, ensure_ascii=False)
    (folder / "world.json").write_text(told + "\n", encoding="utf-8")


def _defaults(start: Path | None, world: World) -> Defaults:
    """Those of the checkpoint that training began from, or the miniature's, with the size that was learned since."""
    defaults = read_defaults(start) if start else MINIATURE.defaults
    learned = max(rows * cols for rows, cols in world.grids) * CELL**2
    return replace(defaults, max_pixels=max(learned, defaults.max_pixels) if start else learned)


@torch.no_grad()
def _between(before: Parts, after: Parts, share: float, whole: tuple[str, ...]) -> None:
    """Moves `after` to a share of the way from `before`, but for the weights under a name of `whole`."""
    for name in Parts.__dataclass_fields__:
        new = getattr(after, name)
        if isinstance(new, nn.Module):
            old = getattr(before, name).state_dict()
            # Not of the state: weights that have two names there, as the glyph encoder's embeddings, would move twice.
            for key, now in itertools.chain(new.named_parameters(), new.named_buffers()):
                if now.is_floating_point() and key in old and not f"{name}.{key}".startswith(whole):
                    now.copy_(torch.lerp(old[key], now, share))
