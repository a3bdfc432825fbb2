"""Which of its memory a command writes to, learnt by a rehearsal, so that it can be had before a client comes.

A child of the fork server shares the server's memory until it writes there; then the kernel copies the page, which
takes 2 us where there is a hypervisor below. A short command writes to 2,000 pages out of 8,000: a third of the time it
takes. They are nearly the same ones for all commands, since they hold what each of them counts references of. So once a
server has started, a child of it runs some commands on a store of their own, and tells which pages it has of its own
then (/proc/self/pagemap, see the kernel's admin-guide/mm/pagemap); children that wait have these copied at once
(MADV_POPULATE_WRITE, madvise(2); Linux 5.14). Without one or the other, commands only take longer.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import shutil
import signal
import struct
import tempfile
import time
from array import array
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from runtime.cli.preloading import Program
from runtime.cli.program import run
from runtime.system.descriptors import close_all_but
from runtime.system.likeness import become_like

_OWN = 1 << 63 | 1 << 56
"""In an entry of pagemap: in memory, and mapped by nobody else."""
_NEAR = 2 * mmap.PAGESIZE
"""Pages with so little between them are copied in one go."""
_PREFIX = ".rehearsal-"
_LONGEST = 60.0
"""After so many seconds a rehearsal's store is one that was left by a killed process."""
_RANGE = struct.Struct("=QQ")
_MADV_POPULATE_WRITE = 23

_madvise = ctypes.CDLL(None).madvise
_madvise.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int

Range = tuple[int, int]
"""A part of the address space: its first byte, and the one after its last."""


def begin(directory: Path, program: Program) -> int:
    """Fork a child that rehearses, with its store in `directory`; what it has learnt can be read from the descriptor
    that is returned, until its end, and given to `ranges`."""
    for left in directory.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > _LONGEST:
                shutil.rmtree(left, ignore_errors=True)
    result, out = os.pipe2(os.O_CLOEXEC)
    if not os.fork():
        _rehearse(directory, program, out)
    os.close(out)
    return result


def ranges(told: bytes) -> list[Range]:
    """What was learnt."""
    return list(_RANGE.iter_unpack(told[: len(told) // _RANGE.size * _RANGE.size]))


def have(ranges: Sequence[Range]) -> None:
    """Have our own copy of the pages in these ranges."""
    for start, end in ranges:
        _madvise(start, end - start, _MADV_POPULATE_WRITE)


def _rehearse(directory: Path, program: Program, out: int) -> NoReturn:
    try:
        null = os.open(os.devnull, os.O_RDWR)
        for number in range(3):
            os.dup2(null, number)
        close_all_but({0, 1, 2, out})
        signal.alarm(int(_LONGEST))
        with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=directory) as place:
            store = ("--store", f"{place}/store")
            _prepare(Path(place), store)
            if child := os.fork():
                os.waitpid(child, 0)
            else:
                signal.alarm(int(_LONGEST))
                told = _learn(program, store)
                with os.fdopen(out, "wb") as file:
                    file.write(told)
                os._exit(0)
    finally:
        os._exit(0)


def _prepare(place: Path, store: Sequence[str]) -> None:
    """What is done here does not count: it is rare, and writes to much."""
    (place / "root/etc").mkdir(parents=True)
    (place / "root/etc/hostname").write_text("rehearsal\n")
    run([*store, "init"])
    if os.geteuid() == 0:
        run([*store, "import", f"{place}/root", "--branch", "main", "--message", "rehearsal"])


def _learn(program: Program, store: Sequence[str]) -> bytes:
    before = _writable()
    program.is_current()
    become_like(os.getpid())
    lines = ["branch"]
    if os.geteuid() == 0:  # an ordinary user needs namespaces for these, and those a process that stays
        lines += ["create --network none --name one main true", "ps -a", "status one", "rm --discard one"]
    for line in lines:
        run([*store, *line.split()])
    return b"".join(_RANGE.pack(*each) for each in _merged(_own(before)))


def _writable() -> list[Range]:
    """The private mappings that we can write to."""
    found = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        place, rights, *_ = line.split(None, 2)
        if rights.startswith("rw") and rights.endswith("p"):
            start, end = place.split("-")
            found.append((int(start, 16), int(end, 16)))
    return found


def _own(mappings: Sequence[Range]) -> Iterator[Range]:
    """The pages of mappings that no other process has."""
    pagemap = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
    for start, end in mappings:
        entries = array("Q", os.pread(pagemap, (end - start) // mmap.PAGESIZE * 8, start // mmap.PAGESIZE * 8))
        for number, entry in enumerate(entries):
            if entry & _OWN == _OWN:
                yield start + number * mmap.PAGESIZE, start + (number + 1) * mmap.PAGESIZE


def _merged(pages: Iterator[Range]) -> Iterator[Range]:
    start = end = 0
    for first, after in pages:
        if first - end > _NEAR:
            if start < end:
                yield start, end
            start = first
        end = after
    if start < end:
        yield start, end
