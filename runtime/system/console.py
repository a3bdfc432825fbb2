"""Getting a container's terminal from the engine: OCI's console socket (docs/terminals.md of runc)."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

from runtime.system.watched import Watched

NO_TERMINAL = "it has sent no terminal over its console socket"
"""What is wrong with an engine that has ended with success, of whom none came."""
_NAME = "console.sock"


def receive_terminal(directory: Path, start: Callable[[str], int]) -> tuple[int, int | None]:
    """Start an engine with a socket's address and wait for the terminal's master side.

    `start` returns the engine's pid; so do we, with the master: a close-on-exec descriptor, or None if the engine ended
    without having sent one. The socket is in `directory` meanwhile.
    """
    path = directory / _NAME
    path.unlink(missing_ok=True)
    handle = os.open(directory, os.O_PATH | os.O_CLOEXEC)
    # The kernel takes paths of up to 107 bytes only for a socket; this one is short wherever the store is.
    address = f"/proc/{os.getpid()}/fd/{handle}/{_NAME}"
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(address)
            listener.listen(1)
            process = start(address)
            return process, _accept(listener, process)
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)


def _accept(listener: socket.socket, process: int) -> int | None:
    """What comes before the engine has ended; whoever else may have the connection then will send nothing."""
    with Watched(process) as engine:
        if not engine.wait(listener.fileno()):
            return None
        connection, _ = listener.accept()
        with connection:
            fds = socket.recv_fds(connection, 4096, 1)[1] if engine.wait(connection.fileno()) else []
    for fd in fds:
        os.set_inheritable(fd, False)
    return fds[0] if fds else None
