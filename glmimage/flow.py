"""Flow matching: the schedule, the Euler step, and the pairs that training regresses on.

x = (1 - sigma) * x0 + sigma * noise, and the decoder predicts the velocity v = noise - x0. Inference and training share
these lines. Follows diffusers' `GlmImagePipeline.__call__` and `FlowMatchEulerDiscreteScheduler`.
Knows nothing of the decoder, of latents' meaning or of a device.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from glmimage.errors import CheckpointError, RequestError

_UNSUPPORTED = (
    "shift_terminal",
    "invert_sigmas",
    "use_karras_sigmas",
    "use_exponential_sigmas",
    "use_beta_sigmas",
    "stochastic_sampling",
)


def shift_mu(tokens: int, config: Mapping[str, Any]) -> float:
    """How far the schedule leans towards noise for a picture of `tokens` decoder tokens (H/16 x W/16)."""
    base = config.get("base_image_seq_len", 256)
    return float((tokens / base) ** 0.5 * config.get("max_shift", 0.75) + config.get("base_shift", 0.25))


def shift_sigmas(sigmas: Tensor, tokens: int, config: Mapping[str, Any]) -> Tensor:
    """Sigmas 0..1 as a picture of `tokens` decoder tokens sees them; any shape, computed in the dtype given."""
    if not config.get("use_dynamic_shifting", False):
        shift = float(config.get("shift", 1.0))
        return shift * sigmas / (1 + (shift - 1) * sigmas)
    mu = shift_mu(tokens, config)
    if config.get("time_shift_type", "exponential") == "exponential":
        mu = math.exp(mu)
    return mu / (mu + (1 / sigmas - 1))


def schedule(steps: int, tokens: int, config: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """(timesteps[S], sigmas[S + 1]), float32 on the CPU, from noise to picture; the last sigma is 0.

    The timesteps are UNSHIFTED whole numbers and condition the decoder (as t - 1); the sigmas are shifted and drive the
    Euler steps. Mixing the two over-saturates pictures. `tokens` is the number of decoder tokens of one picture.
    Raises RequestError for a number of steps that cannot be, CheckpointError for a scheduler of another kind.
    """
    if strange := [name for name in _UNSUPPORTED if config.get(name)]:
        raise CheckpointError(
            f"The checkpoint's scheduler sets {', '.join(strange)}, which GLM-Image does not use;"
            " restore its scheduler/scheduler_config.json."
        )
    training_steps = int(config.get("num_train_timesteps", 1000))
    if not 1 <= steps <= training_steps:
        raise RequestError(f"{steps} steps cannot be taken; choose between 1 and {training_steps}.")
    whole = np.linspace(training_steps, 1.0, steps + 1)[:-1].astype(np.int64)
    timesteps = torch.from_numpy(whole.astype(np.float32))
    sigmas = shift_sigmas(timesteps / training_steps, tokens, config)
    return timesteps, torch.cat([sigmas, sigmas.new_zeros(1)])


def euler_step(x: Tensor, velocity: Tensor, sigma: float, sigma_next: float) -> Tensor:
    """x at `sigma_next` from x at `sigma`; float32 whatever the velocity's dtype."""
    return torch.add(x.float(), velocity.float(), alpha=sigma_next - sigma)


def clean_estimate(x: Tensor, velocity: Tensor, sigma: float) -> Tensor:
    """The clean latents that the velocity points at: x0 = x - sigma * v."""
    return torch.sub(x.float(), velocity.float(), alpha=sigma)


def add_noise(x0: Tensor, noise: Tensor, sigma: Tensor | float) -> Tensor:
    """The point at `sigma` on the straight way from x0 (0) to noise (1); a sigma tensor [B] is one for each picture."""
    if isinstance(sigma, Tensor):
        sigma = sigma.reshape(-1, *[1] * (x0.dim() - 1)) if sigma.dim() == 1 else sigma
    return (1 - sigma) * x0 + sigma * noise


def velocity_target(x0: Tensor, noise: Tensor) -> Tensor:
    """What the decoder is trained to predict."""
    return noise - x0
