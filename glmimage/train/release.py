"""The released layout: every config, the tokenizer and the files of a checkpoint, at any size.

`build` makes a complete checkpoint with random weights, `write` stores trained parts; both are what unmodified
`diffusers.GlmImagePipeline.from_pretrained` loads. Ids follow the release: image codes first, then the image's start
and end, spare ids, text pieces and special tokens. Knows nothing of training or of the sticker world.

Departures from the release, all in the files and none in the classes:
1. Digits are single tokens, and text between quotation marks is spelled letter by letter (by the pre-tokenizer, so a
   plain tokenizer.json does it), because the prior has to copy those letters into the picture.
2. MRoPE sections are interleaved in ones and theta is small: with 32 numbers a head the release's sections hardly turn
   along the width of a small grid.
3. The VAE has no attention in the middle and no quant convolutions, as in the release; its blocks are narrow.
4. `generation_config.json` forbids every id that is not a code, so that plain `generate()` always fills the grid.
"""

from __future__ import annotations

import copy
import json
import math
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, GlmImageTransformer2DModel
from safetensors import SafetensorError
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    ByT5Tokenizer,
    GenerationConfig,
    GlmImageConfig,
    GlmImageForConditionalGeneration,
    GlmImageProcessor,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
)
from transformers.models.glm_image.image_processing_pil_glm_image import GlmImageImageProcessorPil

from glmimage.checkpoint import Defaults, write_defaults
from glmimage.errors import TrainingError, reason
from glmimage.prompting import QUOTED

BYT5_VOCABULARY = 384
"""256 bytes, three special tokens, 125 sentinels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    """Every number that the configs of one checkpoint need."""

    name: str

    vae_channels: tuple[int, ...]
    """Block widths, fine to coarse; four of them make 8 pixels a latent."""
    vae_layers: int
    vae_groups: int
    latent_channels: int = 16

    codes: int
    code_dim: int
    vision_layers: int
    vision_hidden: int
    vision_heads: int
    vision_intermediate: int
    vision_image_size: int
    """Side of the learned position grid in pixels of the HALVED picture; other sizes interpolate it."""
    vision_patch: int = 16

    text_pieces: int
    """Byte pairs to learn, the 256 bytes included."""
    prior_layers: int
    prior_hidden: int
    prior_heads: int
    prior_kv_heads: int
    prior_head_dim: int
    """Half of it turns with the position, as in the release; in the other half a letter is the same anywhere."""
    prior_intermediate: int
    prior_positions: int
    spare_ids: int = 16
    """Ids after the codes, start and end among them; the head covers codes + spare_ids."""
    rope_theta: float = 100.0
    rope_sections: tuple[int, ...] = ()
    """Frequencies by turns for time, row, column; their sum is a quarter of a head. Empty = ones."""
    prior_initializer: float = 0.02

    decoder_layers: int
    decoder_heads: int
    decoder_head_dim: int
    time_embed_dim: int
    condition_dim: int

    glyph_hidden: int
    glyph_layers: int
    glyph_heads: int
    glyph_head_dim: int
    glyph_intermediate: int

    smallest_reference: int = 512
    largest_reference: int = 2048
    """Limits a side of the image processor (it stores their squares)."""
    side: int
    """The default picture is a square of this side."""
    steps: int
    guidance: float = 1.5
    keep: bool = False
    """As in `Defaults`: in the sticker world a cell shows what its code says and nothing else."""
    repeats: bool = False
    """As in `Defaults`: what `train.prior.to_preview` makes."""
    min_side: int
    max_side: int
    max_pixels: int = 512 * 512

    @property
    def image_start(self) -> int:
        return self.codes

    @property
    def image_end(self) -> int:
        return self.codes + 1

    @property
    def vision_vocabulary(self) -> int:
        """Width of the prior's head."""
        return self.codes + self.spare_ids

    @property
    def defaults(self) -> Defaults:
        return Defaults(
            width=self.side,
            height=self.side,
            steps=self.steps,
            guidance=self.guidance,
            min_side=self.min_side,
            max_side=self.max_side,
            max_pixels=self.max_pixels,
            name=self.name,
            keep=self.keep,
            repeats=self.repeats,
        )


