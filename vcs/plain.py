"""Plain copies: files as they are, outside of the layers. How they lie there, and how they are read.

    STORE/caches/plain/<digest>    the file's bytes
    STORE/caches/plain-<digest>    what they must be:
        first line   the digest, hexadecimal
        32 bytes     BLAKE3 of the rest
        header       the version, the file's bytes
        sums         the first 8 bytes of the BLAKE3 of each page of 4,096 bytes; the last page may be shorter

The digest is that of the file's chunk list, or of its one chunk, in hexadecimal. Both may be deleted at any time; where
one is missing, there is no copy. They are made and mended in plainwriter.py.

There are two sorts of readers. Who reads here and there in a large file (fusefs.scattered) gets it from a copy page by
page, each verified: where a layer is compressed a chunk is the least that can be verified, some 130 KiB that must be
read, decompressed and digested for whoever wants a page of it. And overlays have programs from copies, without anybody
in between (fusefs.datalayer); what they read is verified when the copy is made, and by fsck. So the bytes are on the
disk before the sums are there: after a power cut a copy is whole, or there is none. The sums are to notice what a disk
did, nobody forges a file of the store's owner.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

from blake3 import blake3

from vcs.blobreader import list_items
from vcs.cachefiles import FIRST, is_abandoned, open_cache
from vcs.errors import Damaged, Missing
from vcs.existing import names_in
from vcs.model import DIGEST_SIZE, Chunked, Data
from vcs.sums import SUM, sum_of, sums_of

Plain: TypeAlias = Data | Chunked
"""A file's content: what can be copied."""

PREFIX = "plain-"
DIRECTORY = "plain"
PAGE = 4096

_MAGIC = b"treering plain 2\n"
_SIZE = struct.Struct("<Q")
_START = FIRST + DIGEST_SIZE
_HEAD = len(_MAGIC) + _SIZE.size
_BUFFER = 1 << 20
_DIGEST = re.compile(f"[0-9a-f]{{{2 * DIGEST_SIZE}}}")


class PlainCopy:
    """A plain copy, opened."""

    def __init__(self, fd: int, size: int, sums: bytes) -> None:
        """`fd`, of the file's bytes, becomes the copy's."""
        self.fd = fd
        self._sums = sums
        self.size = size

    def read(self, offset: int, size: int) -> memoryview | None:
        """A range of the file's bytes, shorter at its end; None if they cannot be had, or are not what they were."""
        end = min(offset + size, self.size)
        if offset >= end:
            return memoryview(b"")
        first, after = offset // PAGE, pages_of(end)
        try:
            data = os.pread(self.fd, (after - first) * PAGE, first * PAGE)
        except OSError:
            return None
        if sums_of(data, PAGE) != self._sums[first * SUM : after * SUM]:
            return None
        return memoryview(data)[offset - first * PAGE : end - first * PAGE]

    def close(self) -> None:
        """Give the file back; doing so twice is no error."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def digest_of_copy(content: Plain) -> bytes:
    """What the copy of a file is known by: the digest of its chunk list, or of its one chunk."""
    return content.list if isinstance(content, Chunked) else content.chunk


def sums_path(caches: Path, digest: bytes) -> Path:
    """Where the sums of a file's copy are, if there is one."""
    return caches / f"{PREFIX}{digest.hex()}"


def bytes_path(caches: Path, digest: bytes) -> Path:
    """Where the bytes of a file's copy are, if there is one."""
    return caches / DIRECTORY / digest.hex()


def is_copied(caches: Path, digest: bytes, size: int) -> bool:
    """Whether there is a copy of a file of so many bytes, as far as can be told without reading it."""
    try:
        fd = open_cache(sums_path(caches, digest))
    except OSError:
        return False
    try:
        return _fits(fd, size) and bytes_path(caches, digest).lstat().st_size == size
    except OSError:
        return False
    finally:
        os.close(fd)


def open_plain(caches: Path, digest: bytes, size: int) -> PlainCopy | None:
    """The copy of a file of so many bytes; None if there is none. Reads its sums: 2 MiB for 1 GiB."""
    try:
        sums = _sums(caches, digest, size)
        if sums is None:
            return None
        fd = open_cache(bytes_path(caches, digest))
    except OSError:
        return None
    with contextlib.suppress(OSError):
        if os.fstat(fd).st_size == size:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
            used(caches, digest)
            return PlainCopy(fd, size, sums)
    os.close(fd)
    return None


