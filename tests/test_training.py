"""The training forwards are upstream's, and the loop resumes, stops at nonsense and keeps its promises."""

import contextlib
import copy
import csv
import dataclasses
import errno
import os
import random
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from glmimage import files
from glmimage.decoder import Conditions, Painter
from glmimage.errors import TrainingError
from glmimage.geometry import Size
from glmimage.glyphs import encode_glyphs
from glmimage.prior import positions
from glmimage.prompting import prompt_ids
from glmimage.train import decoder as decoder_stage
from glmimage.train import drafts, exercises, loop, recipe, release, tokenizer, vae
from glmimage.train import prior as prior_stage
from glmimage.train.__main__ import main
from glmimage.train.edits import Sample
from glmimage.train.exercises import Exercises, write_shards
from glmimage.train.layout import Scene, Thing, Word, labels
from glmimage.train.loop import Run, Schedule
from glmimage.train.world import SMALL, WORLDS
from tests.stickers import discs


@pytest.fixture(scope="module")
def parts() -> release.Parts:
    return release.build_parts(release.TINY, ["a cat on a blue background"], 3)


def test_features_equal_upstreams_vision_tower(parts):
    model = parts.vision_language_encoder.model
    pixels = torch.randn(2, 3, 64, 48, generator=torch.Generator().manual_seed(0))
    ours = tokenizer.features(model.visual, pixels)
    packed = tokenizer.patches(pixels, 16).reshape(-1, 3 * 16 * 16)
    theirs = model.visual(packed, grid_thw=torch.tensor([[1, 4, 3]] * 2)).pooler_output
    torch.testing.assert_close(ours.flatten(0, 2), theirs, atol=1e-5, rtol=1e-4)
    codes = tokenizer.encode(model.visual, model.vqmodel, pixels)
    grids = [part.view(4, 3, -1).permute(2, 0, 1) for part in theirs.split(12)]
    assert torch.equal(codes.flatten(), model.get_image_tokens(grids))


def test_velocity_equals_upstreams_decoder(parts):
    decoder = parts.transformer
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(2, 16, 16, 24, generator=generator)
    codes = torch.randint(0, 64, (2, 4, 6), generator=generator)
    glyphs = torch.randn(2, 5, 32, generator=generator)
    times = torch.tensor([900.0, 20.0])
    ours, *_ = decoder_stage.velocity(decoder, latents, codes, torch.ones(codes.shape), glyphs, times)
    wide = codes.repeat_interleave(2, 1).repeat_interleave(2, 2).flatten(1)
    theirs = decoder(
        latents,
        glyphs,
        wide,
        torch.zeros_like(wide, dtype=torch.bool),
        times,
        torch.tensor([[128.0, 192.0]] * 2),
        torch.zeros(2, 2),
        return_dict=False,
    )[0]
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_references_are_seen_as_the_engine_shows_them(parts):
    decoder, generator = parts.transformer, torch.Generator().manual_seed(4)
    latents = torch.randn(1, 16, 16, 24, generator=generator)
    codes = torch.randint(0, 64, (1, 4, 6), generator=generator)
    references = [
        (
            torch.randn(1, 16, 4 * rows, 4 * cols, generator=generator),
            torch.randint(0, 64, (1, rows, cols), generator=generator),
        )
        for rows, cols in ((4, 4), (2, 4))
    ]
    glyphs = torch.randn(1, 5, 32, generator=generator)
    padded = torch.cat([torch.randn(1, 3, 32, generator=generator), glyphs], dim=1)
    there = torch.tensor([[False] * 3 + [True] * 5])
    shown, times = torch.ones(codes.shape), torch.tensor([899.0])
    conditions = Conditions(
        codes=codes,
        glyphs=glyphs,
        empty_glyphs=glyphs[:, :1],
        references=[SimpleNamespace(codes=each[0], latents=latents_of) for latents_of, each in references],
        guidance=1.0,
    )
    with torch.no_grad():
        theirs = Painter(decoder, conditions, torch.tensor([900.0])).velocity(latents, 0)
        looked = []
        for given, mask in ((glyphs, None), (padded, there)):
            ours, _, attention = decoder_stage.velocity(
                decoder, latents, codes, shown, given, times, glyphs_there=mask, references=references
            )
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
            looked.append(attention.exp())
    torch.testing.assert_close(looked[1], torch.nn.functional.pad(looked[0], (3, 0)), atol=1e-5, rtol=1e-4)
    # Some of the attention is left for the picture and its references.
    assert (looked[0].sum(-1) > 0).all()
    assert (looked[0].sum(-1) < 1).all()


