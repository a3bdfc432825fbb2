"""What the kernel tells of processes, and of what this one has open (proc(5))."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def children_of(pid: int) -> list[int]:
    """The children of a process's first thread; none if it has gone."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def holders(path: Path) -> int:
    """How many descriptors of ours are open on a path."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # it was that of the listing
            found += os.path.samefile(f"/proc/self/fd/{name}", path)
    return found
