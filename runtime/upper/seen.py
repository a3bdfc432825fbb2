"""What a scan saw of an upper, so that the next one need only read what has changed since.

Of each name two numbers are kept: its inode and its ctime. Whatever changes a file's content, attributes or extended
attributes gives it another ctime, and nobody can set that. A name whose number cannot be relied on has none (0), so it
never compares equal and is read again:

- one that changed within a tick of the clock before the scan began, or later: it may change once more in that tick
  (git calls such an entry racy);
- one that a process had mapped so that it can write through the mapping: stores into a page that is dirty already
  change no ctime (runtime.upper.held);
- one that was written to while it was read.

A scan that goes by what was seen changes a root of the store, `Seen.root`, at the names that differ. That is right only
while no hard links are involved, whose counts are spread over the root; `plain` says so. Otherwise all is read anew,
but for contents.

The file is derived data. It holds for one boot: what the disk has after a power cut may be older than what was read.
"""

from __future__ import annotations

import contextlib
import os
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

import msgspec

from vcs.durable import replace_file
from vcs.encoding import digest
from vcs.model import DIGEST_SIZE, Chunked, Data, RootId
from vcs.snapshot import Snapshot
from vcs.trees import Directory, Objects

_MAGIC = b"treering seen 1\n"
_OPEN = 64
"""Directories that are held decoded; a scan goes through one after another."""

Marking = tuple[bool, bytes | None]
"""What decides what of the base shows through a directory: opaque, and redirect."""


@dataclass(slots=True)
class SeenDirectory:
    """One directory of an upper. `names` are those of no directories; `inodes` and `ctimes` (ns) are in their order."""

    inode: int
    ctime: int
    marking: Marking
    names: list[bytes] = field(default_factory=list)
    inodes: array[int] = field(default_factory=lambda: array("Q"))
    ctimes: array[int] = field(default_factory=lambda: array("q"))
    directories: list[bytes] = field(default_factory=list)

    def add(self, name: bytes, inode: int, ctime: int) -> None:
        self.names.append(name)
        self.inodes.append(inode)
        self.ctimes.append(ctime)

    def without(self, gone: set[bytes]) -> SeenDirectory:
        """A copy that lacks these names."""
        kept = SeenDirectory(self.inode, self.ctime, self.marking)
        kept.directories = [name for name in self.directories if name not in gone]
        for row in zip(self.names, self.inodes, self.ctimes, strict=True):
            if row[0] not in gone:
                kept.add(*row)
        return kept


class Seen:
    """All of an upper, as a scan saw it that gave `root` on `base`. By path: b"" is the upper itself, b"etc/apt"."""

    def __init__(self, base: RootId, root: RootId, plain: bool, directories: dict[bytes, SeenDirectory]) -> None:
        self.base = base
        self.root = root
        self.plain = plain
        self.directories = directories

    def __len__(self) -> int:
        return sum(1 + len(directory.names) for directory in self.directories.values())

    @property
    def inodes(self) -> set[int]:
        """Of all files that are no directories."""
        return {inode for directory in self.directories.values() for inode in directory.inodes}


class Contents:
    """What files held when they were seen, by their status: whatever their names are now."""

    def __init__(self, seen: Seen, objects: Objects) -> None:
        self._seen = seen
        self._root = Snapshot(objects, seen.root)
        self._open = lru_cache(_OPEN)(self._directory)

    def get(self, status: os.stat_result) -> Data | Chunked | None:
        """The content of the file with this status, None if it may have changed since."""
        found = self._places.get(status.st_ino)
        if found is None:
            return None
        path, position = found
        seen = self._seen.directories[path]
        directory = self._open(path) if seen.ctimes[position] == status.st_ctime_ns else None
        entry = directory.lookup(seen.names[position]) if directory is not None else None
        content = entry.content if entry is not None else None
        return content if isinstance(content, (Data, Chunked)) and content.size == status.st_size else None

    @cached_property
    def _places(self) -> dict[int, tuple[bytes, int]]:
        """By inode: the directory, and the position in it."""
        return {
            inode: (path, position)
            for path, directory in self._seen.directories.items()
            for position, inode in enumerate(directory.inodes)
        }

    def _directory(self, path: bytes) -> Directory | None:
        entry = self._root.find(path)
        return self._root.directory(entry) if entry is not None and entry.is_dir else None


