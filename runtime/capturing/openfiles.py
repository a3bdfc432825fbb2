"""Which files of its root a container's processes can write to without anybody being told: those that they have mapped,
and those that are open for writing (proc(5): maps, map_files, fd, fdinfo).

A store into a mapped page that is dirty already changes no time stamp, so the content of a mapped file is never taken
from what was seen earlier (runtime.upper.seen). Read-only mappings count as well: mprotect(2) may make them writable,
and a page that is dirty by then is written to without a fault.

The kernel shows the path that a file has in the container, which is the one that it has in the upper. A file that was
deleted has none; if it has other names, its inode is told instead.

What /proc/PID shows is what the first thread of a process holds. If that has ended it holds nothing, while others go
on: so these are asked then. All threads of a process have the same memory, and as a rule the same descriptors; to ask
the kernel whether they are the same (kcmp(2)) costs 2 us a thread, and to read those of hundreds of threads far more.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field

_DELETED = b" (deleted)"
_RING = b"anon_inode:[io_uring]"
_GONE = (FileNotFoundError, ProcessLookupError)
"""What says that a process or thread has ended, and so holds nothing. Anything else says that it cannot be known."""
_ONE_THREAD = 3
"""The links of /proc/PID/task: two, and one for each thread."""
_SYS_KCMP = {"x86_64": 312, "aarch64": 272, "riscv64": 272}.get(os.uname().machine)
_KCMP_FILES = 2
_LOOKS = 50
"""As often, at most, is a process looked at that does not let us."""
_SECONDS = 0.01
"""From one of these looks to the next."""

_libc = ctypes.CDLL(None)
_libc.syscall.argtypes = [ctypes.c_long] * 6
_libc.syscall.restype = ctypes.c_long


@dataclass(slots=True)
class OpenFiles:
    """What a container's processes hold. Paths are from the container's root, without the slash in front."""

    mapped: set[bytes] = field(default_factory=set)
    writable: set[bytes] = field(default_factory=set)
    """Open for writing."""
    nameless: set[int] = field(default_factory=set)
    """Inodes of files held by a name that was deleted, and that have others; the container's inode numbers, which for
    files that came with the base are not the upper's."""
    rings: bool = False
    """Whether a process uses io_uring, which may hold files that nothing shows."""


def open_files(pids: Iterable[int], wait: Callable[[float], None] = time.sleep) -> OpenFiles:
    """What these processes hold. Those that end meanwhile hold nothing. OSError if it cannot be known.

    Some let an ordinary user look only after a moment, and are waited for: what a runtime starts for a container is his
    to look into once it has executed the command (runc's and crun's, until then, are not dumpable: prctl(2)).
    """
    found = OpenFiles()
    left = list(pids)
    for look in range(1, _LOOKS + 1):
        left = [pid for pid in left if not _looked_at(found, pid, is_last=look == _LOOKS)]
        if not left:
            break
        wait(_SECONDS)
    return found


def _looked_at(found: OpenFiles, pid: int, is_last: bool) -> bool:
    """Add what a process holds; False if it does not let us, which is an error in the last look."""
    try:
        with suppress(*_GONE):
            _add_process(found, pid)
    except PermissionError:
        if is_last:
            raise
        return False
    return True


def _add_process(found: OpenFiles, pid: int) -> None:
    """The first thread's, and that of all who hold something else."""
    _add_thread(found, pid)
    if os.stat(f"/proc/{pid}/task").st_nlink == _ONE_THREAD:
        return
    read = [pid] if _lives(pid) else []
    for thread in map(int, os.listdir(f"/proc/{pid}/task")):
        if thread != pid and not any(_have_same_descriptors(thread, other) for other in read):
            _add_thread(found, thread, memory=not read)
            if _lives(thread):  # until here, so that what was read is all that it has
                read.append(thread)


def _add_thread(found: OpenFiles, thread: int, memory: bool = True) -> None:
    if memory:
        with suppress(*_GONE):  # which some kernels say of a process whose first thread has ended
            _add_mapped(found, thread)
    with suppress(*_GONE):
        _add_open(found, thread)


def _lives(thread: int) -> bool:
    """Whether it has memory: descriptors are what it parts with after that."""
    with suppress(*_GONE), open(f"/proc/{thread}/statm", "rb") as file:
        return not file.read().startswith(b"0 ")
    return False


def _have_same_descriptors(one: int, other: int) -> bool:
    """Whether two threads share a table of descriptors. Not if the kernel does not tell."""
    return _SYS_KCMP is not None and _libc.syscall(_SYS_KCMP, one, other, _KCMP_FILES, 0, 0) == 0


def _add_mapped(found: OpenFiles, thread: int) -> None:
    with open(f"/proc/{thread}/maps", "rb") as file:
        for line in file:
            fields = line.rstrip(b"\n").split(maxsplit=5)
            if len(fields) < 6 or not fields[1].endswith(b"s") or not fields[5].startswith(b"/"):
                continue
            path = fields[5].replace(rb"\012", b"\n")
            if path.endswith(_DELETED):
                start, _, end = fields[0].partition(b"-")
                _add_nameless(found, f"/proc/{thread}/map_files/{int(start, 16):x}-{int(end, 16):x}")
            found.mapped.add(path[1:])


def _add_open(found: OpenFiles, thread: int) -> None:
    for number in os.listdir(f"/proc/{thread}/fd"):
        with suppress(FileNotFoundError):
            path = os.readlink(f"/proc/{thread}/fd/{number}".encode())
            if path == _RING:
                found.rings = True
            if path.startswith(b"/") and _is_writable(thread, number):
                if path.endswith(_DELETED):
                    _add_nameless(found, f"/proc/{thread}/fd/{number}")
                found.writable.add(path[1:])


def _is_writable(thread: int, number: str) -> bool:
    with open(f"/proc/{thread}/fdinfo/{number}", "rb") as file:
        flags = next((line.split()[1] for line in file if line.startswith(b"flags:")), b"2")
    return int(flags, 8) & os.O_ACCMODE != os.O_RDONLY


def _add_nameless(found: OpenFiles, link: str) -> None:
    with suppress(FileNotFoundError):
        status = os.stat(link)
        if status.st_nlink:
            found.nameless.add(status.st_ino)


def processes_of(init: int) -> list[int]:
    """The processes in the pid namespace that a container's first process began: what it has without a cgroup. None if
    it has ended. OSError if it may not be looked at."""
    try:
        wanted = _namespace(str(init))
    except _GONE:
        return []
    return [int(name) for name in os.listdir("/proc") if name.isdecimal() and _is_in(wanted, name)]


def _is_in(namespace: str, pid: str) -> bool:
    try:
        return _namespace(pid) == namespace
    except (*_GONE, PermissionError):  # it is gone, or somebody else's
        return False


def _namespace(pid: str) -> str:
    """Names its pid namespace."""
    return os.readlink(f"/proc/{pid}/ns/pid")
