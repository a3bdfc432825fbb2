"""rpm's database: since rpm 4.16 a SQLite file whose table `Packages` has a header for each package.

A header is the part of a package file that says what it is (rpm.org, "Package format V4"), without its first 8 bytes:

    u32 entries, u32 bytes of data, all big-endian
    for each entry: i32 tag, u32 type, i32 offset into the data, u32 count
    the data

Read here because rpm's own library is no dependency that pip can bring, and reads only databases that lie on a disk.
SQLite reads the database from memory, as one that nobody trusts: no view, trigger or virtual table is looked at, and
work and results are bounded. The formats before (Berkeley DB) and beside it (ndb) are not read, and said so.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

from runtime.packages.model import Note, Package, text

_NAME, _VERSION, _RELEASE, _EPOCH, _SIZE, _ARCHITECTURE = 1000, 1001, 1002, 1003, 1009, 1022
_DIRECTORY_INDEXES, _BASE_NAMES, _DIRECTORY_NAMES, _LONG_SIZE = 1116, 1117, 1118, 5009
_WANTED = frozenset({
    _NAME, _VERSION, _RELEASE, _EPOCH, _SIZE, _ARCHITECTURE,
    _DIRECTORY_INDEXES, _BASE_NAMES, _DIRECTORY_NAMES, _LONG_SIZE,
})  # fmt: skip
_INT32, _INT64, _STRING, _STRING_ARRAY = 4, 5, 6, 8
_COUNTS = struct.Struct(">II")
_ENTRY = struct.Struct(">iIiI")
_ENTRIES_MOST = 65_536
_STEPS = 10_000
"""Instructions of SQLite's between two looks at the budget."""
_BUDGET = 5_000
"""So many looks: 50 million instructions. A database of 5,000 packages takes 30,000."""
_KEY = "gpg-pubkey"
"""Public keys are in the database as packages of this name; they install nothing."""
_WAL = b"\2\2"


def rpm_packages(data: bytes, note: Note) -> Iterator[Package]:
    """What the database says is installed."""
    for header in _headers(data, note):
        name, version = header.string(_NAME), header.string(_VERSION)
        if not name or not version:
            note("a header without a name and a version")
        elif name != _KEY:
            release, epoch = header.string(_RELEASE), header.number(_EPOCH)
            version = (f"{epoch}:" if epoch else "") + version + (f"-{release}" if release else "")
            size = header.number(_LONG_SIZE)
            size = header.number(_SIZE) if size is None else size
            yield Package("rpm", name, version, header.string(_ARCHITECTURE), size=size)


def rpm_files(data: bytes, note: Note) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Of each package its name and its files."""
    for header in _headers(data, note):
        yield header.string(_NAME), _files(header)


def unread_format(_: bytes, note: Note) -> Iterator[Package]:
    """For what rpm used before."""
    note("rpm's older formats, Berkeley DB and ndb, are not read: what is installed is not known")
    yield from ()


# -- headers


@dataclass(frozen=True, slots=True)
class _Header:
    """The wanted entries of a header, by tag: type, offset and count."""

    entries: dict[int, tuple[int, int, int]]
    data: bytes

    def string(self, tag: int) -> str:
        """A string; empty if there is none."""
        return text(next(self._strings(tag, _STRING), b""))

    def strings(self, tag: int) -> list[bytes]:
        """An array of strings."""
        return list(self._strings(tag, _STRING_ARRAY))

    def number(self, tag: int) -> int | None:
        """A number; None if there is none."""
        return next(iter(self.numbers(tag)), None)

    def numbers(self, tag: int) -> tuple[int, ...]:
        """An array of numbers."""
        kind, offset, count = self.entries.get(tag, (0, 0, 0))
        width = {_INT32: 4, _INT64: 8}.get(kind)
        if width is None or offset < 0 or count > (len(self.data) - offset) // width:
            return ()
        return struct.unpack_from(f">{count}{'I' if width == 4 else 'Q'}", self.data, offset)

    def _strings(self, tag: int, expected: int) -> Iterator[bytes]:
        kind, offset, count = self.entries.get(tag, (0, 0, 0))
        if kind != expected or offset < 0:
            return
        for _ in range(count):
            end = self.data.find(b"\0", offset)
            if end < 0:
                return
            yield self.data[offset:end]
            offset = end + 1


def _header(blob: bytes) -> _Header | None:
    """A header, taken apart; None if it is none."""
    if len(blob) < _COUNTS.size:
        return None
    count, size = _COUNTS.unpack_from(blob)
    start = _COUNTS.size + count * _ENTRY.size
    if count > _ENTRIES_MOST or start + size > len(blob):
        return None
    found = {
        tag: (kind, offset, length)
        for tag, kind, offset, length in _ENTRY.iter_unpack(blob[_COUNTS.size : start])
        if tag in _WANTED
    }
    return _Header(found, blob[start : start + size])


def _files(header: _Header) -> Iterator[bytes]:
    directories = header.strings(_DIRECTORY_NAMES)
    for name, index in zip(header.strings(_BASE_NAMES), header.numbers(_DIRECTORY_INDEXES), strict=False):
        if index < len(directories):
            yield directories[index] + name


# -- SQLite


def _headers(data: bytes, note: Note) -> Iterator[_Header]:
    broken = 0
    try:
        for blob in _blobs(data):
            header = _header(blob)
            if header is None:
                broken += 1
            else:
                yield header
    except (sqlite3.Error, ValueError, OverflowError, MemoryError) as error:  # ValueError: its message is no text
        note(f"damaged, or no database: {error}")
    if broken:
        note(f"headers that cannot be read: {broken:,}")


def _blobs(data: bytes) -> Iterator[bytes]:
    if data[18:20] == _WAL:  # in memory there is no log beside it, and SQLite would look for one
        data = data[:18] + b"\1\1" + data[20:]
    left = len(data)  # else cells that share their pages make terabytes out of a small file
    with closing(sqlite3.connect(":memory:")) as base:
        base.execute("PRAGMA trusted_schema = OFF")
        base.execute("PRAGMA cell_size_check = ON")
        base.deserialize(data)
        base.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, max(left, 1 << 16))
        base.set_authorizer(_only_reading)
        budget = iter(range(_BUDGET))
        base.set_progress_handler(lambda: next(budget, None) is None, _STEPS)
        base.text_factory = bytes
        row = base.execute("SELECT sql FROM sqlite_master WHERE type = 'table' AND name = 'Packages'").fetchone()
        if row is None or not bytes(row[0] or b"").upper().startswith(b"CREATE TABLE"):
            raise sqlite3.DatabaseError("it has no table of packages")
        for (blob,) in base.execute("SELECT blob FROM Packages"):
            if isinstance(blob, bytes):
                left -= len(blob)
                if left < 0:
                    raise sqlite3.DatabaseError("it says more than it holds")
                yield blob


def _only_reading(action: int, first: str | None, *_: str | None) -> int:
    """SQLite asks this before each thing that a statement does (sqlite3_set_authorizer)."""
    reads = action == sqlite3.SQLITE_READ and first in ("Packages", "sqlite_master")
    return sqlite3.SQLITE_OK if reads or action == sqlite3.SQLITE_SELECT else sqlite3.SQLITE_DENY
