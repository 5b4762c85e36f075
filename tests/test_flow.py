"""Flow matching against upstream's scheduler and against a flow with a known end."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.glm_image.pipeline_glm_image import calculate_shift

from glmimage import flow
from glmimage.errors import CheckpointError, RequestError

RELEASED = {
    "num_train_timesteps": 1000,
    "use_dynamic_shifting": True,
    "base_shift": 0.25,
    "max_shift": 0.75,
    "base_image_seq_len": 256,
    "time_shift_type": "linear",
}


@pytest.mark.parametrize("config", [RELEASED, RELEASED | {"time_shift_type": "exponential"}, {"shift": 3.0}, {}])
@pytest.mark.parametrize(("steps", "tokens"), [(1, 64), (20, 256), (50, 4096), (7, 1000)])
def test_schedule_equals_upstreams(config: dict[str, object], steps: int, tokens: int) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(**config)
    whole = np.linspace(1000, 1.0, steps + 1)[:-1].astype(np.int64).astype(np.float32)
    shift = (scheduler.config[name] for name in ("base_image_seq_len", "base_shift", "max_shift"))
    scheduler.set_timesteps(steps, timesteps=whole, sigmas=whole / 1000, mu=calculate_shift(tokens, *shift))

    timesteps, sigmas = flow.schedule(steps, tokens, scheduler.config)

    assert torch.equal(timesteps, scheduler.timesteps)
    torch.testing.assert_close(sigmas, scheduler.sigmas, rtol=0, atol=1e-7)


def test_timesteps_are_unshifted_and_sigmas_shifted() -> None:
    timesteps, sigmas = flow.schedule(4, 1024, RELEASED)
    assert timesteps.tolist() == [1000, 750, 500, 250]
    assert sigmas[0] == 1
    assert sigmas[-1] == 0
    # mu = 0.75 * 2 + 0.25 = 1.75; sigma 0.5 becomes mu / (mu + 1).
    assert sigmas[2] == pytest.approx(1.75 / 2.75)


def test_strange_requests_are_refused() -> None:
    with pytest.raises(RequestError, match="0 steps"):
        flow.schedule(0, 256, RELEASED)
    with pytest.raises(RequestError, match="1001 steps"):
        flow.schedule(1001, 256, RELEASED)
    with pytest.raises(CheckpointError, match="use_karras_sigmas"):
        flow.schedule(4, 256, RELEASED | {"use_karras_sigmas": True})


def test_euler_reaches_a_single_picture_exactly() -> None:
    """If the data is one picture m, the velocity is (x - m) / sigma and every Euler path ends in m."""
    picture, x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)).unbind()
    _, sigmas = flow.schedule(5, 256, RELEASED)
    for sigma, sigma_next in zip(sigmas[:-1].tolist(), sigmas[1:].tolist(), strict=True):
        velocity = (x - picture) / sigma
        torch.testing.assert_close(flow.clean_estimate(x, velocity, sigma), picture)
        x = flow.euler_step(x, velocity, sigma, sigma_next)
    torch.testing.assert_close(x, picture)


def test_euler_follows_a_gaussian() -> None:
    """Data N(0, s^2): the exact flow scales x by s; Euler gets there with many steps."""
    s = 0.5
    x = torch.linspace(-2, 2, 9)
    start = x.clone()
    _, sigmas = flow.schedule(1000, 256, RELEASED)
    for sigma, sigma_next in zip(sigmas[:-1].tolist(), sigmas[1:].tolist(), strict=True):
        variance = (1 - sigma) ** 2 * s**2 + sigma**2
        # v = E[noise - x0 | x] of jointly Gaussian variables.
        velocity = (sigma - (1 - sigma) * s**2) / variance * x
        x = flow.euler_step(x, velocity, sigma, sigma_next)
    torch.testing.assert_close(x, s * start, rtol=0, atol=5e-3)


def test_noise_and_velocity_fit_together() -> None:
    x0, noise = torch.randn(2, 2, 3, 4, 4, generator=torch.Generator().manual_seed(1)).unbind()
    sigmas = torch.tensor([0.25, 0.75])
    x = flow.add_noise(x0, noise, sigmas)
    velocity = flow.velocity_target(x0, noise)
    torch.testing.assert_close(x[0], 0.75 * x0[0] + 0.25 * noise[0])
    torch.testing.assert_close(flow.add_noise(x0, noise, 0.25)[0], x[0])
    for index, sigma in enumerate(sigmas.tolist()):
        torch.testing.assert_close(flow.clean_estimate(x[index], velocity[index], sigma), x0[index])
        torch.testing.assert_close(flow.euler_step(x[index], velocity[index], sigma, 1.0), noise[index])


def test_shifted_sigmas_stay_in_range() -> None:
    sigmas = flow.shift_sigmas(torch.tensor([0.0, 1e-6, 0.5, 1.0]), 4096, RELEASED)
    assert sigmas[0] == 0
    assert sigmas[-1] == 1
    assert (sigmas.diff() > 0).all()