def test_each_letters_glyph_is_its_own():
    scene = Scene("white", (), (Word("HELLO", "black", 3, 2), Word("新年x", "black", 5, 0), Word("SUN", "black", 0, 0)))
    for texts in (("HELLO", "新年x"), ("OLD", "新年x", "HELLO"), ("HELLO", "HELLO", "新年x")):
        rows = decoder_stage._glyph_ids(texts)
        glyphs = [identity for row in rows for identity in row]
        found = decoder_stage.spelled_by(scene, texts)
        for row, spelled in ((3, {2: "H", 3: "E", 4: "L", 5: "L", 6: "O"}), (5, {0: "新", 1: "新", 2: "年", 4: "x"})):
            for column, letter in spelled.items():
                assert found[row, column] == found[row + 1, column]
                assert glyphs[-found[row, column]] == letter.encode()[-1] + decoder_stage.BYTE_OFFSET
        # The second L is not the first one; what no text says, and ground, has no glyph.
        assert found[3, 4] == found[3, 5] + 1
        assert found[0].eq(0).all()
        assert (found > 0).sum() == 2 * (5 + 5)
    assert decoder_stage.spelled_by(scene, ()).eq(0).all()


def test_glyphs_of_a_batch_are_those_of_each_prompt(parts):
    reader = SimpleNamespace(glyph_encoder=parts.text_encoder, glyph_tokenizer=parts.tokenizer)
    texts = [("AB",), ("HELLO", "W"), (), ("新年", "x", "yz")]
    with torch.no_grad():
        padded, there = decoder_stage.glyph_embeddings(parts.text_encoder, texts)
    assert there is not None
    for each, kept, strings in zip(padded, there, texts, strict=True):
        torch.testing.assert_close(each[kept][None], encode_glyphs(reader, strings), atol=1e-5, rtol=1e-4)
    assert decoder_stage.glyph_embeddings(parts.text_encoder, [("AB",), ("CD",)])[1] is None


def test_hidden_states_equal_upstreams_prior(parts):
    model, size = parts.vision_language_encoder, Size(64, 64)
    prompt = prompt_ids(parts.processor, 'a cat and "AB"', size)
    codes = torch.randint(0, 64, (prompt.count,), generator=torch.Generator().manual_seed(2))
    ids = torch.cat([torch.tensor(prompt.ids), codes])[None]
    places = positions(prompt)[:, None]
    ours = prior_stage.hidden_states(model, ids, places)
    theirs = model.model.language_model(input_ids=ids, position_ids=places, use_cache=False).last_hidden_state
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-3)


