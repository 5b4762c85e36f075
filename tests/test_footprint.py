"""The formulae for caches and activations against the live tensors of our own stages.

The released configuration runs on the meta device, where tensors have sizes and no content; the miniature runs in
earnest.
"""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, GlmImageTransformer2DModel
from torch.nn import functional
from transformers import GlmImageConfig, GlmImageForConditionalGeneration

from glmimage import checkpoint, latents, prior, references, weights
from glmimage.decoder import Conditions, Painter
from glmimage.errors import RequestError
from glmimage.footprint import Footprint, Job, reference_size
from glmimage.geometry import Size
from glmimage.glyphs import encode_glyphs
from glmimage.machines import tabulated
from glmimage.models import Stack
from glmimage.prompting import PromptIds
from glmimage.request import Request
from glmimage.weights import Architecture
from tests.live_bytes import LiveBytes

META = torch.device("meta")
CONFIGS = json.loads(weights.TABLE.read_text(encoding="utf-8"))["zai-org/GLM-Image"]["configs"]
CARD = tabulated("cuda", 24 * 2**30, 64 * 2**30)
CPU = tabulated("cpu", 24 * 2**30, 64 * 2**30)


@pytest.fixture(scope="module")
def released() -> Architecture:
    return weights.read("zai-org/GLM-Image")


@pytest.fixture(scope="module")
def decoder() -> Any:
    with META:
        model = GlmImageTransformer2DModel.from_config(CONFIGS["transformer"])
    return model.bfloat16().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def prior_stack() -> Any:
    with META:
        model = GlmImageForConditionalGeneration(GlmImageConfig.from_dict(CONFIGS["vision_language_encoder"]))
    model = model.bfloat16().eval().requires_grad_(False)
    return SimpleNamespace(prior=model, device=META, dtype=torch.bfloat16, codes=16384)


def paint(decoder: Any, job: Job) -> tuple[int, int, int]:
    """Live bytes once a `Painter` is made, the most while it was made, and the most in its first step."""
    like = {"device": decoder.device, "dtype": decoder.dtype}
    width = decoder.config.text_embed_dim
    seen = [
        SimpleNamespace(
            codes=torch.zeros(size.prior_grid, dtype=torch.long, device=decoder.device),
            latents=torch.zeros(1, decoder.config.in_channels, *size.latent_grid, **like),
        )
        for size in job.references
    ]
    conditions = Conditions(
        codes=torch.zeros(1, *job.size.prior_grid, dtype=torch.long, device=decoder.device),
        glyphs=torch.zeros(1, job.glyph_tokens, width, **like),
        empty_glyphs=torch.zeros(1, 1, width, **like),
        references=seen,
        guidance=1.5 if job.guided else 1.0,
    )
    noise = torch.zeros(1, decoder.config.in_channels, *job.size.latent_grid, device=decoder.device)
    with torch.inference_mode(), LiveBytes() as count:
        painter = Painter(decoder, conditions, torch.arange(job.steps).float())
        made, while_made = count.live, count.peak
        count.restart()
        painter.velocity(noise, 0)
        return made, while_made, count.peak


@pytest.mark.parametrize(
    "job",
    [
        Job(size=Size(512, 512)),
        Job(size=Size(2048, 1024), guided=False, steps=20, glyph_tokens=700),
        Job(size=Size(1024, 1024), references=(Size(512, 768), Size(1024, 1024))),
    ],
    ids=lambda job: str(job.size),
)
def test_the_decoder(released: Architecture, decoder: Any, job: Job) -> None:
    made, while_made, step = paint(decoder, job)
    footprint = Footprint(released, CARD, job)
    assert footprint.painter() == pytest.approx(made, rel=0.005)
    assert footprint.painter() + footprint.step("bf16") == pytest.approx(step, rel=0.01)
    if job.references:
        assert footprint.painter() + footprint.reference_keys("bf16") == pytest.approx(while_made, rel=0.01)


@pytest.mark.parametrize(("tokens", "side", "pictures"), [(256, 1024, 1), (2048, 512, 3)])
def test_the_prior(released: Architecture, prior_stack: Any, tokens: int, side: int, pictures: int) -> None:
    job = Job(size=Size(side, side), text_tokens=tokens - 9)
    assert job.prompt_tokens == tokens
    grids = (job.size.prior_grid, job.size.preview_grid)
    prompt = PromptIds(ids=tuple(range(16400, 16400 + tokens)), drawn=grids, references=(), image_token=167855)
    assert prompt.count == job.drawn
    # The first run joins weights; here only what every run holds counts.
    prior._Run(prior_stack, prompt, (), pictures)
    with LiveBytes() as count:
        run = prior._Run(prior_stack, prompt, (), pictures)
        cache = count.live
        run.prefill()
        prefill = count.peak - cache
        count.restart()
        run.step(torch.zeros(pictures, 17, dtype=torch.long, device=META), job.drawn - 20)
        draw = count.peak - cache
    footprint = Footprint(released, CARD, job)
    assert footprint.prior_cache(pictures) == pytest.approx(cache, rel=0.01)
    assert footprint.prefill("bf16") == pytest.approx(prefill, rel=0.02)
    assert draw <= footprint.draw(pictures, "bf16") <= 2 * draw


