"""The user's end of a container's terminal: bytes from one to the other, raw mode, window size.

The container has a terminal of its own, of which the engine sends us the master side. The user's terminal is in raw
mode meanwhile: Ctrl-C is a byte, which the container's terminal turns into SIGINT for its foreground process.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import stat
import struct
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from vcs.errors import EngineError

_CHUNK = 65536
_END_OF_FILE = b"\x04"
DETACH_KEYS = b"\x10\x11"
"""Ctrl-P Ctrl-Q: typed at a container's terminal, they leave it, as in Docker."""


class OutputLost(EngineError):
    """Something that a container printed could not be written where it was to go. It ran all the same, and its command
    may have done all that it should."""

    @classmethod
    def since(cls, error: OSError) -> OutputLost:
        """The error for a write that failed."""
        if error.errno == errno.ENOBUFS:
            return cls("what it printed was read too slowly, and the rest was dropped", errno=error.errno)
        return cls(f"what it printed could not be written: {error.strerror}", errno=error.errno)


def window_size(fd: int) -> tuple[int, int] | None:
    """Columns and rows of a terminal; None if `fd` is none or its size is unknown."""
    with suppress(OSError):
        rows, columns = struct.unpack("HHHH", fcntl.ioctl(fd, termios.TIOCGWINSZ, bytes(8)))[:2]
        if rows and columns:
            return columns, rows
    return None


def set_window_size(fd: int, size: tuple[int, int]) -> None:
    """Give a terminal a size in columns and rows. Its foreground process group is told (SIGWINCH)."""
    with suppress(OSError):
        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))


@contextmanager
def raw_mode(fd: int) -> Iterator[None]:
    """Keep a terminal in raw mode and restore it afterwards, whatever happens. Nothing if `fd` is no terminal."""
    try:
        saved = termios.tcgetattr(fd)
    except (termios.error, OSError):
        yield
        return
    tty.setraw(fd, termios.TCSADRAIN)
    try:
        yield
    finally:
        with suppress(termios.error):
            termios.tcsetattr(fd, termios.TCSADRAIN, saved)


class TerminalProxy:
    """Copies between the user (`source`, `sink`) and `terminal`, the supervisor's end of a container's terminal, a step
    whenever a descriptor is ready.

    `source` None passes no input on. Owns and closes `terminal`. Once `keys` were typed, `wants_to_leave` is true. If
    the user's side cannot be written to, the terminal is hung up, and `failure` says why.
    """

    def __init__(self, terminal: int, source: int | None, sink: int, keys: bytes = DETACH_KEYS) -> None:
        self.terminal: int | None = terminal
        self._source = source
        self._sink = sink
        self._pending = b""
        self._keys = keys
        self._typed = 0
        """How many of the keys were typed in a row; they are held back."""
        self.wants_to_leave = False
        self.failure: OSError | None = None
        os.set_blocking(terminal, False)

    def size(self) -> tuple[int, int] | None:
        """Columns and rows of the user's terminal."""
        return window_size(self._sink) or (window_size(self._source) if self._source is not None else None)

    def interests(self) -> dict[int, int]:
        """What to poll for: descriptor -> poll events."""
        wanted: dict[int, int] = {}
        if self.terminal is None:
            return wanted
        wanted[self.terminal] = select.POLLIN | (select.POLLOUT if self._pending else 0)
        if self._source is not None and len(self._pending) < _CHUNK:
            wanted[self._source] = select.POLLIN
        return wanted

    def ready(self, fd: int, events: int) -> None:
        """Move bytes for a descriptor that poll returned."""
        if fd == self._source:
            self._from_user()
        elif fd == self.terminal:
            if events & select.POLLOUT:
                self._to_container()
            if events & ~select.POLLOUT:
                self._from_container()

    def drain(self) -> None:
        """Copy what the container wrote before it ended, and close. OutputLost if any of it could not be written."""
        while self.terminal is not None:
            self._from_container(last=True)
        if self.failure:
            raise OutputLost.since(self.failure)

    def close(self) -> None:
        """Hang up: the container's session gets SIGHUP and end of file."""
        if self.terminal is not None:
            os.close(self.terminal)
            self.terminal = None

    def _from_user(self) -> None:
        assert self._source is not None
        is_terminal = os.isatty(self._source)
        try:
            data = os.read(self._source, _CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._source = None
            if is_terminal:
                self.close()
                return
        # A file or pipe that ends is an end of file for whoever reads the container's terminal too.
        self._pending += (self._without_keys(data) if is_terminal else data) or (b"" if data else _END_OF_FILE)
        self._to_container()

    def _without_keys(self, data: bytes) -> bytes:
        """What was typed, less the keys to leave: what might be their beginning waits for what follows."""
        passed = bytearray()
        for byte in data:
            if self._keys and byte == self._keys[self._typed]:
                self._typed += 1
                if self._typed == len(self._keys):
                    self.wants_to_leave = True
                    return bytes(passed)
                continue
            passed += self._keys[: self._typed]
            self._typed = int(bool(self._keys) and byte == self._keys[0])
            if not self._typed:
                passed.append(byte)
        return bytes(passed)

    def _to_container(self) -> None:
        if self.terminal is None:
            return
        try:
            self._pending = self._pending[os.write(self.terminal, self._pending) :]
        except BlockingIOError:
            return
        except OSError:
            self._pending = b""

    def _from_container(self, last: bool = False) -> None:
        if self.terminal is None:
            return
        try:
            data = os.read(self.terminal, _CHUNK)
        except BlockingIOError:
            if last:
                self.close()
            return
        except OSError:
            data = b""
        try:
            goes_on = bool(data) and write_all(self._sink, data)
        except OSError as error:
            goes_on = False
            self.failure = error
        if not goes_on:
            self.close()


def write_all(fd: int, data: bytes) -> bool:
    """Write everything; False if nobody is there to read it. OSError if it cannot be written."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            select.select([], [fd], [])
        except OSError as error:
            if not reader_has_left(fd, error):
                raise
            return False
    return True


def reader_has_left(fd: int, error: OSError) -> bool:
    """Whether a write failed since nobody is there to read: the pipe or socket was closed at its other end, or the
    terminal was hung up. After any other error something is lost that somebody wants."""
    if error.errno == errno.EIO:
        # isatty(3) says no of a terminal that was hung up; and disks, which fail with this too, are of other types.
        return stat.S_ISCHR(os.fstat(fd).st_mode)
    return error.errno in (errno.EPIPE, errno.ECONNRESET)
