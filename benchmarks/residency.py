"""What is in the page cache, by two witnesses of the kernel's, and what processes have of memory and descriptors.

A machine's `Cached` in /proc/meminfo moves with everything that others do. A memory cgroup counts what its own
processes have brought into the page cache, and mincore(2) tells of each page of a file whether it is there.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PAGE = mmap.PAGESIZE
_FIRST = Path("/sys/fs/cgroup/memory")
"""Of cgroups, version 1."""
_SECOND = Path("/sys/fs/cgroup")


class MemoryGroup:
    """A memory cgroup; a process that enters it is counted in it."""

    def __init__(self, path: Path, counter: str) -> None:
        self._path = path
        self._counter = counter

    def enter(self) -> None:
        """Count the calling process from now on."""
        (self._path / "cgroup.procs").write_text(str(os.getpid()))

    def cached(self) -> int:
        """Bytes of page cache that its processes have brought in."""
        for line in (self._path / "memory.stat").read_text().splitlines():
            name, value = line.split()
            if name == self._counter:
                return int(value)
        raise LookupError(self._counter)


@contextmanager
def memory_group(name: str) -> Iterator[MemoryGroup | None]:
    """A new cgroup, removed at the end; its processes must have ended then. None where there are none to be had."""
    first = (_FIRST / "memory.stat").exists()
    if not first:
        with suppress(OSError):
            (_SECOND / "cgroup.subtree_control").write_text("+memory")
    path = (_FIRST if first else _SECOND) / name
    try:
        path.mkdir()
        usable = (path / "memory.stat").exists()
    except OSError:
        yield None
        return
    try:
        yield MemoryGroup(path, "cache" if first else "file") if usable else None
    finally:
        path.rmdir()


def resident(path: Path) -> int:
    """How many bytes of a file are in the page cache: mincore(2). Reads none of them."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        size = os.fstat(descriptor).st_size
        if not size:
            return 0
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mmap.restype = ctypes.c_void_p
        libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *(ctypes.c_int,) * 3, ctypes.c_long)
        libc.mincore.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p
        libc.munmap.argtypes = ctypes.c_void_p, ctypes.c_size_t
        at = libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_PRIVATE, descriptor, 0)
        pages = -(-size // _PAGE)
        found = ctypes.create_string_buffer(pages)
        try:
            if libc.mincore(at, size, found):
                raise OSError(ctypes.get_errno(), "mincore")
        finally:
            libc.munmap(at, size)
        return sum(byte & 1 for byte in found.raw[:pages]) * _PAGE
    finally:
        os.close(descriptor)


def proportional_bytes(pid: int) -> int:
    """A process's memory, with its share of what several processes have together: Pss of smaps_rollup."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def resident_bytes(pid: int) -> int:
    """A process's VmRSS."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def descriptors(pid: int) -> int:
    """How many a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))
