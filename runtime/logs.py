"""Lines of a container's log: those of a time, the last ones, and those to come."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path

from runtime import log
from runtime.log import Line

_PAUSE = 0.05
"""Seconds between two looks at a log that is followed."""
_BLOCK = 1 << 20


def selected(lines: Iterable[Line], since: str | None, until: str | None) -> Iterator[Line]:
    """Those from `since` on and before `until`, in log.stamp()'s form; None for all."""
    for line in lines:
        if until is not None and line.time >= until:
            return
        if since is None or line.time >= since:
            yield line


def last(lines: Iterable[Line], count: int) -> Iterator[Line]:
    """The last so many whole lines, with the partial ones that belong to them."""
    kept: deque[list[Line]] = deque(maxlen=count)
    pending: dict[str, list[Line]] = {}
    for line in lines:
        whole = [*pending.pop(line.stream, []), line]
        if line.partial:
            pending[line.stream] = whole
        elif count:
            kept.append(whole)
    unfinished = list(pending.values())[: count or None] if count else []
    keep = list(kept)[len(unfinished) :] if len(kept) + len(unfinished) > count else list(kept)
    return chain.from_iterable([*keep, *unfinished])


def tail(directory: Path, count: int) -> Iterator[Line]:
    """The last so many whole lines of a container's log, of which only the end is read."""
    if not count:
        return iter(())
    blocks: list[bytes] = []
    found = 0
    for path in reversed(log.files(directory)):
        size = path.stat().st_size
        with path.open("rb") as file:
            while size and found <= count:
                start = max(0, size - _BLOCK)
                file.seek(start)
                blocks.append(file.read(size - start))
                found += sum(b" F " in line[:45] for line in blocks[-1].split(b"\n"))
                size = start
        if found > count:
            break
    text = b"".join(reversed(blocks))
    return last(filter(None, map(log.parse, text.split(b"\n"))), count)


class Follower:
    """A container's log, as it is when this is made and as it grows. To be closed."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / log.NAME
        files = log.files(directory)
        self._older = files[:-1] if files and files[-1] == self._path else files
        self._file = self._open()
        self._end = os.fstat(self._file).st_size if self._file >= 0 else 0

    def existing(self) -> Iterator[Line]:
        """What there is of it."""
        for path in self._older:
            yield from filter(None, map(log.parse, path.read_bytes().split(b"\n")))
        if self._file >= 0:
            text = os.pread(self._file, self._end, 0)
            yield from filter(None, map(log.parse, text[: text.rfind(b"\n") + 1].split(b"\n")))
            os.lseek(self._file, text.rfind(b"\n") + 1, os.SEEK_SET)

    def coming(self, may_come: Callable[[], bool]) -> Iterator[Line]:
        """What is added from then on, as long as `may_come()` says that more may come."""
        rest = b""
        while True:
            more = may_come()
            if self._file < 0:
                self._file = self._open()
            data = os.read(self._file, _BLOCK) if self._file >= 0 else b""
            if data:
                *lines, rest = (rest + data).split(b"\n")
                yield from filter(None, map(log.parse, lines))
            elif self._file >= 0 and self._is_rotated():
                self.close()
            elif not more:
                return
            else:
                time.sleep(_PAUSE)

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _open(self) -> int:
        try:
            return os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return -1

    def _is_rotated(self) -> bool:
        try:
            return not os.path.samestat(self._path.stat(), os.fstat(self._file))
        except FileNotFoundError:
            return False
