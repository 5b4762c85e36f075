"""What a checkpoint's weights take, to the byte, before any of them is there: from its config files alone.

The upstream classes are built on torch's meta device, where a tensor is a shape, and their parameters are sorted into
the pieces that can be placed apart. `zai-org/GLM-Image` needs neither a folder nor torch: its configs and what was
counted from them are in presets/checkpoints.json, and a test counts again. Reads no weights and opens no connection.
Which linear layers a format replaces, and what bitsandbytes then holds for them, is `quantize`'s.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glmimage import checkpoint
from glmimage.errors import CheckpointError, reason
from glmimage.geometry import Size
from glmimage.quantize import FORMATS, Format, linear_bytes, packed_bytes, quantized_linears
from glmimage.quantize import Component as Folder
from glmimage.request import Defaults

if TYPE_CHECKING:
    from torch import nn

TABLE = Path(__file__).resolve().parent.parent / "presets" / "checkpoints.json"

# --- what is quantized, and what it takes then ------------------------------------------------------------------------

_QUANTIZED: Mapping[str, Folder] = {"prior": "prior", "decoder": "decoder"}
"""What a plan quantizes. The glyph encoder's errors become wrong letters, and it is small."""
_UNNAMED = ("lm_head",)
"""What transformers leaves out where a quantized checkpoint's config names no modules."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """Some parameters: those that a format replaces, and the rest."""

    matrices: tuple[tuple[int, int], ...] = ()
    """[rows, columns] of every linear weight that a format is for."""
    plain: int = 0
    """Numbers that stay as they are."""

    def bytes(self, format: Format, itemsize: int, *, packed: bool = False) -> int:
        if packed:
            return sum(packed_bytes(*shape) for shape in self.matrices) + self.plain * itemsize
        quantized = sum(linear_bytes(*shape, format=format, itemsize=itemsize) for shape in self.matrices)
        return quantized + self.plain * itemsize

    @property
    def quantizable(self) -> int:
        """Numbers that a format replaces."""
        return sum(rows * columns for rows, columns in self.matrices)

    @property
    def count(self) -> int:
        return self.quantizable + self.plain


@dataclass(frozen=True, kw_only=True, slots=True)
class Component:
    """Weights that are placed together: `blocks` equal blocks, which can be moved one by one, and what is around."""

    name: str
    blocks: int
    block: Numbers
    rest: Numbers
    stored: Format = "bf16"
    """As the checkpoint has it; what is not bf16 there stays in its format."""

    def bytes(self, format: Format, itemsize: int = 2, *, packed: bool = False) -> int:
        return self.blocks * self.block.bytes(format, itemsize, packed=packed) + self.rest.bytes(
            format, itemsize, packed=packed
        )

    @property
    def count(self) -> int:
        return self.blocks * self.block.count + self.rest.count

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Component:
        def numbers(part: Mapping[str, Any]) -> Numbers:
            return Numbers(tuple((rows, columns) for rows, columns in part["matrices"]), part["plain"])

        return cls(**{**data, "block": numbers(data["block"]), "rest": numbers(data["rest"])})

    @property
    def formats(self) -> tuple[Format, ...]:
        """What it can be loaded in."""
        if self.stored != "bf16":
            return (self.stored,)
        return FORMATS if self.block.matrices or self.rest.matrices else ("bf16",)


@dataclass(frozen=True, kw_only=True, slots=True)
class Architecture:
    """The weights of one checkpoint, and the widths that activations and caches depend on."""

    name: str
    defaults: Defaults
    components: tuple[Component, ...]
    """prior (text model and head), embedding (of its text and codes), vision (tower and quantizer), glyphs, decoder,
    modulation (its AdaLN layers), vae."""

    prior_width: int
    prior_intermediate: int
    prior_heads: int
    prior_kv_heads: int
    prior_head_dim: int
    vocabulary: int
    """Width of the prior's head."""
    codes: int
    code_dim: int
    vision_width: int
    vision_intermediate: int
    vision_positions: int
    decoder_width: int
    decoder_intermediate: int
    decoder_head_dim: int
    glyph_width: int
    glyph_intermediate: int
    vae_channels: tuple[int, ...]
    """Fine to coarse."""
    vae_decode_flops: float
    vae_encode_flops: float
    """Floating point operations a pixel."""
    reference_sides: tuple[int, int]
    """Shortest side that a reference is scaled up to, longest that it is scaled down to."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Architecture:
        """Reads what `to_json` wrote."""
        pairs = ("vae_channels", "reference_sides")
        learned = tuple(Size(**size) for size in data["defaults"]["sizes"])
        return cls(
            **{
                **data,
                "defaults": Defaults(**{**data["defaults"], "sizes": learned}),
                "components": tuple(Component.from_json(component) for component in data["components"]),
                **{name: tuple(data[name]) for name in pairs},
            }
        )

    def __getitem__(self, name: str) -> Component:
        return next(component for component in self.components if component.name == name)


# --- from configs -----------------------------------------------------------------------------------------------------


def read(name: str) -> Architecture:
    """Of checkpoint `name`: a folder, "miniature", a hub id that was fetched, or one of presets/checkpoints.json.

    A folder takes seconds the first time, because it imports the libraries. Raises CheckpointError.
    """
    folder = checkpoint.here(name)
    hub_id = name.partition("@")[0]
    known = json.loads(TABLE.read_text(encoding="utf-8"))
    if folder is not None and all((folder / part / file).is_file() for part, file in _FILES.items()):
        texts = {}
        for part, file in _FILES.items():
            try:
                texts[part] = (folder / part / file).read_text(encoding="utf-8")
            except (OSError, ValueError) as error:
                raise CheckpointError(
                    f"The file {folder / part / file} cannot be read ({error}); download or write the checkpoint again."
                ) from None
        return from_configs(str(folder), tuple(texts.items()), checkpoint.read_defaults(folder))
    if hub_id in known:
        return Architecture.from_json(known[hub_id]["counted"])
    if folder is not None:
        lacking = [f"{part}/{file}" for part, file in _FILES.items() if not (folder / part / file).is_file()]
        raise CheckpointError(
            f"The checkpoint in {folder} is not whole: {', '.join(lacking)} missing; download or write it again."
        )
    raise CheckpointError(
        f"The sizes of {name} are not known before it is here: run 'python -m glmimage fetch {name}' first, or plan for"
        f" {', '.join(known)}."
    )


_FILES = {
    "vision_language_encoder": "config.json",
    "transformer": "config.json",
    "text_encoder": "config.json",
    "vae": "config.json",
    "processor": "processor_config.json",
}


@lru_cache(maxsize=8)
def from_configs(source: str, texts: tuple[tuple[str, str], ...], defaults: Defaults) -> Architecture:
    """From (part, text of its config file); `source` is for messages. Raises CheckpointError."""
    where = ""
    try:
        configs: dict[str, dict[str, Any]] = {}
        for part, text in texts:
            where = f"{part}: "
            configs[part] = json.loads(text)
        where = ""
        return _measure(configs, defaults)
    except CheckpointError:
        raise
    # A wrong number in a config makes the upstream classes raise what they like.
    except Exception as error:
        raise CheckpointError(
            f"The configs of {source} describe no GLM-Image ({where}{reason(error)}); correct them or get the"
            " checkpoint again."
        ) from error


def _measure(configs: Mapping[str, dict[str, Any]], defaults: Defaults) -> Architecture:
    import torch
    from diffusers import AutoencoderKL, GlmImageTransformer2DModel
    from transformers import GlmImageConfig, GlmImageForConditionalGeneration, T5Config, T5EncoderModel

    stored = {part: _stored(part, config) for part, config in configs.items()}
    plain = {
        part: {key: value for key, value in config.items() if key != "quantization_config"}
        for part, config in configs.items()
    }
    with torch.device("meta"):
        prior_config = GlmImageConfig.from_dict(plain["vision_language_encoder"])
        prior = GlmImageForConditionalGeneration(prior_config)
        decoder = GlmImageTransformer2DModel.from_config(plain["transformer"])
        glyphs = T5EncoderModel(T5Config.from_dict(plain["text_encoder"]))
        vae = AutoencoderKL.from_config(plain["vae"])
        decode_flops, encode_flops = _vae_flops(vae.eval())
    text, vision, quantizer = prior_config.text_config, prior_config.vision_config, prior_config.vq_config
    limits = configs["processor"].get("image_processor", configs["processor"])["size"]

    def component(
        name: str, model: nn.Module, part: str, belongs: Callable[[str], bool], blocks: str = ""
    ) -> Component:
        return _component(name, model, stored[part], belongs, blocks)

    layers, transformer_blocks = "model.language_model.layers.", "transformer_blocks."
    seeing = ("model.visual.", "model.vqmodel.")
    embedding = "model.language_model.embed_tokens."
    components = (
        component(
            "prior",
            prior,
            "vision_language_encoder",
            lambda name: not name.startswith((*seeing, embedding)),
            layers,
        ),
        component("embedding", prior, "vision_language_encoder", lambda name: name.startswith(embedding)),
        component("vision", prior, "vision_language_encoder", lambda name: name.startswith(seeing)),
        component("glyphs", glyphs, "text_encoder", lambda name: True),
        component("decoder", decoder, "transformer", lambda name: ".norm1.linear." not in name, transformer_blocks),
        component("modulation", decoder, "transformer", lambda name: ".norm1.linear." in name, transformer_blocks),
        component("vae", vae, "vae", lambda name: True),
    )
    width = decoder.config.num_attention_heads * decoder.config.attention_head_dim
    return Architecture(
        name=defaults.name,
        defaults=defaults,
        components=components,
        prior_width=text.hidden_size,
        prior_intermediate=text.intermediate_size,
        prior_heads=text.num_attention_heads,
        prior_kv_heads=text.num_key_value_heads,
        prior_head_dim=prior.model.language_model.layers[0].self_attn.head_dim,
        vocabulary=text.vision_vocab_size,
        codes=quantizer.num_embeddings,
        code_dim=quantizer.embed_dim,
        vision_width=vision.hidden_size,
        vision_intermediate=vision.intermediate_size,
        vision_positions=(vision.image_size // vision.patch_size) ** 2,
        decoder_width=width,
        decoder_intermediate=decoder.transformer_blocks[0].ff.net[2].in_features,
        decoder_head_dim=decoder.config.attention_head_dim,
        glyph_width=glyphs.config.d_model,
        glyph_intermediate=glyphs.config.d_ff,
        vae_channels=tuple(vae.config.block_out_channels),
        vae_decode_flops=decode_flops,
        vae_encode_flops=encode_flops,
        reference_sides=(round(limits["shortest_edge"] ** 0.5), round(limits["longest_edge"] ** 0.5)),
    )


def _component(
    name: str,
    model: nn.Module,
    stored: tuple[Format, tuple[str, ...]],
    belongs: Callable[[str], bool],
    blocks: str,
) -> Component:
    """Sorts the model's parameters that belong; those of a block are named `blocks` and a number."""
    format, skipped = stored
    if format == "bf16":
        chosen = quantized_linears(_QUANTIZED[name], model) if name in _QUANTIZED else []
    else:
        chosen = [path for path in _linears(model) if not any(f".{key}." in f".{path}." for key in skipped)]
    quantized = {f"{path}.weight" for path in chosen}
    numbers: dict[str, Numbers] = {}
    for path, parameter in model.named_parameters():
        if not belongs(path):
            continue
        inside = bool(blocks) and path.startswith(blocks)
        key = path.removeprefix(blocks).partition(".")[0] if inside else ""
        before = numbers.get(key, Numbers())
        if path in quantized:
            rows, columns = parameter.shape
            numbers[key] = Numbers((*before.matrices, (rows, columns)), before.plain)
        else:
            numbers[key] = Numbers(before.matrices, before.plain + parameter.numel())
    rest = numbers.pop("", Numbers())
    assert len(set(numbers.values())) <= 1, f"the blocks of {name} are alike"
    block = next(iter(numbers.values()), Numbers())
    holds = block.matrices or rest.matrices
    return Component(name=name, blocks=len(numbers), block=block, rest=rest, stored=format if holds else "bf16")


