"""What the last import of a directory saw, so that the next one reads only what has changed since.

STORE/caches/import-<32 hex of BLAKE3 over the absolute path>, which may be deleted at any time:

    first line     the root that the import made, hexadecimal
    32 bytes       BLAKE3 of the rest; what does not agree is no cache
    header         the version, the top directory's record, where its row begins
    rows           one for each directory that was entered, after the rows of those below it

A row has the directory's names and for each a record: all that stat(2) says of the file and an entry may depend on. A
file whose record is the same is the same as it was: whatever changes its content, attributes or extended attributes
also changes its ctime, which nobody can set. The exceptions are spoiled, and never match:

    a file that may still have changed within the tick of the clock in which it was looked at (vcs.ticks)
    files of a file system that is mounted read-only: images made to be reproducible have no ctime worth the name
    what wants a look each time: mount points, names that vanished, devices that overlayfs takes for whiteouts

Contents and entries are not in here. They are in the root, and gc keeps the root for who relies on it (_reliable).

A row says how far back the rows of its subdirectories begin. So the rows of a directory and all below it are one run of
bytes, and if nothing in it has changed they are copied to the next cache as they are. Neither the old cache nor the new
one is ever in memory as a whole.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from vcs.cachefiles import FIRST, NOTHING, open_cache
from vcs.encoding import digest
from vcs.model import DIGEST_SIZE, RootId, Tree

if TYPE_CHECKING:
    from vcs.leases import Lease
    from vcs.snapshot import Snapshot
    from vcs.store import Store

_MAGIC = b"treering import 1\n"

_RECORD = struct.Struct("<I3Q2q3q")
"""st_mode, ino, dev, nlink, uid, gid, size, mtime (ns), ctime (ns)."""
RECORD_SIZE = _RECORD.size
_SPOILED = struct.pack("<q", -(1 << 63))
"""In place of a ctime: no file has it."""
UNKNOWN = bytes(RECORD_SIZE - 8) + _SPOILED
"""The record of a name that nothing is known of."""

_COMPARED = 1024
"""Names whose records are compared at once: a stat_result takes 600 bytes."""

_HEADER = struct.Struct(f"<{len(_MAGIC)}s{RECORD_SIZE}sQ")
_ROWS = FIRST + DIGEST_SIZE + _HEADER.size
_LENGTH = struct.Struct("<I")


class Row(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A directory as it was."""

    names: bytes
    """Sorted, joined by NUL."""
    records: bytearray
    """One for each name, in their order."""
    below: list[tuple[int, int]]
    """The subdirectories that were entered: the number of the name, and how many bytes before this row theirs is."""
    linked: list[int]
    """The numbers of the names, not of directories, whose st_nlink was above 1."""
    links: int
    """How many such names there are in this directory and all below it."""
    size: int
    """Bytes in the regular files of this directory."""
    extent: int
    """Bytes of the rows of all directories below it, which lie just before this one."""

    def split(self) -> list[bytes]:
        """The names."""
        return self.names.split(b"\0") if self.names else []

    def record(self, number: int) -> bytes:
        """The record of a name."""
        return bytes(self.records[number * RECORD_SIZE : (number + 1) * RECORD_SIZE])


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Row).decode


def record_of(status: os.stat_result) -> bytes:
    """The record of a file with this status."""
    try:
        # A slice of a stat_result is half the price of its attributes one by one.
        return _RECORD.pack(*status[:7], status.st_mtime_ns, status.st_ctime_ns)
    except struct.error:
        return UNKNOWN  # a time beyond the year 2262


def spoiled(record: bytes) -> bytes:
    """The same file, but never to be recognised."""
    return record[:-8] + _SPOILED


def device_and_inode(record: bytes) -> tuple[int, int]:
    """st_dev and st_ino in a record."""
    _, inode, device = struct.unpack_from("<I2Q", record)
    return device, inode


def are_as_recorded(directory: int, names: list[bytes], records: bytearray) -> bool:
    """Whether all names of a directory, held open, have these records."""
    look = os.stat
    try:
        for start in range(0, len(names), _COMPARED):
            part = names[start : start + _COMPARED]
            found = [record_of(look(name, dir_fd=directory, follow_symlinks=False)) for name in part]
            if b"".join(found) != records[start * RECORD_SIZE : (start + len(part)) * RECORD_SIZE]:
                return False
    except FileNotFoundError:
        return False
    return True


class Previous:
    """The cache that the last import left. Everything that its root needs is in the store until the lease ends."""

    def __init__(self, data: mmap.mmap, root: RootId, snapshot: Snapshot) -> None:
        self._data = data
        self.root = root
        self.snapshot = snapshot
        _, self.record, self.top = _HEADER.unpack_from(data, FIRST + DIGEST_SIZE)

    @property
    def size(self) -> int:
        """Bytes in the files of the root, holes included."""
        content = self.snapshot.root.content
        return content.size if isinstance(content, Tree) else 0

    def row(self, at: int) -> Row:
        """The row that begins at this byte."""
        start = at + _LENGTH.size
        return _decode(memoryview(self._data)[start : start + _LENGTH.unpack_from(self._data, at)[0]])

    def block(self, at: int, extent: int) -> memoryview:
        """The rows of a directory, which begins at this byte, and of all below it."""
        end = at + _LENGTH.size + int(_LENGTH.unpack_from(self._data, at)[0])
        return memoryview(self._data)[at - extent : end]

    def linked(self, at: int, path: bytes, *, below: bool = True) -> Iterator[tuple[bytes, bytes]]:
        """The record and the path of every name with st_nlink above 1 in a directory and all below it."""
        stack = [(at, path)]
        while stack:
            at, path = stack.pop()
            row = self.row(at)
            if not row.links:
                continue
            names = row.split()
            for number in row.linked:
                yield row.record(number), path + b"/" + names[number]
            if below:
                stack += [(at - distance, path + b"/" + names[number]) for number, distance in row.below]


