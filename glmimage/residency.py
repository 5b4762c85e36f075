"""Where the weights are: the only file that moves them.

A checkpoint's modules are cut into pieces. Off the device a piece is one flat block of host memory, and the tensors of
its modules are empty: code that reads a weight outside its stage fails at once, on every machine. To bring a piece is
one copy; to drop it frees the device's copy, nothing is copied back, since inference changes no weight. Tensors that
share memory (joined queries, keys and values, tied embeddings) share it on the device, too.

Three ways to run, by component:
- resident: on the device from start to end;
- stage: on the device while its stage runs (`stage`);
- stream: only the decoder, block by block, the next block on its way while one computes (`Residency.blocks`). All
  guidance branches go through a block in one visit, so each step reads the weights once.

The AdaLN layers of a decoder that is not resident are visited one by one, once a run: their results for all steps are
small and kept by the run (`decoder.modulations`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from glmimage.events import Stage
    from glmimage.models import Stack

Mode = Literal["resident", "stage", "stream"]
Component = Literal["prior", "vision", "glyphs", "decoder", "vae"]
NEEDS: Mapping[Stage, tuple[Component, ...]] = {
    "references": ("vision", "vae"),
    "layout": ("prior",),
    "glyphs": ("glyphs",),
    "painting": ("decoder",),
    "decoding": ("vae",),
}
"""The components that each stage reads."""
_ALIGNMENT = 256
"""Bytes; what kernels expect of the start of a tensor."""
_SLOTS = 2
"""Streamed blocks on the device: the one that computes, and the next."""


class Lane(Protocol):
    """A device with a queue of copies beside its queue of work."""

    device: torch.device

    def host(self, nbytes: int) -> Tensor: ...  # [nbytes] uint8 in host memory that copies fast
    def allocate(self, nbytes: int) -> Tensor: ...  # [nbytes] uint8 on the device
    def copy(self, target: Tensor, source: Tensor) -> None: ...  # queued behind earlier copies
    def copied(self) -> Any: ...  # a mark behind the copies queued so far
    def used(self) -> Any: ...  # a mark behind the work queued so far
    def before_work(self, mark: Any) -> None: ...  # work queued from now on waits for the mark
    def before_copies(self, mark: Any) -> None: ...  # copies queued from now on wait for the mark


class PlainLane:
    """A device whose copies are done when the call returns: mps, xpu, the CPU itself."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def host(self, nbytes: int) -> Tensor:
        return torch.empty(nbytes, dtype=torch.uint8)

    def allocate(self, nbytes: int) -> Tensor:
        return torch.empty(nbytes, dtype=torch.uint8, device=self.device)

    def copy(self, target: Tensor, source: Tensor) -> None:
        target.copy_(source)

    def copied(self) -> Any:
        return None

    def used(self) -> Any:
        return None

    def before_work(self, mark: Any) -> None:
        pass

    def before_copies(self, mark: Any) -> None:
        pass


class CudaLane(PlainLane):
    """CUDA and ROCm: copies from pinned memory on a stream of their own. Its timing was never measured by us."""

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self._copies = torch.cuda.Stream(device)

    def host(self, nbytes: int) -> Tensor:
        try:
            return torch.empty(nbytes, dtype=torch.uint8, pin_memory=True)
        except RuntimeError:
            # The system's limit of locked memory: slower copies, no failure.
            return super().host(nbytes)

    def allocate(self, nbytes: int) -> Tensor:
        block = super().allocate(nbytes)
        # The allocator must know that the copies' stream writes here, too.
        block.record_stream(self._copies)
        return block

    def copy(self, target: Tensor, source: Tensor) -> None:
        with torch.cuda.stream(self._copies):
            target.copy_(source, non_blocking=True)

    def copied(self) -> Any:
        return self._copies.record_event()

    def used(self) -> Any:
        return torch.cuda.current_stream(self.device).record_event()

    def before_work(self, mark: torch.cuda.Event) -> None:
        torch.cuda.current_stream(self.device).wait_event(mark)

    def before_copies(self, mark: torch.cuda.Event) -> None:
        self._copies.wait_event(mark)


def lane_of(device: torch.device) -> Lane:
    return CudaLane(device) if device.type == "cuda" else PlainLane(device)


class _Held(NamedTuple):
    """One tensor of a piece: how to put it in place, and where in the piece's memory it lies."""

    put: Callable[[Tensor], None]
    dtype: torch.dtype
    shape: torch.Size
    stride: tuple[int, ...]
    start: int
    """Bytes."""

    def view(self, memory: Tensor) -> Tensor:
        rest = memory[self.start : memory.numel() - (memory.numel() - self.start) % self.dtype.itemsize]
        return rest.view(self.dtype).as_strided(self.shape, self.stride)


