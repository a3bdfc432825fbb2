"""A thread that carries a container's output to where it belongs.

A container never gets the caller's own files or terminal as output (it could read and change them), but pipes. Between
two pipes, bytes move inside the kernel (splice(2)). Never to or from a terminal: the kernel keeps the pipe locked while
it waits for the terminal, and who uses the pipe then sleeps so deeply that not even SIGKILL ends it. Never to a file
either: unlike write(2), splice(2) does not lock the position of an open file, and two commands that share one
(`(treering run a & treering run b) > log`) would overwrite each other's output.
"""

from __future__ import annotations

import errno
import os
import select
import stat
import threading

_CHUNK = 1 << 20


class Pump(threading.Thread):
    """Copies `source` to `sink` until the end, then closes both. If the sink refuses, the source is closed, so that
    whoever writes to it learns (SIGPIPE)."""

    def __init__(self, source: int, sink: int) -> None:
        super().__init__(daemon=True)
        self._source = source
        self._sink = sink
        self._splice = all(stat.S_ISFIFO(os.fstat(fd).st_mode) for fd in (source, sink))

    def run(self) -> None:
        try:
            while self._step():
                pass
        finally:
            os.close(self._source)
            os.close(self._sink)

    def _step(self) -> bool:
        try:
            if self._splice:
                return os.splice(self._source, self._sink, _CHUNK) > 0
            return self._copy()
        except BlockingIOError:
            # The caller's output may be non-blocking; so be it.
            select.select([], [self._sink], [])
            return True
        except OSError as error:
            if self._splice and error.errno == errno.EINVAL:
                self._splice = False
                return True
            return False

    def _copy(self) -> bool:
        view = memoryview(os.read(self._source, 65536))
        ended = not view
        while view:
            try:
                view = view[os.write(self._sink, view) :]
            except BlockingIOError:
                select.select([], [self._sink], [])
        return not ended
