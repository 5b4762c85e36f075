"""A stand-in for a GPU: memory of this machine that counts as the device's, and refuses more than its budget."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.multiprocessing.reductions import StorageWeakRef

from glmimage.residency import PlainLane

if TYPE_CHECKING:
    from torch import Tensor


class FullError(torch.OutOfMemoryError):
    """The fake device's out of memory."""


class FakeLane(PlainLane):
    """Memory of this machine that counts as a device's: what is not freed counts, and too much is an error."""

    def __init__(self, budget: int = 2**60) -> None:
        super().__init__(torch.device("cpu"))
        self.budget = budget
        self.peak = 0
        self._blocks: list[tuple[StorageWeakRef, int]] = []

    @property
    def held(self) -> int:
        self._blocks = [(block, nbytes) for block, nbytes in self._blocks if not block.expired()]
        return sum(nbytes for _, nbytes in self._blocks)

    def holds(self, tensor: Tensor) -> bool:
        mine = {block.cdata for block, _ in self._blocks if not block.expired()}
        return tensor.untyped_storage()._cdata in mine

    def allocate(self, nbytes: int) -> Tensor:
        if self.held + nbytes > self.budget:
            raise FullError(f"{self.held} + {nbytes} bytes are more than {self.budget}")
        block = super().allocate(nbytes)
        # Of the memory, not of this tensor: views keep it.
        self._blocks.append((StorageWeakRef(block.untyped_storage()), nbytes))
        self.peak = max(self.peak, self.held)
        return block
