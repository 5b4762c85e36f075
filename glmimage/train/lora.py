"""LoRA: a prior or decoder learns a folder of captioned pictures in small matrices beside its own, which stay.

The folder holds pictures and, beside each, a text file of the same name with its caption, or several, one a line, so
that the prior does not learn the very words of a few by heart. It learns to lay the pictures out (their codes from
their captions), the decoder to paint them (from their codes and quoted words). What is learned is written in peft's own
format, as `glmimage.adapters` and peft read it.

Twenty pictures of one thing also teach that everything looks like it. A second folder, of what the checkpoint knows and
is to keep, prevents that: half of each batch comes from there (prior preservation, DreamBooth, arXiv:2208.12242).

As in stage 4, the preview grid repeats the target grid, or leaves cells of it out (`prior.to_preview`).
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model
from PIL import Image
from torch import Tensor, nn
from transformers import GlmImageForConditionalGeneration

from glmimage import latents as pixels_and_latents
from glmimage.adapters import CONFIG, PREFIX, WEIGHTS
from glmimage.errors import TrainingError
from glmimage.flow import add_noise, shift_sigmas, velocity_target
from glmimage.geometry import PRIOR_CELL, Size
from glmimage.models import Stack
from glmimage.pictures import read_file, read_picture
from glmimage.prior import positions
from glmimage.prompting import PromptIds, prompt_ids, quoted
from glmimage.quantize import FOLDERS, Component
from glmimage.references import encode_codes, fit
from glmimage.train.decoder import UNCONDITIONAL, glyph_embeddings, sample_sigmas, velocity
from glmimage.train.loop import Metrics, Run, Schedule, mixed_precision, store, text_tensor
from glmimage.train.prior import COPY_WEIGHT, hidden_states, to_preview

NAME = "default"
"""Of the adapter inside its module; peft leaves this one out of stored names."""
TARGETS: Mapping[Component, str] = {
    "prior": r".*language_model\.layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate_up|down)_proj)",
    "decoder": r"transformer_blocks\.\d+\.(attn1\.(to_[qkv]|to_out\.0)|ff\.net\.(0\.proj|2))",
}
"""The layers that learn: attention and feed-forward."""
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
LONGEST_CAPTION = 4000
PRESERVED = 0.5
"""Share of a batch that comes from what is to be kept, where there is such a folder."""


@dataclass(frozen=True, slots=True, eq=False)
class Captioned:
    """A picture as the models see it."""

    caption: str
    codes: Tensor
    """[h, w] int64."""
    latents: Tensor
    """[1, C, H, W] normalised."""

    @property
    def size(self) -> Size:
        rows, columns = self.codes.shape
        return Size(32 * columns, 32 * rows)


def read_folder(folder: Path) -> list[tuple[Path, tuple[str, ...]]]:
    """The pictures of a folder with their captions, by name. Raises TrainingError where there are none."""
    if not folder.is_dir():
        raise TrainingError(f"There is no folder {folder}; make one with pictures and captions: fox.png, fox.txt.")
    found = []
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in SUFFIXES:
            continue
        text = path.with_suffix(".txt")
        try:
            lines = text.read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError) as error:
            raise TrainingError(f"The picture {path} has no caption in {text.name} ({error}); write one.") from None
        captions = tuple(filter(None, map(str.strip, lines)))
        longest = max(map(len, captions), default=0)
        if not 0 < longest <= LONGEST_CAPTION:
            raise TrainingError(f"The caption {text} has {longest} letters; write 1 to {LONGEST_CAPTION}.")
        found.append((path, captions))
    if not found:
        raise TrainingError(f"There are no pictures in {folder} ({', '.join(SUFFIXES)}); put some there.")
    return found


def prepare(stack: Stack, folder: Path) -> list[Captioned]:
    """The folder's pictures, encoded once for each caption.

    One whose sides are multiples of 32 and within what the checkpoint makes stays as it is, others are brought to about
    the checkpoint's usual size.
    """
    prepared = []
    for path, captions in read_folder(folder):
        picture = fit(_sized(read_picture(read_file(path), path.name), stack), stack, path.name)
        with torch.no_grad():
            latents = pixels_and_latents.encode(stack.vae, pixels_and_latents.to_tensor(picture))
        codes, latents = encode_codes(stack, picture), latents.clone()
        prepared += [Captioned(caption, codes, latents) for caption in captions]
    return prepared


def _sized(picture: Image.Image, stack: Stack) -> Image.Image:
    limits = stack.defaults
    fits = all(side % PRIOR_CELL == 0 and limits.min_side <= side <= limits.max_side for side in picture.size)
    if fits and picture.width * picture.height <= limits.max_pixels:
        return picture
    wanted = limits.width * limits.height
    scale = (wanted / (picture.width * picture.height)) ** 0.5
    size = Size.snap(round(picture.width * scale), round(picture.height * scale))
    return picture.resize((size.width, size.height), Image.Resampling.LANCZOS)


# -- losses ------------------------------------------------------------------------------------------------------------


def code_losses(
    model: GlmImageForConditionalGeneration, prompts: Sequence[PromptIds], codes_BK: Tensor, device: torch.device
) -> Tensor:
    """Cross-entropy of each code that prompts of the same grids are followed by: [B, K], on `device`."""
    count = codes_BK.shape[1]
    ends = torch.tensor([len(prompt.ids) for prompt in prompts])
    length = int(ends.max()) + count
    ids = torch.zeros((len(prompts), length), dtype=torch.long)
    places = torch.zeros((3, len(prompts), length), dtype=torch.long)
    for index, (prompt, end) in enumerate(zip(prompts, ends.tolist(), strict=True)):
        ids[index, : end + count] = torch.cat([torch.tensor(prompt.ids), codes_BK[index]])
        places[:, index, : end + count] = positions(prompt)
    hidden = hidden_states(model, ids.to(device), places.to(device))
    # The state before each code predicts it.
    at = (ends[:, None] - 1 + torch.arange(count)).to(device)
    logits = model.lm_head(hidden.gather(1, at[..., None].expand(-1, -1, hidden.shape[-1])))
    losses = F.cross_entropy(logits.float().flatten(0, 1), codes_BK.flatten().to(device), reduction="none")
    return losses.view(codes_BK.shape)


def prior_loss(stack: Stack, items: Sequence[Captioned]) -> Tensor:
    """Mean cross-entropy of the codes of equally large pictures, given their captions."""
    size = items[0].size
    target = torch.stack([item.codes for item in items]).cpu()
    preview, new = to_preview(target, size.preview_grid)
    codes = torch.cat([preview.flatten(1), target.flatten(1)], dim=1)
    prompts = [prompt_ids(stack.processor, item.caption, size) for item in items]
    losses = code_losses(stack.prior, prompts, codes, stack.device)
    weights = torch.ones(codes.shape[1])
    weights[: new.numel()][~new.flatten()] = COPY_WEIGHT
    weights = weights.to(stack.device)
    return (losses * weights).mean() / weights.mean()


def decoder_loss(stack: Stack, items: Sequence[Captioned], generator: torch.Generator) -> Tensor:
    """Flow-matching loss of equally large pictures, given their codes and quoted words, sometimes given nothing."""
    clean = torch.cat([item.latents for item in items]).float()
    codes = torch.stack([item.codes for item in items])
    blind = bool(torch.rand((), generator=generator) < UNCONDITIONAL)
    noise = torch.randn(clean.shape, generator=generator).to(clean.device)
    times = sample_sigmas(len(items), generator)
    sigmas = shift_sigmas(times, clean.shape[-1] * clean.shape[-2] // 4, stack.scheduler_config).to(clean.device)
    with torch.no_grad():
        texts = [() if blind else quoted(item.caption) for item in items]
        glyphs, there = glyph_embeddings(stack.glyph_encoder, texts)
    shown = torch.full(codes.shape, 0.0 if blind else 1.0, device=codes.device)
    predicted, *_ = velocity(
        stack.decoder,
        add_noise(clean, noise, sigmas),
        codes,
        shown,
        glyphs,
        (times * 1000).round() - 1,
        glyphs_there=there,
    )
    return ((predicted.float() - velocity_target(clean, noise)) ** 2).mean()


# -- training ----------------------------------------------------------------------------------------------------------


def train_lora(
    stack: Stack,
    part: Component,
    items: Sequence[Captioned],
    work: Path,
    schedule: Schedule,
    rank: int,
    preserve: Sequence[Captioned] = (),
) -> None:
    """Trains one part's adapter, which is then inside its module; resumable like every stage."""
    module: nn.Module = {"prior": stack.prior, "decoder": stack.decoder}[part]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        inject_adapter_in_model(_config(part, rank), module, NAME)
    # A parameter's name holds dots, which a ParameterDict's may not.
    learned = nn.ParameterDict(
        {name.replace(".", "/"): value for name, value in module.named_parameters() if value.requires_grad}
    )
    run = Run(f"lora-{part}", work, {"lora": learned}, schedule)
    run.resume()
    new, known = _by_size(items), _by_size(preserve)

    def loss_of(step: int, done: float) -> tuple[Tensor, Metrics]:
        rng, generator = random.Random(step), torch.Generator().manual_seed(step)
        kind = random.Random(f"kind {run.step}")  # one in all processes, which wait for each other
        size = kind.choice(items).size
        beside = size if size in known or not preserve else kind.choice(preserve).size
        kept = _some(known.get(beside, ()), round(schedule.batch * PRESERVED), rng)
        chosen = _some(new[size], schedule.batch - len(kept), rng)
        run.batch = {}
        for index, item in enumerate(chosen + kept):
            run.batch |= {f"{index}.codes": item.codes, f"{index}.latents": item.latents}
            run.batch[f"{index}.caption"] = text_tensor(item.caption)
        loss = torch.zeros((), device=stack.device)
        with mixed_precision(stack.device.type):
            for alike in [chosen + kept] if beside == size else [chosen, kept]:
                share = len(alike) / len(chosen + kept)
                each = prior_loss(stack, alike) if part == "prior" else decoder_loss(stack, alike, generator)
                loss = loss + share * each
        return loss, {}

    run.train(loss_of)


