"""The child that a fork server makes for a command line: it takes the place of the client's process, and runs it.

See runtime.cli.client for what the two say to one another.
"""

from __future__ import annotations

import fcntl
import gc
import io
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import IO, NamedTuple, TextIO

from runtime.cli import client, pager
from runtime.cli.preloading import Program
from runtime.cli.program import run
from runtime.system import mounts
from runtime.system.descriptors import close_all_but
from runtime.system.likeness import Likeness, become_like
from runtime.trash import Trash

_SECONDS = 5.0
"""How long a client may take to send its request, and to start us."""
_LARGEST = 16 << 20
"""Bytes of a request; the kernel allows less than half of it for arguments and environment (execve(2))."""
_MOST_DESCRIPTORS = 253
"""As many as one message can have (SCM_MAX_FD, unix(7))."""


class Request(NamedTuple):
    """What a client sends."""

    key: bytes
    numbers: list[int]
    """Of the descriptors, as the client has them."""
    arguments: list[bytes]
    environment: list[bytes]
    descriptors: list[int]
    """The current directory, and one for each number."""


class Known(NamedTuple):
    """What a child knows before its client comes."""

    key: bytes
    program: Program
    ours: Likeness
    tell_outdated: Callable[[], None]


def serve(connection: socket.socket, peer: int, known: Known) -> int:
    """Answer a client, and run its command line if it wants that; returns the exit code once the client has it."""
    connection.settimeout(_SECONDS)
    request = _receive(connection)
    if not known.program.is_current():
        _send(connection, client.OUTDATED)
        known.tell_outdated()
        return 0
    if request.key != known.key or not become_like(peer, known.ours):
        _send(connection, client.OTHERWISE)
        return 0
    connection = _take_descriptors(request, connection)
    os.setpgid(0, 0)
    mounts.set_process_name(b"treering")
    _open_streams()
    _take_environment(request.environment)
    sys.argv[:] = [os.fsdecode(word) for word in request.arguments]
    pager.start = lambda words, variables: _Pager(connection, words, variables)
    if not _is_started(connection):
        return 0
    _die_with(connection)
    gc.enable()
    gc.set_threshold(100_000, 20, 50)
    removed: list[Trash] = []
    code = run(sys.argv[1:], removed.append)
    # Pipes and locks are closed before the client goes on.
    close_all_but({connection.fileno()})
    _outlive(connection)
    _send(connection, client.EXIT, code)
    for trash in removed:
        trash.leave()
    return code


def _is_started(connection: socket.socket) -> bool:
    """Tell the client that all is ready, and wait for its word.

    That comes by a socket of its own. What it sends by the connection can be received a moment before the kernel tells
    whoever wants a signal for it: with the signal asked for in between, one command of 70,000 was killed by its start.

    False without a word, which would be in the client's standard error, where he has gone, perhaps the plain way, or
    there is no room for the socket.
    """
    try:
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                socket.send_fds(connection, [_message(client.READY, os.getpid())], [theirs.fileno()])
            ours.settimeout(_SECONDS)
            return ours.recv(1) == client.START
    except OSError:
        return False


def _send(connection: socket.socket, kind: bytes, number: int = 0) -> None:
    connection.sendall(_message(kind, number))


def _message(kind: bytes, number: int) -> bytes:
    return kind + number.to_bytes(client.HEAD - 1, "big")


def _receive(connection: socket.socket) -> Request:
    data, descriptors, _, _ = socket.recv_fds(connection, 1 << 16, _MOST_DESCRIPTORS)
    size = int.from_bytes(data[:4], "big")
    if len(data) < 4 or size > _LARGEST:
        raise ValueError("not a request")
    body = data[4:]
    while len(body) < size:
        more = connection.recv(size - len(body))
        if not more:
            raise ValueError("half a request")
        body += more
    return parse_request(body, descriptors)


def parse_request(body: bytes, descriptors: list[int]) -> Request:
    """The bytes of a request, taken apart. ValueError if they are none."""
    first, arguments, environment, *words = body.split(b"\0")
    ends = int(first), int(first) + int(arguments), int(first) + int(arguments) + int(environment)
    key, *numbers = words[: ends[0]]
    return Request(key, [int(n) for n in numbers], words[ends[0] : ends[1]], words[ends[1] : ends[2]], descriptors)


def _die_with(connection: socket.socket) -> None:
    """Be killed when the client is: the kernel does it (fcntl(2), F_SETSIG). The client has sent nothing since we sent
    it something, and sends nothing from here on."""
    fcntl.fcntl(connection, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(connection, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(connection, fcntl.F_SETFL, fcntl.fcntl(connection, fcntl.F_GETFL) | os.O_ASYNC)
    connection.setblocking(False)
    try:
        if not connection.recv(1):
            os._exit(1)  # it has gone before we asked
    except BlockingIOError:
        connection.settimeout(None)


def _outlive(connection: socket.socket) -> None:
    """Be killed no more when the client ends."""
    fcntl.fcntl(connection, fcntl.F_SETFL, fcntl.fcntl(connection, fcntl.F_GETFL) & ~os.O_ASYNC)


def _take_descriptors(request: Request, connection: socket.socket) -> socket.socket:
    """Have the client's descriptors under its numbers, and nothing else but the connection, which is returned."""
    close_all_but({connection.fileno(), *request.descriptors})
    above = max(request.numbers) + 1
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, above) for fd in (connection.detach(), *request.descriptors)]
    close_all_but(set(high))
    os.fchdir(high[1])
    for fd, number in zip(high[2:], request.numbers, strict=True):
        os.dup2(fd, number)
    for fd in high[1:]:
        os.close(fd)
    moved = socket.socket(fileno=high[0])
    moved.settimeout(_SECONDS)
    return moved


def _open_streams() -> None:
    """Make Python's standard streams, as an interpreter does that starts on these descriptors."""
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        before: TextIO = getattr(sys, name)
        buffer = open(fd, "wb" if fd else "rb", closefd=False)
        lines = fd == 2 or os.isatty(fd)
        stream = io.TextIOWrapper(buffer, before.encoding, before.errors, "\n", line_buffering=lines)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _take_environment(items: list[bytes]) -> None:
    os.environ.clear()
    for item in items:
        name, _, value = item.partition(b"=")
        os.environb[name] = value
    time.tzset()


class _Pager:
    """A pager that the client runs, on its terminal; like a subprocess.Popen to who uses it."""

    def __init__(self, connection: socket.socket, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        source, sink = os.pipe2(os.O_CLOEXEC)
        self._ended, told = os.pipe2(os.O_CLOEXEC)
        words = [os.fsencode(word) for word in arguments]
        variables = [os.fsencode(f"{name}={value}") for name, value in environment.items()]
        data = b"\0".join([b"%d" % len(words), *words, *variables])
        socket.send_fds(connection, [_message(client.PAGER, len(data))], [source, told])
        connection.sendall(data)
        os.close(source)
        os.close(told)
        if not os.read(self._ended, 1):
            os.close(sink)
            raise FileNotFoundError(f"{arguments[0]} cannot be started")
        self.stdin: IO[bytes] | None = open(sink, "wb")

    def wait(self) -> int:
        """Until it has ended."""
        return len(os.read(self._ended, 1))
