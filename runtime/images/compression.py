"""Layers compressed: the same bytes for the same layer, however many processors there are.

gzip is written as pigz(1) does: blocks are compressed side by side, each with the end of the one before as its
dictionary, and are one stream for every reader. zstd has that built in. What comes out depends on the versions of zlib
and zstd, and on nothing else; what goes in is named by its own digest (diff_id), whatever compresses it.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Literal, Protocol

from runtime.images.model import LAYER, LAYER_GZIP, LAYER_ZSTD

if TYPE_CHECKING:
    from vcs.tar.writer import Writable

Compression = Literal["gzip", "zstd", "none"]
MEDIA_TYPES: dict[Compression, str] = {"gzip": LAYER_GZIP, "zstd": LAYER_ZSTD, "none": LAYER}

BLOCK = 256 << 10
"""Bytes that are compressed at once. Part of what gzip's bytes depend on, so it never changes."""
_GZIP_LEVEL = 6
_ZSTD_LEVEL = 3
_WINDOW = 32 << 10
"""How far back deflate looks."""
_HEADER = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
"""Of gzip (RFC 1952): no name, no time, no operating system."""
_LAST = b"\x03\0"
"""An empty last block of deflate (RFC 1951)."""
_THREADS_MAX = 8


class Compressor(Protocol):
    """Takes blocks of BLOCK bytes, of which only the last may be shorter."""

    def add(self, block: bytes) -> None: ...
    def finish(self) -> None: ...
    def abandon(self) -> None:
        """Wait for nothing more."""
        ...


def compressor(compression: Compression, out: Writable) -> Compressor:
    """Compresses into `out`, which is not closed."""
    match compression:
        case "gzip":
            return _Gzip(out)
        case "zstd":
            return _Zstd(out)
        case "none":
            return _Plain(out)


def _threads() -> int:
    return min(len(os.sched_getaffinity(0)), _THREADS_MAX)


class _Plain:
    def __init__(self, out: Writable) -> None:
        self._out = out

    def add(self, block: bytes) -> None:
        self._out.write(block)

    def finish(self) -> None:
        """Nothing is left."""

    def abandon(self) -> None:
        """Nothing runs."""


class _Zstd:
    def __init__(self, out: Writable) -> None:
        import zstandard

        # One thread at least: without any, other bytes come out.
        packer = zstandard.ZstdCompressor(level=_ZSTD_LEVEL, threads=max(1, _threads()), write_checksum=True)
        self._out = out
        self._packer = packer.compressobj()

    def add(self, block: bytes) -> None:
        self._out.write(self._packer.compress(block))

    def finish(self) -> None:
        self._out.write(self._packer.flush())

    def abandon(self) -> None:
        """Its threads end with it."""


class _Gzip:
    def __init__(self, out: Writable) -> None:
        self._out = out
        self._threads = _threads()
        self._pool = ThreadPoolExecutor(self._threads)
        self._waiting: deque[Future[bytes]] = deque()
        self._before = b""
        self._sum = self._size = 0
        out.write(_HEADER)

    def add(self, block: bytes) -> None:
        self._waiting.append(self._pool.submit(_deflated, block, self._before))
        self._before = block[-_WINDOW:]
        self._sum = zlib.crc32(block, self._sum)
        self._size += len(block)
        while len(self._waiting) > 2 * self._threads:
            self._out.write(self._waiting.popleft().result())

    def finish(self) -> None:
        while self._waiting:
            self._out.write(self._waiting.popleft().result())
        self._pool.shutdown()
        self._out.write(_LAST + struct.pack("<II", self._sum, self._size & 0xFFFFFFFF))

    def abandon(self) -> None:
        self._pool.shutdown(cancel_futures=True)


def _deflated(block: bytes, before: bytes) -> bytes:
    packer = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS, zdict=before)
    return packer.compress(block) + packer.flush(zlib.Z_SYNC_FLUSH)
