"""Blocks read, decompressed and digested by threads before they are needed. All that leaves Python's lock to others."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import NamedTuple, TypeAlias

from vcs.encoding import digest
from vcs.errors import TreeringError
from vcs.layers.reader import LayerReader
from vcs.stillborn import UNSTARTED

Key: TypeAlias = tuple[int, int]
"""The index's number for a layer, and the number of a block in it."""

_THREADS = 2
_WAITING_MOST = 32 << 20
"""Bytes of blocks that are on their way or wait to be taken; what nobody has taken by then is dropped."""
_GROUP_BYTES = 384 << 10
"""What a thread is given at once: less would be handed over too often, more would keep the others idle."""


class Read(NamedTuple):
    """A block that was read."""

    data: bytes
    digest: bytes | None
    """Of all of it, if it holds one object; what the object should have is for others to know."""


class _Coming(NamedTuple):
    """A block on its way, or there."""

    future: Future[list[Read]]
    place: int
    """In what that brings."""
    size: int
    """Bytes."""

    def read(self) -> Read:
        """Waits for it. Raises what reading it did."""
        return self.future.result()[self.place]


class Ahead:
    """Blocks on their way. Its methods are for one thread."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, "blocks")
        self._coming: OrderedDict[Key, _Coming] = OrderedDict()
        self._waiting = 0
        """Bytes of all these blocks."""

    def __contains__(self, key: Key) -> bool:
        return key in self._coming

    def is_idle(self) -> bool:
        """Whether nothing is on its way any more."""
        return all(coming.future.done() for coming in reversed(self._coming.values()))  # the last ones end last

    def begin(self, reader: LayerReader, layer: int, numbers: Sequence[int]) -> None:
        """Have blocks of a layer read, in this order."""
        group: list[int] = []
        size = 0
        for number in numbers:
            group.append(number)
            size += reader.blocks.lengths[number]
            if size >= _GROUP_BYTES:
                self._submit(reader, layer, group)
                group, size = [], 0
        if group:
            self._submit(reader, layer, group)

    def take(self, key: Key) -> Read | None:
        """A block that was begun, waited for; None if it was not, or cannot be read: who reads it himself is told."""
        found = self._coming.pop(key, None)
        if found is None:
            return None
        self._waiting -= found.size
        with suppress(TreeringError, OSError, MemoryError):
            return found.read()
        return None

    def settle(self) -> None:
        """Wait until nothing is read."""
        for coming in self._coming.values():
            with suppress(TreeringError, OSError, MemoryError):
                coming.read()

    def close(self) -> None:
        """Drop everything, and end the threads."""
        self._threads.shutdown(cancel_futures=True)
        self._coming.clear()
        self._waiting = 0

    def _submit(self, reader: LayerReader, layer: int, numbers: list[int]) -> None:
        try:
            future = self._threads.submit(_read, reader, numbers)
        except UNSTARTED:
            return  # who needs a block reads it himself
        for place, number in enumerate(numbers):
            size = reader.blocks.lengths[number]
            self._coming[layer, number] = _Coming(future, place, size)
            self._waiting += size
        while self._waiting > _WAITING_MOST and next(iter(self._coming.values())).future.done():
            _, dropped = self._coming.popitem(last=False)
            self._waiting -= dropped.size


def _read(reader: LayerReader, numbers: list[int]) -> list[Read]:
    read = []
    for number in numbers:
        data = reader.block(number)
        read.append(Read(data, digest(data) if reader.is_alone(number) else None))
    return read