def _told_apart(stack: Stack, items: Sequence[Captioned], rank: int, schedule: Schedule) -> str:
    """Other pictures, another rank, schedule or checkpoint: another name."""
    digest = hashlib.sha256(repr((rank, schedule)).encode())
    for module in (stack.prior.lm_head, stack.decoder.proj_out):
        digest.update(module.weight.detach().float().cpu().numpy().tobytes())
    for item in items:
        digest.update(f"{item.size} {item.caption}".encode())
        digest.update(item.codes.cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def _by_size(items: Sequence[Captioned]) -> dict[Size, list[Captioned]]:
    found: dict[Size, list[Captioned]] = {}
    for item in items:
        found.setdefault(item.size, []).append(item)
    return found


def _some(items: Sequence[Captioned], count: int, rng: random.Random) -> list[Captioned]:
    return rng.sample(items, min(count, len(items)))


def _config(part: Component, rank: int) -> LoraConfig:
    return LoraConfig(r=rank, lora_alpha=rank, target_modules=TARGETS[part])


def save_lora(stack: Stack, part: Component, folder: Path, rank: int) -> None:
    """Writes a part's adapter as peft does."""
    module: nn.Module = {"prior": stack.prior, "decoder": stack.decoder}[part]
    folder.mkdir(parents=True, exist_ok=True)
    state = get_peft_model_state_dict(module, adapter_name=NAME)
    store({f"{PREFIX}{name}": value for name, value in state.items()}, folder / WEIGHTS)
    config = {
        name: sorted(value) if isinstance(value, set) else value
        for name, value in _config(part, rank).to_dict().items()
    }
    # What it was trained on is a path of this machine.
    config |= {"base_model_name_or_path": None, "inference_mode": True}
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True, default=str) + "\n", encoding="utf-8")


