"""What the C library keeps of freed memory.

glibc takes blocks up to a limit from its heap, which it gives back only from the end, and moves that limit up to 32 MiB
as larger blocks are freed (mallopt(3), M_MMAP_THRESHOLD). Quantizing frees pieces of all sizes between blocks that
stay: converting a decoder with layers of 8 MiB grew the process by up to three times the component's size, almost half
of which it kept; with a fixed limit by 0.55 of it, and nearly all of that came back.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

_MMAP_THRESHOLD = -3
_SMALL = 1 << 20
_USUAL = 32 << 20


@contextmanager
def given_back() -> Iterator[None]:
    """Inside, blocks of 1 MiB and more go back to the system as soon as they are freed. Costs page faults.

    Afterwards the limit stands where glibc's own moves to. Without glibc this does nothing.
    """
    try:
        libc = ctypes.CDLL("libc.so.6")
        set_option, trim = libc.mallopt, libc.malloc_trim
    except (OSError, AttributeError):
        yield
        return
    set_option(_MMAP_THRESHOLD, _SMALL)
    try:
        yield
    finally:
        set_option(_MMAP_THRESHOLD, _USUAL)
        trim(0)
