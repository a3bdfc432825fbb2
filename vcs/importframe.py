"""A directory while it is imported: what is known of it from the last import, and what is found now."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from vcs.ignore import Ignore
from vcs.importcache import RECORD_SIZE, Place, Row, spoiled
from vcs.links import PendingTree
from vcs.livedir import Identity
from vcs.model import Entry
from vcs.snapshot import Snapshot
from vcs.ticks import is_settled
from vcs.trees import Directory

_CALM = 2_100_000_000
"""A file that has not changed for so long (ns) is settled on any file system."""


@dataclass(slots=True)
class Frame:
    """One directory on the way from the top to where the walk is."""

    path: bytes
    """From the top, which is empty; the others begin with a slash."""
    fd: int
    """-1 while it is given up."""
    identity: Identity
    ignore: Ignore
    trusted: bool
    """Whether the file system keeps ctimes."""
    start: int
    """Where the rows of what is below it begin in the new cache."""
    parent: Frame | None = None
    number: int = 0
    """Of its name in the parent."""
    began: int = field(default_factory=time.time_ns)
    entry: Entry | None = None
    """Its attributes; None if they are the base's."""
    names: list[bytes] = field(default_factory=list)
    steps: Iterator[Frame] = field(default_factory=lambda: iter(()))
    """The subdirectories to enter."""

    is_same: bool = False
    """Whether the names and records in `row` hold."""
    row: Row | None = None
    """What the last import saw here, which began at byte `at` of its cache."""
    at: int = 0
    base: Entry | None = None
    """Its entry in the last root, once it was needed."""
    directory: Directory | None = None
    """That entry's directory, opened."""

    tree: PendingTree | None = None
    """What becomes of it; None while it is as it was."""
    records: bytearray = field(default_factory=bytearray)
    below: list[tuple[int, Place]] = field(default_factory=list)
    linked: list[int] = field(default_factory=list)
    links: int = 0
    """As in a Row, but for `linked`."""
    size: int = 0
    place: Place | None = None
    """Of the top: its row in the new cache."""

    @property
    def name(self) -> bytes:
        return self.path.rpartition(b"/")[2]

    def opened_base(self, snapshot: Snapshot) -> tuple[Entry, Directory]:
        """The entry and the directory that a frame with a row has in the last root, opened from the top down."""
        way = [self]
        while way[-1].base is None:
            assert way[-1].parent is not None
            way.append(way[-1].parent)
        for frame in reversed(way):
            if frame.base is None:
                assert frame.parent is not None
                assert frame.parent.directory is not None
                frame.base = frame.parent.directory.lookup(frame.name)
            assert frame.base is not None
            if frame.directory is None:
                frame.directory = snapshot.directory(frame.base)
        assert self.base is not None
        assert self.directory is not None
        return self.base, self.directory

    def lasting(self, status: os.stat_result, record: bytes) -> bytes:
        """A record as it is stored: spoiled where a change might go unnoticed."""
        calm = self.began - _CALM
        if self.trusted and ((status.st_ctime_ns < calm > status.st_mtime_ns) or is_settled(status, self.began)):
            return record
        return spoiled(record)

    def record(self, number: int) -> bytes:
        """A name's record as it is stored; empty if nothing is."""
        return bytes(self.records[number * RECORD_SIZE : (number + 1) * RECORD_SIZE])

    def set_record(self, number: int, record: bytes) -> None:
        self.records[number * RECORD_SIZE : (number + 1) * RECORD_SIZE] = record

    def take_over(self, row: Row) -> None:
        """What was found is what was there before."""
        self.records += row.records
        self.linked, self.size = list(row.linked), row.size

    def spoil(self, number: int) -> None:
        """Have a name looked at again by the next import."""
        if self.records:
            self.set_record(number, spoiled(self.record(number)))

    def as_row(self) -> Row:
        """The row for the next import; where it is will be filled in. The names are given up: a million take 70 MB."""
        names, self.names = b"\0".join(self.names), []
        return Row(
            names=names,
            records=self.records,
            below=[],
            linked=self.linked,
            links=self.links + len(self.linked),
            size=self.size,
            extent=0,
        )

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Before:
    """A row, beside names that come in order."""

    def __init__(self, row: Row) -> None:
        self._row = row
        self._names = row.split()
        self._next = 0
        self._below = dict(row.below)
        self._gone: list[bytes] = []

    def find(self, name: bytes) -> int | None:
        """The number that a name had."""
        names, position = self._names, self._next
        while position < len(names) and names[position] < name:
            self._gone.append(names[position])
            position += 1
        self._next = position
        if position < len(names) and names[position] == name:
            self._next += 1
            return position
        return None

    def record(self, number: int) -> bytes:
        """What the name with this number was."""
        return self._row.record(number)

    def distance(self, number: int) -> int | None:
        """How far before this row that of the directory with this number is; None if it had none."""
        return self._below.get(number)

    def gone(self) -> list[bytes]:
        """The names that did not come, after the last one that did."""
        return self._gone + self._names[self._next :]
