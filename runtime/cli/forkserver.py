"""The fork server: a process that has everything imported, and forks a child for each command line.

What is here begins it and ends it; what it does itself is in runtime.cli.serving.

In the run directory (runtime.cli.client.run_directory), which is its owner's alone, it has

    fork-NAME.sock    where it is asked; NAME is made of its surroundings (runtime.cli.client.surroundings)
    fork-NAME.lock    flocked as long as it lives, by it or by who is just starting it; has its process id
    fork-NAME.log     what went wrong, if anything did
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import posix
import select
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from runtime.cli import client

_SECONDS_TO_END = 5.0

_PROGRAM = """
import os, sys
os.closerange(3, int(sys.argv[2]))
os.closerange(int(sys.argv[2]) + 1, 1 << 30)
sys.path.insert(0, sys.argv[1])
from runtime.cli.serving import main
main(int(sys.argv[2]))
"""


def start() -> None:
    """Start a server, unless one is being started or there. Waits for nothing and says nothing: without it, commands
    only take longer."""
    with contextlib.suppress(OSError):
        directory = Path(client.run_directory())
        directory.mkdir(mode=0o700, exist_ok=True)
        if not _is_private(directory):
            return
        lock = _lock(directory / f"{client.name_of(client.surroundings())}.lock")
        if lock is None:
            return
        os.ftruncate(lock, 0)
        os.set_inheritable(lock, True)
        log = str(directory / f"{client.name_of(client.surroundings())}.log")
        package = str(Path(__file__).resolve().parent.parent.parent)
        os.posix_spawn(
            sys.executable,
            [sys.executable, "-P", "-c", _PROGRAM, package, str(lock)],
            _environment(),
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDWR, 0),
                (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
            setsigmask=(),
            setsigdef=[number for number in signal.valid_signals() if number not in (signal.SIGKILL, signal.SIGSTOP)],
        )


def running() -> Iterator[int]:
    """The process ids of this user's servers."""
    for lock in sorted(Path(client.run_directory()).glob("fork-*.lock")):
        with contextlib.suppress(OSError, ValueError):
            fd = _lock(lock)
            if fd is None:
                yield int(lock.read_text())
            else:
                os.close(fd)


def stop() -> None:
    """End this user's servers; what they have begun goes on. Waits until they are gone, for some seconds."""
    for pid in running():
        with contextlib.suppress(OSError):
            process = os.pidfd_open(pid)
            try:
                signal.pidfd_send_signal(process, signal.SIGTERM)
                select.select([process], [], [], _SECONDS_TO_END)
            finally:
                os.close(process)


def _is_private(directory: Path) -> bool:
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        return client.is_private(fd)
    finally:
        os.close(fd)


def _lock(path: Path) -> int | None:
    """A descriptor that holds a server's lock; None if there is a server. OSError."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def _environment() -> dict[bytes, bytes]:
    """Of our variables, those that a server shares with its clients: no other ever stays in one."""
    return {
        name: value
        for name, value in posix.environ.items()
        if client.matters(name) or name == b"XDG_RUNTIME_DIR"
    }  # fmt: skip
