"""Weights in 8 and 4 bits: the formats, which linear layers they are for, what stays as it is and why, in exact bytes.

int8 is LLM.int8() (Dettmers et al. 2022): one scale a row, and inputs beyond a threshold are multiplied unquantized.
nf4 is QLoRA's NormalFloat (Dettmers et al. 2023): one scale for 64 weights; nf4-dq quantizes these scales once more.
The arithmetic is bitsandbytes', the file format that of transformers and diffusers. Reads no weights and imports no
torch; `models.py` loads, `convert.py` writes.

What bitsandbytes 0.50 does on a CPU: int8 multiplies in integers with AVX-512 and through a float32 copy of the layer
without. 4 bits go through a copy of the layer in the dtype of its input, unless the processor has AVX512-BF16: there
the weights are repacked in place by the first call (which undoes the saving of nf4-dq) and multiplied in bfloat16.

Rounding the inputs, as int8 does and bfloat16, makes last bits grow from layer to layer: on the miniature a change of a
millionth in the input moved eight blocks' answer by 1-3 % in int8 and 1 % in the bfloat16 kernel. The same request
gives the same picture; but the same picture in another batch, or codes drawn with other guesses, may differ. int8 adds
that an input counts as an outlier when any row of the call has one there.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from glmimage.errors import CheckpointError

Format = Literal["bf16", "int8", "nf4", "nf4-dq"]
"""bf16: not quantized, in whatever dtype the stack runs in."""
FORMATS: tuple[Format, ...] = get_args(Format)
Component = Literal["prior", "decoder", "glyphs"]
FOLDERS: dict[Component, str] = {"prior": "vision_language_encoder", "decoder": "transformer", "glyphs": "text_encoder"}
"""What can be quantized. The VAE cannot: it is small, made of convolutions, and turns errors into pixels."""

KEPT: dict[Component, dict[str, str]] = {
    "prior": {
        "model.language_model.embed_tokens": "a table to look up in: nothing is multiplied, and it can stay on the CPU",
        "model.visual": "runs once a reference; its features become the nearest code, so an error is a wrong code",
        "model.vqmodel": "the quantizer and its codebook: distances to the codes decide; convolutions and a table",
        "lm_head": "codes are drawn from its logits: 1 % of the weights, and nothing after it evens an error out",
    },
    "decoder": {
        "image_projector": "latents in: few numbers, and every layer after it reads the result",
        "glyph_projector": "glyphs in: likewise, computed once a run",
        "prior_token_embedding": "a table to look up in: nothing is multiplied",
        "prior_projector": "codes in: likewise, computed once a run",
        "time_condition_embed": "timestep and size: a few numbers that steer every layer, computed once a run",
        "norm1": "AdaLN: scales, shifts and gates of whole streams, computed once a run, so that they cost no time",
        "norm_out": "AdaLN of the last layer: likewise",
        "proj_out": "the velocity itself: an error in it is one in the picture, in every step",
    },
    "glyphs": {
        "shared": "a table to look up in: nothing is multiplied",
        "encoder.embed_tokens": "the same table",
        "relative_attention_bias": "a table to look up in: nothing is multiplied",
        "wo": "transformers leaves it out of every quantized T5, as it keeps it from float16",
    },
}
"""Names of modules, whole or the end of one's path, and why they keep their dtype. Norms and biases are no matrices and
always do. The names that hold linear layers are `llm_int8_skip_modules` of both libraries, which read them alike."""

BLOCK, NESTED_BLOCK = 64, 256
"""Weights that share a scale in nf4, and such scales that share one in nf4-dq; bitsandbytes' defaults."""
NF4_TABLE, NESTED_TABLE = 16 * 4, 256 * 4
"""Bytes of the float32 code tables that bitsandbytes holds for every layer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Formats:
    """How each component is wanted; None = as it is stored."""

    prior: Format | None = None
    decoder: Format | None = None
    glyphs: Format | None = None

    @classmethod
    def of_bits(cls, bits: int) -> Formats:
        """Prior and decoder in 8 or 4 bits; the glyph encoder, 1 % of the weights, spells the words and stays."""
        wanted: dict[int, Format] = {8: "int8", 4: "nf4"}
        if bits not in wanted:
            raise CheckpointError(f"Weights cannot have {bits} bits; choose 8 or 4.")
        return cls(prior=wanted[bits], decoder=wanted[bits])

    def items(self) -> Iterator[tuple[Component, Format | None]]:
        for component in FOLDERS:
            yield component, getattr(self, component)


def options(component: Component, format: Format) -> dict[str, Any]:
    """The arguments of `BitsAndBytesConfig` of transformers (prior, glyphs) and diffusers (decoder) alike."""
    assert format != "bf16"
    skipped = {"llm_int8_skip_modules": list(KEPT[component])}
    if format == "int8":
        return {"load_in_8bit": True, **skipped}
    return {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": format == "nf4-dq",
        "bnb_4bit_compute_dtype": "bfloat16",
        **skipped,
    }


def stored_format(part: Path) -> Format | Literal["fp4"]:
    """The format in which a component's folder holds its weights. Raises CheckpointError for another library's."""
    path = part / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        found = config.get("quantization_config") or {}
        method = found.get("quant_method", "bitsandbytes")
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(f"The file {path} cannot be read ({error}); download or write it again.") from None
    if method != "bitsandbytes":
        raise CheckpointError(
            f"The weights in {part} are quantized by {method}, which cannot be loaded here; use the checkpoint that"
            " they were made from."
        )
    if found.get("load_in_8bit"):
        return "int8"
    if not found.get("load_in_4bit"):
        return "bf16"
    if found.get("bnb_4bit_quant_type") != "nf4":
        return "fp4"
    return "nf4-dq" if found.get("bnb_4bit_use_double_quant") else "nf4"


def hush() -> None:
    """Keeps bitsandbytes' remarks off the terminal: one as diffusers imports it, and one for every product in int8."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def require() -> None:
    """Raises CheckpointError where bitsandbytes cannot be used."""
    hush()
    try:
        import bitsandbytes as bitsandbytes
    # A native library that does not load raises what it likes.
    except Exception as error:
        raise CheckpointError(
            f"Weights in 8 or 4 bits need bitsandbytes, which cannot be used here ({error}); install it with"
            " 'pip install bitsandbytes', or use the unquantized checkpoint."
        ) from None


