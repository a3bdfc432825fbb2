"""Plain copies: large files as they are, for those who read here and there in them.

STORE/caches/plain-<digest of the file's chunk list, hexadecimal>, which may be deleted at any time:

    first line   the digest, hexadecimal
    32 bytes     BLAKE3 of the rest
    header       the version, the file's bytes
    zeros        up to a page's size
    pages        of 4,096 bytes: the file's bytes, and zeros up to the end of the last page
    sums         the first 8 bytes of each page's BLAKE3

Of a layer a chunk is the least that can be verified, some 130 KiB that must be read, decompressed and digested for
whoever wants a page of it. Here it is that page alone. Nothing is flushed, for a page that does not have its sum is not
used: the sums are to notice what a disk or a power cut did, nobody forges a file of the store's owner.

A copy is made by a process of its own (`begin`) once somebody has read enough of a file to make it worth while
(fusefs.scattered). It takes the file's size of the disk, which `git config treering.plainCopies` bounds for all copies
of a store: 2g if nothing is said, 0 for none.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import struct
import sys
from collections.abc import Iterator, Sequence
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from blake3 import blake3

from vcs.blobreader import list_items
from vcs.cachefiles import FIRST, NOTHING, make_room, open_cache
from vcs.encoding import digest as digest_of
from vcs.errors import TreeringError
from vcs.model import DIGEST_SIZE

if TYPE_CHECKING:
    from subprocess import Popen

    from vcs.trees import Objects

PREFIX = "plain-"
PAGE = 4096
SETTING = "treering.plainCopies"
TOTAL_MAX = 2 << 30
"""Bytes of all copies of a store, if the setting says nothing; those that were used longest ago go first."""
LEFT_FREE = 0.1
"""The share of the disk that copies leave free."""

_MAGIC = b"treering plain 1\n"
_SIZE = struct.Struct("<Q")
_SUM = 8
_NUMBER = re.compile(r"(\d{1,12})([kmgKMG]?)")
_SHIFTS = {"": 0, "k": 10, "m": 20, "g": 30}
_START = FIRST + DIGEST_SIZE
_BUFFER = 1 << 20
_ZEROS = bytes(PAGE)
_PROGRAM = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from vcs.plain import main
main(sys.argv[1:])
"""


class PlainCopy:
    """A plain copy, opened."""

    def __init__(self, fd: int, size: int, sums: bytes) -> None:
        """`fd` becomes the copy's."""
        self._fd = fd
        self._sums = sums
        self.size = size

    def read(self, offset: int, size: int) -> memoryview | None:
        """A range of the file's bytes, shorter at its end; None if they cannot be had, or are not what they were."""
        end = min(offset + size, self.size)
        if offset >= end:
            return memoryview(b"")
        first, after = offset // PAGE, _pages_of(end)
        try:
            data = os.pread(self._fd, (after - first) * PAGE, (first + 1) * PAGE)
        except OSError:
            return None
        view = memoryview(data)
        for number in range(first, after):
            begin = (number - first) * PAGE
            if _sum(view[begin : begin + PAGE]) != self._sums[number * _SUM : (number + 1) * _SUM]:
                return None
        return view[offset - first * PAGE : end - first * PAGE]

    def close(self) -> None:
        """Give the file back; doing so twice is no error."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def plain_path(caches: Path, digest: bytes) -> Path:
    """Where the copy of a file is, if there is one: of the file with this chunk list."""
    return caches / f"{PREFIX}{digest.hex()}"


def open_plain(path: Path, size: int) -> PlainCopy | None:
    """The copy at a path of a file of so many bytes; None if there is none. Reads its sums: 2 MiB for 1 GiB."""
    try:
        fd = open_cache(path)
    except OSError:
        return None
    with contextlib.suppress(OSError):
        head = _MAGIC + _SIZE.pack(size)
        if os.pread(fd, len(head), _START) == head and os.fstat(fd).st_size == _bytes_of(size):
            pages = _pages_of(size)
            sums = os.pread(fd, pages * _SUM, (pages + 1) * PAGE)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
            with contextlib.suppress(OSError):
                os.utime(path)  # those that nobody uses are the first to go
            return PlainCopy(fd, size, sums)
    os.close(fd)
    return None


def _pages_of(size: int) -> int:
    return -(-size // PAGE)


def _bytes_of(size: int) -> int:
    """Those of the copy of a file that has so many."""
    return (_pages_of(size) + 1) * PAGE + _pages_of(size) * _SUM


def remove(path: Path) -> None:
    """Delete the copy at a path, which is damaged, if that can be done."""
    with contextlib.suppress(OSError):
        path.unlink()


def begin(store: Path, digest: bytes, size: int) -> Popen[bytes]:
    """Start a process that makes the copy of a file, if there is room; it outlives us. OSError."""
    import subprocess  # 5 ms, and most services never need it

    package = str(Path(__file__).resolve().parent.parent)
    program = [sys.executable, "-P", "-c", _PROGRAM, package, str(store), digest.hex(), str(size)]
    nothing = subprocess.DEVNULL
    return subprocess.Popen(program, stdin=nothing, stdout=nothing, stderr=nothing, cwd="/", start_new_session=True)


def save_plain(objects: Objects, caches: Path, digest: bytes, size: int, most: int = TOTAL_MAX) -> bool:
    """Write the copy of a file: its chunk list's digest, and its bytes. False if there is one, if another process
    makes it, or if there is no room for it: not in `most` bytes for all copies, or on the disk. Missing, Corrupt or
    OSError, with nothing left."""
    path = plain_path(caches, digest)
    total = _bytes_of(size)
    disk = os.statvfs(caches)
    free, all_of_it = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
    if path.exists() or total > most or free - total < LEFT_FREE * all_of_it:
        return False
    aside = path.with_name(f"{path.name}.new")
    fd = os.open(aside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with open(fd, "r+b", buffering=_BUFFER) as file:
        if not _is_ours(fd, aside):
            return False
        try:
            file.truncate(0)
            make_room(caches, PREFIX, most - total, aside)
            _write(file, objects, digest, size)
            aside.rename(path)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise
    return True


def _is_ours(fd: int, aside: Path) -> bool:
    """Whether nobody else writes this file, or has put it in its place meanwhile. Until it is closed, gc does not take
    it for a dead process's."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(fd), aside.stat())
    except (BlockingIOError, FileNotFoundError):
        return False