def test_the_vae(released: Architecture) -> None:
    with META:
        vae = AutoencoderKL.from_config({**CONFIGS["vae"], "latents_mean": [0.0] * 16, "latents_std": [1.0] * 16})
    vae = vae.bfloat16().eval().requires_grad_(False)
    for side, tile in ((512, 0), (512, 32), (1024, 64)):
        size = Size(side, side)
        footprint = Footprint(released, CARD, Job(size=size, references=(size,)))
        noise = torch.zeros(1, 16, *size.latent_grid, device=META)
        whole = 0 if tile else latents.WHOLE
        with torch.no_grad(), LiveBytes() as count:
            latents.decode(vae, noise, whole=whole, tile=tile or latents.TILE)
        assert footprint.decode(tile) == pytest.approx(count.peak, rel=0.05)
    with torch.no_grad(), LiveBytes() as count:
        latents.encode(vae, torch.zeros(1, 3, side, side, device=META))
    assert footprint.encode() == pytest.approx(count.peak, rel=0.05)


def test_the_miniature_in_earnest() -> None:
    """In float32 on a processor, where kernels differ; every stage, with what it truly makes."""
    stack = Stack.load(checkpoint.find("miniature"))
    architecture = weights.read("miniature")
    machine = replace(CPU, dtype="float32")
    size = Size(512, 512)
    job = Job(size=size, references=(Size(512, 512),), steps=8)
    footprint = Footprint(architecture, machine, job)
    made, while_made, step = paint(stack.decoder, job)
    assert footprint.painter() == pytest.approx(made, rel=0.02)
    assert footprint.painter() + footprint.step("bf16") == pytest.approx(step, rel=0.1)
    assert footprint.painter() + footprint.reference_keys("bf16") == pytest.approx(while_made, rel=0.1)
    with LiveBytes() as count:
        latents.decode(stack.vae, torch.zeros(1, 16, *size.latent_grid))
    # Buffers of kernels are not tensors.
    assert replace(footprint, machine=replace(machine, kind="cuda")).decode(0) == pytest.approx(count.peak, rel=0.1)
    assert footprint.decode(0) > 1.5 * count.peak
    picture = latents.to_picture(torch.zeros(3, 512, 512))
    with LiveBytes() as count:
        references.encode_codes(stack, picture)
    assert footprint.vision() == pytest.approx(count.peak, rel=0.25)
    with LiveBytes() as count:
        encode_glyphs(stack, ["x" * (job.glyph_tokens - 1)])
    assert footprint.glyphs() == pytest.approx(count.peak, rel=0.5)


def test_operations_are_the_published_ones(released: Architecture) -> None:
    """14.65, 60.1 and 334.6 TFLOP a forward; 118 TFLOP a guided step at 1024 px are 0.715 s at 165.2 TFLOP/s."""
    for side, teraflops in ((512, 14.65), (1024, 60.1), (2048, 334.6)):
        footprint = Footprint(released, CARD, Job(size=Size(side, side), guided=False))
        assert footprint.step_seconds("bf16") * CARD.flops / 1e12 == pytest.approx(teraflops, rel=0.01)
    fast = replace(CARD, flops=165.2e12)
    step = Footprint(released, fast, Job(size=Size(1024, 1024))).step_seconds("bf16")
    assert step == pytest.approx(0.715, rel=0.02)
    # 16.4 GB read for a code: 203 a second from 3.35 TB/s.
    h100 = replace(CARD, bandwidth=3.35e12, launch=1e-9)
    job = Job(size=Size(1024, 1024))
    _, codes = Footprint(released, h100, job).prior_seconds("bf16", 1)
    assert (job.drawn - 1) / codes == pytest.approx(203, rel=0.02)


def test_what_formats_take_beside(released: Architecture) -> None:
    """4 bits are unpacked one matrix at a time; 8 bits need room for each row."""
    footprint = Footprint(released, CARD, Job(size=Size(1024, 1024)))
    largest = 2 * 2 * 13696 * 4096
    assert largest <= footprint.prefill("nf4") <= footprint.prefill("nf4-dq") <= 1.5 * largest
    assert footprint.step("nf4") >= footprint.step("bf16")
    assert footprint.step("int8") > 1.3 * footprint.step("bf16")
    assert Footprint(released, CPU, footprint.job).prefill("int8") > footprint.prefill("int8")


def test_jobs() -> None:
    request = Request(prompt="x", width=640, height=512, count=2, steps=9, guidance=1.0)
    job = Job.of(request, (Size(512, 512),))
    assert job == Job(size=Size(640, 512), references=(Size(512, 512),), count=2, steps=9, guided=False)
    assert job.drawn == 16 * 20
    assert replace(job, references=()).drawn == 16 * 20 + 14 * 17
    assert Job.from_json(json.loads(json.dumps(job.to_json()))) == job
    for wrong in (0, 65, 2.0, True):
        with pytest.raises(RequestError, match="count"):
            Job(size=Size(512, 512), count=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "brought"), [("256x256", "512x512"), ("4096x2048", "2048x1024"), ("700x600", "704x608")]
)
def test_references_are_brought_within_limits(given: str, brought: str) -> None:
    assert reference_size(Size.parse(given), (512, 2048)) == Size.parse(brought)


def test_live_bytes_counts() -> None:
    with LiveBytes() as count:
        first = torch.zeros(1000)
        assert count.live == 4000
        second = functional.relu(first)
        view = second[10:]
        assert count.live == 8000
        del second
        assert count.live == 8000
        del view
        assert (count.live, count.peak) == (4000, 8000)
