"""What a container prints and reads, as descriptors in one event loop: no threads, and nothing that blocks.

An Output is one stream that comes out of a container: a pipe's reading end, or its terminal. What it brings goes to the
container's log and to sinks: the streams of whoever ran the container or is attached to it. A sink that takes nothing
for a while holds its output up, so that the container waits as it would for any slow reader, if the sink is the
`owner`'s; anybody else's is dropped, and he is told, when it is too far behind.

A descriptor that was lent to us is shared with programs that expect it to block. So a terminal or pipe is opened again
by /proc/self/fd, which makes it one of our own; a socket is told with each call; and a file never blocks, and is not
opened again, for it would not share its position.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import TypeAlias

from runtime.system.terminal import reader_has_left

CHUNK = 65536
_BEHIND = 1 << 20
"""Bytes that an attached reader may be behind before it is dropped."""
_END_OF_FILE = b"\x04"
Lost: TypeAlias = Callable[[OSError], None]
"""Is told why somebody cannot be given what is printed any more."""


class Sink:
    """A descriptor to write to without waiting. Owns and closes `fd`. `lost` is called when it ends though its reader
    has not left."""

    def __init__(self, fd: int, owner: bool = False, lost: Lost | None = None) -> None:
        self.owner = owner
        self._lost = lost
        self.fd = _unblocked(fd, os.O_WRONLY)
        self._socket = socket.socket(fileno=self.fd) if stat.S_ISSOCK(os.fstat(self.fd).st_mode) else None
        self._pending = bytearray()
        self.open = True
        self.failure: OSError | None = None
        """Why it could not be written to, where that is not that its reader has left."""

    @property
    def behind(self) -> bool:
        """Whether something waits to be written."""
        return bool(self._pending)

    def write(self, data: bytes) -> None:
        """Write it now or later. A reader who has left closes the sink, and so does a write that fails."""
        if not self.open:
            return
        if self._pending:
            self._pending += data
            if not self.owner and len(self._pending) > _BEHIND:
                self._fail(OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS)))
            return
        self._pending += data[self._try(data) :]

    def flush(self) -> None:
        """Write of what waits as much as there is room for."""
        with memoryview(bytes(self._pending)) as view:
            done = self._try(view)
        del self._pending[:done]

    def close(self) -> None:
        if self.open:
            self.open = False
            self._pending.clear()
            if self._socket is not None:
                self._socket.detach()
            os.close(self.fd)

    def _try(self, data: bytes | memoryview) -> int:
        done = 0
        try:
            while done < len(data):
                part = data[done : done + CHUNK]
                done += self._socket.send(part, socket.MSG_DONTWAIT) if self._socket else os.write(self.fd, part)
        except BlockingIOError:
            pass
        except OSError as error:
            if reader_has_left(self.fd, error):
                self.close()
            else:
                self._fail(error)
            return len(data)
        return done

    def _fail(self, error: OSError) -> None:
        self.failure = error
        self.close()
        if self._lost:
            self._lost(error)


class Output:
    """One stream of a container. Owns and closes `source`.

    `log` is called with what was read. Without `last_reader`, the container can write on when all sinks have closed;
    with it, the stream is closed then, so that whoever writes to it learns (SIGPIPE). `failure` says why an owner's
    sink could not be written to: he is to be told, for what he wanted is lost.
    """

    def __init__(self, source: int, log: Callable[[bytes], None] | None = None, last_reader: bool = False) -> None:
        os.set_blocking(source, False)
        self.source: int | None = source
        self.sinks: list[Sink] = []
        self.failure: OSError | None = None
        self._log = log
        self._last_reader = last_reader

    def interests(self) -> dict[int, int]:
        """What to poll for: descriptor -> poll events."""
        wanted = {sink.fd: select.POLLOUT for sink in self.sinks if sink.behind}
        if self.source is not None and not any(sink.behind and sink.owner for sink in self.sinks):
            wanted[self.source] = select.POLLIN
        return wanted

    def ready(self, fd: int) -> None:
        """Move bytes for a descriptor that poll returned."""
        if fd == self.source:
            self._read()
        for sink in self.sinks:
            if sink.fd == fd and sink.open:
                sink.flush()
        self.forget_closed()

    def close(self) -> None:
        """Read no more. What sinks have not taken yet they still get."""
        if self.source is not None:
            os.close(self.source)
            self.source = None
        for sink in [*self.sinks]:
            if not sink.behind:
                sink.close()
        self.forget_closed()

    @property
    def done(self) -> bool:
        """Whether all has been read and handed on."""
        return self.source is None and not self.sinks

    def _read(self) -> None:
        assert self.source is not None
        try:
            data = os.read(self.source, CHUNK)
        except BlockingIOError:
            return
        except OSError as error:
            data = b""
            if error.errno != errno.EIO:  # a terminal's end
                raise
        if not data:
            self.close()
            return
        if self._log:
            self._log(data)
        for sink in self.sinks:
            sink.write(data)

    def forget_closed(self) -> None:
        """Let go of sinks that are closed, and close the stream with the last of them where that is wanted."""
        had = bool(self.sinks)
        self.failure = next((sink.failure for sink in self.sinks if sink.owner and sink.failure), self.failure)
        self.sinks = [sink for sink in self.sinks if sink.open]
        for sink in [*self.sinks]:
            if self.source is None and not sink.behind:
                sink.close()
                self.sinks.remove(sink)
        if had and not self.sinks and self._last_reader:
            self.close()


class Input:
    """What somebody types or pipes, on its way to a container. Owns and closes `source`; `sink` is the container's
    terminal or the pipe of its standard input, which others use too."""

    def __init__(self, source: int, sink: int, terminal: bool, closes: bool) -> None:
        self.source: int | None = _unblocked(source, os.O_RDONLY)
        self._sink: int | None = sink
        self._terminal = terminal
        self._closes = closes
        """Whether the sink ends when the source does."""
        self._pending = bytearray()

    def interests(self) -> dict[int, int]:
        wanted: dict[int, int] = {}
        if self._sink is not None and self._pending:
            wanted[self._sink] = select.POLLOUT
        if self.source is not None and len(self._pending) < CHUNK:
            wanted[self.source] = select.POLLIN
        return wanted

    def ready(self, fd: int) -> None:
        if fd == self.source:
            self._read()
        if self._pending and self._sink is not None:
            try:
                del self._pending[: os.write(self._sink, self._pending)]
            except BlockingIOError:
                return
            except OSError:
                self._sink = None
                self.close()
        if self.source is None and not self._pending and self._closes and self._sink is not None:
            os.close(self._sink)
            self._sink = None

    @property
    def done(self) -> bool:
        return self.source is None and (not self._pending or self._sink is None)

    def close(self) -> None:
        """Take no more."""
        if self.source is not None:
            os.close(self.source)
            self.source = None

    def _read(self) -> None:
        assert self.source is not None
        data = b""
        with suppress(OSError):
            try:
                data = os.read(self.source, CHUNK)
            except BlockingIOError:
                return
        if data:
            self._pending += data
            return
        self.close()
        if self._terminal:  # a file or pipe that ends is an end of file for whoever reads the terminal too
            self._pending += _END_OF_FILE


def _unblocked(fd: int, mode: int) -> int:
    """A descriptor of the same file that does not block, if it can be had; `fd` is closed if it is another."""
    if stat.S_ISFIFO(os.fstat(fd).st_mode) or os.isatty(fd):
        with suppress(OSError):  # somebody else's terminal, after su: it may block us, then
            again = os.open(f"/proc/self/fd/{fd}", mode | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
            os.close(fd)
            return again
    return fd