MINIATURE = Sizes(
    name="miniature",
    vae_channels=(16, 32, 64, 96),
    vae_layers=1,
    vae_groups=1,
    codes=4096,
    code_dim=32,
    vision_layers=4,
    vision_hidden=192,
    vision_heads=6,
    vision_intermediate=768,
    vision_image_size=256,
    text_pieces=1024,
    prior_layers=8,
    prior_hidden=256,
    prior_heads=4,
    prior_kv_heads=2,
    prior_head_dim=128,
    prior_intermediate=768,
    prior_positions=8192,
    # All but the slowest of a head's frequencies tell row and column, which is what a grid of 8 or 16 needs.
    rope_theta=10.0,
    rope_sections=(0, 1, 1) * 13 + (6,),
    decoder_layers=8,
    decoder_heads=4,
    decoder_head_dim=64,
    time_embed_dim=128,
    condition_dim=64,
    glyph_hidden=192,
    glyph_layers=3,
    glyph_heads=6,
    glyph_head_dim=32,
    glyph_intermediate=512,
    # The shortest side that the world has, so that each of its pictures is a reference as it is.
    smallest_reference=192,
    largest_reference=1024,
    side=256,
    steps=20,
    keep=True,
    repeats=True,
    min_side=128,
    max_side=512,
)

TINY = Sizes(
    name="tiny",
    vae_channels=(8, 8, 16, 16),
    vae_layers=1,
    vae_groups=4,
    codes=64,
    code_dim=8,
    vision_layers=2,
    vision_hidden=32,
    vision_heads=2,
    vision_intermediate=64,
    vision_image_size=64,
    text_pieces=300,
    prior_layers=2,
    prior_hidden=64,
    prior_heads=4,
    prior_kv_heads=2,
    prior_head_dim=16,
    prior_intermediate=96,
    prior_positions=4096,
    # Wide enough that a wrong position or a wrong cache changes the codes drawn; 0.02 is all but uniform.
    prior_initializer=0.3,
    decoder_layers=2,
    decoder_heads=2,
    decoder_head_dim=16,
    time_embed_dim=16,
    condition_dim=8,
    glyph_hidden=32,
    glyph_layers=1,
    glyph_heads=2,
    glyph_head_dim=16,
    glyph_intermediate=32,
    smallest_reference=64,
    largest_reference=512,
    side=64,
    steps=3,
    min_side=32,
    max_side=512,
)
"""For tests: a second to build, the released layout in everything but its widths."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """The seven folders of a checkpoint as objects."""

    text_encoder: T5EncoderModel
    tokenizer: ByT5Tokenizer
    processor: GlmImageProcessor
    vision_language_encoder: GlmImageForConditionalGeneration
    transformer: GlmImageTransformer2DModel
    vae: AutoencoderKL
    scheduler: FlowMatchEulerDiscreteScheduler


# --- tokenizer and processor ------------------------------------------------------------------------------------------

PAD, GRID_BOS, GRID_EOS, IMAGE = "<|endoftext|>", "<sop>", "<eop>", "<|image|>"


def code_token(code: int) -> str:
    """The release's name of an image code, or of the start and end after the last one."""
    return f"<|dit_token_{code}|>"