def _linears(model: nn.Module) -> Iterable[str]:
    from torch import nn

    return (path for path, module in model.named_modules() if isinstance(module, nn.Linear))


def _stored(part: str, config: Mapping[str, Any]) -> tuple[Format, tuple[str, ...]]:
    """The format that a part's config says its weights have, and the modules that are left out of it."""
    found = config.get("quantization_config")
    if not found:
        return "bf16", ()
    method = found.get("quant_method", "bitsandbytes")
    if method != "bitsandbytes":
        raise CheckpointError(
            f"The {part} is quantized by {method}, which cannot be planned for; name the checkpoint it was made from."
        )
    skipped = tuple(found.get("llm_int8_skip_modules") or _UNNAMED)
    if found.get("load_in_8bit"):
        return "int8", skipped
    # fp4 differs from nf4 in its table only.
    return "nf4-dq" if found.get("bnb_4bit_use_double_quant") else "nf4", skipped


def _vae_flops(vae: Any) -> tuple[float, float]:
    """Operations a pixel of decoding and encoding: all layers but an attention in the middle grow with the area."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    side = 8 * 2 ** (len(vae.config.block_out_channels) - 1)
    counts = []
    for run, shape in ((vae.decode, (1, vae.config.latent_channels, 8, 8)), (vae.encode, (1, 3, side, side))):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            run(torch.empty(shape))
        counts.append(counter.get_total_flops() / side**2)
    return counts[0], counts[1]