def test_the_norm_s_way_back_is_that_of_autograd(parts):
    norm = parts.vision_language_encoder.model.language_model.norm
    x = torch.randn(2, 3, norm.weight.shape[0], requires_grad=True)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2)
    wanted = torch.randn_like(x)
    ours = torch.autograd.grad((prior_stage._norm(norm, x) * wanted).sum(), (x, norm.weight))
    upstream = torch.autograd.grad((norm(x) * wanted).sum(), (x, norm.weight))
    for mine, theirs in zip(ours, upstream, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_the_preview_repeats_the_targets_codes():
    codes = torch.arange(6).view(1, 2, 3)
    preview, new = prior_stage.to_preview(codes, (4, 7))
    assert preview[0, 0].tolist() == [0, 0, 1, 1, 2, 2, 2]
    assert torch.equal(preview[0, 0], preview[0, 1])
    assert preview[0, 2:].flatten().tolist() == [3, 3, 4, 4, 5, 5, 5] * 2
    assert sorted(preview[0][new].tolist()) == list(range(6))
    smaller, _ = prior_stage.to_preview(codes, (1, 2))
    assert smaller.flatten().tolist() == [0, 1]


def test_a_short_step_leaves_out_what_repeats():
    _, new = prior_stage.to_preview(torch.arange(4).view(1, 2, 2), (4, 4))
    kept, told = prior_stage._seen(new, 20, full=False)
    assert kept.tolist() == [0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19]
    # Cells 8 and 16 do not follow what they follow in the full sequence.
    assert told.tolist() == [0, 2, 10, 17, 18, 19]
    # Where each stands once, no row before the last is left out.
    _, new = prior_stage.to_preview(torch.arange(4).view(1, 2, 2), (3, 3))
    kept, told = prior_stage._seen(new, 13, full=False)
    assert kept.tolist() == [0, 1, 2, 3, 4, 5, 9, 10, 11, 12]
    assert told.tolist() == [0, 1, 3, 4, 10, 11, 12]
    _, new = prior_stage.to_preview(torch.arange(4).view(1, 2, 2), (4, 4))
    kept, told = prior_stage._seen(new, 20, full=True)
    assert kept.tolist() == told.tolist() == list(range(20))


def test_in_the_end_only_new_words_and_where_something_new_begins_weigh_more():
    cat, dog = Thing("cat", "flat", 0, 0, 2), Thing("dog", "flat", 4, 4, 3)
    sign = Word("HI", "red", 6, 1)
    both, one = Scene("white", (cat, dog), (sign,)), Scene("white", (cat,), (sign,))

    def weights(task: str, scene: Scene, *references: Scene, even: bool = True) -> torch.Tensor:
        each = Sample(task=task, language="en", prompt="", references=references, scene=scene)
        return prior_stage.cell_weights(each, even=even)

    def heavy(task: str, scene: Scene, *references: Scene) -> list[list[int]]:
        weight = weights(task, scene, *references)
        known = {1.0, prior_stage.START_WEIGHT, prior_stage.LATE_WEIGHT, prior_stage.SPELLING_WEIGHT}
        assert set(weight.unique().tolist()) <= known
        return (weight == prior_stage.START_WEIGHT).nonzero().tolist()

    assert heavy("text", both) == [[0, 0], [4, 4]]
    assert heavy("word", both, one) == [[4, 4]]
    assert heavy("word", one, Scene("white", (cat,), (Word("NO", "red", 6, 1),))) == [[6, 1]]
    assert heavy("add", both, one) == [[4, 4]]
    assert heavy("remove", one, both) == []
    # The word to one cell beyond its end, both rows, but for its first cell; one that was there before counts as all.
    spelled = weights("text", both)
    assert spelled[6, 1] == prior_stage.LATE_WEIGHT
    spelled[6, 1] = 0
    assert (spelled == prior_stage.SPELLING_WEIGHT).nonzero().tolist() == [[6, 2], [6, 3], [7, 1], [7, 2], [7, 3]]
    boxed = dataclasses.replace(sign, box=(0.125, 0.75, 0.375, 1.0))
    assert weights("regions", dataclasses.replace(both, words=(boxed,)))[6, 1] == prior_stage.BOXED_WEIGHT
    assert (weights("add", both, one) != prior_stage.SPELLING_WEIGHT).all()
    # Without room to its right what comes late is cut.
    tight = dataclasses.replace(both, words=(Word("WELCOME", "red", 6, 0),))
    assert weights("text", tight)[6, 0] == prior_stage.TIGHT * prior_stage.LATE_WEIGHT
    early = weights("text", both, even=False)
    assert early[2, 6] == prior_stage.GROUND_WEIGHT < early[5, 5] < early[6, 2] == prior_stage.LETTER_WEIGHT


def test_misspelling_moves_whole_letters_of_the_word():
    codes = torch.arange(128).view(2, 8, 8)
    two = Scene("white", (), (Word("HELLO", "black", 3, 2), Word("SUN", "black", 6, 0)))
    letters = torch.from_numpy(labels(two)[3]).expand(2, -1, -1)
    generator = torch.Generator().manual_seed(0)
    made = decoder_stage.misspelled(codes, letters, [True, False], generator)
    assert torch.equal(made[1], codes[1])
    assert torch.equal(made[letters == 0], codes[letters == 0])
    for row, columns in ((3, slice(2, 7)), (6, slice(0, 3))):
        assert torch.equal(made[0, row + 1, columns] - made[0, row, columns], torch.full_like(made[0, row, columns], 8))
        assert set(made[0, row, columns].tolist()) <= set(codes[0, row, columns].tolist())
    assert not torch.equal(made[0, 3], codes[0, 3])
    wordless = torch.zeros_like(letters)
    assert torch.equal(decoder_stage.misspelled(codes, wordless, [True, True], generator), codes)
    assert torch.equal(decoder_stage.misspelled(codes, letters, [True, True], generator, 0.0), codes)
    upper = letters[:1] % 2 == 1
    changed = [
        float(
            (decoder_stage.misspelled(codes, letters, [True, False], generator, share)[:1] != codes[:1])[upper]
            .float()
            .mean()
        )
        for share in (1.0, 0.4)
        for _ in range(100)
    ]
    # Of HELLO and SUN some stand for themselves when all are drawn anew.
    assert sum(changed[100:]) / sum(changed[:100]) == pytest.approx(0.4, abs=0.06)


def _one_shard(kind, each, work):
    """A shard in which every picture is `each`."""
    write_shards(kind, lambda pictures: each.repeat_interleave(len(pictures), 0), work, discs(), SMALL, range(1))


def test_a_strip_is_cut_from_all_that_a_picture_has(parts, tmp_path, monkeypatch):
    monkeypatch.setattr(exercises, "SHARD", 32)
    numbered = torch.arange(64).view(1, 8, 8)
    wide = numbered.repeat_interleave(4, 1).repeat_interleave(4, 2)[:, None].expand(-1, 16, -1, -1)
    for kind, each in (("codes", numbered.to(torch.int16)), ("latents", wide.float())):
        _one_shard(kind, each, tmp_path)
    data = decoder_stage.DecoderData(
        Exercises(tmp_path, {1: 1.0}, WORLDS, decoder_stage.alike, latents=True), parts.vae
    )
    heights = set()
    for step in range(8):
        drawn = random.Random(step), random.Random(f"kind {step}"), torch.Generator().manual_seed(step)
        batch = decoder_stage._strips(data, *drawn, 8)
        heights.add(high := batch.codes.shape[1])
        assert batch.whole == (32, 32)
        assert batch.clean.shape == (len(batch.codes), 16, 4 * high, 32)
        # As many cells as eight pictures have, less those without a word.
        assert 8 * 64 // 4 < batch.codes.numel() <= 8 * 64
        raw = (batch.clean[:, :1, ::4, ::4] * data.spread[:, :1] + data.mean[:, :1]).round().long()[:, 0]
        plain = batch.letters == 0
        assert torch.equal(raw[plain], batch.codes[plain])
        assert (batch.shown[plain] == 1).all()
        words = (batch.letters > 0).sum((1, 2)).tolist()
        assert all(count in {2 * len(text) for text in texts} for count, texts in zip(words, batch.texts, strict=True))
    assert heights == set(decoder_stage.STRIP_ROWS)


def test_glyphs_begin_anew_apart_and_in_the_mean_as_they_were():
    parts = release.build_parts(release.TINY, ["a cat"], 5)

    def said():
        with torch.no_grad():
            found, _ = decoder_stage.glyph_embeddings(parts.text_encoder, [("ABCDEFGHIJ",)])
            return parts.transformer.glyph_projector(found[0, :-1])

    table = parts.text_encoder.get_input_embeddings().weight
    with torch.no_grad():
        table.copy_(table[:1].expand_as(table))  # every letter is the same
    assert said().std(0).max() < 1e-5
    before = said().mean(0)
    decoder_stage.begin_anew(parts.transformer, parts.text_encoder)
    apart = said() - said().mean(0)
    assert apart.norm(dim=-1).min() > 0.2 * before.norm()
    assert torch.nn.functional.cosine_similarity(said().mean(0), before, dim=0) > 0.9
    weights = [parameter.clone() for parameter in parts.text_encoder.parameters()]
    decoder_stage.begin_anew(parts.transformer, parts.text_encoder)
    assert all(map(torch.equal, weights, parts.text_encoder.parameters()))


@pytest.mark.parametrize("fresh", [False, True])
def test_a_finished_decoder_keeps_what_is_no_letter(tmp_path, monkeypatch, fresh):
    monkeypatch.setattr(exercises, "SHARD", 32)
    monkeypatch.setattr(decoder_stage, "STRIPS", 0.0)
    monkeypatch.setattr(decoder_stage, "READ_OUT", 0.0)
    monkeypatch.setattr(decoder_stage, "LOOK_WEIGHT", 0.0)
    labelled = decoder_stage.DecoderData.labels
    wordless = lambda data, rows: (torch.zeros_like(labelled(data, rows)[0]), labelled(data, rows)[1])  # noqa: E731
    monkeypatch.setattr(decoder_stage.DecoderData, "labels", wordless)
    for kind, each in (("latents", torch.randn(1, 16, 32, 32)), ("codes", torch.arange(64).view(1, 8, 8))):
        _one_shard(kind, each, tmp_path)
    parts = release.build_parts(release.TINY, ["a cat"], 4)
    seen = []
    monkeypatch.setattr(decoder_stage.Run, "train", lambda run, loss_of, **rest: seen.append(loss_of(0, 0.0)[0].item()))
    asked = parts.vae, dict(parts.scheduler.config), tmp_path, _schedule(1), {1: 1.0}
    modules = parts.transformer, parts.text_encoder
    teacher = None if fresh else decoder_stage.Pair(*copy.deepcopy(modules))
    decoder_stage.train_decoder(*modules, *asked, teacher=teacher, compiled=False)
    # Of all that is no letter it is asked what it says already.
    assert (seen[0] < 1e-6) is not fresh


def test_drafts_are_taught_on_the_teachers_way_from_noise(tmp_path, monkeypatch):
    parts = release.build_parts(release.TINY, ["a cat"], 4)
    monkeypatch.setattr(decoder_stage, "GUIDANCE", 1.0)
    # In float32 on every machine: what is compared is told without it.
    monkeypatch.setattr(decoder_stage, "mixed_precision", contextlib.nullcontext)
    texts = [("HI",), ()]
    grids = (torch.arange(128).view(2, 8, 8) % 7, torch.zeros(2, 8, 8, dtype=torch.long))
    found = drafts.Drafts(grids[0], grids[1] + (grids[0] == 3), grids[1], texts)
    pair = decoder_stage.Pair(parts.transformer, parts.text_encoder)
    generator = torch.Generator().manual_seed(1)
    batch, noise = decoder_stage._drafted(found, pair, generator, 3, decoder_stage._block, blind=False)
    assert batch.drafted
    assert not batch.strips
    with torch.no_grad():
        (first, *_) = decoder_stage.told(pair, batch, noise, torch.ones(3))
    torch.testing.assert_close(batch.clean, noise - first)
    # Nothing is asked of the cells whose codes stand for letters.
    weights = decoder_stage._weights(batch, taught=True)
    assert torch.equal(weights[:, 0, ::4, ::4] == 0, batch.letters > 0)
    blind, again = decoder_stage._drafted(found, pair, generator.manual_seed(1), 3, decoder_stage._block, blind=True)
    assert torch.equal(noise, again)
    torch.testing.assert_close(blind.clean, batch.clean)
    assert not blind.shown.any()
    assert blind.texts == [()] * 3


def test_longer_exercises_come_in_fewer():
    def length(rows: int, cols: int, *references: Scene) -> int:
        scene = Scene("white", (), (), (rows, cols))
        return prior_stage._length(Sample(task="text", language="en", prompt="", references=references, scene=scene))

    assert length(8, 8) == 64 + 128
    assert length(7, 10) == 70 + 7 * 19
    assert length(16, 16) == 256 + 256
    assert length(16, 16, Scene("white", (), (), (16, 16)), Scene("white", ())) == 256 + 256 + 64
    assert decoder_stage._count(20, 64) == 20
    assert decoder_stage._count(20, 256) == 5
    assert decoder_stage._count(4, 256) == 2


def test_padding_after_a_sequence_changes_nothing(parts):
    model = parts.vision_language_encoder
    ids = torch.tensor([[5, 6, 7, 8]])
    places = torch.arange(4).expand(3, 1, 4)
    longer = torch.cat([ids, torch.tensor([[9, 9]])], dim=1)
    wider = torch.cat([places, torch.zeros(3, 1, 2, dtype=torch.long)], dim=2)
    alone, padded = prior_stage.hidden_states(model, ids, places), prior_stage.hidden_states(model, longer, wider)
    torch.testing.assert_close(alone, padded[:, :4], atol=1e-5, rtol=1e-4)


def test_the_vae_starts_as_a_blurred_copy():
    model = release.build_vae(dataclasses.replace(release.MINIATURE))
    vae.start_linear(model)
    with torch.no_grad():
        flat = torch.tensor([1.0, -1.0, 0.5]).view(1, 3, 1, 1).expand(1, 3, 64, 64)
        first, second = model.encode(flat).latent_dist.mean, model.encode(-flat).latent_dist.mean
    # Colour goes through to the latents undiminished, and evenly.
    assert (first - second).abs().mean() > 0.3
    assert first[..., 2:-2, 2:-2].std((2, 3)).max() < 0.05


def test_the_vaes_decoder_learns_on_and_its_latents_stay(tmp_path):
    trained = release.build_parts(release.TINY, ["a cat on a blue background"], 5)
    before = {key: value.clone() for key, value in trained.vae.state_dict().items()}
    trained.vae.requires_grad_(True)
    schedule = Schedule(steps=2, rate=1e-3, batch=2, warmup=1)
    vae.train_vae_decoder(trained.vae, tmp_path, discs(), schedule)
    changed = {
        key.split(".")[0] for key, value in trained.vae.state_dict().items() if not torch.equal(value, before[key])
    }
    assert changed == {"decoder"}
    again = release.build_parts(release.TINY, ["a cat on a blue background"], 5)
    recipe.load_vae(tmp_path, again, needed=False)
    for key, value in again.vae.state_dict().items():
        assert torch.equal(value, trained.vae.state_dict()[key])


class _Line(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(4, 4))


def _schedule(steps: int, **changes: float) -> Schedule:
    return dataclasses.replace(Schedule(steps=steps, rate=0.05, batch=1, warmup=1), **changes)


def _towards_one(model: _Line):
    def loss_of(step: int, done: float):
        noise = torch.rand(4, 4, generator=torch.Generator().manual_seed(step))
        return ((model.weight - 1 - 0.1 * noise) ** 2).mean(), {"far": (model.weight - 1).abs().mean().item()}

    return loss_of


def test_an_interrupted_run_goes_on_as_if_it_had_not_been(tmp_path):
    whole = _Line()
    Run("whole", tmp_path, {"line": whole}, _schedule(30, ema=0.9)).train(_towards_one(whole), log_every=5)

    class Cut(Exception):
        pass

    cut = _Line()
    run = Run("cut", tmp_path, {"line": cut}, _schedule(30, ema=0.9))
    loss_of = _towards_one(cut)

    def interrupted(step: int, done: float):
        if step == 12:
            raise Cut
        return loss_of(step, done)

    with pytest.raises(Cut):
        run.train(interrupted, log_every=5, save_seconds=0.0)
    again = _Line()
    slower = Run("cut", tmp_path, {"line": _Line()}, _schedule(30, ema=0.9, rate=0.01))
    assert slower.resume()
    assert {group["base_lr"] for optimizer in slower.optimizers for group in optimizer.param_groups} == {0.01, 0.1}
    resumed = Run("cut", tmp_path, {"line": again}, _schedule(30, ema=0.9))
    assert resumed.resume()
    assert resumed.step == 12
    resumed.train(_towards_one(again), log_every=5)
    assert torch.equal(again.weight, whole.weight)
    with (tmp_path / "cut.csv").open() as file:
        assert [int(row["step"]) for row in csv.DictReader(file)] == [5, 10, 15, 20, 25, 30]


def test_a_loss_that_is_not_finite_stops_with_the_step(tmp_path):
    model = _Line()
    run = Run("nonsense", tmp_path, {"line": model}, _schedule(5))
    with pytest.raises(TrainingError, match="step 0"):
        run.train(lambda step, done: (model.weight.sum() * torch.nan, {}))


def test_a_gradient_that_is_not_finite_stops_before_it_turns_the_weights(tmp_path):
    model = _Line()
    before = model.weight.detach().clone()
    run = Run("steep", tmp_path, {"line": model}, _schedule(5))

    def loss_of(step, done):
        # Of which the loss is 0, and the gradient infinite.
        run.batch = {"x": torch.zeros(1)}
        return ((model.weight - model.weight.detach()).abs() ** 0.5).sum(), {}

    with pytest.raises(TrainingError, match=r"The gradient of steep is .* at step 0 .*steep-batch-0\.safetensors"):
        run.train(loss_of)
    assert torch.equal(model.weight, before)


def _squares(model: _Line):
    """The loss of batch k."""

    def loss_of(number: int, done: float):
        target = torch.rand(4, 4, generator=torch.Generator().manual_seed(number))
        return ((model.weight - target) ** 2).mean(), {}

    return loss_of


_PAIR = """
import sys, torch
from pathlib import Path
from tests.test_training import _Line, _schedule, _squares
from glmimage.train.loop import Run

work, model = Path(sys.argv[1]), _Line()
run = Run("pair", work, {"line": model}, _schedule(6, ema=0.9))
own = run.processes.process_index
with torch.no_grad():
    model.weight.fill_(9.0 if own else 0.5)  # the first one's counts
run.train(_squares(model), log_every=2)
torch.save(model.state_dict(), work / f"weights-{own}.pt")
"""


def test_two_processes_take_the_steps_of_one_with_both_batches(tmp_path):
    (tmp_path / "pair.py").write_text(_PAIR)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    root = Path(__file__).resolve().parent.parent
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(
        [*launch, str(tmp_path / "pair.py"), str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, second = (torch.load(tmp_path / f"weights-{index}.pt", weights_only=True)["weight"] for index in (0, 1))
    assert torch.equal(first, second)
    alone = _Line()
    with torch.no_grad():
        alone.weight.fill_(0.5)
    loss_of = _squares(alone)

    def both(step: int, done: float):
        return (loss_of(2 * step, done)[0] + loss_of(2 * step + 1, done)[0]) / 2, {}

    Run("alone", tmp_path, {"line": alone}, _schedule(6, ema=0.9)).train(both, log_every=2)
    torch.testing.assert_close(first, alone.weight.detach(), atol=1e-6, rtol=1e-5)
    with (tmp_path / "pair.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["2", "4", "6"]


def test_the_batch_of_a_loss_that_is_not_finite_is_kept(tmp_path):
    run = Run("line", tmp_path, {"model": _Line()}, _schedule(10))

    def loss_of(step, done):
        run.batch = {"x": torch.arange(6.0).view(2, 3).T, "step": torch.tensor(step)}
        return run.modules["model"].weight.sum() / (3 - step), {}

    with pytest.raises(TrainingError, match=r"inf at step 3 \(its batch is in .*line-batch-3\.safetensors\)"):
        run.train(loss_of)
    kept = load_file(tmp_path / "line-batch-3.safetensors")
    assert torch.equal(kept["x"], torch.arange(6.0).view(2, 3).T)
    assert kept["step"] == 3


def test_a_full_disk_is_one_sentence_and_leaves_the_state_before(tmp_path, monkeypatch, capsys):
    run = Run("line", tmp_path, {"model": _Line()}, _schedule(4))
    run.train(_towards_one(run.modules["model"]))

    def full(state, file):
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    stored = run.state_file.read_bytes()
    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(TrainingError, match=r"No space left on device.*make room there"):
        run.save()
    assert run.state_file.read_bytes() == stored
    assert {path.name for path in tmp_path.iterdir()} == {"line.pt"}

    def art(work):
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "art.npz"))

    monkeypatch.setattr("glmimage.train.art.load_art", art)
    assert main(["--work", str(tmp_path), "world", "--show", str(tmp_path / "sheet.png")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_weights_that_find_no_room_are_one_sentence(parts, tmp_path, monkeypatch):
    def full(*asked, **named):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(TrainingError, match=r"codes-1-0000\.safetensors .*No space left.*make room there"):
        loop.store({"0.0": torch.zeros(2)}, tmp_path / "codes-1-0000.safetensors")
    assert not list(tmp_path.iterdir())
    run = Run("line", tmp_path, {"model": _Line()}, _schedule(2))

    def loss_of(step, done):
        run.batch = {"x": torch.zeros(2)}
        return run.modules["model"].weight.sum() / 0, {}

    with pytest.raises(TrainingError, match=r"at step 0 \(its batch is lost: .*No space left"):
        run.train(loss_of)

    def not_stored(*asked, **named):
        raise SafetensorError("Error while serializing: No space left on device (os error 28)")

    monkeypatch.setattr(type(parts.vae), "save_pretrained", not_stored)
    with pytest.raises(TrainingError, match=r"cannot be written .*make room or name another folder"):
        release.write(tmp_path / "made", parts)


@pytest.mark.parametrize("half", [False, True])
def test_steps_of_muon_are_those_of_pytorchs_in_both_types(monkeypatch, half):
    """PyTorch's round to bfloat16 in any case, so that ours may differ by that, and no more."""
    monkeypatch.setattr(loop, "_half", lambda: half)
    generator = torch.Generator().manual_seed(0)
    shapes = ((12, 40), (40, 12), (12, 40), (24, 24))
    begun = [torch.randn(shape, generator=generator) for shape in shapes]
    ours, theirs = ([nn.Parameter(each.clone()) for each in begun] for _ in range(2))
    settings = {"lr": 0.02, "weight_decay": 0.1}
    optimizers = (loop._Muon(ours, **settings), torch.optim.Muon(theirs, adjust_lr_fn="match_rms_adamw", **settings))
    for _ in range(3):
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn(one.shape, generator=generator)
            other.grad = one.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for one, other, before in zip(ours, theirs, begun, strict=True):
        assert (one - other).norm() < 0.03 * (other - before).norm()


def test_products_are_halved_where_the_processor_is_faster_so(monkeypatch):
    x = torch.ones(4, 4)
    for half, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(loop, "_half", lambda half=half: half)
        with loop.mixed_precision():
            assert (x @ x).dtype is dtype
        assert loop._orthogonal(x[None], (3.4, -4.8, 2.0)).dtype is dtype


def test_the_rate_warms_up_holds_and_falls():
    schedule = Schedule(steps=100, rate=1.0, batch=1, warmup=10, decay_from=0.5, floor=0.1)
    assert schedule.factor(0) == pytest.approx(0.1)
    assert schedule.factor(40) == pytest.approx(1.0)
    assert schedule.factor(75) == pytest.approx(0.1 + 0.9 * 0.5)
    assert schedule.factor(100) == pytest.approx(0.1)


def test_a_state_of_other_sizes_is_one_sentence(tmp_path: Path):
    Run("sizes", tmp_path, {"line": nn.Linear(2, 3)}, _schedule(1)).save()
    with pytest.raises(TrainingError, match=r"sizes\.pt is of a model of other sizes"):
        Run("sizes", tmp_path, {"line": nn.Linear(2, 4)}, _schedule(1)).resume()


def test_the_codebook_starts_on_the_clusters_and_revives_dead_codes():
    generator = torch.Generator().manual_seed(0)
    centres = nn.functional.normalize(torch.randn(4, 8, generator=generator), dim=-1)
    noise = 0.05 * torch.randn(400, 8, generator=generator)
    vectors = nn.functional.normalize(centres.repeat(100, 1) + noise, dim=-1)
    weight = torch.empty(8, 8)
    book = tokenizer.Codebook(8, 8)
    book.start(weight, vectors, generator)
    assert (centres @ weight.T).max(-1).values.min() > 0.98
    weight[0] = -weight[0]
    book.used.fill_(1)
    book.used[0] = 0
    assert book.revive(weight, vectors, torch.ones(400), generator) == 1
    assert (vectors @ weight[0]).max() > 0.999


def test_a_tokenizer_goes_on_where_its_codebook_begins(tmp_path, monkeypatch):
    """Stored at the last step without codes, it had nothing to start them from."""
    monkeypatch.setattr(tokenizer, "QUANTIZE_FROM", 2)
    monkeypatch.setattr(tokenizer, "STARTED_FROM", 2)
    merged = []
    monkeypatch.setattr(tokenizer, "merge_grounds", lambda *rest: merged.append(rest))
    parts = release.build_parts(release.TINY, ["a cat"], 3)
    model = parts.vision_language_encoder.model
    for steps, times in ((2, 1), (4, 2), (4, 2)):
        run = tokenizer.train_tokenizer(model.visual, model.vqmodel, tmp_path, discs(), _schedule(steps))
        assert run.step == steps
        assert bool(run.modules["codebook"].counts.any()) is (steps > 2)
        # Codes of a finished run that is started again stay: all exercises are encoded with them.
        assert len(merged) == times
    recipe.load_tokenizer(tmp_path, parts)
    state = torch.load(tmp_path / "tokenizer.pt", weights_only=True)
    state["modules"]["codebook.finished"] = torch.tensor(False)
    torch.save(state, tmp_path / "tokenizer.pt")
    with pytest.raises(TrainingError, match="tokenizer has not been finished"):
        recipe.load_tokenizer(tmp_path, parts, needed=False)


def test_steps_that_are_taken_again_are_logged_once(tmp_path):
    for steps in (4, 6, 8):
        model = _Line()
        run = Run("again", tmp_path, {"line": model}, _schedule(steps))
        run.resume()
        if steps == 6:
            run.save = lambda: None  # cut off before it is stored
        run.train(_towards_one(model), log_every=2)
    with (tmp_path / "again.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["2", "4", "6", "8"]


def test_the_log_keeps_figures_in_their_columns(tmp_path):
    model = _Line()

    def loss_of(step: int, done: float):
        now_and_then = {"rare": 7.0} if step % 2 else {}
        return model.weight.square().mean(), {**now_and_then, "step_seen": float(step)}

    Run("log", tmp_path, {"line": model}, _schedule(4)).train(loss_of, log_every=1)
    with (tmp_path / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["rare"] for row in rows] == ["", "7", "", "7"]
    assert [float(row["step_seen"]) for row in rows] == [0, 1, 2, 3]


def test_an_export_goes_a_share_of_the_way_from_its_start(tmp_path):
    begun = release.build_parts(release.TINY, ["a cat on a blue background"], 3)
    release.write(tmp_path / "start", begun)
    start = recipe.parts_of(tmp_path / "start")
    parts = recipe.begun_parts(tmp_path / "start")
    learned, learned_decoder, learned_glyphs = parts.vision_language_encoder, parts.transformer, parts.text_encoder
    with torch.no_grad():
        learned.lm_head.weight += 1
    modules = {"text": learned.model.language_model, "lm_head": learned.lm_head}
    Run("prior", tmp_path, modules, _schedule(1)).save()
    recipe.export(tmp_path, tmp_path / "made", tmp_path / "start", 0.25)
    made = recipe.parts_of(tmp_path / "made")
    moved = made.vision_language_encoder.lm_head.weight - start.vision_language_encoder.lm_head.weight
    assert torch.allclose(moved, torch.full_like(moved, 0.25), atol=0.01)
    assert torch.equal(made.vae.decoder.conv_in.weight, start.vae.decoder.conv_in.weight)
    with torch.no_grad():
        for parameter in (*learned_decoder.parameters(), *learned_glyphs.parameters()):
            parameter += 1
    Run("decoder", tmp_path, {"decoder": learned_decoder, "glyph_encoder": learned_glyphs}, _schedule(1)).save()
    for anew in (False, True):
        recipe.export(tmp_path, tmp_path / "made", tmp_path / "start", 0.25, glyphs_anew=anew)
        made = recipe.parts_of(tmp_path / "made")
        for part, name in (("transformer", "proj_out"), ("transformer", "glyph_projector"), ("text_encoder", "shared")):
            was, now = (getattr(parts, part).get_submodule(name).state_dict() for parts in (start, made))
            share = 1.0 if anew and name != "proj_out" else 0.25
            assert all(torch.allclose(now[key] - was[key], torch.tensor(share), atol=0.05) for key in was)
    with pytest.raises(TrainingError, match="say --start"):
        recipe.export(tmp_path, tmp_path / "made", share=0.5)
    (tmp_path / "start" / "vision_language_encoder" / "generation_config.json").write_text("{}")
    with pytest.raises(TrainingError, match="how codes are drawn"):
        recipe.export(tmp_path, tmp_path / "made", tmp_path / "start")