def build_tokenizer(captions: Iterable[str], sizes: Sizes) -> PreTrainedTokenizerFast:
    """Byte-level BPE learned on `captions`; any text can be typed. Deterministic for equal captions."""
    spelling = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QUOTED), "isolated"),
            # Inside a piece that is one quoted string, every character becomes a piece of its own: the first match has
            # to start the piece (\A), each next one where the last ended (\G).
            pre_tokenizers.Split(Regex(rf"\A(?=(?:{QUOTED})\z)[\s\S]|\G(?!\A)[\s\S]"), "isolated"),
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    learned = _byte_pairs(captions, spelling, sizes.text_pieces)

    vocabulary = {code_token(code): code for code in range(sizes.vision_vocabulary)}
    pieces = sorted(learned["vocab"], key=learned["vocab"].__getitem__)
    vocabulary |= {piece: sizes.vision_vocabulary + index for index, piece in enumerate(pieces)}
    merges = [tuple(merge) for merge in learned["merges"]]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = spelling
    tokenizer.decoder = decoders.ByteLevel()
    start, end = code_token(sizes.image_start), code_token(sizes.image_end)
    # Only start and end are matched in text: the codes themselves never stand in a prompt.
    special = [
        AddedToken(token, special=True, normalized=False) for token in (start, end, PAD, GRID_BOS, GRID_EOS, IMAGE)
    ]
    tokenizer.add_special_tokens(special)
    return _wrapped(tokenizer, start, end, sizes.prior_positions)


def _byte_pairs(captions: Iterable[str], spelling: pre_tokenizers.PreTokenizer, count: int) -> dict[str, Any]:
    """What BPE of `count` pieces, the 256 bytes among them, learns: "vocab" and "merges", as tokenizers has them."""
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = spelling
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    learner.train_from_iterator(
        captions, trainers.BpeTrainer(vocab_size=count, initial_alphabet=alphabet, show_progress=False)
    )
    learned: dict[str, Any] = json.loads(learner.to_str())["model"]
    return learned


def _wrapped(tokenizer: Tokenizer, start: str, end: str, longest: int) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=start,
        eos_token=end,
        pad_token=PAD,
        extra_special_tokens={"image_token": IMAGE, "grid_bos_token": GRID_BOS, "grid_eos_token": GRID_EOS},
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=longest,
    )


def extend_tokenizer(tokenizer: PreTrainedTokenizerFast, words: Iterable[str], most: int) -> PreTrainedTokenizerFast:
    """The tokenizer with pieces for `words` and all that they are made of, `most` with the bytes'; its ids stay.

    For another language than it was learned on, whose text it can only spell byte by byte.
    """
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    vocabulary, merges = state["model"]["vocab"], state["model"]["merges"]
    # Added tokens keep their ids only where the model has them, too: else they would move behind its last piece.
    vocabulary |= {token["content"]: token["id"] for token in state["added_tokens"]}
    learned = _byte_pairs(words, tokenizer.backend_tokenizer.pre_tokenizer, most)
    new = [piece for piece in sorted(learned["vocab"], key=learned["vocab"].__getitem__) if piece not in vocabulary]
    vocabulary |= {piece: len(tokenizer) + index for index, piece in enumerate(new)}
    merges += [merge for merge in learned["merges"] if merge not in merges]
    extended = Tokenizer.from_str(json.dumps(state))
    return _wrapped(extended, tokenizer.bos_token, tokenizer.eos_token, tokenizer.model_max_length)


def build_processor(tokenizer: PreTrainedTokenizerFast, sizes: Sizes) -> GlmImageProcessor:
    """Prompt layout with the release's source markers; halves pictures and cuts them into 16-pixel patches."""
    start, end = tokenizer.bos_token, tokenizer.eos_token
    template = (
        "{%- for message in messages -%}"
        "{%- if message['content'] is string -%}{{ message['content'] }}{%- else -%}"
        "{%- for item in message['content'] -%}"
        "{%- if item['type'] == 'image' -%}" + start + IMAGE + end + "{%- else -%}{{ item['text'] }}{%- endif -%}"
        "{%- endfor -%}"
        "{%- endif -%}"
        "{%- endfor -%}"
    )
    image_processor = GlmImageImageProcessorPil(
        size={"shortest_edge": sizes.smallest_reference**2, "longest_edge": sizes.largest_reference**2},
        patch_size=sizes.vision_patch,
        merge_size=1,
        temporal_patch_size=1,
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
    )
    return GlmImageProcessor(image_processor=image_processor, tokenizer=tokenizer, chat_template=template)


# --- models -----------------------------------------------------------------------------------------------------------


