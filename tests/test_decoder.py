"""The decoder against upstream: one forward pass, and whole runs of `GlmImagePipeline` with 0, 1 and 2 references."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from diffusers import GlmImagePipeline
from PIL import Image
from torch import Tensor

from glmimage import latents
from glmimage.decoder import Conditions, Painter, Step, denoise, rotary
from glmimage.errors import Stopped
from glmimage.glyphs import encode_glyphs
from glmimage.linears import linear

if TYPE_CHECKING:
    from glmimage.models import Stack

PROMPT = 'a cat with the words "HELLO" and "all of you"'
TEXTS = ("HELLO", "all of you")
STEPS = 4


@dataclass(frozen=True)
class Reference:
    codes: Tensor
    latents: Tensor
    picture: Image.Image


@pytest.fixture(scope="module")
def pipeline(tiny: Path) -> GlmImagePipeline:
    pipeline = GlmImagePipeline.from_pretrained(tiny, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def reference(stack: Stack, rows: int, columns: int, seed: int) -> Reference:
    """A picture of noise with codes that are not its own: the decoder must not care."""
    pixels = np.random.default_rng(seed).integers(0, 256, (rows * 32, columns * 32, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    codes = torch.randint(0, stack.codes, (rows, columns), generator=torch.Generator().manual_seed(seed))
    return Reference(codes, latents.encode(stack.vae, latents.to_tensor(picture)), picture)


def conditions(stack: Stack, references: tuple[Reference, ...] = (), pictures: int = 1, **changes: float) -> Conditions:
    codes = torch.randint(0, stack.codes, (pictures, 2, 3), generator=torch.Generator().manual_seed(9))
    return Conditions(
        codes=codes,
        glyphs=encode_glyphs(stack, TEXTS),
        empty_glyphs=encode_glyphs(stack, ()),
        references=references,
        **{"guidance": 1.5, **changes},
    )


def noise(pictures: int = 1) -> Tensor:
    return torch.randn(pictures, 16, 8, 12, generator=torch.Generator().manual_seed(3))


def paint(stack: Stack, wanted: Conditions, start: Tensor, steps: int = STEPS) -> list[Step]:
    return list(denoise(stack.decoder, stack.scheduler_config, wanted, start, steps=steps))


def upsampled(codes: Tensor) -> Tensor:
    """Codes [..., h, w] as upstream's pipeline hands them to the decoder, [..., 4hw]."""
    return codes.repeat_interleave(2, -2).repeat_interleave(2, -1).flatten(-2)


@pytest.mark.parametrize("guidance", [1.5, 1.0])
@pytest.mark.parametrize("count", [0, 1, 2])
def test_latents_equal_the_pipelines(
    pipeline: GlmImagePipeline, tiny_stack: Stack, count: int, guidance: float
) -> None:
    references = tuple(reference(tiny_stack, 2 + seed, 3, seed) for seed in range(count))
    wanted = conditions(tiny_stack, references, guidance=guidance)
    arguments: dict[str, object] = {}
    if references:
        # Upstream's editing breaks while it tokenizes the references (it concatenates a list of feature maps and then
        # iterates over channels), so their codes are handed over; everything after that is upstream's own.
        arguments = {
            "image": [[item.picture for item in references]],
            "prior_token_image_ids": [torch.cat([upsampled(item.codes) for item in references])],
            "source_image_grid_thw": [
                torch.tensor([[1, *(2 * side for side in item.codes.shape)] for item in references])
            ],
        }
    theirs = pipeline(
        prompt=PROMPT,
        height=64,
        width=96,
        num_inference_steps=STEPS,
        guidance_scale=guidance,
        prior_token_ids=upsampled(wanted.codes),
        latents=noise(),
        output_type="latent",
        **arguments,
    ).images
    ours = paint(tiny_stack, wanted, noise())
    assert [(step.number, step.total) for step in ours] == [(index, STEPS) for index in range(1, STEPS + 1)]
    torch.testing.assert_close(ours[-1].latents, theirs, rtol=0, atol=1e-4)
    # The last step goes to sigma 0, where the prediction is the result.
    torch.testing.assert_close(ours[-1].clean, theirs, rtol=0, atol=1e-4)


def test_finished_picture_equals_the_pipelines(pipeline: GlmImagePipeline, tiny_stack: Stack) -> None:
    wanted = conditions(tiny_stack)
    theirs = pipeline(
        prompt=PROMPT,
        height=64,
        width=96,
        num_inference_steps=STEPS,
        prior_token_ids=upsampled(wanted.codes),
        latents=noise(),
    ).images[0]
    ours = latents.to_picture(latents.decode(tiny_stack.vae, paint(tiny_stack, wanted, noise())[-1].latents))
    difference = np.abs(np.asarray(ours, dtype=float) - np.asarray(theirs, dtype=float))
    assert ours.size == (96, 64)
    assert difference.mean() <= 1 / 255


