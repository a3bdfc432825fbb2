"""The journal: what node numbers mean, written down where every worker and every successor can read it.

A memfd that is only appended to, one record of 64 bytes after the other. There is no lock, so nobody can die with one:
an O_APPEND write of whole records is put behind all others by the kernel, whoever writes at the same time, and a worker
that is killed meanwhile has written it or not. Everything else follows from the order of the records alone, so it is
the same for whoever reads them:

    root        a root and how many names it has: it gets the next so many numbers, and one for itself
    lower       the same, of a root as overlays see it (view.py): its numbers are others
    key         a part of the name of something above the roots; once all parts are there, it gets the next number
    directory   at this path, this tree was opened as the directory with this number
    link        a hard-linked file whose names lie in several directories of a root has this number
    lean        files of one root have numbers in the range of another
    drop        the kernel knows no file of a root any more: what it has said of paths counts no more

What is written twice counts once: two workers may have the same thing to say at the same time. A worker appends, then
reads on to the end, and then goes by what is there.
"""

from __future__ import annotations

import fcntl
import os
from bisect import bisect_right
from collections.abc import Iterator
from enum import IntEnum
from struct import Struct
from typing import NamedTuple

from fusefs.memory import shared_file

FIRST_NUMBER = 16
"""Numbers below are those of fixed directories (filesystem.py)."""
LAST_NUMBER = (1 << 48) - 1
"""A root that says it has more names gets none."""

_RECORD = Struct("<Q16s32sQ")
"""Kind and number, a short digest, a digest or bytes, a count."""
_KIND_SHIFT = 56
_NUMBER_MASK = (1 << _KIND_SHIFT) - 1
KEY_PART = 32
"""Bytes of a key in one record."""
_PIECE = 1 << 20
_FEW = 64 * _RECORD.size
"""What is read first: mostly there is nothing new, and a buffer of a megabyte takes longer to make than all else."""


class Kind(IntEnum):
    """What a record says."""

    ROOT = 1
    KEY = 2
    DIRECTORY = 3
    LINK = 4
    LEAN = 5
    DROP = 6
    LOWER = 7


class Record(NamedTuple):
    """A line of the journal."""

    kind: int
    number: int
    short: bytes
    digest: bytes
    amount: int


def record(kind: Kind, number: int, short: bytes = b"", digest: bytes = b"", amount: int = 0) -> bytes:
    """A record's bytes."""
    return _RECORD.pack(kind << _KIND_SHIFT | number, short, digest, amount)


