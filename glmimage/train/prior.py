"""Stage 4: the prior (the text model of `GlmImageForConditionalGeneration`), on captions and the codes of scenes.

A sequence is the released layout: prompt ids, the preview grid's codes, the target grid's codes. Positions are built
by hand (`get_rope_index` lays out only prompts and sources); the loss is ours (upstream's `labels=` reshapes wrongly).
Every visit to a scene gets new wording. The tokenizer's vision tower and quantizer stay as stage 2 left them.
"""

from __future__ import annotations

import random
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import GlmImageForConditionalGeneration, GlmImageProcessor

from glmimage.geometry import Size
from glmimage.prior import positions
from glmimage.prompting import prompt_ids
from glmimage.train.loop import Metrics, Run, Schedule
from glmimage.train.scenes import EncodedScenes
from glmimage.train.world import SIDE, caption, labels

PREVIEW_WEIGHT = 0.5
"""Of a preview code against a target code; there are four of them to each target code, so the grid weighs double."""
GROUND_WEIGHT = 0.3
LETTER_WEIGHT = 3.0
"""Of a cell of lettering: few cells, and copying them from the prompt is what is learned last."""


def hidden_states(model: GlmImageForConditionalGeneration, ids: Tensor, places: Tensor) -> Tensor:
    """The text model's forward for complete sequences: ids [B, L], places [3, B, L] -> [B, L, C].

    Sequences of a batch are padded at their ends; causal attention keeps the padding out.
    """
    text = model.model.language_model
    hidden = text.embed_tokens(ids)
    cos, sin = text.rotary_emb(hidden, places)
    cos, sin = cos[:, None], sin[:, None]
    for layer in text.layers:
        attention = layer.self_attn
        normed = layer.input_layernorm(hidden)
        query, key, value = (
            module(normed).unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)
            for module in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        query, key = _turn(query, cos, sin), _turn(key, cos, sin)
        groups = attention.num_key_value_groups
        mixed = F.scaled_dot_product_attention(
            query.to(value.dtype),
            key.to(value.dtype).repeat_interleave(groups, 1),
            value.repeat_interleave(groups, 1),
            is_causal=True,
            scale=attention.scaling,
        )
        mixed = attention.o_proj(mixed.transpose(1, 2).flatten(2))
        hidden = hidden + layer.post_self_attn_layernorm(mixed)
        hidden = hidden + layer.post_mlp_layernorm(layer.mlp(layer.post_attention_layernorm(hidden)))
    normed_out: Tensor = text.norm(hidden)
    return normed_out


def _turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    left, right = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-right, left], dim=-1) * sin


def train_prior(
    model: GlmImageForConditionalGeneration,
    processor: GlmImageProcessor,
    work: Path,
    schedule: Schedule,
    *,
    compiled: bool = False,
) -> Run:
    model.train()
    data = EncodedScenes(work, latents=False)
    model.model.visual.requires_grad_(False)
    model.model.vqmodel.requires_grad_(False)
    text = model.model.language_model
    run = Run("prior", work, {"text": text, "lm_head": model.lm_head}, schedule)
    run.resume()
    forward = torch.compile(hidden_states, dynamic=True) if compiled else hidden_states
    size = Size(SIDE, SIDE)
    pad = model.config.text_config.pad_token_id

    def loss_of(step: int, done: float) -> tuple[Tensor, Metrics]:
        rng = random.Random(step)
        rows = rng.choices(range(len(data)), k=schedule.batch)
        prompts, weights = [], []
        for row in rows:
            scene = data.scene(row)
            prompts.append(prompt_ids(processor, caption(scene, rng)[0], size))
            grid = labels(scene)
            weight = torch.where(torch.from_numpy(grid[0] > 0), 1.0, GROUND_WEIGHT)
            weight[torch.from_numpy(grid[3] > 0)] = LETTER_WEIGHT
            fine = weight.repeat_interleave(2, 0).repeat_interleave(2, 1)
            weights.append(torch.cat([PREVIEW_WEIGHT * fine.flatten(), weight.flatten()]))
        codes = torch.cat([data.preview[rows].flatten(1), data.codes[rows].flatten(1)], dim=1)
        longest = max(len(prompt.ids) for prompt in prompts)
        # To the next multiple of 8, so that a compiled forward meets few lengths.
        length = -(-longest // 8) * 8 + codes.shape[1]
        ids = torch.full((len(rows), length), pad)
        places = torch.zeros((3, len(rows), length), dtype=torch.long)
        ends = torch.tensor([len(prompt.ids) for prompt in prompts])
        for index, prompt in enumerate(prompts):
            count = len(prompt.ids) + codes.shape[1]
            ids[index, : len(prompt.ids)] = torch.tensor(prompt.ids)
            ids[index, len(prompt.ids) : count] = codes[index]
            places[:, index, :count] = positions(prompt)
        with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            hidden = forward(model, ids, places)
            # The state before each code predicts it.
            at = ends[:, None] - 1 + torch.arange(codes.shape[1])
            logits = model.lm_head(hidden.gather(1, at[..., None].expand(-1, -1, hidden.shape[-1])))
        losses = F.cross_entropy(logits.float().flatten(0, 1), codes.flatten(), reduction="none").view(codes.shape)
        weight = torch.stack(weights)
        preview = data.preview[0].numel()
        loss = (losses * weight).sum() / weight.sum()
        return loss, {"preview": losses[:, :preview].mean().item(), "target": losses[:, preview:].mean().item()}

    run.train(loss_of, log_every=20)
    run.load_average()
    return run