SCHEDULES: Mapping[Component, Schedule] = {
    # A bicycle, with ten captions a picture and pictures to preserve, was laid out for 0.12 of 24 unseen prompts after
    # 100 steps at 0.001, for 0.46 after 200, for 0.54 after these.
    "prior": Schedule(steps=300, rate=3e-3, batch=8, warmup=20),
    "decoder": Schedule(steps=250, rate=2e-3, batch=8, warmup=20),
}


def learn(
    stack: Stack,
    folder: Path,
    schedules: Mapping[Component, Schedule],
    output: Path,
    work: Path,
    rank: int,
    preserve: Path | None = None,
) -> Iterator[tuple[Component, Path]]:
    """Trains and writes an adapter for each part of `schedules`; yields each when it is written.

    One part is written into `output` itself, two into folders of it. Runs that were cut off go on where pictures,
    captions, rank, schedule and checkpoint are the same; their states are kept in `work`.
    """
    items, kept = prepare(stack, folder), prepare(stack, preserve) if preserve else []
    for part, schedule in schedules.items():
        runs = work / _told_apart(stack, (*items, *kept), rank, schedule)
        train_lora(stack, part, items, runs, schedule, rank, kept)
        target = output if len(schedules) == 1 else output / FOLDERS[part]
        save_lora(stack, part, target, rank)
        yield part, target