class Piece:
    """Modules whose weights come and go together. Taking them over leaves the modules empty."""

    def __init__(self, modules: Iterable[nn.Module], lane: Lane) -> None:
        self._lane = lane
        found = [tensor for module in modules for tensor in _tensors(module)]
        # Tensors of one storage keep their places to one another; only the stretch that they use is taken.
        stretches: dict[int, tuple[int, int, torch.UntypedStorage]] = {}
        for _, tensor in found:
            storage = tensor.untyped_storage()
            start, end = _stretch(tensor)
            low, high, _ = stretches.get(storage.data_ptr(), (start, end, storage))
            stretches[storage.data_ptr()] = min(low, start), max(high, end), storage
        places: dict[int, int] = {}
        self.nbytes = 0
        for address, (low, high, _) in stretches.items():
            places[address] = self.nbytes - low
            self.nbytes += -(-(high - low) // _ALIGNMENT) * _ALIGNMENT
        self._host = lane.host(self.nbytes)
        for address, (low, high, storage) in stretches.items():
            plain = torch.empty(0, dtype=torch.uint8).set_(storage)
            self._host[places[address] + low : places[address] + high] = plain[low:high]
        self._held = [
            _Held(
                put,
                tensor.dtype,
                tensor.shape,
                tensor.stride(),
                places[tensor.untyped_storage().data_ptr()] + int(tensor.storage_offset()) * tensor.itemsize,
            )
            for put, tensor in found
        ]
        self._there: Tensor | None = None
        self.drop()

    def send(self, memory: Tensor | None = None) -> None:
        """Queues the copy to the device, into `memory` (at least `nbytes`) or new memory; `place` makes it usable."""
        self._there = self._lane.allocate(self.nbytes) if memory is None else memory[: self.nbytes]
        self._lane.copy(self._there, self._host)

    def place(self) -> None:
        """Gives the modules their weights on the device."""
        assert self._there is not None, "it was sent"
        for held in self._held:
            held.put(held.view(self._there))

    def bring(self) -> None:
        self.send()
        self._lane.before_work(self._lane.copied())
        self.place()

    def drop(self) -> None:
        """Leaves the modules empty, and the device without the piece."""
        self._there = None
        for held in self._held:
            held.put(torch.empty(0, dtype=held.dtype))


def _stretch(tensor: Tensor) -> tuple[int, int]:
    """First byte of its storage that a tensor uses, and the one after the last."""
    reach = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    start = int(tensor.storage_offset())
    end = start + reach + 1 if tensor.numel() else start
    return start * tensor.itemsize, end * tensor.itemsize


def _tensors(module: nn.Module) -> Iterator[tuple[Callable[[Tensor], None], Tensor]]:
    """Every tensor that a module computes with, each with what replaces it; no parameter or buffer twice."""
    inner: Any
    for inner in module.modules():
        for name, buffer in inner._buffers.items():
            if buffer is not None:
                yield _setter(inner._buffers, name), buffer
        if hasattr(inner, "init_8bit_state"):
            # bitsandbytes moves an int8 weight and its scales from the parameter to the module when it is first used.
            if getattr(inner.weight, "CB", None) is not None:
                inner.init_8bit_state()
            for name in ("CB", "SCB"):
                if isinstance(tensor := getattr(inner.state, name, None), Tensor):
                    yield _attribute_setter(inner.state, name), tensor
    for parameter in module.parameters():
        yield _data_setter(parameter), parameter.data
        state = getattr(parameter, "quant_state", None)
        while state is not None:
            # bitsandbytes keeps the scales of a 4-bit weight beside it; with double quantization those have their own.
            for name in ("absmax", "code", "offset"):
                if isinstance(tensor := getattr(state, name, None), Tensor):
                    yield _attribute_setter(state, name), tensor
            state = getattr(state, "state2", None)


def _setter(where: dict[str, Tensor | None], name: str) -> Callable[[Tensor], None]:
    def put(tensor: Tensor) -> None:
        where[name] = tensor

    return put


def _attribute_setter(owner: object, name: str) -> Callable[[Tensor], None]:
    return lambda tensor: setattr(owner, name, tensor)


def _data_setter(parameter: nn.Parameter) -> Callable[[Tensor], None]:
    return lambda tensor: setattr(parameter, "data", tensor)


class _Stream:
    """Pieces that are visited in turn, again and again, through two stretches of device memory."""

    def __init__(self, pieces: Sequence[Piece], lane: Lane) -> None:
        self._pieces, self._lane = pieces, lane
        self._slots: list[Tensor] = []
        self._read: list[Any] = []
        """For each slot a mark behind the last work that read it."""
        self._sent: list[Any] = []
        """For each piece on its way, in turn, a mark behind its copy."""
        self._turn = 0
        """Pieces visited so far."""

    def open(self) -> None:
        largest = max(piece.nbytes for piece in self._pieces)
        self._slots = [self._lane.allocate(largest) for _ in range(min(_SLOTS, len(self._pieces)))]
        self._read = [self._lane.used() for _ in self._slots]
        self._turn = 0

    def close(self) -> None:
        for piece in self._pieces:
            piece.drop()
        self._slots, self._read, self._sent = [], [], []

    def visit(self) -> Iterator[None]:
        """Yields once for each piece, which is in place until the next is asked for."""
        assert self._slots, "the stage was entered"
        if self._turn % len(self._pieces):
            # The last visit was left halfway; what it had sent ahead is sent again in its turn.
            self._sent, self._turn = [], 0
        for turn in range(self._turn, self._turn + len(self._pieces)):
            if not self._sent:
                self._send(turn)
            piece = self._pieces[turn % len(self._pieces)]
            self._lane.before_work(self._sent.pop(0))
            piece.place()
            # The first piece follows the last: the next visit finds it there.
            if len(self._slots) > 1:
                self._send(turn + 1)
            try:
                yield
            finally:
                self._read[turn % len(self._slots)] = self._lane.used()
                piece.drop()
                self._turn = turn + 1

    def _send(self, turn: int) -> None:
        slot = turn % len(self._slots)
        self._lane.before_copies(self._read[slot])
        self._pieces[turn % len(self._pieces)].send(self._slots[slot])
        self._sent.append(self._lane.copied())


OFFLOADS: Mapping[str, Mapping[Component, Mode]] = {
    "none": {},
    "stage": dict.fromkeys(("prior", "vision", "glyphs", "decoder", "vae"), "stage"),
    "stream": {**dict.fromkeys(("prior", "vision", "glyphs", "vae"), "stage"), "decoder": "stream"},
}
"""What a person can ask for: everything on the device; one stage after another; the decoder block by block, too."""


class Residency:
    """Takes over the weights of a stack and has each of them on its device when a stage needs it.

    `modes` names the components that are not resident, and whose weights the stack has in host memory; only the decoder
    can stream. Then the prior's text embedding stays there (a lookup for each prompt; `prior` asks for its code rows).
    """

    def __init__(self, stack: Stack, modes: Mapping[Component, Mode] | None = None, lane: Lane | None = None) -> None:
        modes = dict(modes or {})
        lane = lane or lane_of(stack.device)
        decoder = stack.decoder
        self._blocks: list[Any] = list(decoder.transformer_blocks)
        self._staged: dict[str, list[Piece]] = {}
        self._streams: dict[str, _Stream] = {}
        parts = _parts(stack)
        for name, modules in parts.items():
            if modes.get(name, "resident") != "resident" and name != "decoder":
                self._staged[name] = [Piece([module], lane) for module in modules]
        if (mode := modes.get("decoder", "resident")) == "resident":
            return
        modulations = [Piece([block.norm1.linear], lane) for block in self._blocks]
        blocks = [Piece(_all_but(block, block.norm1.linear), lane) for block in self._blocks]
        self._staged["decoder"] = [Piece(_all_but(decoder, *self._blocks), lane)]
        self._streams["modulations"] = _Stream(modulations, lane)
        if mode == "stream":
            self._streams["blocks"] = _Stream(blocks, lane)
        else:
            self._staged["decoder"] += blocks

    @contextmanager
    def stage(self, name: Stage) -> Iterator[None]:
        """Inside, the stage's weights are on the device (the decoder's blocks while they are visited)."""
        pieces = [piece for component in NEEDS[name] for piece in self._staged.get(component, ())]
        streams = self._streams.values() if "decoder" in NEEDS[name] else ()
        try:
            for piece in pieces:
                piece.bring()
            for stream in streams:
                stream.open()
            yield
        finally:
            for stream in streams:
                stream.close()
            for piece in pieces:
                piece.drop()

    def blocks(self) -> Iterator[Any]:
        """The decoder's blocks in their order, each on the device while it is the loop's."""
        return self._visit("blocks")

    def modulations(self) -> Iterator[Any]:
        """The same blocks, for nothing but their AdaLN layers."""
        return self._visit("modulations")

    def _visit(self, what: str) -> Iterator[Any]:
        stream = self._streams.get(what)
        if stream is None:
            yield from self._blocks
            return
        visit = stream.visit()
        for block, _ in zip(self._blocks, visit, strict=True):
            yield block


def _parts(stack: Stack) -> dict[Component, list[nn.Module]]:
    """The modules of each component."""
    prior, text = stack.prior, stack.prior.model.language_model
    return {
        "prior": [*text.layers, *_all_but(text, text.embed_tokens, text.layers), prior.lm_head],
        "vision": [prior.model.visual, prior.model.vqmodel],
        "glyphs": [stack.glyph_encoder],
        "decoder": [stack.decoder],
        "vae": [stack.vae],
    }


def _all_but(module: nn.Module, *left_out: nn.Module) -> list[nn.Module]:
    """Modules that together hold what `module` holds without what `left_out` hold."""
    if module in left_out:
        return []
    held = set(module.modules())
    if not held & set(left_out):
        return [module]
    assert not module._parameters, "the parameters are the children's"
    return [part for child in module.children() for part in _all_but(child, *left_out)]
