"""Where the weights are: the only file that moves them.

A checkpoint's modules are cut into pieces. Off the device a piece is one flat block of host memory (or of a file), and
the tensors of its modules are empty: code that reads a weight outside its stage fails at once, on every machine. To
bring a piece is one copy; to drop it frees the device's copy, nothing is copied back, since inference changes no
weight. Tensors that share memory (joined queries, keys and values, tied embeddings) share it on the device, too.

How a component stays (`Stay`):
- resident: on the device from start to end;
- stage: on the device while its stage runs (`stage`);
- stream: block by block, the next one on its way while one computes, beside the blocks that stay for the stage. All
  guidance branches go through a block in one visit, so each step reads the weights once;
- host: where it was loaded, in host memory (a table to look up in).
What is not on the device waits in host memory or, where that is the device's own, on the disk.

The AdaLN layers of a decoder ("modulation") are visited once a run, apart from its blocks: their results for all steps
are small and kept by the run (`decoder.modulations`). Between two runs everything can be arranged anew (`arrange`).
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, cast

import torch
from torch import Tensor, nn

from glmimage.errors import MachineError
from glmimage.models import PartName, pack

if TYPE_CHECKING:
    from glmimage.events import Stage
    from glmimage.memory import Plan
    from glmimage.models import Stack

Mode = Literal["resident", "stage", "stream", "host"]
Component = Literal["prior", "embedding", "vision", "glyphs", "decoder", "modulation", "vae"]
NEEDS: Mapping[Stage, tuple[Component, ...]] = {
    "references": ("vision", "vae"),
    "layout": ("prior", "embedding"),
    "glyphs": ("glyphs",),
    "painting": ("decoder",),
    "decoding": ("vae",),
}
"""The components that each stage reads; the modulation comes and goes within painting, in `modulations`."""
_ALIGNMENT = 256
"""Bytes; what kernels expect of the start of a tensor."""
_SLOTS = 2
"""Streamed blocks on the device: the one that computes, and the next."""


class Stay(NamedTuple):
    """How one component is kept."""

    mode: Mode = "resident"
    waits: Literal["host", "disk"] = "host"
    """Where it is while it is not on the device."""
    blocks: int = 0
    """Of a stream: how many of its blocks are there for the whole stage."""


def stays_of(plan: Plan) -> dict[Component, Stay]:
    """What a plan says about where things are."""
    return {
        cast("Component", placement.component): Stay(
            placement.residency, placement.waits or "host", placement.blocks_on_device
        )
        for placement in plan.placements
    }


class Lane(Protocol):
    """A device with a queue of copies beside its queue of work."""

    device: torch.device

    def host(self, nbytes: int) -> Tensor: ...  # [nbytes] uint8 in host memory that copies fast
    def allocate(self, nbytes: int) -> Tensor: ...  # [nbytes] uint8 on the device
    def holds(self, tensor: Tensor) -> bool: ...  # whether it is in the device's memory
    def copy(self, target: Tensor, source: Tensor) -> None: ...  # queued behind earlier copies
    def copied(self) -> Any: ...  # a mark behind the copies queued so far
    def used(self) -> Any: ...  # a mark behind the work queued so far
    def before_work(self, mark: Any) -> None: ...  # work queued from now on waits for the mark
    def before_copies(self, mark: Any) -> None: ...  # copies queued from now on wait for the mark
    def finish(self) -> None: ...  # returns when all of it is done


class PlainLane:
    """A device whose copies are done when the call returns: mps, xpu, the CPU itself."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def host(self, nbytes: int) -> Tensor:
        return torch.empty(nbytes, dtype=torch.uint8)

    def allocate(self, nbytes: int) -> Tensor:
        return torch.empty(nbytes, dtype=torch.uint8, device=self.device)

    def holds(self, tensor: Tensor) -> bool:
        return tensor.device.type == self.device.type

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

    def finish(self) -> None:
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

    def finish(self) -> None:
        torch.cuda.synchronize(self.device)


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


