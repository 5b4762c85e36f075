"""The training forwards are upstream's, and the loop resumes, stops at nonsense and keeps its promises."""

import csv
import dataclasses

import pytest
import torch
from torch import nn

from glmimage.errors import TrainingError
from glmimage.geometry import Size
from glmimage.prior import positions
from glmimage.prompting import prompt_ids
from glmimage.train import decoder as decoder_stage
from glmimage.train import prior as prior_stage
from glmimage.train import release, tokenizer, vae
from glmimage.train.loop import Run, Schedule


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
    ours, _ = decoder_stage.velocity(decoder, latents, codes, torch.ones(codes.shape), glyphs, times)
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
    assert preview[0, 0].tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert torch.equal(preview[0, 0], preview[0, 1])
    assert preview[0, 2:].flatten().tolist() == [3, 3, 3, 4, 4, 5, 5] * 2
    assert sorted(preview[0][new].tolist()) == list(range(6))
    smaller, _ = prior_stage.to_preview(codes, (1, 2))
    assert smaller.flatten().tolist() == [0, 1]


def test_a_short_step_leaves_out_what_repeats():
    _, new = prior_stage.to_preview(torch.arange(4).view(1, 2, 2), (4, 4))
    kept, told = prior_stage._seen(new, 20, full=False)
    assert kept.tolist() == [0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19]
    # Cells 8 and 16 do not follow what they follow in the full sequence.
    assert told.tolist() == [0, 2, 10, 17, 18, 19]
    kept, told = prior_stage._seen(new, 20, full=True)
    assert kept.tolist() == told.tolist() == list(range(20))


def test_misspelling_moves_whole_letters_of_the_word():
    codes = torch.arange(128).view(2, 8, 8)
    lettering = torch.zeros(2, 8, 8, dtype=torch.bool)
    lettering[:, 3:5, 2:7] = True
    generator = torch.Generator().manual_seed(0)
    made = decoder_stage.misspelled(codes, lettering, [True, False], generator)
    assert torch.equal(made[1], codes[1])
    assert torch.equal(made[~lettering], codes[~lettering])
    assert torch.equal(made[0, 4, 2:7] - made[0, 3, 2:7], torch.full((5,), 8))
    assert set(made[0, 3, 2:7].tolist()) < set(codes[0, 3, 2:7].tolist())
    wordless = torch.zeros_like(lettering)
    assert torch.equal(decoder_stage.misspelled(codes, wordless, [True, True], generator), codes)


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


def test_the_rate_warms_up_holds_and_falls():
    schedule = Schedule(steps=100, rate=1.0, batch=1, warmup=10, decay_from=0.5, floor=0.1)
    assert schedule.factor(0) == pytest.approx(0.1)
    assert schedule.factor(40) == pytest.approx(1.0)
    assert schedule.factor(75) == pytest.approx(0.1 + 0.9 * 0.5)
    assert schedule.factor(100) == pytest.approx(0.1)


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
