"""The kernel's wait before a process may be moved to another cgroup, begun before it is needed.

Whoever writes to a cgroup.procs waits until all processors have noticed (an RCU grace period, before the write lock of
a percpu_rw_semaphore): 10 to 25 ms, unless somebody has just done the same. An engine would wait for it in the middle
of starting a container, or a command in one. So a thread writes there while we still prepare: it moves this process to
where it is. Measured 15 ms later, the engine's write takes 0.2 ms instead of 12.
"""

from __future__ import annotations

import os
from _thread import start_new_thread
from contextlib import suppress
from pathlib import Path

from vcs.stillborn import dispensable

_TOP = Path("/sys/fs/cgroup")


def hasten() -> None:
    """Have the wait begun, in the background. Root only: an ordinary user's containers have no cgroups."""
    if os.geteuid() == 0 and (procs := _procs()) is not None:
        start_new_thread(_stay, (procs,))


def _procs() -> int | None:
    """A cgroup.procs that this process is in, to write to."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        name = controllers.removeprefix("name=")
        for directory in (_TOP / name, _TOP / "unified") if name else (_TOP / "unified", _TOP):
            with suppress(OSError):
                return os.open(directory / path.lstrip("/") / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
    return None


@dispensable
def _stay(procs: int) -> None:
    """Nothing but two system calls: a fork meanwhile finds no lock taken."""
    with suppress(OSError):
        os.write(procs, b"0")
    os.close(procs)
