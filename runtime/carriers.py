"""The standard streams of a command that runs inside a container while others there go on: pipes, and what carries.

The command gets pipes, so that it can neither read nor change what is behind our own output. Of our input it gets the
file or pipe itself, from which not a byte more than it wants is read; but never our terminal, whose holder could read
all that is typed and write to it.

That the command has ended does not mean that its pipes have: what it left in the background may hold them for ever. So
all that the command itself wrote is passed on, and then a second is given to others.
"""

from __future__ import annotations

import fcntl
import os
import select
import struct
import termios
import threading
import time
from contextlib import suppress

from runtime.system.descriptors import duplicate, same_file
from runtime.system.terminal import OutputLost, write_all

_CHUNK = 1 << 16
_GRACE = 1.0
"""Seconds that output may still come from what a command leaves behind."""
_TICK = 0.05


class Streams:
    """Ours, moved to a container: `given` are what the command is started with."""

    def __init__(self, *, interactive: bool) -> None:
        self._stop, self._stopper = os.pipe2(os.O_CLOEXEC)
        self._carriers: list[_Carrier] = []
        self._feeder: _Carrier | None = None
        self.given: tuple[int | None, int | None, int | None]
        stdin = self._input() if interactive else None
        out, err = duplicate(1), duplicate(2)
        stdout = self._output(out)
        # One pipe for both keeps the order of what goes to one place.
        stderr: int | None
        if err is not None and same_file(out, err):
            stderr = stdout
            os.close(err)
        else:
            stderr = self._output(err)
        self.given = (stdin, stdout, stderr)

    def __enter__(self) -> Streams:
        return self

    def __exit__(self, *_: object) -> None:
        self._give_up()
        with suppress(OSError):
            os.close(self._stopper)

    def flow(self) -> None:
        """Begin to carry. Not before the engine has let go: its complaints come through the same pipe."""
        self._give_up()
        for carrier in (*self._carriers, *([self._feeder] if self._feeder else ())):
            carrier.start()

    def finish(self, interrupted: int) -> None:
        """Carry the rest, after the command has ended. Who reads our output may take his time; what can be read from
        `interrupted` (signals) ends it. OutputLost if some of it could not be written."""
        self._carry_the_rest(interrupted)
        for carrier in self._carriers:
            if carrier.failure:
                raise OutputLost.since(carrier.failure)

    def _carry_the_rest(self, interrupted: int) -> None:
        deadline = time.monotonic() + _GRACE
        told = False
        while any(carrier.is_alive() for carrier in self._carriers):
            if not told and time.monotonic() > deadline:
                os.close(self._stopper)
                self._stopper = -1
                told = True
            for carrier in self._carriers:
                carrier.join(_TICK)
            if select.select([interrupted], [], [], 0)[0]:
                return

    def _give_up(self) -> None:
        """Close the command's ends, of which it has copies."""
        for fd in {fd for fd in self.given if fd is not None}:
            os.close(fd)
        self.given = (None, None, None)

    def _input(self) -> int | None:
        source = duplicate(0)
        if source is None or not os.isatty(source):
            return source
        reader, writer = os.pipe2(os.O_CLOEXEC)
        self._feeder = _Carrier(source, writer, self._stop, to_the_end=False)
        return reader

    def _output(self, sink: int | None) -> int | None:
        if sink is None:
            return None
        reader, writer = os.pipe2(os.O_CLOEXEC)
        self._carriers.append(_Carrier(reader, sink, self._stop, to_the_end=True))
        return writer


class _Carrier(threading.Thread):
    """Carries bytes until the end; once `stop` was closed on its other side, `to_the_end` of what is there already.
    Closes both ends: whoever writes to what nobody reads any more learns (SIGPIPE). `failure` says why it ended early,
    if not since its reader has left."""

    def __init__(self, source: int, sink: int, stop: int, *, to_the_end: bool) -> None:
        super().__init__(daemon=True)
        self._to_the_end = to_the_end
        self._source = source
        self._sink = sink
        self._stop_fd = stop
        self.failure: OSError | None = None

    def run(self) -> None:
        try:
            poll = select.poll()
            poll.register(self._source, select.POLLIN)
            poll.register(self._stop_fd, select.POLLIN)
            stopped = False
            while not stopped:
                stopped = self._stop_fd in dict(poll.poll())
                if not stopped:
                    if not self._carry(_CHUNK):
                        return
                elif self._to_the_end:
                    self._carry(_waiting(self._source))
        except OSError as error:
            self.failure = error
        finally:
            os.close(self._source)
            os.close(self._sink)

    def _carry(self, size: int) -> bool:
        """Pass on what is read at once, at most `size` bytes; False at the end. A pipe gives all that is in it."""
        data = os.read(self._source, size)
        return bool(data) and write_all(self._sink, data)


def _waiting(fd: int) -> int:
    """How many bytes can be read at once."""
    return int(struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, bytes(4)))[0])
