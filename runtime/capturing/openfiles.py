"""Which files of its root a container's processes can write to without anybody being told: those that they have mapped,
and those that are open for writing (proc(5): maps, map_files, fd, fdinfo).

A store into a mapped page that is dirty already changes no time stamp, so the content of a mapped file is never taken
from what was seen earlier (runtime.upper.seen). Read-only mappings count as well: mprotect(2) may make them writable,
and a page that is dirty by then is written to without a fault.

The kernel shows the path that a file has in the container, which is the one that it has in the upper. A file that was
deleted has none; if it has other names, its inode is told instead.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field

_DELETED = b" (deleted)"
_RING = b"anon_inode:[io_uring]"


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


def open_files(pids: Iterable[int]) -> OpenFiles:
    """What these processes hold. Those that end meanwhile hold nothing."""
    found = OpenFiles()
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):
            _add_mapped(found, pid)
            _add_open(found, pid)
    return found


def _add_mapped(found: OpenFiles, pid: int) -> None:
    with open(f"/proc/{pid}/maps", "rb") as file:
        for line in file:
            fields = line.rstrip(b"\n").split(maxsplit=5)
            if len(fields) < 6 or not fields[1].endswith(b"s") or not fields[5].startswith(b"/"):
                continue
            path = fields[5].replace(rb"\012", b"\n")
            if path.endswith(_DELETED):
                start, _, end = fields[0].partition(b"-")
                _add_nameless(found, f"/proc/{pid}/map_files/{int(start, 16):x}-{int(end, 16):x}")
            found.mapped.add(path[1:])


def _add_open(found: OpenFiles, pid: int) -> None:
    for number in os.listdir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):
            path = os.readlink(f"/proc/{pid}/fd/{number}".encode())
            if path == _RING:
                found.rings = True
            if path.startswith(b"/") and _is_writable(pid, number):
                if path.endswith(_DELETED):
                    _add_nameless(found, f"/proc/{pid}/fd/{number}")
                found.writable.add(path[1:])


def _is_writable(pid: int, number: str) -> bool:
    with open(f"/proc/{pid}/fdinfo/{number}", "rb") as file:
        flags = next((line.split()[1] for line in file if line.startswith(b"flags:")), b"2")
    return int(flags, 8) & os.O_ACCMODE != os.O_RDONLY


def _add_nameless(found: OpenFiles, link: str) -> None:
    with suppress(FileNotFoundError):
        status = os.stat(link)
        if status.st_nlink:
            found.nameless.add(status.st_ino)


def processes_of(init: int) -> list[int]:
    """The processes in the pid namespace that a container's first process began: what it has without a cgroup."""
    wanted = _namespace(str(init))
    return [int(name) for name in os.listdir("/proc") if name.isdecimal() and wanted and _namespace(name) == wanted]


def _namespace(pid: str) -> str | None:
    """Names its pid namespace; None if it is gone, or somebody else's."""
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