class Spill:
    """A nameless file that pieces wait in; the system removes it with the process. Reads and writes, maps nothing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file: Any = None
        self._end = 0

    def write(self, block: Tensor) -> int:
        """Where it begins. Raises MachineError where the disk is full."""
        free = shutil.disk_usage(self.folder).free
        if block.numel() > free:
            raise MachineError(
                f"The weights that do not fit into memory wait in {self.folder}, where {free / 2**30:.1f} GiB are free;"
                " make room there, or use fewer bits."
            )
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self.folder, prefix="glm-image-", buffering=0)  # noqa: SIM115
            weakref.finalize(self, self._file.close)
        start = self._end
        self._file.seek(start)
        rest: Any = memoryview(block.numpy())  # type: ignore[arg-type]
        while rest:
            rest = rest[self._file.write(rest) :]
        self._end += block.numel()
        return start

    def read(self, start: int, into: Tensor) -> None:
        self._file.seek(start)
        rest: Any = memoryview(into.numpy())  # type: ignore[arg-type]
        while rest:
            count = self._file.readinto(rest)
            if not count:
                raise MachineError("The file in which weights wait was cut short; start again.")
            rest = rest[count:]


class Piece:
    """Modules whose weights come and go together. Taking them over leaves the modules empty."""

    def __init__(self, modules: Iterable[nn.Module], lane: Lane, spill: Spill | None = None) -> None:
        """spill: the file they wait in; None: they wait in host memory."""
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
        block = self._block(spill)
        for address, (low, high, storage) in stretches.items():
            plain = torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)
            block[places[address] + low : places[address] + high] = plain[low:high]
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
        self._host: Tensor | None = None
        self._region: tuple[Spill, int] | None = None
        """Where it stands in a file. Weights do not change, so it stays there for the next time."""
        self._keep(block, spill)
        self.drop()

    def _block(self, spill: Spill | None) -> Tensor:
        return self._lane.host(self.nbytes) if spill is None else torch.empty(self.nbytes, dtype=torch.uint8)

    def _keep(self, block: Tensor, spill: Spill | None) -> None:
        self._host = block if spill is None else None
        if spill is not None:
            self._region = spill, spill.write(block)

    def send(self, memory: Tensor | None = None) -> None:
        """Queues the copy to the device, into `memory` (at least `nbytes`) or new memory; `place` makes it usable."""
        self._there = self._lane.allocate(self.nbytes) if memory is None else memory[: self.nbytes]
        if self._host is not None:
            self._lane.copy(self._there, self._host)
            return
        assert self._region is not None, "it is away"
        spill, start = self._region
        if self._there.device.type == "cpu":
            spill.read(start, self._there)
        else:
            block = torch.empty(self.nbytes, dtype=torch.uint8)
            spill.read(start, block)
            self._there.copy_(block)

    def place(self) -> None:
        """Gives the modules their weights on the device."""
        assert self._there is not None, "it was sent"
        self._put(self._there)

    def _put(self, memory: Tensor) -> None:
        for held in self._held:
            held.put(held.view(memory))

    def bring(self) -> None:
        self.send()
        self._lane.before_work(self._lane.copied())
        self.place()

    def drop(self) -> None:
        """Leaves the modules empty, and the device without the piece."""
        self._there = None
        for held in self._held:
            held.put(torch.empty(0, dtype=held.dtype))

    def settle(self) -> None:
        """Brings it for good; no host memory is held for it any more."""
        if self._there is None:
            self.bring()
            # The copy may still be on its way from there.
            self._lane.finish()
        self._host = None

    def leave(self, spill: Spill | None) -> None:
        """Has it wait in `spill` or in host memory, and off the device."""
        if (self._host is None) if spill is None else (self._region is None):
            source = self._host if self._host is not None else self._there
            if source is None:
                self.send()
                source = self._there
            assert source is not None, "it is somewhere"
            self._lane.finish()
            block = self._block(spill)
            block.copy_(source)
            self._keep(block, spill)
        if spill is not None:
            self._host = None
        self.drop()

    def rest(self) -> None:
        """Gives the modules their weights in host memory, where they wait."""
        assert self._host is not None, "it waits there"
        self._put(self._host)


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

    def begin(self) -> None:
        """A visit of all pieces starts."""
        assert self._slots, "the stage was entered"
        if self._turn % len(self._pieces):
            # The last visit was left halfway; what it had sent ahead is sent again in its turn.
            self._sent, self._turn = [], 0

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Inside, the next piece is in place."""
        turn = self._turn
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

    def visit(self) -> Iterator[None]:
        """Yields once for each piece, which is in place until the next is asked for."""
        self.begin()
        for _ in self._pieces:
            with self.turn():
                yield

    def _send(self, turn: int) -> None:
        slot = turn % len(self._slots)
        self._lane.before_copies(self._read[slot])
        self._pieces[turn % len(self._pieces)].send(self._slots[slot])
        self._sent.append(self._lane.copied())


