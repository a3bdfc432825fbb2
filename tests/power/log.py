"""The log of a recorded disk: the format of dm-log-writes (Documentation/admin-guide/device-mapper/log-writes.rst)."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

_MAGIC = 0x6A736677736872
_SUPER, _ENTRY = struct.Struct("<QQQI"), struct.Struct("<QQQQ")
_SECTOR = 512
_FLUSH, _DISCARD = 1, 4


class Kind(Enum):
    """What the disk was asked to do. A mark is a write behind the file system."""

    WRITE = "write"
    DISCARD = "discard"
    FLUSH = "flush"
    MARK = "mark"


@dataclass(frozen=True, slots=True)
class Entry:
    """One request. Its data lie in the log at `at`; a mark's are its number."""

    kind: Kind
    offset: int = 0
    length: int = 0
    at: int = 0
    number: int = 0


class Log:
    """A log that is not written any more. `behind`: where the file system ends, and marks are."""

    def __init__(self, path: Path, behind: int) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.entries = tuple(self._read(behind))

    @classmethod
    @contextmanager
    def opened(cls, path: Path, behind: int) -> Iterator[Log]:
        """A log, until the block ends. ValueError if it is none."""
        log = cls(path, behind)
        try:
            yield log
        finally:
            os.close(log._fd)

    def data(self, entry: Entry) -> bytes:
        return os.pread(self._fd, entry.length, entry.at)

    def marked(self, number: int) -> int:
        """Which entry is the mark of that number. ValueError."""
        return next(at for at, entry in enumerate(self.entries) if entry.kind is Kind.MARK and entry.number == number)

    def _read(self, behind: int) -> Iterator[Entry]:
        magic, version, count, size = _SUPER.unpack(os.pread(self._fd, _SUPER.size, 0))
        if (magic, version, size) != (_MAGIC, 1, _SECTOR):
            raise ValueError(f"no log of writes: {magic:x} {version} {size}")
        at = _SECTOR
        for _ in range(count):
            sector, sectors, flags, _ = _ENTRY.unpack(os.pread(self._fd, _ENTRY.size, at))
            at += _SECTOR
            offset, length = sector * _SECTOR, sectors * _SECTOR
            if flags & _DISCARD:
                yield Entry(Kind.DISCARD, offset, length)
                continue
            if offset == behind and length:
                number = int.from_bytes(os.pread(self._fd, 8, at), "little")
                yield Entry(Kind.MARK, offset, length, at, number)
            elif length:
                yield Entry(Kind.WRITE, offset, length, at)
            if flags & _FLUSH:
                yield Entry(Kind.FLUSH)
            at += length
