"""How a fork server's child is told to begin: nothing that its client sends may look like the client's end."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from runtime.cli import client, takeover

SECONDS = 60


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The client's end of a connection, and the child's."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(SECONDS)
        yield ours, theirs


@pytest.fixture
def child(ends: tuple[socket.socket, socket.socket]) -> Iterator[Future[bool]]:
    """A child that waits for the word: whether it was started."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(takeover._is_started, ends[1])


def test_the_word_comes_by_a_socket_of_its_own(ends: tuple[socket.socket, socket.socket], child: Future[bool]) -> None:
    """By the connection it could be there before the kernel signals it, and be taken for the client's end."""
    kind, pid, fds = client._Call(ends[0])._receive()
    assert (kind, pid, len(fds)) == (client.READY, os.getpid(), 1)
    ends[0].send(client.START)
    pidfd = client._started(pid, fds)
    os.close(pidfd)
    assert child.result(SECONDS)
    assert ends[1].recv(1) == client.START, "nobody has read from the connection"
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fds[0])


def test_a_client_that_has_gone_starts_nothing(ends: tuple[socket.socket, socket.socket]) -> None:
    ends[0].close()
    assert not takeover._is_started(ends[1])


def test_a_client_that_says_nothing_starts_nothing(
    ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(takeover, "_SECONDS", 0.01)
    assert not takeover._is_started(ends[1])


def test_a_client_that_goes_or_says_something_else_starts_nothing(ends: tuple[socket.socket, socket.socket]) -> None:
    for word in (b"", b"X"):
        with ThreadPoolExecutor(1) as pool:
            started = pool.submit(takeover._is_started, ends[1])
            _, _, fds = client._Call(ends[0])._receive()
            os.write(fds[0], word)
            os.close(fds[0])
            assert not started.result(SECONDS)


@pytest.mark.parametrize("room", range(4))
def test_a_client_has_room_for_the_socket_or_goes_the_plain_way(
    room: int, ends: tuple[socket.socket, socket.socket]
) -> None:
    """Where a process may have no more descriptors, the kernel brings a message without those that come with it."""
    script = (
        "import os, resource, sys, _socket\n"
        "from runtime.cli import client\n"
        "connection = _socket.socket(fileno=int(sys.argv[1]))\n"
        f"connection.settimeout({SECONDS})\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))\n"
        "taken = [os.dup(0) for _ in range(64 - len(os.listdir('/proc/self/fd')) + 1)]\n"
        "for fd in taken[:int(sys.argv[2])]:\n"
        "    os.close(fd)\n"
        "try:\n"
        "    code = client._Call(connection).run(b'request', [0])\n"
        "except OSError:\n"
        "    code = client.PLAIN\n"
        "print(code)\n"
    )
    command = [sys.executable, "-P", "-c", script, str(ends[0].fileno()), str(room)]
    environment = {**os.environ, "PYTHONPATH": str(Path(client.__file__).parents[2])}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=[ends[0].fileno()], text=True, env=environment
    )
    _, fds, _, _ = socket.recv_fds(ends[1], 100, 1)
    os.close(fds[0])
    ends[0].close()
    if takeover._is_started(ends[1]):
        takeover._send(ends[1], client.EXIT, 7)
    shown, errors = process.communicate(timeout=SECONDS)
    assert (shown, errors) == (f"{7 if room >= 2 else client.PLAIN}\n", "")


def test_a_child_that_has_gone_cannot_be_started() -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    fd = ours.detach()
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="Broken pipe"):
        client._started(os.getpid(), [fd])
    assert len(os.listdir("/proc/self/fd")) == before - 1