class _Part:
    """One component: its blocks, which can be streamed, and what is around them."""

    def __init__(self, blocks: Sequence[Sequence[nn.Module]], around: Sequence[nn.Module]) -> None:
        self.stay = Stay()
        self._blocks, self._around = blocks, around
        self._pieces: list[Piece] | None = None
        """The blocks', then the one around; None as long as everything is where it was loaded."""
        self._staying: list[Piece] = []
        self._stream: _Stream | None = None
        self._streamed: frozenset[int] = frozenset()

    def arrange(self, stay: Stay, lane: Lane, spill: Spill) -> None:
        """Moves the weights to where they wait, or onto the device for good."""
        # Not as it was, and not yet as it is wanted: what fails halfway is done from the start the next time.
        self.stay = Stay("stage", blocks=-1)
        self._arrange(stay, lane, spill)
        self.stay = stay

    def _arrange(self, stay: Stay, lane: Lane, spill: Spill) -> None:
        self._staying, self._stream, self._streamed = [], None, frozenset()
        file = spill if stay.waits == "disk" else None
        if self._pieces is None:
            if stay.mode == "resident" and all(map(lane.holds, self._found())):
                return
            if stay.mode == "host" and all(tensor.device.type == "cpu" for tensor in self._found()):
                return
            self._pieces = [Piece(modules, lane, file) for modules in (*self._blocks, self._around)]
        for piece in self._pieces:
            if stay.mode == "resident":
                piece.settle()
            else:
                piece.leave(file)
            if stay.mode == "host":
                piece.rest()
        if stay.mode in ("stage", "stream"):
            self._share_out(stay, lane)

    def _found(self) -> Iterator[Tensor]:
        modules = (module for modules in (*self._blocks, self._around) for module in modules)
        return (tensor for module in modules for _, tensor in _tensors(module))

    def _share_out(self, stay: Stay, lane: Lane) -> None:
        """Which pieces are there for the whole stage and which are streamed."""
        assert self._pieces is not None, "they were made"
        count = len(self._blocks)
        moving = count - min(stay.blocks, count) if stay.mode == "stream" else 0
        # Spread evenly, so that those which stay give those which move time to arrive.
        self._streamed = frozenset(
            index for index in range(count) if index * moving // count != (index + 1) * moving // count
        )
        self._staying = [piece for index, piece in enumerate(self._pieces) if index not in self._streamed]
        if moving:
            self._stream = _Stream([self._pieces[index] for index in sorted(self._streamed)], lane)

    @contextmanager
    def open(self) -> Iterator[None]:
        """Inside, its weights are on the device, streamed blocks while they are visited."""
        try:
            for piece in self._staying:
                piece.bring()
            if self._stream:
                self._stream.open()
            yield
        finally:
            if self._stream:
                self._stream.close()
            for piece in self._staying:
                piece.drop()

    def visit(self) -> Iterator[int]:
        """The numbers of its blocks, each of which is on the device while it is the loop's."""
        if self._stream:
            self._stream.begin()
        for index in range(len(self._blocks)):
            if self._stream and index in self._streamed:
                with self._stream.turn():
                    yield index
            else:
                yield index


_HOLDS: Mapping[PartName, tuple[Component, ...]] = {
    "prior": ("prior", "embedding", "vision"),
    "decoder": ("decoder", "modulation"),
    "vae": ("vae",),
    "glyph_encoder": ("glyphs",),
}
"""The components of each of the stack's modules."""