def build_prior(sizes: Sizes, tokenizer: PreTrainedTokenizerFast) -> GlmImageForConditionalGeneration:
    """Text model, vision tower and quantizer with random weights, and a complete generation config."""
    config = GlmImageConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": sizes.prior_hidden,
            "intermediate_size": sizes.prior_intermediate,
            "num_hidden_layers": sizes.prior_layers,
            "num_attention_heads": sizes.prior_heads,
            "num_key_value_heads": sizes.prior_kv_heads,
            "head_dim": sizes.prior_head_dim,
            "max_position_embeddings": sizes.prior_positions,
            "initializer_range": sizes.prior_initializer,
            "vision_vocab_size": sizes.vision_vocabulary,
            "pad_token_id": tokenizer.pad_token_id,
            "eos_token_id": sizes.image_end,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": sizes.rope_theta,
                "partial_rotary_factor": 0.5,
                "mrope_section": list(sizes.rope_sections or (1,) * (sizes.prior_head_dim // 4)),
            },
        },
        vision_config={
            "depth": sizes.vision_layers,
            "hidden_size": sizes.vision_hidden,
            "num_heads": sizes.vision_heads,
            "intermediate_size": sizes.vision_intermediate,
            "image_size": sizes.vision_image_size,
            "patch_size": sizes.vision_patch,
            "initializer_range": sizes.prior_initializer,
        },
        vq_config={
            "embed_dim": sizes.code_dim,
            "num_embeddings": sizes.codes,
            "latent_channels": sizes.vision_hidden,
        },
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE),
        image_start_token_id=sizes.image_start,
        image_end_token_id=sizes.image_end,
    )
    model = GlmImageForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        do_sample=True,
        temperature=0.9,
        top_p=0.75,
        top_k=0,
        bos_token_id=sizes.image_start,
        eos_token_id=sizes.image_end,
        pad_token_id=tokenizer.pad_token_id,
        # The end is forbidden too: the caller's max_new_tokens is the exact count, and the token after it is dropped.
        suppress_tokens=list(range(sizes.codes, sizes.vision_vocabulary)),
    )
    return model.eval()


def build_vae(sizes: Sizes) -> AutoencoderKL:
    """Random weights; mean and spread of the latents are made up until a trainer measures them."""
    blocks = len(sizes.vae_channels)
    channels = range(sizes.latent_channels)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        block_out_channels=sizes.vae_channels,
        layers_per_block=sizes.vae_layers,
        latent_channels=sizes.latent_channels,
        norm_num_groups=sizes.vae_groups,
        sample_size=sizes.side,
        scaling_factor=1.0,
        latents_mean=[round(0.3 * math.sin(channel + 1), 4) for channel in channels],
        latents_std=[round(1 + 0.4 * math.cos(channel), 4) for channel in channels],
        force_upcast=True,
        use_quant_conv=False,
        use_post_quant_conv=False,
        mid_block_add_attention=False,
    ).eval()


def build_decoder(sizes: Sizes, *, zero: bool = False) -> GlmImageTransformer2DModel:
    """Random weights; `zero` starts modulations and output at zero, as a trainer wants and a parity test does not."""
    decoder = GlmImageTransformer2DModel(
        patch_size=2,
        in_channels=sizes.latent_channels,
        out_channels=sizes.latent_channels,
        num_layers=sizes.decoder_layers,
        attention_head_dim=sizes.decoder_head_dim,
        num_attention_heads=sizes.decoder_heads,
        text_embed_dim=sizes.glyph_hidden,
        time_embed_dim=sizes.time_embed_dim,
        condition_dim=sizes.condition_dim,
        prior_vq_quantizer_codebook_size=sizes.codes,
    ).eval()
    if zero:
        outputs = [block.norm1.linear for block in decoder.transformer_blocks]
        for layer in (*outputs, decoder.norm_out.linear, decoder.proj_out):
            torch.nn.init.zeros_(layer.weight)
            torch.nn.init.zeros_(layer.bias)
    return decoder


