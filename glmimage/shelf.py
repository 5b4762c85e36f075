"""Prepared references on disk, so that a picture that was used once is not encoded again; never keys and values.

A file for each picture and checkpoint: `<fingerprint>/<SHA-256 of the picture's file>.safetensors` with `codes` and
`latents` (about 4 MB for a 2048 px picture, against 7.5 GiB of keys and values in the released model). What was used
least recently makes room. A file that is damaged, or not what it should be, is removed and the picture encoded again.
Knows no pictures; what a shelf gives is what was put there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from glmimage import quantize
from glmimage.checkpoint import shards
from glmimage.files import sweep, write_whole
from glmimage.models import Stack

MOST = 512 * 2**20
"""Bytes that a shelf holds."""
_SAMPLE = 256
"""Bytes of each tensor that tell one training from another: every step changes nearly all of a tensor."""


def fingerprint(stack: Stack) -> str:
    """16 hexadecimal digits that differ wherever a picture's codes or latents could.

    Over the weights that encode pictures (vision tower, quantizer, VAE): each tensor's name, type, shape and a few of
    its bytes, read from the files; and over what fits pictures, the dtype and the kinds of layers in memory, which
    tell how it is quantized. Computed once a stack, in milliseconds; the rest of the checkpoint does not count.
    """
    kept = stack.kept.get("fingerprint")
    if not isinstance(kept, str):
        digest = hashlib.sha256()
        layers = sorted({type(module).__name__ for module in stack.prior.model.visual.modules()})
        fitted = f"{stack.processor.image_processor.to_json_string()} {stack.defaults.max_pixels}"
        digest.update(f"{stack.dtype} {layers} {fitted}".encode())
        for folder, prefixes in (
            (stack.folder / quantize.FOLDERS["prior"], ("model.visual.", "model.vqmodel.")),
            (stack.folder / "vae", ("",)),
        ):
            digest.update((folder / "config.json").read_bytes())
            for file in shards(folder):
                for about in _samples(file, prefixes):
                    digest.update(about)
        kept = stack.kept["fingerprint"] = digest.hexdigest()[:16]
    return kept


def _samples(file: Path, prefixes: tuple[str, ...]) -> Iterator[bytes]:
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        header = json.loads(opened.read(length))
        for name, about in sorted(header.items()):
            if name != "__metadata__" and name.startswith(prefixes):
                start, end = about["data_offsets"]
                middle = start + max(0, end - start - _SAMPLE) // 2
                opened.seek(8 + length + middle)
                yield f"{name} {about['dtype']} {about['shape']}".encode() + opened.read(min(_SAMPLE, end - start))


class Shelf:
    """One folder of prepared references; several processes may use it at once."""

    def __init__(self, folder: Path, most: int = MOST) -> None:
        self.folder = folder
        self.most = most

    def take(self, stack: Stack, digest: str) -> tuple[Tensor, Tensor] | None:
        """(codes [h, w] int64, latents [1, C, 4h, 4w]) on the stack's device, as they were put there, or None."""
        path = self._path(stack, digest)
        try:
            held = load_file(path)
            codes, latents = held["codes"].long(), held["latents"]
            rows, columns = codes.shape
            whole = latents.shape == (1, stack.vae.config.latent_channels, 4 * rows, 4 * columns)
            if not (whole and latents.dtype == stack.dtype and codes.min() >= 0 and codes.max() < stack.codes):
                raise ValueError("another checkpoint's")
            if not latents.isfinite().all():
                raise ValueError("damaged")
        except FileNotFoundError:
            return None
        except (OSError, SafetensorError, KeyError, ValueError, RuntimeError):
            with suppress(OSError):
                path.unlink(missing_ok=True)
            return None
        with suppress(OSError):
            path.touch()
        return codes.to(stack.device), latents.to(stack.device)

    def put(self, stack: Stack, digest: str, codes: Tensor, latents: Tensor) -> None:
        """Keeps them, and lets go of what was used least recently. A disk that cannot take them is no fault."""
        data = save({"codes": codes.to("cpu", torch.int32), "latents": latents.cpu().contiguous()})
        path = self._path(stack, digest)
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, lambda file: file.write(data) and None)
            self._make_room()

    @property
    def nbytes(self) -> int:
        return sum(size for _, size, _ in self._files())

    def clear(self) -> None:
        for _, _, path in self._files():
            with suppress(OSError):
                path.unlink(missing_ok=True)

    def _path(self, stack: Stack, digest: str) -> Path:
        return self.folder / fingerprint(stack) / f"{digest}.safetensors"

    def _files(self) -> list[tuple[float, int, Path]]:
        """(last use, bytes, path), the least recent first."""
        files = []
        for path in self.folder.glob("*/*.safetensors"):
            with suppress(OSError):
                about = path.stat()
                files.append((about.st_mtime, about.st_size, path))
        return sorted(files)

    def _make_room(self) -> None:
        sweep((self.folder,))
        files = self._files()
        total = sum(size for _, size, _ in files)
        for _, size, path in files:
            if total <= self.most:
                break
            path.unlink(missing_ok=True)
            total -= size