def used(caches: Path, digest: bytes) -> None:
    """A copy is being used: those that nobody uses are the first to go."""
    with contextlib.suppress(OSError):
        os.utime(sums_path(caches, digest))


def _sums(caches: Path, digest: bytes, size: int) -> bytes | None:
    fd = open_cache(sums_path(caches, digest))
    try:
        return os.pread(fd, pages_of(size) * SUM, _START + _HEAD) if _fits(fd, size) else None
    finally:
        os.close(fd)


def _fits(fd: int, size: int) -> bool:
    """Whether these are sums of a file of so many bytes."""
    head = _MAGIC + _SIZE.pack(size)
    return os.pread(fd, len(head), _START) == head and os.fstat(fd).st_size == sums_bytes(size)


def pages_of(size: int) -> int:
    """How many pages so many bytes have."""
    return -(-size // PAGE)


def sums_bytes(size: int) -> int:
    """Those of the sums of a file that has so many."""
    return _START + _HEAD + pages_of(size) * SUM


def is_whole(caches: Path, digest: bytes) -> bool:
    """Whether a copy is what its sums say, and these are what was written. One of another version is not looked at.
    FileNotFoundError if a part is missing; OSError."""
    body = read_body(caches, digest)
    if body is None:
        return False
    if not body.startswith(_MAGIC):
        return True
    path, size, sums = bytes_path(caches, digest), *split_body(body)
    if not stat.S_ISREG(path.lstat().st_mode):
        return False
    with open(open_cache(path), "rb", buffering=_BUFFER) as file:
        pages = iter(lambda: file.read(PAGE), b"")
        return os.fstat(file.fileno()).st_size == size and b"".join(map(sum_of, pages)) == sums


def read_body(caches: Path, digest: bytes) -> bytes | None:
    """What a file of sums says after its digests; None if it is not what was written. OSError."""
    with open(open_cache(sums_path(caches, digest)), "rb") as file:
        first, expected, body = file.read(FIRST), file.read(DIGEST_SIZE), file.read()
    return body if first == f"{digest.hex()}\n".encode() and blake3(body).digest() == expected else None


def split_body(body: bytes) -> tuple[int, bytes]:
    """The file's bytes, and the sums. What is too short is a file of none."""
    return int.from_bytes(body[len(_MAGIC) : _HEAD], "little"), body[_HEAD:]


def body_of(size: int, sums: bytes) -> bytes:
    """What split_body() takes apart."""
    return _MAGIC + _SIZE.pack(size) + sums


def remove(caches: Path, digest: bytes) -> None:
    """Delete a copy, if that can be done."""
    for path in (sums_path(caches, digest), bytes_path(caches, digest)):
        with contextlib.suppress(OSError):
            path.unlink()


def copied_digest(path: Path) -> bytes | None:
    """The digest in the name of a copy's sums; None if it is another name."""
    name = path.name.removeprefix(PREFIX)
    return bytes.fromhex(name) if name != path.name and _DIGEST.fullmatch(name) else None


def left_bytes(caches: Path) -> Iterator[Path]:
    """Bytes without sums: what killed writers and half removals have left. OSError."""
    directory = caches / DIRECTORY
    for name in names_in(directory):
        digest = name.removesuffix(".new")
        if not _DIGEST.fullmatch(digest):
            continue
        sums = caches / f"{PREFIX}{digest}"
        aside = sums.with_name(f"{sums.name}.new")
        is_being_written = os.path.lexists(aside) and not is_abandoned(aside)
        if not is_being_written and (name != digest or not os.path.lexists(sums)) and not (directory / name).is_dir():
            yield directory / name


def parts_of(get: Callable[[bytes], bytes | None], digest: bytes) -> dict[bytes, tuple[int, int]]:
    """Where the chunks of a chunk list are in its file: offset and length by digest. None of what `get` does not
    have."""
    found, offset = {}, 0
    with contextlib.suppress(Damaged):
        for item in list_items(_Got(get), digest):
            if item.digest:
                found[item.digest] = offset, item.length
            offset += item.length
    return found


class _Got:
    """Objects that one may not have."""

    def __init__(self, get: Callable[[bytes], bytes | None]) -> None:
        self._get = get

    def get(self, digest: bytes) -> bytes:
        data = self._get(digest)
        if data is None:
            raise Missing(f"object {digest.hex()} is not there", digest=digest.hex())
        return data
