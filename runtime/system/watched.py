"""A child that has helpers of its own, watched until it ends.

crun waits for ever for what a helper that was killed would have said, while that lies there as a zombie. A child that
has such a one for so long that it cannot be by chance is killed.
"""

from __future__ import annotations

import os
import re
import select
import signal
from pathlib import Path

_LOOK_SECONDS = 5
_DEAD = re.compile(rb"^State:\tZ", re.MULTILINE)
_PARENT = re.compile(rb"^PPid:\t(\d+)$", re.MULTILINE)


class Watched:
    """A child of ours, until it is waited for; used in a `with` statement."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._process = os.pidfd_open(pid)
        self._dead: set[int] = set()

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._process)

    def wait(self, source: int | None = None) -> bool:
        """Wait until something can be read of a file: True; or until the child has ended, and nothing can."""
        poll = select.poll()
        for fd in (self._process, source):
            if fd is not None:
                poll.register(fd, select.POLLIN)
        while not (ready := dict(poll.poll(_LOOK_SECONDS * 1000))):
            self._look()
        return source in ready

    def _look(self) -> None:
        dead = _dead_children(self._pid)
        if dead & self._dead:
            os.kill(self._pid, signal.SIGKILL)
        self._dead = dead


def _dead_children(pid: int) -> set[int]:
    """Those that a process has not waited for yet. Not every kernel tells what children one has; this is rare."""
    found = ((int(name), status_of(int(name))) for name in filter(str.isdecimal, os.listdir("/proc")))
    return {child for child, status in found if parent_of(status) == pid and _DEAD.search(status)}


def status_of(pid: int) -> bytes:
    """What /proc says of a process (proc(5)); nothing of one that is gone."""
    try:
        return Path(f"/proc/{pid}/status").read_bytes()
    except OSError:
        return b""


def parent_of(status: bytes) -> int:
    """The parent that a status names; 0 if it names none."""
    found = _PARENT.search(status)
    return int(found[1]) if found else 0
