"""Drafts are the prior's own, for prompts that no shard holds, and keep their texts."""

from __future__ import annotations

from pathlib import Path

import torch

from glmimage.prompting import quoted
from glmimage.train import drafts, release
from glmimage.train.drafts import Drafts, write_drafts
from glmimage.train.glance import CodeTable
from glmimage.train.world import TASKED
from tests.stickers import discs


def test_drafts_are_what_the_prior_draws_for_prompts_of_training(tmp_path: Path, monkeypatch) -> None:
    art = discs()
    monkeypatch.setattr(drafts, "EACH", 2)
    # As many scenes as a table takes would be most of this test's time.
    whole = CodeTable.of
    monkeypatch.setattr(CodeTable, "of", lambda *asked: whole(*asked, scenes=100))
    parts = release.build_parts(release.TINY, ["a cat"], 6)
    model, processor = parts.vision_language_encoder, parts.processor
    assert Drafts.load(tmp_path) is None
    write_drafts(model, processor, art, TASKED, 3, tmp_path)
    found = Drafts.load(tmp_path)
    assert found is not None
    assert found.codes.shape == found.letters.shape == found.things.shape == (6, 8, 8)
    told = [next(prompted) for prompted in [drafts._prompted(TASKED)] for _ in range(3)]
    assert found.texts == [quoted(each.prompt) for _, each in told for _ in range(2)]
    assert all(index >= drafts.FIRST and each.scene.things and not each.references for index, each in told)
    assert len({tuple(codes.flatten().tolist()) for codes in found.codes}) == 6, "each of its own seed"
    table = CodeTable.of(model, art, TASKED)
    assert torch.equal(found.things, torch.from_numpy(table.read(found.codes.numpy(), "thing")))
    again = found.some(4, torch.Generator().manual_seed(3))
    rows = [next(row for row in range(6) if torch.equal(found.codes[row], codes)) for codes in again.codes]
    assert again.texts == [found.texts[row] for row in rows]
    assert torch.equal(again.letters, found.letters[rows])
