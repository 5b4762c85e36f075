"""A Hugging Face Space: what its environment says, and how the studio keeps house there.

Strangers meet in a Space, so each has pictures of its own, in a temporary folder that goes with the process. An owner
who sets ATELIER_SHARED=1 has one history for everybody instead, on the Space's persistent disk where it has one.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Self

from app.choice import Choice

PERSISTENT = Path("/data")
"""Where Spaces mount a disk that outlives a restart."""
FULL_MODEL = "zai-org/GLM-Image"


@dataclass(frozen=True, kw_only=True, slots=True)
class Space:
    """`disk`: the persistent one, None without. `gpu`: there is one, or one is lent (`zero`)."""

    port: int
    zero: bool
    gpu: bool
    shared: bool
    checkpoint: str
    disk: Path | None
    house: Path
    """A new folder that only this account can read; goes with the process."""

    @classmethod
    def found(cls, environ: Mapping[str, str] = os.environ, persistent: Path = PERSISTENT) -> Self | None:
        """The Space that this process runs in; None elsewhere."""
        if not environ.get("SPACE_ID") and environ.get("SYSTEM") != "spaces":
            return None
        zero = environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true") and find_spec("spaces") is not None
        gpu = zero or shutil.which("nvidia-smi") is not None
        port = environ.get("GRADIO_SERVER_PORT", "")
        return cls(
            port=int(port) if port.isdigit() else 7860,
            zero=zero,
            gpu=gpu,
            shared=environ.get("ATELIER_SHARED", "") == "1",
            checkpoint=environ.get("ATELIER_CHECKPOINT", "") or (FULL_MODEL if gpu else "miniature"),
            disk=persistent if persistent.is_dir() and os.access(persistent, os.W_OK) else None,
            house=Path(tempfile.mkdtemp(prefix="glm-image-atelier-")),
        )

    @property
    def choice(self) -> Choice:
        return Choice(checkpoint=self.checkpoint)

    def data_dir(self) -> Path:
        """What the studio itself keeps: encoded references, measured speeds, and the pictures where all share them."""
        return self.disk / "glm-image-atelier" if self.disk is not None else self.house / "studio"
