"""A running container from outside: its first process, held so that it cannot be taken for another, and its root.

The container's mounts are in a mount namespace of its own; /proc/PID/root leads there, and a descriptor of it serves
all further looks (runtime.system.rootaccess). No path of the container is ever looked up as one of the machine's.
"""

from __future__ import annotations

import fcntl
import os
import select
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from runtime.containers import Container
from runtime.state import RUN_LOCK, Restarting, Running, Starting, is_running, state_of
from runtime.system.rootaccess import Root
from vcs.errors import Conflict, Denied

_LET_GO_SECONDS = 30.0
_START_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Reached:
    """A container that runs."""

    pid: int
    """Of its first process, as the machine counts."""
    process: int
    """A pidfd of it."""
    root: Root

    def alive(self) -> bool:
        """Whether the first process still runs."""
        poll = select.poll()
        poll.register(self.process, select.POLLIN)
        return not poll.poll(0)


@contextmanager
def reached(container: Container) -> Iterator[Reached]:
    """Hold a running container's first process and its root. Conflict if it does not run; Denied."""
    with ExitStack() as stack:
        state = _settled(container)
        try:
            process = os.pidfd_open(state.pid)
            stack.callback(os.close, process)
            # Between the look and the descriptor the pid may have become another process's; from here on it cannot.
            if state_of(container.paths.directory) != state:
                raise not_running(container)
            root = os.open(f"/proc/{state.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, root)
        except (ProcessLookupError, FileNotFoundError):
            raise not_running(container) from None
        except PermissionError as error:
            raise Denied(f"the root of container {container.name!r} cannot be reached: {error.strerror}") from error
        found = Reached(state.pid, process, Root(root))
        if not found.alive():
            raise not_running(container)
        yield found


def _settled(container: Container) -> Running:
    """The state of a container that runs; of one that is just being started, when it does."""
    deadline = time.monotonic() + _START_SECONDS
    while isinstance(state := state_of(container.paths.directory), Starting) and time.monotonic() < deadline:
        time.sleep(0.005)
    if isinstance(state, Restarting):
        raise Conflict(
            f"container {container.name!r} has ended, and waits to be started again",
            container=container.name, wanted="later",
        )  # fmt: skip
    if not isinstance(state, Running):
        raise not_running(container)
    return state


def not_running(container: Container) -> Conflict:
    """The error for what only a running container can do."""
    return Conflict(f"container {container.name!r} is not running", container=container.name, wanted="running")


@contextmanager
def at_rest(container: Container) -> Iterator[None]:
    """Keep a stopped container from being started meanwhile, and wait until its last run has left no trace: its end is
    known a moment before its supervisor has let go of its overlay. Conflict if it runs."""
    lock = os.open(container.paths.directory / RUN_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + _LET_GO_SECONDS
        while not _try_lock(lock):
            if is_running(container.paths.directory) or time.monotonic() > deadline:
                raise Conflict(f"container {container.name!r} is running", container=container.name)
            time.sleep(0.005)
        if is_running(container.paths.directory):
            raise Conflict(f"container {container.name!r} is running", container=container.name)
        yield
    finally:
        os.close(lock)


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
