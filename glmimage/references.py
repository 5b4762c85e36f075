"""Reference pictures: files to codes for the prior and decoder, and latents for the decoder.

A file is untrusted: `pictures` settles what it is before anything computes with it. Each picture is then resized once,
to exactly 32 pixels for each code of its grid, and goes through both encoders: the vision tower with its quantizer (on
half the pixels, by the checkpoint's image processor) and the VAE. Upstream gives the VAE the native size, which crashes
wherever the two grids differ. What was prepared is kept with the stack, by the file's content, and on a shelf on disk
if there is one.

Follows transformers' `smart_resize` and `GlmImageModel.get_image_features` / `get_image_tokens`. Knows no prompt.
"""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from transformers.models.glm_image.image_processing_pil_glm_image import smart_resize

from glmimage import latents
from glmimage.errors import PictureError
from glmimage.geometry import LARGEST_ASPECT, PRIOR_CELL, Size
from glmimage.models import Stack
from glmimage.pictures import read_file, read_picture
from glmimage.request import Reference
from glmimage.shelf import Shelf

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


def prepare(
    stack: Stack,
    references: Sequence[Reference],
    shelf: Shelf | None = None,
    at_work: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> list[PreparedReference]:
    """Reads and encodes `references` in their order; what stands on the shelf is not encoded again.

    at_work: entered only for what is encoded, so that the encoders' weights need not come for what is not.
    Raises PictureError, which names the file.
    """
    kept: OrderedDict[str, PreparedReference] = stack.kept.setdefault("references", OrderedDict())
    prepared = []
    for reference in references:
        data = read_file(Path(reference.path))
        digest = hashlib.sha256(data).hexdigest()
        if digest not in kept:
            kept[digest] = _prepare(stack, data, digest, reference.path, shelf, at_work)
        kept.move_to_end(digest)
        prepared.append(kept[digest])
        while len(kept) > KEPT:
            kept.popitem(last=False)
    return prepared


def _prepare(
    stack: Stack,
    data: bytes,
    digest: str,
    name: str,
    shelf: Shelf | None,
    at_work: Callable[[], AbstractContextManager[None]],
) -> PreparedReference:
    found = None if shelf is None else shelf.take(stack, digest)
    if found is None:
        picture = fit(read_picture(data, name), stack, name)
        with at_work():
            found = encode_codes(stack, picture), latents.encode(stack.vae, latents.to_tensor(picture))
        if shelf is not None:
            shelf.put(stack, digest, *found)
    rows, columns = found[0].shape
    size = Size(columns * PRIOR_CELL, rows * PRIOR_CELL)
    return PreparedReference(codes=found[0], latents=found[1], size=size, digest=digest)


def sizes(stack: Stack, references: Sequence[Reference]) -> tuple[Size, ...]:
    """What `references` will be brought to. Raises PictureError, which names the file."""
    found = []
    for reference in references:
        picture = read_picture(read_file(Path(reference.path)), reference.path)
        found.append(_fitted(picture.size, stack, reference.path))
    return tuple(found)


def fit(picture: Image.Image, stack: Stack, name: str = "picture") -> Image.Image:
    """The picture at 32 pixels for each code of the grid that the checkpoint's image processor gives it.

    Where that lets through more than the checkpoint learned, a picture larger than that or smaller than it lets through
    gets as many pixels as the checkpoint's own have.
    """
    size = _fitted(picture.size, stack, name)
    wanted = size.width, size.height
    return picture if picture.size == wanted else picture.resize(wanted, Image.Resampling.BICUBIC)


def _fitted(size: tuple[int, int], stack: Stack, name: str) -> Size:
    own, limits, fitted = stack.defaults, stack.processor.image_processor.size, _processed(size, stack, name)
    strange = fitted.width * fitted.height > own.max_pixels or min(size) ** 2 < limits.shortest_edge
    if limits.longest_edge > own.max_pixels and strange:
        share = math.sqrt(own.width * own.height / (size[0] * size[1]))
        fitted = _processed((round(share * size[0]), round(share * size[1])), stack, name)
    return fitted


def _processed(size: tuple[int, int], stack: Stack, name: str) -> Size:
    limits = stack.processor.image_processor.size
    width, height = size
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
            return Size(width, height)
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
