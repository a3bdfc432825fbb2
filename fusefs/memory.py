"""Request memory: what each worker has in hand, where the worker's death does not reach it.

A memfd that the holder and all workers share. A worker has a slot of it and reads requests straight into that; when
one is answered, its length becomes 0. So whoever looks at a slot sees what its worker is doing, and what it had in hand
when it died:

    negotiated   flags u64, minor u32, 1 once INIT has been answered
    slot         owner u64, messages u64, nodes u64, given u64, profiled u64, then the request: its first four bytes are
                 its length. The owner is the worker's pid, 0 for nobody

The first is what a later worker needs to go on with a connection that was begun by another.
"""

from __future__ import annotations

import errno
import mmap
import os
from dataclasses import dataclass
from struct import Struct

SLOTS = 64
"""More than there are workers: one that does not end keeps its slot."""
REQUEST_SIZE = 128 << 10
"""Bytes of the largest request taken; what is above the required minimum makes BATCH_FORGET large."""

_PAGE = 4096
_NEGOTIATED = Struct("<QII")
_OWNER = Struct("<Q")
_COUNTS = Struct("<QQQQ")
_LENGTH = Struct("<I")
_DONE = Struct("<QQQQI")
"""Counts, and the length of the request after them: one write says that a request is answered."""
_SLOT_SIZE = REQUEST_SIZE + _PAGE


_NOEXEC = 8
"""MFD_NOEXEC_SEAL, which Linux has from 6.3 on, and may insist on (vm.memfd_noexec)."""


def shared_file(name: str) -> int:
    """The descriptor of an empty file in memory that other processes can inherit. OSError."""
    try:
        return os.memfd_create(name, os.MFD_CLOEXEC | _NOEXEC)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return os.memfd_create(name, os.MFD_CLOEXEC)


@dataclass(frozen=True, slots=True)
class Counts:
    """What a worker has done."""

    messages: int = 0
    """Requests that it took."""
    nodes: int = 0
    """Files that it has in its cache."""
    given: int = 0
    """Files given ahead (readahead.py)."""
    profiled: int = 0
    """Objects that came from start profiles (starts.py)."""

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.messages + other.messages,
            self.nodes + other.nodes,
            self.given + other.given,
            self.profiled + other.profiled,
        )


class RequestMemory:
    """All slots, and what was negotiated."""

    def __init__(self, descriptor: int) -> None:
        """`descriptor` is a memfd made by create(), or -1 for memory of this process alone."""
        self.descriptor = descriptor
        size = _PAGE + SLOTS * _SLOT_SIZE
        self._map = mmap.mmap(descriptor, size)

    @classmethod
    def create(cls) -> RequestMemory:
        """Memory that other processes can inherit."""
        descriptor = shared_file("treering-requests")
        os.ftruncate(descriptor, _PAGE + SLOTS * _SLOT_SIZE)
        return cls(descriptor)

    @property
    def negotiated(self) -> tuple[int, int] | None:
        """The flags and the protocol's minor version that INIT agreed on, None before."""
        flags, minor, done = _NEGOTIATED.unpack_from(self._map)
        return (flags, minor) if done else None

    @negotiated.setter
    def negotiated(self, value: tuple[int, int]) -> None:
        _NEGOTIATED.pack_into(self._map, 0, *value, 1)

    def slot(self, number: int) -> Slot:
        """A worker's place."""
        return Slot(self, self._map, _PAGE + number * _SLOT_SIZE)

    def slots(self) -> list[Slot]:
        """All places."""
        return [self.slot(number) for number in range(SLOTS)]


class Slot:
    """A worker's place in the request memory."""

    def __init__(self, memory: RequestMemory, map_: mmap.mmap, at: int) -> None:
        self.memory = memory
        self._map = map_
        self._owner = at
        self._at = at + _OWNER.size
        self._request = self._at + _COUNTS.size
        self.buffer = memoryview(map_)[self._request : self._request + REQUEST_SIZE]
        """Where requests are read to."""

    def touch(self) -> None:
        """Have all its pages in memory: where the kernel meets a page fault while it copies a request for a process
        that is just killed, the request fails."""
        for offset in range(0, REQUEST_SIZE, _PAGE):
            self.buffer[offset] = self.buffer[offset]

    @property
    def owner(self) -> int:
        """The pid of the worker whose slot it is, 0 if it is nobody's."""
        return int(_OWNER.unpack_from(self._map, self._owner)[0])

    @owner.setter
    def owner(self, pid: int) -> None:
        _OWNER.pack_into(self._map, self._owner, pid)

    @property
    def length(self) -> int:
        """Bytes of the request in hand, 0 if there is none."""
        return int(_LENGTH.unpack_from(self._map, self._request)[0])

    @property
    def request(self) -> bytes:
        """The request in hand, empty if there is none."""
        return bytes(self.buffer[: min(self.length, REQUEST_SIZE)])

    @request.setter
    def request(self, message: bytes) -> None:
        """Put one there for the next worker; an empty one takes away what is there."""
        self.buffer[: len(message)] = message
        if not message:
            _LENGTH.pack_into(self._map, self._request, 0)

    @property
    def counts(self) -> Counts:
        return Counts(*_COUNTS.unpack_from(self._map, self._at))

    def done(self, messages: int, nodes: int, given: int, profiled: int = 0) -> None:
        """The request in hand is answered."""
        _DONE.pack_into(self._map, self._at, messages, nodes, given, profiled, 0)
