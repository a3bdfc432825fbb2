"""The kernel's wait before a process may be moved to another cgroup, begun before it is needed.

Whoever writes to a cgroup.procs waits until all processors have noticed (an RCU grace period, before the write lock of
a percpu_rw_semaphore): 10 to 25 ms, unless somebody has just done the same. An engine would wait for it in the middle
of starting a container, or a command in one. So a helper writes there while we still prepare: it moves itself to where
it is. Measured 15 ms later, the engine's write takes 0.2 ms instead of 12.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runtime.engine import spawn
from vcs.errors import EngineError

_TOP = Path("/sys/fs/cgroup")
_MOVE = 'echo 0 >"$0" &'
"""What waits is nobody's child, so that a command that lives long has no zombie."""


@contextmanager
def hastened() -> Iterator[None]:
    """Have the wait begun, in the background; to be put around the first thing that is done anyway. Root only: an
    ordinary user's containers have no cgroups."""
    helper = _begin() if os.geteuid() == 0 else None
    try:
        yield
    finally:
        if helper:
            os.waitpid(helper, 0)


def _begin() -> int | None:
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        name = controllers.removeprefix("name=")
        for directory in (_TOP / name, _TOP / "unified") if name else (_TOP / "unified", _TOP):
            procs = directory / path.lstrip("/") / "cgroup.procs"
            if os.access(procs, os.W_OK):
                try:
                    return spawn(["/bin/sh", "-c", _MOVE, str(procs)], (None, None, None))
                except EngineError:
                    return None
    return None
