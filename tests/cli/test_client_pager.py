"""The thin client while the child that runs its command dies: it ends too."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator

import pytest

from runtime.cli import client

SECONDS = 20
PAGER = client.PAGER + (100).to_bytes(client.HEAD - 1, "big")
"""The head of a message that asks for a pager, with a hundred bytes to come."""


@pytest.fixture
def server() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The client's end of a connection, and the child's."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def waited(ours: socket.socket, theirs: socket.socket) -> int:
    """How a client ends that waits for a child: its exit code, or -N if signal N ended it."""
    pid = os.fork()
    if not pid:
        try:
            theirs.close()
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(SECONDS)  # else one that never ends would not end here either
            os._exit(client._Call(ours)._wait())
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def ask_for_pager(theirs: socket.socket, begun: bytes) -> None:
    """Send the beginning of a request for a pager, with its two descriptors."""
    source, told = os.pipe()
    socket.send_fds(theirs, [PAGER], [source, told])
    theirs.sendall(begun)
    for fd in (source, told):
        os.close(fd)


@pytest.mark.parametrize("begun", [b"", b"1\0less"])
def test_a_child_that_dies_while_it_asks_for_a_pager(server: tuple[socket.socket, socket.socket], begun: bytes) -> None:
    ours, theirs = server
    ask_for_pager(theirs, begun)
    theirs.shutdown(socket.SHUT_WR)
    assert waited(ours, theirs) == -signal.SIGKILL


def test_a_connection_that_is_reset_meanwhile(server: tuple[socket.socket, socket.socket]) -> None:
    """Nothing is run a second time, the plain way, after the child has begun."""
    ours, theirs = server
    ours.send(b"unread")
    ask_for_pager(theirs, b"1\0")
    theirs.close()
    assert waited(ours, theirs) == -signal.SIGKILL
