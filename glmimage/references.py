"""Reference pictures: files to codes for the prior and decoder, and latents for the decoder.

A file is untrusted: what it is, how large it unfolds and which way it lies is settled in `read_picture`, before
anything computes with it. Each picture is then resized once, to exactly 32 pixels for each code of its grid, and goes
through both encoders: the vision tower with its quantizer (on half the pixels, by the checkpoint's image processor) and
the VAE. Upstream gives the VAE the native size, which crashes wherever the two grids differ. What was prepared is kept
with the stack, by the file's content.

Follows transformers' `smart_resize` and `GlmImageModel.get_image_features` / `get_image_tokens`. Knows no prompt.
"""

from __future__ import annotations

import hashlib
import io
import stat
import warnings
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from transformers.models.glm_image.image_processing_pil_glm_image import smart_resize

from glmimage import latents
from glmimage.errors import PictureError
from glmimage.geometry import LARGEST_ASPECT, PRIOR_CELL, Size
from glmimage.models import Stack
from glmimage.request import Reference

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "AVIF")
LARGEST_FILE = 200 * 2**20
LARGEST_PICTURE = 100_000_000
"""Pixels; an RGB picture of that size takes 300 MB."""
SMALLEST_SIDE = 16
KEPT = 8
"""Prepared references that a stack keeps; a 2048 px one takes about 4 MB."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PreparedReference:
    """One reference as the models read it."""

    codes: Tensor
    """[h, w] int64 on the stack's device: one code for 32 x 32 pixels."""
    latents: Tensor
    """[1, C, 4h, 4w] normalised, in the stack's dtype and on its device."""
    size: Size
    """Pixels after the resize: 32 for each code."""
    digest: str
    """SHA-256 of the file."""


def prepare(stack: Stack, references: Sequence[Reference]) -> list[PreparedReference]:
    """Reads and encodes `references` in their order. Raises PictureError, which names the file."""
    kept: OrderedDict[str, PreparedReference] = stack.kept.setdefault("references", OrderedDict())
    prepared = []
    for reference in references:
        data = _read_file(Path(reference.path))
        digest = hashlib.sha256(data).hexdigest()
        if digest not in kept:
            picture = fit(read_picture(data, reference.path), stack, reference.path)
            kept[digest] = PreparedReference(
                codes=encode_codes(stack, picture),
                latents=latents.encode(stack.vae, latents.to_tensor(picture)),
                size=Size(*picture.size),
                digest=digest,
            )
        kept.move_to_end(digest)
        prepared.append(kept[digest])
        while len(kept) > KEPT:
            kept.popitem(last=False)
    return prepared


def _read_file(path: Path) -> bytes:
    try:
        about = path.stat()
        # A pipe or a device would never end.
        if not stat.S_ISREG(about.st_mode):
            raise PictureError(f"The reference {path} is not a file; choose a picture.")
        if about.st_size > LARGEST_FILE:
            raise PictureError(
                f"The reference {path} has {about.st_size / 2**20:.0f} MB, more than {LARGEST_FILE / 2**20:.0f};"
                " save it smaller."
            )
        return path.read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise PictureError(f"The reference {path} cannot be opened ({reason}); choose another file.") from None


def read_picture(data: bytes, name: str = "picture") -> Image.Image:
    """An upright RGB picture from an untrusted file's bytes; transparency on white, of an animation the first frame.

    Raises PictureError for what is no picture, is damaged, has too few or too many pixels or is longer than 4:1.
    """
    try:
        with warnings.catch_warnings():
            # Pillow warns from half of its own limit on; ours is checked below.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(data), formats=FORMATS)
        width, height = picture.size
        if width * height > LARGEST_PICTURE:
            raise PictureError(
                f"The reference {name} has {width}x{height} pixels, more than {LARGEST_PICTURE // 10**6} million;"
                " save it smaller."
            )
        if min(width, height) < SMALLEST_SIDE:
            raise PictureError(
                f"The reference {name} has {width}x{height} pixels; choose one of at least {SMALLEST_SIDE} a side."
            )
        if max(width, height) > LARGEST_ASPECT * min(width, height):
            raise PictureError(
                f"The reference {name} has {width}x{height} pixels, longer than {LARGEST_ASPECT}:1; crop it first."
            )
        picture.load()
        return _flatten(ImageOps.exif_transpose(picture))
    except PictureError:
        raise
    except Image.DecompressionBombError:
        raise PictureError(
            f"The reference {name} has more than {LARGEST_PICTURE // 10**6} million pixels; save it smaller."
        ) from None
    except UnidentifiedImageError:
        kinds = ", ".join(FORMATS)
        raise PictureError(f"The reference {name} is no picture that can be read; use one of {kinds}.") from None
    # Pillow's decoders raise what they like on damaged data: OSError, SyntaxError, ValueError, struct.error ...
    except Exception as error:
        raise PictureError(f"The reference {name} is damaged ({error}); save it again or choose another.") from None


def _flatten(picture: Image.Image) -> Image.Image:
    """RGB, with transparency on white and 16-bit grey scaled to 8 bits instead of clipped."""
    if picture.mode.startswith("I") or picture.mode == "F":
        low, high = (0, 65535) if picture.mode.startswith("I") else (0, 1)
        picture = picture.convert("F").point(lambda value: (value - low) * (255 / (high - low))).convert("L")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        ground = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(ground, picture)
    return picture.convert("RGB")


def fit(picture: Image.Image, stack: Stack, name: str = "picture") -> Image.Image:
    """The picture at 32 pixels for each code of the grid that the checkpoint's image processor gives it."""
    limits = stack.processor.image_processor.size
    width, height = picture.size
    for _ in range(4):
        try:
            rows, columns = smart_resize(
                height,
                width,
                factor=PRIOR_CELL // 2,
                min_pixels=limits.shortest_edge,
                max_pixels=limits.longest_edge,
            )
        except ValueError:
            break
        # smart_resize answers in half pixels. Rounding to whole codes can move a picture across a limit: ask again.
        if (height, width) == (2 * rows, 2 * columns):
            return (
                picture
                if picture.size == (width, height)
                else picture.resize((width, height), Image.Resampling.BICUBIC)
            )
        height, width = 2 * rows, 2 * columns
    raise PictureError(f"The reference {name} is too long for the model; crop it to less than {LARGEST_ASPECT}:1.")


def encode_codes(stack: Stack, picture: Image.Image) -> Tensor:
    """[h, w] int64 codes of a picture whose sides are multiples of 32 and within the image processor's limits."""
    size = Size(*picture.size)
    inputs = stack.processor.image_processor(images=[picture], return_tensors="pt")
    rows, columns = size.prior_grid
    assert inputs["image_grid_thw"].tolist() == [[1, rows, columns]], "fit() gives one code for 32 x 32 pixels"
    model = stack.prior.model
    with torch.inference_mode():
        patches = inputs["pixel_values"].to(stack.device, stack.dtype)
        seen = model.visual(patches, grid_thw=inputs["image_grid_thw"].to(stack.device)).last_hidden_state
        grid = seen.view(1, rows, columns, -1).permute(0, 3, 1, 2)
        codes: Tensor = model.vqmodel.quantize(model.vqmodel.quant_conv(grid))[2]
    # A copy outside inference mode, so that later stages may do with it what they like.
    return codes.view(rows, columns).clone()