# --- sizes ------------------------------------------------------------------------------------------------------------


def quantized_linears(component: Component, model: Any) -> list[str]:
    """Names of the linear layers of the upstream model (on any device, "meta" too) that a format is for."""
    from torch import nn

    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and not any(f".{key}." in f".{name}." for key in KEPT[component])
    ]


def linear_bytes(rows: int, columns: int, format: Format, itemsize: int = 2) -> int:
    """Memory of one weight [rows, columns] with everything that belongs to it, as bitsandbytes holds it.

    itemsize: bytes of a number that is not quantized.
    """
    count = rows * columns
    blocks = -(-count // BLOCK)
    if format == "int8":
        return count + 4 * rows
    if format == "nf4":
        return -(-count // 2) + 4 * blocks + NF4_TABLE
    if format == "nf4-dq":
        nested = 4 * -(-blocks // NESTED_BLOCK) + NESTED_TABLE + 4  # the offset of the scales
        return -(-count // 2) + blocks + NF4_TABLE + nested
    return count * itemsize


def packed_bytes(rows: int, columns: int) -> int:
    """The same of a 4-bit weight that was laid out for a processor's few rows (`models.pack`): scales in bfloat16."""
    count = rows * columns
    return -(-count // 2) + 2 * -(-count // BLOCK) + NF4_TABLE


def component_bytes(component: Component, model: Any, format: Format, itemsize: int = 2) -> int:
    """Memory of all parameters of an unquantized upstream model (on the meta device) once it is loaded in `format`.

    Equal to the sum of the tensors that the loaded model holds; its file has less than 2 KiB a quantized layer more.
    """
    quantized = {f"{name}.weight" for name in quantized_linears(component, model)}
    total = 0
    for name, weight in model.named_parameters():
        if name in quantized:
            rows, columns = weight.shape
            total += linear_bytes(rows, columns, format, itemsize)
        else:
            total += weight.numel() * itemsize
    return total
