"""Start profiles: what containers on a root have read in their first seconds, for the next cold start.

STORE/caches/start-<root, hexadecimal>, which may be deleted at any time:

    first line     the root, hexadecimal
    32 bytes       BLAKE3 of the rest
    header         the version, how many objects
    table          each object's digest and length, in the order in which they were first read
    objects        their bytes, one after the other, uncompressed

A cold start waits for one block after the other, out of all corners of the layers: each is found in the index, read and
decompressed before the next is known. Here the same objects lie in the right order and ready for use, and the kernel
reads all of them in one sweep. They are verified one by one like those of layers, so the digest of the whole is for
fsck alone.

Every object in a profile belongs to its root. Where gc keeps the root, it keeps all of them; where not, it deletes the
profile, and with it the last copy of what somebody wanted to be gone.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from blake3 import blake3

from vcs.cachefiles import FIRST, NOTHING, make_room, open_cache
from vcs.encoding import digest as digest_of
from vcs.errors import Damaged
from vcs.model import DIGEST_SIZE, RootId

if TYPE_CHECKING:
    from vcs.trees import Objects

PREFIX = "start-"
BYTES_MAX = 32 << 20
"""Bytes of objects in one profile."""
TOTAL_MAX = 256 << 20
"""Bytes of all profiles of a store; those that were used longest ago go first."""

_MAGIC = b"treering start 1\n"
_COUNT = struct.Struct("<I")
_ROW = struct.Struct(f"<{DIGEST_SIZE}sI")
_START = FIRST + DIGEST_SIZE
_TABLE = _START + len(_MAGIC) + _COUNT.size
_ITEMS_MAX = 65_536
_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Item:
    """One object of a profile: its digest, and its length in bytes."""

    digest: bytes
    length: int


class Profile:
    """A profile, opened."""

    def __init__(self, fd: int, items: tuple[Item, ...]) -> None:
        """`fd` becomes the profile's."""
        self._fd = fd
        self.items = items
        """What it holds, in order. What this says is not verified: the objects are, when they are read."""
        offsets = accumulate((item.length for item in items), initial=_TABLE + len(items) * _ROW.size)
        self._places = {item.digest: (offset, item.length) for offset, item in zip(offsets, items, strict=False)}

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._places

    def get(self, digest: bytes) -> bytes | None:
        """An object's bytes, verified; None if it cannot be had from here."""
        found = self._places.get(digest)
        if found is None:
            return None
        with contextlib.suppress(OSError):
            data = os.pread(self._fd, found[1], found[0])
            if digest_of(data) == digest:
                return data
        return None

    def warm(self, items: Iterable[Item]) -> None:
        """Have the kernel read these objects of it, neighbours at once; does not wait for that."""
        start = end = 0
        for item in items:
            offset, length = self._places[item.digest]
            if offset != end:
                self._warm(start, end)
                start = offset
            end = offset + length
        self._warm(start, end)

    def _warm(self, start: int, end: int) -> None:
        with contextlib.suppress(OSError):
            for offset in range(start, end, _PIECE):
                os.posix_fadvise(self._fd, offset, min(_PIECE, end - offset), os.POSIX_FADV_WILLNEED)

    def cool(self) -> None:
        """Let the kernel drop its copy of all of it: what was read is in the page cache as files."""
        with contextlib.suppress(OSError):
            os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def close(self) -> None:
        """Give the file back; doing so twice is no error."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def profile_path(caches: Path, root: RootId) -> Path:
    """Where a root's profile is, if there is one."""
    return caches / f"{PREFIX}{root.hex()}"


def open_profile(path: Path) -> Profile | None:
    """The profile at a path; None if there is none, or it is none of ours."""
    try:
        fd = open_cache(path)
    except OSError:
        return None
    items = _items(fd)
    if items is None:
        os.close(fd)
        return None
    return Profile(fd, items)


def profile_size(path: Path) -> int | None:
    """The bytes of objects in the profile at a path, None if there is none."""
    profile = open_profile(path)
    if profile is None:
        return None
    profile.close()
    return sum(item.length for item in profile.items)


def _items(fd: int) -> tuple[Item, ...] | None:
    with contextlib.suppress(OSError, struct.error):
        size = os.fstat(fd).st_size
        head = os.pread(fd, _TABLE - _START, _START)
        (count,) = _COUNT.unpack(head[len(_MAGIC) :])
        if head.startswith(_MAGIC) and count <= _ITEMS_MAX:
            items = tuple(Item(*row) for row in _ROW.iter_unpack(os.pread(fd, count * _ROW.size, _TABLE)))
            if len(items) == count and size == _TABLE + count * _ROW.size + sum(item.length for item in items):
                return items
    return None


def save_profile(caches: Path, root: RootId, digests: Iterable[bytes], objects: Objects) -> int:
    """Write a root's profile: these objects, in this order, up to BYTES_MAX. All of them must belong to the root.

    Those that cannot be had are left out. Returns the bytes of objects in it. OSError.
    """
    path = profile_path(caches, root)
    aside = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        with aside.open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # until it is closed, gc does not take it for a killed process's
            items = _sizes(digests, objects)
            file.write(NOTHING + bytes(DIGEST_SIZE))
            hasher = blake3()
            for data in _body(items, objects):
                hasher.update(data)
                file.write(data)
            file.seek(0)
            file.write(root.hex().encode() + b"\n" + hasher.digest())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    make_room(caches, PREFIX, TOTAL_MAX, path)
    return sum(item.length for item in items)


def _sizes(digests: Iterable[bytes], objects: Objects) -> list[Item]:
    items: list[Item] = []
    room = BYTES_MAX
    for digest in dict.fromkeys(digests):
        with contextlib.suppress(Damaged):
            length = len(objects.get(digest))
            if length <= room and len(items) < _ITEMS_MAX:
                room -= length
                items.append(Item(digest, length))
    return items


def _body(items: list[Item], objects: Objects) -> Iterator[bytes]:
    yield _MAGIC + _COUNT.pack(len(items)) + b"".join(_ROW.pack(item.digest, item.length) for item in items)
    for item in items:
        yield objects.get(item.digest)