class _File:
    """Closes a descriptor when nobody uses it any more."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __del__(self) -> None:
        os.close(self._descriptor)


class Journal:
    """The records, as one reader reads them: each has a position of its own. Any number may append."""

    def __init__(self, descriptor: int, file: _File | None = None) -> None:
        """`descriptor` is one that create() has made, in the process that handed it on; it stays open."""
        self.descriptor = descriptor
        self._file = file
        self._read = 0

    @classmethod
    def create(cls) -> Journal:
        """An empty one, which lives until it and all its readers are gone."""
        descriptor = shared_file("treering-journal")
        fcntl.fcntl(descriptor, fcntl.F_SETFL, os.O_APPEND)
        return cls(descriptor, _File(descriptor))

    def reader(self) -> Journal:
        """The same records, from the first on."""
        return Journal(self.descriptor, self._file)

    def append(self, records: bytes) -> None:
        """Write records behind all others. OSError if memory runs out."""
        while records:
            records = records[os.write(self.descriptor, records) :]

    def append_one(self, line: bytes) -> int | None:
        """Write one record. Its position, if nobody has written anything since what was read last: it counts as read
        then, and is what it was. Else None, and news() has it among the others."""
        self.append(line)
        if os.pread(self.descriptor, len(line) + 1, self._read * len(line)) != line:
            return None
        self._read += 1
        return self._read - 1

    def news(self) -> Iterator[tuple[int, Record]]:
        """The records since the last call, with their positions."""
        size = _FEW
        while True:
            data = os.pread(self.descriptor, size, self._read * _RECORD.size)
            is_last = len(data) < size
            size = _PIECE
            data = data[: len(data) - len(data) % _RECORD.size]
            first = self._read
            self._read += len(data) // _RECORD.size
            for place, (head, short, digest, amount) in enumerate(_RECORD.iter_unpack(data), first):
                yield place, Record(head >> _KIND_SHIFT, head & _NUMBER_MASK, short, digest, amount)
            if is_last:
                return

    def at(self, position: int) -> Record:
        """One record."""
        head, short, digest, count = _RECORD.unpack(os.pread(self.descriptor, _RECORD.size, position * _RECORD.size))
        return Record(head >> _KIND_SHIFT, head & _NUMBER_MASK, short, digest, count)


class Ranges:
    """Which numbers are whose: the part of the journal that is about roots and keys."""

    def __init__(self) -> None:
        self.starts: list[int] = []
        """Where each root's range begins, ascending."""
        self.roots: list[bytes] = []
        """The root of each."""
        self.first: dict[bytes, int] = {}
        """Where the range of a root begins, unless it was dropped."""
        self.lowers: dict[bytes, int] = {}
        """The same, of roots as overlays see them."""
        self.of_lowers: set[int] = set()
        """Where all of their ranges begin."""
        self.keys: dict[bytes, int] = {}
        self.named: dict[int, bytes] = {}
        """Keys by number."""
        self.leans: set[tuple[int, int]] = set()
        """Pairs of ranges, by where they begin: files of the first have numbers of the second."""
        self.dropped: set[int] = set()
        """Ranges of roots of which the kernel has forgotten all."""
        self._ends: list[int] = []
        self._next = FIRST_NUMBER
        self._parts: dict[bytes, dict[int, bytes]] = {}

    def take(self, found: Record) -> None:
        """What a record says; those of other kinds are passed over."""
        if found.kind == Kind.ROOT:
            self._take_root(found, self.first)
        elif found.kind == Kind.LOWER:
            if self._take_root(found, self.lowers):
                self.of_lowers.add(self.starts[-1])
        elif found.kind == Kind.KEY:
            self._take_part(found)
        elif found.kind == Kind.LEAN:
            self.leans.add((found.number, found.amount))
        elif found.kind == Kind.DROP and found.number not in self.dropped:
            self.dropped.add(found.number)
            root = self.roots[bisect_right(self.starts, found.number) - 1]
            first = self.lowers if found.number in self.of_lowers else self.first
            if first.get(root) == found.number:
                del first[root]

    def _take_root(self, found: Record, first: dict[bytes, int]) -> bool:
        """Whether it gets a range: one that has one already does not."""
        if found.digest in first:
            return False
        first[found.digest] = self._next
        self.starts.append(self._next)
        self.roots.append(found.digest)
        self._next += found.amount + 1
        self._ends.append(self._next)
        return True

    def _take_part(self, found: Record) -> None:
        parts = self._parts.setdefault(found.short, {})
        if parts is _COMPLETE:
            return
        parts[found.number] = found.digest
        if len(parts) * KEY_PART >= found.amount:
            key = b"".join(parts[place] for place in range(len(parts)))[: found.amount]
            self._parts[found.short] = _COMPLETE
            self.keys[key] = self._next
            self.named[self._next] = key
            self._next += 1

    def fits(self, names: int) -> bool:
        """Whether a root with so many names can get numbers."""
        return self._next + names < LAST_NUMBER

    def range_of(self, number: int) -> tuple[int, int, bytes] | None:
        """The root's range in which a number lies: its first number, the one after its last, the root."""
        place = bisect_right(self.starts, number) - 1
        if place < 0 or number >= self._ends[place]:
            return None
        return self.starts[place], self._ends[place], self.roots[place]


_COMPLETE: dict[int, bytes] = {}
"""Stands for the parts of a key that has its number."""
