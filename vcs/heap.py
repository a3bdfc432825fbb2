"""Memory that is used again and again, kept by the process.

The C library gives what is freed back to the kernel, as soon as it is much or lies at the end. Whoever reads a gigabyte
through buffers of a megabyte is given each page anew, and empty: 40,000 page faults, a tenth of the time. In a virtual
machine whose host takes free memory back, a page costs ten times as much.
"""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""M_TRIM_THRESHOLD and M_MMAP_THRESHOLD (mallopt(3))."""
_KEPT = 128 << 20
_BUFFER = 32 << 20
"""Bytes of the largest piece that is not asked of the kernel by itself; the most that glibc takes."""


@lru_cache(1)
def keep_freed_memory() -> None:
    """From now on, keep up to 128 MiB of what is freed. Nothing where the C library is not glibc."""
    import ctypes  # 4 ms, and only what is large needs it

    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt.argtypes = ctypes.c_int, ctypes.c_int
        mallopt(_MMAP_THRESHOLD, _BUFFER)
        mallopt(_TRIM_THRESHOLD, _KEPT)