class Residency:
    """Takes over the weights of a stack and has each of them on its device when a stage needs it.

    `stays` says how components are kept; those it does not name are resident. What waits on the disk is in the system's
    folder for temporary files.
    """

    def __init__(
        self, device: torch.device, stays: Mapping[Component, Stay] | None = None, lane: Lane | None = None
    ) -> None:
        self.lane = lane or lane_of(device)
        self._stays = dict(stays or {})
        self._spill = Spill(Path(tempfile.gettempdir()))
        self._parts: dict[Component, _Part] = {}
        self._layers: list[Any] = []
        self._blocks: list[Any] = []

    @classmethod
    def of(cls, stack: Stack, stays: Mapping[Component, Stay] | None = None, lane: Lane | None = None) -> Residency:
        """For a stack that is loaded whole."""
        made = cls(stack.device, stays, lane)
        for name in _HOLDS:
            made.take(name, getattr(stack, name))
        return made

    def hosts(self, name: PartName) -> bool:
        """Whether a module of the stack must be loaded into host memory, because not all of it is resident."""
        return any(self._stays.get(component, Stay()).mode != "resident" for component in _HOLDS[name])

    def take(self, name: PartName, module: nn.Module) -> None:
        """Takes over one of the stack's modules."""
        inner: Any = module
        if self.lane.device.type == "cpu":
            pack(module)
        parts: dict[Component, _Part] = {}
        if name == "prior":
            text = inner.model.language_model
            self._layers = list(text.layers)
            around = [*_all_but(text, text.embed_tokens, text.layers), inner.lm_head]
            parts["prior"] = _Part([[layer] for layer in self._layers], around)
            parts["embedding"] = _Part([], [text.embed_tokens])
            parts["vision"] = _Part([], [inner.model.visual, inner.model.vqmodel])
        elif name == "decoder":
            self._blocks = list(inner.transformer_blocks)
            blocks = [_all_but(block, block.norm1.linear) for block in self._blocks]
            parts["decoder"] = _Part(blocks, _all_but(inner, *self._blocks))
            parts["modulation"] = _Part([[block.norm1.linear] for block in self._blocks], [])
        else:
            parts["vae" if name == "vae" else "glyphs"] = _Part([], [inner])
        for component, part in parts.items():
            self._parts[component] = part
            part.arrange(self._stays.get(component, Stay()), self.lane, self._spill)

    def arrange(self, stays: Mapping[Component, Stay]) -> None:
        """Keeps the components in another way from the next stage on; what frees the device comes first."""
        self._stays = dict(stays)
        changed = [name for name, part in self._parts.items() if part.stay != stays.get(name, Stay())]
        for name in sorted(changed, key=lambda name: stays.get(name, Stay()).mode == "resident"):
            self._parts[name].arrange(stays.get(name, Stay()), self.lane, self._spill)

    @property
    def stays(self) -> dict[Component, Stay]:
        return {name: part.stay for name, part in self._parts.items()}

    @contextmanager
    def stage(self, name: Stage) -> Iterator[None]:
        """Inside, the stage's weights are on the device (streamed blocks while they are visited)."""
        with ExitStack() as opened:
            for component in NEEDS[name]:
                opened.enter_context(self._parts[component].open())
            yield

    @property
    def streams_layers(self) -> bool:
        """Whether the prior's layers come and go, so that `layers` must be asked for them."""
        return self._parts["prior"].stay.mode == "stream"

    def layers(self) -> Iterator[Any]:
        """The prior's layers in their order, each on the device while it is the loop's."""
        return (self._layers[index] for index in self._parts["prior"].visit())

    def blocks(self) -> Iterator[Any]:
        """The decoder's blocks in their order, likewise."""
        return (self._blocks[index] for index in self._parts["decoder"].visit())

    def modulations(self) -> Iterator[Any]:
        """The same blocks, for nothing but their AdaLN layers."""
        with self._parts["modulation"].open():
            for index in self._parts["modulation"].visit():
                yield self._blocks[index]


def _all_but(module: nn.Module, *left_out: nn.Module) -> list[nn.Module]:
    """Modules that together hold what `module` holds without what `left_out` hold."""
    if module in left_out:
        return []
    held = set(module.modules())
    if not held & set(left_out):
        return [module]
    assert not module._parameters, "the parameters are the children's"
    return [part for child in module.children() for part in _all_but(child, *left_out)]
