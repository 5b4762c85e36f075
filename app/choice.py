"""Which checkpoint is used and how it is to fit, as a person chose it; kept in the data folder for the next start."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args

from glmimage import checkpoint
from glmimage.checkpoint import MINIATURE
from glmimage.errors import GLMImageError, RequestError
from glmimage.files import write_whole
from glmimage.fitting import Wishes
from glmimage.memory import Offload
from glmimage.request import Defaults

FILE = "choice.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """With the defaults: the miniature, as it fits. Raises RequestError for what `Wishes` refuses."""

    checkpoint: str = MINIATURE
    """"miniature", a folder, or a hub id."""
    bits: int | None = None
    """16, 8 or 4 of prior and decoder; None: what fits."""
    offload: Offload = "auto"
    memory: float | None = None
    """GiB of the device that may be used; None: what is free."""

    def __post_init__(self) -> None:
        if self.offload not in get_args(Offload):
            raise RequestError(f"There is no way {self.offload!r} to keep weights; choose auto, none, stage or stream.")
        if not self.checkpoint.strip():
            raise RequestError("No checkpoint is named; write miniature, a folder, or a hub id.")
        # Raises for the rest.
        assert self.wishes is not None

    @property
    def wishes(self) -> Wishes:
        return Wishes(bits=self.bits, offload=self.offload, memory=self.memory)

    def expected(self) -> Defaults:
        """What the checkpoint says of itself without a download: of one that is not here only the name is known."""
        try:
            folder = checkpoint.here(self.checkpoint)
            return checkpoint.read_defaults(folder) if folder is not None else Defaults(name=self.checkpoint)
        except GLMImageError:
            # Who loads it says what is wrong with it.
            return Defaults(name=self.checkpoint)


def read(root: Path) -> Choice | None:
    """What was chosen last; None where nothing was, or where the file says nothing that can be used."""
    try:
        return Choice(**json.loads((root / FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, GLMImageError):
        return None


def write(root: Path, choice: Choice) -> None:
    """Raises OSError."""
    root.mkdir(parents=True, exist_ok=True)
    text = json.dumps(asdict(choice), indent=1) + "\n"
    write_whole(root / FILE, lambda file: file.write(text.encode()))
