"""What the tokenizer's codes say: linear probes on their vectors, codes in use and their perplexity.

A probe is a linear layer from the quantized vector of a single cell to the classes of one label, fitted to scenes of
the "train" split by its cross-entropy and tried on scenes and words that training never sees (Alain and Bengio, 2016,
arXiv:1610.01644).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import GlmImageForConditionalGeneration

from glmimage.train.art import Art
from glmimage.train.edits import sample
from glmimage.train.glance import true_codes
from glmimage.train.layout import ALL_CLASSES, LABELS, labels, render
from glmimage.train.loop import scene_rng
from glmimage.train.world import World

ROUNDS = 60
"""Of L-BFGS with line search, for each label; 140 more changed shares by 0.004 at most."""


def probe(
    model: GlmImageForConditionalGeneration, art: Art, world: World, scenes: int = 1500, unseen: int = 500
) -> dict[str, float]:
    """On `unseen` scenes: for each label the share of the cells that have one and are told right (things, styles and
    parts of stickers, letters and ink of words, the ground of what is left); `codes_used`, `perplexity`."""
    vectors = F.normalize(model.model.vqmodel.quantize.embedding.weight.detach().float(), dim=-1)
    learned, held_out = (
        _cells(model, art, world, split, count) for split, count in (("train", scenes), ("evaluate", unseen))
    )
    found: dict[str, float] = {}
    for name in LABELS:
        there, asked = _there(learned, name), _there(held_out, name)
        if not len(there[0]) or not len(asked[0]):
            continue
        counts = torch.zeros(len(vectors), ALL_CLASSES[name])
        counts.index_put_(there, torch.ones(len(there[0])), accumulate=True)
        found[name] = _hits(_fitted(vectors, counts)(vectors).argmax(1), asked)
    used = torch.bincount(held_out["code"])
    share = used[used > 0] / used.sum()
    return found | {
        "codes_used": float((used > 0).sum()),
        "perplexity": round(float(torch.exp(-(share * share.log()).sum())), 1),
    }


def _cells(
    model: GlmImageForConditionalGeneration, art: Art, world: World, split: str, count: int
) -> Mapping[str, Tensor]:
    """ "code" and every label -> [cells] int64, of whole pictures."""
    found: dict[str, list[np.ndarray]] = {name: [] for name in ("code", *LABELS)}
    for index in range(count):
        scene = sample(scene_rng(split, index), world, "text", held_out=split == "evaluate").scene
        found["code"].append(true_codes(model, render(scene, art)).ravel())
        for name, classes in zip(LABELS, labels(scene), strict=True):
            found[name].append(classes.ravel())
    return {name: torch.from_numpy(np.concatenate(parts).astype(np.int64)) for name, parts in found.items()}


def _there(cells: Mapping[str, Tensor], name: str) -> tuple[Tensor, Tensor]:
    """(codes, classes) of the cells in which there is such a thing to tell; ground has no class for nothing."""
    rows = (cells["thing"] == 0) & (cells["letter"] == 0) if name == "ground" else cells[name] > 0
    return cells["code"][rows], cells[name][rows]


def _fitted(vectors: Tensor, counts: Tensor) -> nn.Linear:
    """`vectors` [codes, D], `counts` [codes, classes]: how often a cell with this code had this class."""
    layer = nn.Linear(vectors.shape[1], counts.shape[1])
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    seen = counts.sum(1) > 0
    inputs, wanted = vectors[seen], counts[seen] / counts.sum()
    optimizer = torch.optim.LBFGS(layer.parameters(), max_iter=ROUNDS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = -(wanted * F.log_softmax(layer(inputs), 1)).sum()
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(loss)
    return layer


def _hits(told: Tensor, asked: tuple[Tensor, Tensor]) -> float:
    codes, classes = asked
    return round((told[codes] == classes).float().mean().item(), 4)
