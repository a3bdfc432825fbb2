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


class SeenDirectory(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One directory of an upper. Packed, and unpacked when it is looked at: of a large upper, little is."""

    inode: int
    ctime: int
    marking: Marking
    packed_names: bytes
    """Of files that are no directories; a slash is in no name."""
    packed_inodes: bytes
    packed_ctimes: bytes
    """Of the same files, 8 bytes each."""
    packed_directories: bytes

    @property
    def names(self) -> list[bytes]:
        return self.packed_names.split(b"/") if self.packed_names else []

    @property
    def inodes(self) -> memoryview[int]:
        return memoryview(self.packed_inodes).cast("Q")

    @property
    def ctimes(self) -> memoryview[int]:
        """ns; 0 where it is not to be relied on."""
        return memoryview(self.packed_ctimes).cast("q")

    @property
    def directories(self) -> list[bytes]:
        return self.packed_directories.split(b"/") if self.packed_directories else []


@dataclass(slots=True)
class Sighting:
    """A SeenDirectory in the making."""

    inode: int
    ctime: int
    marking: Marking
    rows: dict[bytes, tuple[int, int]] = field(default_factory=dict)
    """By name: inode and ctime."""
    directories: list[bytes] = field(default_factory=list)

    def take(self, seen: SeenDirectory, without: set[bytes]) -> None:
        """Begin with what was seen, less these names."""
        rows = zip(seen.names, zip(seen.inodes, seen.ctimes, strict=True), strict=True)
        self.rows = {name: row for name, row in rows if name not in without}
        self.directories = [name for name in seen.directories if name not in without]

    def done(self) -> SeenDirectory:
        inodes, ctimes = array("Q"), array("q")
        inodes.extend(inode for inode, _ in self.rows.values())
        ctimes.extend(ctime for _, ctime in self.rows.values())
        names, directories = b"/".join(self.rows), b"/".join(self.directories)
        return SeenDirectory(
            self.inode, self.ctime, self.marking, names, inodes.tobytes(), ctimes.tobytes(), directories
        )


class Seen:
    """All of an upper, as a scan saw it that gave `root` on `base`. By path: b"" is the upper itself, b"etc/apt"."""

    def __init__(self, base: RootId, root: RootId, plain: bool, directories: dict[bytes, SeenDirectory]) -> None:
        self.base = base
        self.root = root
        self.plain = plain
        self.directories = directories

    @property
    def files(self) -> int:
        """How many names of files there are."""
        return sum(len(directory.packed_inodes) // 8 for directory in self.directories.values())

    @property
    def inodes(self) -> set[int]:
        """Of all files that are no directories."""
        return {inode for directory in self.directories.values() for inode in directory.inodes}


class Contents:
    """What files held when they were seen. A file is found by its directory's inode and its name: one that is moved by
    itself gets another ctime, but those in a directory that is moved do not."""

    def __init__(self, seen: Seen, objects: Objects) -> None:
        self._seen = seen
        self._root = Snapshot(objects, seen.root)
        self._rows = lru_cache(_OPEN)(self._unpacked)
        self._open = lru_cache(_OPEN)(self._opened)

    def place(self, inode: int) -> bytes | None:
        """Where the directory with this inode was."""
        return self._places.get(inode)

    def get(self, place: bytes, name: bytes, status: os.stat_result) -> Data | Chunked | None:
        """The content of the file with this status, None if it may have changed since."""
        if self._rows(place).get(name) != (status.st_ino, status.st_ctime_ns):
            return None
        directory = self._open(place)
        entry = directory.lookup(name) if directory is not None else None
        content = entry.content if entry is not None else None
        return content if isinstance(content, (Data, Chunked)) and content.size == status.st_size else None

    @cached_property
    def _places(self) -> dict[int, bytes]:
        return {directory.inode: path for path, directory in self._seen.directories.items()}

    def _unpacked(self, place: bytes) -> dict[bytes, tuple[int, int]]:
        seen = self._seen.directories[place]
        return dict(zip(seen.names, zip(seen.inodes, seen.ctimes, strict=True), strict=True))

    def _opened(self, place: bytes) -> Directory | None:
        entry = self._root.find(place)
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


class _File(msgspec.Struct, frozen=True, array_like=True, gc=False):
    stamp: bytes
    base: bytes
    root: bytes
    plain: bool
    rows: list[tuple[bytes, SeenDirectory]]


_decode = msgspec.msgpack.Decoder(_File).decode
_encode = msgspec.msgpack.Encoder().encode


def load(path: Path, base: RootId, stamp: bytes) -> Seen | None:
    """What was saved there for this base with this stamp; None if there is nothing that can be used."""
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        data = path.read_bytes()
        if not _is_sound(data):
            return None
        saved = _decode(memoryview(data)[len(_MAGIC) + DIGEST_SIZE :])
        if (saved.stamp, saved.base) == (stamp, base):
            return Seen(base, RootId(saved.root), saved.plain, dict(saved.rows))
    return None


def save(path: Path, seen: Seen, stamp: bytes) -> None:
    """Keep what a scan saw, once its root is in the store. Replaced by rename, not synced: after a power cut it may be
    empty or damaged, which is noticed. OSError as it comes."""
    body = _encode(_File(stamp, seen.base, seen.root, seen.plain, list(seen.directories.items())))
    replace_file(path, _MAGIC + digest(body) + body, durable=False)


def is_damaged(path: Path) -> bool:
    """Whether there is a file that load() would not use for what it holds. One that is empty, or begins with zeros,
    holds nothing: a power cut leaves such files."""
    try:
        data = path.read_bytes()
        return any(data[: len(_MAGIC)]) and not _is_sound(data)
    except FileNotFoundError:
        return False


def _is_sound(data: bytes) -> bool:
    start = len(_MAGIC) + DIGEST_SIZE
    return data[:start] == _MAGIC + digest(memoryview(data)[start:])