def _write(file: BinaryIO, objects: Objects, digest: bytes, size: int) -> None:
    hasher = blake3()
    file.write(NOTHING + bytes(DIGEST_SIZE))
    head = (_MAGIC + _SIZE.pack(size)).ljust(PAGE - _START, b"\0")
    hasher.update(head)
    file.write(head)
    sums = bytearray()
    for page in _pages(objects, digest):
        hasher.update(page)
        sums += _sum(page)
        if page is _ZEROS:
            file.seek(PAGE, os.SEEK_CUR)
        else:
            file.write(page)
    hasher.update(sums)
    file.write(sums)
    file.seek(0)
    file.write(digest.hex().encode() + b"\n" + hasher.digest())
    file.flush()


def _pages(objects: Objects, digest: bytes) -> Iterator[bytes | memoryview]:
    """A file's pages; those in holes are _ZEROS itself."""
    rest = b""
    for item in list_items(objects, digest):
        filled = 0 if item.digest else min(-len(rest) % PAGE, item.length)  # of a hole, the page in which it begins
        data = memoryview(rest + (objects.get(item.digest) if item.digest else bytes(filled)))
        whole = len(data) - len(data) % PAGE
        for start in range(0, whole, PAGE):
            yield data[start : start + PAGE]
        rest = bytes(data[whole:])
        if not item.digest:
            pages, more = divmod(item.length - filled, PAGE)
            yield from repeat(_ZEROS, pages)
            rest += bytes(more)
    if rest:
        yield rest.ljust(PAGE, b"\0")


def _sum(page: bytes | memoryview) -> bytes:
    return digest_of(page)[:_SUM]


def allowed(setting: str | None) -> int:
    """The bytes that all copies of a store may have, by what git's config says. What is no number there is none here.

    >>> allowed("512m"), allowed("never"), allowed(None) == TOTAL_MAX
    (536870912, 0, True)
    """
    if setting is None:
        return TOTAL_MAX
    found = _NUMBER.fullmatch(setting)
    return int(found[1]) << _SHIFTS[found[2].lower()] if found else 0


def main(arguments: Sequence[str]) -> None:
    """The process that makes a copy: the store, the chunk list's digest in hexadecimal, the file's bytes."""
    from vcs.store import Store

    path, digest, size = arguments
    os.nice(19)
    with contextlib.suppress(TreeringError, OSError), Store.open(Path(path)) as store:
        most = allowed(store.history.setting(SETTING))
        save_plain(store, store.caches, bytes.fromhex(digest), int(size), most)