def test_velocity_equals_the_modules_forward(tiny_stack: Stack) -> None:
    """Without references, a batch of two: every picture has codes of its own."""
    decoder = tiny_stack.decoder
    wanted = conditions(tiny_stack, pictures=2, guidance=1.7)
    ids = upsampled(wanted.codes)
    shared = {
        "hidden_states": noise(2),
        "prior_token_id": ids,
        "timestep": torch.tensor([499.0, 499.0]),
        "target_size": torch.tensor([[64.0, 96.0]] * 2),
        "crop_coords": torch.zeros(2, 2),
    }
    with torch.no_grad():
        branches = [
            decoder(
                encoder_hidden_states=glyphs.expand(2, -1, -1),
                prior_token_drop=torch.full_like(ids, drop, dtype=torch.bool),
                **shared,
            ).sample
            for glyphs, drop in ((wanted.glyphs, False), (wanted.empty_glyphs, True))
        ]
        painter = Painter(decoder, wanted, torch.tensor([1000.0, 500.0]))
        ours = painter.velocity(noise(2), 1)
        again = painter.velocity(noise(2), 1)
    torch.testing.assert_close(ours, branches[1] + 1.7 * (branches[0] - branches[1]), rtol=0, atol=1e-5)
    assert torch.equal(ours, again), "a step leaves nothing behind"


@pytest.mark.parametrize("count", [0, 2])
def test_a_batch_is_its_pictures(tiny_stack: Stack, count: int) -> None:
    references = tuple(reference(tiny_stack, 2, 2 + seed, seed) for seed in range(count))
    wanted = conditions(tiny_stack, references, pictures=3)
    together = paint(tiny_stack, wanted, noise(3))[-1].latents
    for index in range(3):
        alone = replace(wanted, codes=wanted.codes[index : index + 1])
        single = paint(tiny_stack, alone, noise(3)[index : index + 1])[-1].latents
        torch.testing.assert_close(together[index : index + 1], single, rtol=0, atol=1e-5)


def test_everything_that_conditions_matters(tiny_stack: Stack) -> None:
    def result(wanted: Conditions) -> Tensor:
        return paint(tiny_stack, wanted, noise(), steps=2)[-1].latents

    one, two = (reference(tiny_stack, 2, 3, seed) for seed in (0, 1))
    base = conditions(tiny_stack, (one,))
    changed = [
        replace(base, codes=base.codes.flip(-1)),
        replace(base, glyphs=encode_glyphs(tiny_stack, ("HELLO", "all of me"))),
        replace(base, references=()),
        replace(base, references=(two,)),
        replace(base, references=(one, two)),
        replace(base, references=(replace(one, codes=two.codes),)),
        replace(base, guidance=1.0),
    ]
    for other in changed:
        assert (result(base) - result(other)).abs().max() > 1e-3
    # References do not see each other and share their origin, so their order is nothing to the decoder.
    swapped = result(replace(base, references=(two, one)))
    torch.testing.assert_close(swapped, result(replace(base, references=(one, two))), rtol=0, atol=1e-5)


def test_bfloat16_follows_float32(tiny_stack: Stack) -> None:
    import copy

    wanted = conditions(tiny_stack, (reference(tiny_stack, 2, 2, 0),))
    small = copy.deepcopy(tiny_stack.decoder).to(torch.bfloat16)
    exact = paint(tiny_stack, wanted, noise())[-1].latents
    rough = list(denoise(small, tiny_stack.scheduler_config, wanted, noise(), steps=STEPS))[-1].latents
    assert rough.dtype == torch.float32
    assert (rough - exact).abs().mean() < 0.05 * exact.std()


def test_stop_is_read_at_every_step(tiny_stack: Stack) -> None:
    stop = threading.Event()
    run = denoise(tiny_stack.decoder, tiny_stack.scheduler_config, conditions(tiny_stack), noise(), steps=9, stop=stop)
    next(run)
    next(run)
    stop.set()
    with pytest.raises(Stopped):
        next(run)
    with pytest.raises(StopIteration):
        next(run)
    references = (reference(tiny_stack, 2, 2, 0),)
    with pytest.raises(Stopped):
        next(
            denoise(
                tiny_stack.decoder,
                tiny_stack.scheduler_config,
                conditions(tiny_stack, references),
                noise(),
                steps=2,
                stop=stop,
            )
        )


def test_weights_are_left_alone(tiny_stack: Stack) -> None:
    before = {name: value.clone() for name, value in tiny_stack.decoder.state_dict().items()}
    paint(tiny_stack, conditions(tiny_stack, (reference(tiny_stack, 2, 2, 0),)), noise())
    for name, value in tiny_stack.decoder.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_rotary_equals_upstreams(tiny_stack: Stack) -> None:
    cos, sin = tiny_stack.decoder.rope(torch.zeros(1, 16, 8, 12))
    ours = rotary((4, 6), tiny_stack.decoder.rope.dim, tiny_stack.decoder.rope.theta, torch.device("cpu"))[:, 0]
    torch.testing.assert_close(torch.cat([ours.real] * 2, dim=-1), cos)
    torch.testing.assert_close(torch.cat([ours.imag] * 2, dim=-1), sin)


@pytest.mark.parametrize("rows", [1, 15, 16, 40])
@pytest.mark.parametrize("gelu", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_linear_is_the_modules(rows: int, gelu: bool, bias: bool) -> None:
    torch.manual_seed(0)
    module = torch.nn.Linear(24, 10, bias=bias)
    x = torch.randn(rows, 24)
    wanted = module(x)
    if gelu:
        wanted = torch.nn.functional.gelu(wanted, approximate="tanh")
    with torch.no_grad():
        torch.testing.assert_close(linear(module, x, gelu=gelu), wanted)
        torch.testing.assert_close(linear(module, x[:, None].expand(-1, 2, -1)[:, 0], gelu=gelu), wanted)