@dataclass(slots=True)
class Place:
    """Where a directory's row is: in the new cache, or still in the previous one."""

    at: int
    kept: bool = False


class Recorder:
    """Writes the next cache, beside the one that is there. A disk that fills up costs the cache and nothing else."""

    def __init__(self, path: Path, previous: Previous | None) -> None:
        self._path = path
        self._aside = path.with_name(f"{path.name}.{os.urandom(4).hex()}")
        self._previous = previous
        self._file: BinaryIO | None = None
        self.position = _ROWS
        """Where the next row begins."""

    def add(self, start: int, row: Row, below: list[tuple[int, Place]]) -> Place:
        """Write a row; the rows of what is below it began at `start`. Its own `below` and `extent` are filled in."""
        places = [(number, self._keep(place) if place.kept else place.at) for number, place in below]
        at = self.position
        row = msgspec.structs.replace(row, below=[(number, at - place) for number, place in places], extent=at - start)
        data = _encode(row)
        self._write(_LENGTH.pack(len(data)))
        self._write(data)
        return Place(at)

    def _keep(self, place: Place) -> int:
        assert self._previous is not None
        extent = self._previous.row(place.at).extent
        start = self.position
        self._write(self._previous.block(place.at, extent))
        return start + extent

    def save(self, root: RootId, top: bytes, place: Place) -> None:
        """Put the cache in the other's place; `top` is the record of the top directory, `place` that of its row."""
        if self._file is None:
            return
        header = _HEADER.pack(_MAGIC, top, place.at)
        with contextlib.suppress(OSError):
            self._put(FIRST + DIGEST_SIZE, header)
            with mmap.mmap(self._file.fileno(), 0, prot=mmap.PROT_READ) as data:
                name = digest(memoryview(data)[FIRST + DIGEST_SIZE :])
            self._put(0, root.hex().encode() + b"\n" + name)
            self._aside.rename(self._path)
        self.close()

    def _put(self, at: int, data: bytes) -> None:
        assert self._file is not None
        self._file.seek(at)
        self._file.write(data)
        self._file.flush()

    def restart(self) -> None:
        """Forget all rows, and the previous cache."""
        self.close()
        self._previous = None
        self.position = _ROWS

    def close(self) -> None:
        """Drop what was not saved."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._aside.unlink(missing_ok=True)
            self._file = None

    def _write(self, data: bytes | memoryview) -> None:
        try:
            if self.position == _ROWS:
                self._file = self._aside.open("w+b", buffering=1 << 16)
                fcntl.flock(self._file, fcntl.LOCK_EX)  # until it is closed: see cachefiles.is_abandoned
                self._file.write(NOTHING + bytes(_ROWS - FIRST))
            if self._file is not None:
                self._file.write(data)
        except OSError:
            self.close()
        self.position += len(data)


class ImportCache:
    """What an import may rely on, and what it leaves to the next one of the same directory."""

    def __init__(self, path: Path, previous: Previous | None) -> None:
        self.previous = previous
        self.recorder = Recorder(path, previous)
        self._top: tuple[bytes, Place] | None = None

    def forget(self) -> None:
        """Begin anew, without the previous cache."""
        self.previous = None
        self.recorder.restart()

    def finish(self, top: bytes, place: Place) -> None:
        """The import is over: the top directory's record, and where its row is."""
        self._top = top, place

    def save(self, root: RootId) -> None:
        """Leave the cache to the next import: only once a ref has led to `root`, so that gc sees what it keeps."""
        if self._top is not None:
            self.recorder.save(root, *self._top)


@contextlib.contextmanager
def import_cache(store: Store, lease: Lease, source: Path, *, rescan: bool = False) -> Iterator[ImportCache]:
    """The cache of imports of a directory, within the store's `writing()`; with `rescan` what is in it is ignored."""
    name = digest(os.path.abspath(os.fsencode(source)))[:16]
    path = store.caches / f"import-{name.hex()}"
    cache = ImportCache(path, None if rescan else _reliable(store, lease, path))
    try:
        yield cache
    finally:
        cache.recorder.close()


def _reliable(store: Store, lease: Lease, path: Path) -> Previous | None:
    """The cache at a path, if it is whole and everything below its root is in the store and stays there.

    gc first deletes the caches of roots that nothing needs, then reads the leases, then removes objects. So if the file
    is still there after our lease says that we need its root, gc has either found the root needed or will find our
    lease. The file that we have open is the one to ask: another import may have put a new one in its place.
    """
    while True:
        try:
            fd = open_cache(path)
        except OSError:
            return None
        try:
            data = mmap.mmap(fd, 0, prot=mmap.PROT_READ)
            root = _root_of(data)
            if root is None:
                return None
            lease.root(root)
            if os.fstat(fd).st_nlink:
                return Previous(data, root, store.snapshot(root)) if root in store else None
        except (OSError, ValueError):
            return None  # an empty file cannot be mapped
        finally:
            os.close(fd)


def _root_of(data: mmap.mmap) -> RootId | None:
    """The root in a cache's first line; None if this is not a cache of ours, or damaged."""
    start = FIRST + DIGEST_SIZE
    if len(data) < _ROWS or data[start : start + len(_MAGIC)] != _MAGIC:
        return None
    if digest(memoryview(data)[start:]) != data[FIRST:start]:
        return None
    try:
        return RootId(bytes.fromhex(data[: FIRST - 1].decode("ascii")))
    except ValueError:
        return None