def joined(path: bytes, name: bytes) -> bytes:
    """The path of a name in a directory, both as in Seen."""
    return path + b"/" + name if path else name


def reachable(directories: dict[bytes, SeenDirectory]) -> dict[bytes, SeenDirectory]:
    """The directories that are still in their parents."""
    kept: dict[bytes, SeenDirectory] = {}
    stack = [b""]
    while stack:
        path = stack.pop()
        directory = directories.get(path)
        if directory is not None:
            kept[path] = directory
            stack += [joined(path, name) for name in reversed(directory.directories)]
    return kept


# The file


class _Row(msgspec.Struct, frozen=True, array_like=True, gc=False):
    path: bytes
    inode: int
    ctime: int
    marking: Marking
    names: bytes
    inodes: bytes
    ctimes: bytes
    directories: bytes


class _File(msgspec.Struct, frozen=True, array_like=True, gc=False):
    stamp: bytes
    base: bytes
    root: bytes
    plain: bool
    rows: list[_Row]


_decode = msgspec.msgpack.Decoder(_File).decode
_encode = msgspec.msgpack.Encoder().encode


def load(path: Path, base: RootId, stamp: bytes) -> Seen | None:
    """What was saved there for this base with this stamp; None if there is nothing that can be used."""
    with contextlib.suppress(OSError, msgspec.MsgspecError, ValueError):
        data = path.read_bytes()
        if not _is_whole(data):
            return None
        saved = _decode(memoryview(data)[len(_MAGIC) + DIGEST_SIZE :])
        if (saved.stamp, saved.base) == (stamp, base):
            return Seen(base, RootId(saved.root), saved.plain, dict(map(_directory, saved.rows)))
    return None


def save(path: Path, seen: Seen, stamp: bytes) -> None:
    """Keep what a scan saw, once its root is in the store. Replaced by rename, not synced: after a power cut it may be
    damaged, which is noticed. OSError as it comes."""
    body = _encode(_File(stamp, seen.base, seen.root, seen.plain, list(_rows(seen))))
    replace_file(path, _MAGIC + digest(body) + body, durable=False)


def is_damaged(path: Path) -> bool:
    """Whether there is a file that load() would not use for what it holds."""
    try:
        return not _is_whole(path.read_bytes())
    except FileNotFoundError:
        return False


def _is_whole(data: bytes) -> bool:
    start = len(_MAGIC) + DIGEST_SIZE
    return data[:start] == _MAGIC + digest(memoryview(data)[start:])


def _rows(seen: Seen) -> Iterator[_Row]:
    for path, one in seen.directories.items():
        yield _Row(
            path, one.inode, one.ctime, one.marking,
            _joined(one.names), one.inodes.tobytes(), one.ctimes.tobytes(), _joined(one.directories),
        )  # fmt: skip


def _directory(row: _Row) -> tuple[bytes, SeenDirectory]:
    found = SeenDirectory(row.inode, row.ctime, row.marking, _split(row.names), directories=_split(row.directories))
    found.inodes.frombytes(row.inodes)
    found.ctimes.frombytes(row.ctimes)
    if not len(found.names) == len(found.inodes) == len(found.ctimes):
        raise ValueError(row.path)
    return row.path, found


def _joined(names: Iterable[bytes]) -> bytes:
    """A slash is in no name, and no name is empty."""
    return b"/".join(names)


def _split(names: bytes) -> list[bytes]:
    return names.split(b"/") if names else []
