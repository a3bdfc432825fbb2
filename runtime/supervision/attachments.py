"""Those who talk to a supervisor: whoever started the container, and who attached to it later.

Both have a connection (AF_UNIX, SOCK_SEQPACKET) that carries one JSON object a message. The starter's is a socket pair
from before the fork; others connect to `attach.sock` in the container's directory.

    to the supervisor    {"signal": N}               pass a signal on to the container's init
                         {"resize": [C, R]}          give its terminal a size
                         {"attach": "out"|"in"}      with stdout, stderr (and stdin) as descriptors: copy
                         {"leave": true}             I go; the container is to go on
    from the supervisor  {"terminal": true}          with a descriptor: the terminal's input and output
                         {"started": PID}
                         {"left": true}              the answer to `leave`
                         {"lost": ERRNO}             what it prints cannot be written where you want it
                         {"exit": CODE} or {"error": ...}; the last message
"""

from __future__ import annotations

import errno
import json
import os
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.engine import FAILED
from runtime.supervision.rebuilding import error_fields
from vcs.errors import EngineError
from vcs.shortage import SHORTAGES

NAME = "attach.sock"
_BACKLOG = 16
_SHORT_SECONDS = 0.05
_NO_ROOM = "no descriptor is left for another who attaches"


@dataclass(frozen=True, slots=True)
class Message:
    """One message that came, with its descriptors."""

    fields: dict[str, Any]
    fds: tuple[int, ...] = ()


class Peer:
    """A connection to somebody."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def fileno(self) -> int:
        return self._connection.fileno()

    def receive(self) -> Message | None:
        """The next message, None if the other has gone, or there is no room for his descriptors, which he is told."""
        try:
            data, fds, flags, _ = self._next()
            check_whole(fds, flags)
        except OSError as error:
            if error.errno == errno.EMFILE:
                self.send(error_fields(EngineError(_NO_ROOM), FAILED))
            return None
        fields = fields_of(data)
        if fields is None:
            for fd in fds:
                os.close(fd)
            return None
        return Message(fields, tuple(fds))

    def _next(self) -> tuple[bytes, list[int], int, Any]:
        try:
            return socket.recv_fds(self._connection, 1 << 16, 3)
        except ConnectionResetError:
            # The other closed it without having read all of ours, which is told before his last message is given out.
            return socket.recv_fds(self._connection, 1 << 16, 3)

    def send(self, fields: dict[str, Any], *fds: int) -> None:
        """Send a message; one who has gone, or does not listen, misses it."""
        with suppress(OSError):
            socket.send_fds(self._connection, [json.dumps(fields, default=_text).encode()], fds, socket.MSG_DONTWAIT)

    # For the monitor, whose messages are no JSON objects.

    def ask(self, words: bytes, fds: Sequence[int], seconds: float) -> bytes:
        """Send a message and wait for the answer; empty if the other goes without one, or is slow. In the end both
        know the same: what it sends later fails."""
        self._connection.settimeout(seconds)
        with suppress(OSError):
            try:
                socket.send_fds(self._connection, [words], fds)
                return self._connection.recv(16)
            except TimeoutError:
                self._connection.shutdown(socket.SHUT_RD)
                return self._connection.recv(16)  # which may have come in between
        return b""

    def take(self, size: int, descriptors: int) -> tuple[bytes, list[int]]:
        """The message that has come, as it is, and its descriptors; nothing if the other has gone. OSError if there is
        no room for them."""
        try:
            words, fds, flags, _ = socket.recv_fds(self._connection, size, descriptors, socket.MSG_DONTWAIT)
        except OSError:
            return b"", []
        check_whole(fds, flags)
        return words, fds

    def send_bytes(self, data: bytes) -> bool:
        """Send a message as it is; False if the other has gone."""
        try:
            self._connection.send(data)
        except OSError:
            return False
        return True

    def refuse(self, why: str) -> None:
        """Tell the other why nothing comes of it, and go."""
        self.send(error_fields(EngineError(why), FAILED))
        self.close()

    def option(self, number: int, size: int) -> bytes:
        """An option of the socket (socket(7))."""
        return self._connection.getsockopt(socket.SOL_SOCKET, number, size)

    def close(self) -> None:
        self._connection.close()


class Reserve:
    """A descriptor that is kept for the moment in which there is no other. One does for all doors of a process."""

    def __init__(self) -> None:
        self._fd: int | None = None
        self.renew()

    def renew(self) -> None:
        """Have one again, if that can be."""
        if self._fd is None:
            with suppress(OSError):
                self._fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def let_go(self) -> None:
        """Make room for another one."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


class Door:
    """The socket in a container's directory, by which others attach. Given no reserve, it has its own."""

    def __init__(self, directory: Path, name: str = NAME, reserve: Reserve | None = None) -> None:
        self.directory = directory
        self._path = directory / name
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            self._path.unlink(missing_ok=True)
            with _Short(directory, name) as short:
                self._socket.bind(short)
            self._socket.listen(_BACKLOG)
        except OSError:
            self._socket.close()
            raise
        self._reserve = reserve or Reserve()
        self._owns_reserve = reserve is None

    def fileno(self) -> int:
        return self._socket.fileno()

    def accept(self) -> Peer | None:
        """Whoever knocked, None if he has gone again, or there is no descriptor for him, which he is told."""
        try:
            return self._let_in()
        except OSError as error:
            if error.errno in SHORTAGES:  # he stands there until he is told
                self._turn_away()
            return None

    def _let_in(self) -> Peer:
        connection, _ = self._socket.accept()
        connection.setblocking(True)
        return Peer(connection)

    def _turn_away(self) -> None:
        """Make an end with whoever knocks: as long as he stands there, whoever polls is told of him again and again."""
        self._reserve.let_go()
        try:
            self._let_in().refuse(_NO_ROOM)
        except OSError:
            time.sleep(_SHORT_SECONDS)  # it is the machine that has none: another process was quicker
        self._reserve.renew()

    def close(self, *, keep_name: bool = False) -> None:
        """Let nobody in any more; `keep_name` if another process has the name now."""
        if not keep_name:
            self._path.unlink(missing_ok=True)
        self._socket.close()
        if self._owns_reserve:
            self._reserve.let_go()


def knock(directory: Path, name: str = NAME) -> Peer:
    """Connect to a container's supervisor. OSError if there is none."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    try:
        with _Short(directory, name) as short:
            connection.connect(short)
    except OSError:
        connection.close()
        raise
    return Peer(connection)


class _Short:
    """A name of the socket that is short wherever the store is: the kernel takes 107 bytes."""

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        self._name = name

    def __enter__(self) -> str:
        self._fd = os.open(self._directory, os.O_PATH | os.O_CLOEXEC)
        return f"/proc/self/fd/{self._fd}/{self._name}"

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def check_whole(fds: Sequence[int], flags: int) -> None:
    """See that all descriptors of a message have come, and have them close-on-exec. OSError if this process may have no
    more (recvmsg(2), MSG_CTRUNC); those that came are closed then."""
    if flags & socket.MSG_CTRUNC:
        for fd in fds:
            os.close(fd)
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    for fd in fds:
        os.set_inheritable(fd, False)


def fields_of(data: bytes) -> dict[str, Any] | None:
    """What a message says; None if it is none."""
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return fields if isinstance(fields, dict) else None


def _text(value: object) -> str:
    return os.fsdecode(value) if isinstance(value, bytes) else str(value)