def build_glyph_encoder(sizes: Sizes) -> T5EncoderModel:
    return T5EncoderModel(
        T5Config(
            vocab_size=BYT5_VOCABULARY,
            d_model=sizes.glyph_hidden,
            d_kv=sizes.glyph_head_dim,
            d_ff=sizes.glyph_intermediate,
            num_layers=sizes.glyph_layers,
            num_heads=sizes.glyph_heads,
            feed_forward_proj="gated-gelu",
            is_encoder_decoder=False,
            use_cache=False,
            tie_word_embeddings=False,
        )
    ).eval()


def build_scheduler() -> FlowMatchEulerDiscreteScheduler:
    """The release's: linear shift by mu = 0.75 * sqrt(tokens / 256) + 0.25."""
    return FlowMatchEulerDiscreteScheduler(
        num_train_timesteps=1000,
        use_dynamic_shifting=True,
        base_shift=0.25,
        max_shift=0.75,
        base_image_seq_len=256,
        time_shift_type="linear",
    )


# --- files ------------------------------------------------------------------------------------------------------------


def build_parts(sizes: Sizes, captions: Iterable[str], seed: int, *, zero_decoder: bool = False) -> Parts:
    """All parts with random float32 weights drawn from `seed`; the global random state is left as it was."""
    tokenizer = build_tokenizer(captions, sizes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Parts(
            text_encoder=build_glyph_encoder(sizes),
            tokenizer=ByT5Tokenizer(),
            processor=build_processor(tokenizer, sizes),
            vision_language_encoder=build_prior(sizes, tokenizer),
            transformer=build_decoder(sizes, zero=zero_decoder),
            vae=build_vae(sizes),
            scheduler=build_scheduler(),
        )


def write(folder: Path, parts: Parts, defaults: Defaults | None = None, dtype: torch.dtype = torch.bfloat16) -> None:
    """Stores `parts` in the released layout as `dtype` safetensors, and `atelier.json` where `defaults` are given.

    The parts themselves keep their dtype and device. Raises `TrainingError` where there is no room; a checkpoint that
    was there before stays whole then.
    """
    index: dict[str, Any] = {"_class_name": "GlmImagePipeline", "_diffusers_version": diffusers.__version__}
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as beside:
            made = Path(beside)
            for name in Parts.__dataclass_fields__:
                part = getattr(parts, name)
                _write_part(part, made / name, dtype)
                index[name] = [type(part).__module__.split(".")[0], type(part).__name__]
            text = json.dumps(index, indent=2, sort_keys=True) + "\n"
            (made / "model_index.json").write_text(text, encoding="utf-8")
            if defaults is not None:
                write_defaults(made, defaults)
            folder.mkdir(exist_ok=True)
            for new in made.iterdir():
                old = folder / new.name
                if old.is_dir():
                    shutil.rmtree(old)
                new.replace(old)
    except Exception as error:
        # A fast tokenizer that finds no room raises Exception itself, and no kind of it.
        if not isinstance(error, OSError | SafetensorError) and type(error) is not Exception:
            raise
        raise TrainingError(
            f"The checkpoint {folder} cannot be written ({reason(error)}); make room or name another folder."
        ) from error


def _write_part(part: Any, folder: Path, dtype: torch.dtype) -> None:
    if not isinstance(part, torch.nn.Module):
        part.save_pretrained(folder)
        return
    # The plain `to`: diffusers' own warns of layers kept in float32, of which these classes have none.
    stored: Any = torch.nn.Module.to(copy.deepcopy(part), "cpu", dtype)
    stored.save_pretrained(folder)
    for weights in folder.glob("*.safetensors"):
        weights.chmod(0o644)  # safetensors writes them for the owner alone


def build(
    folder: Path,
    sizes: Sizes,
    captions: Iterable[str],
    seed: int,
    dtype: torch.dtype = torch.bfloat16,
) -> None:
    """Writes a complete checkpoint with random weights."""
    write(folder, build_parts(sizes, captions, seed), sizes.defaults, dtype)
