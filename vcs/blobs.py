"""File contents as objects: one chunk, or a list of chunks and holes. What reads them is in blobreader.py.

A file of up to CHUNK_MAX bytes without holes is one chunk. A larger one is cut by FastCDC (Xia et al., "The Design of
Fast Content-Defined Chunking for Data Deduplication Based Storage Systems", IEEE TPDS, 2020), so that a change, even
one that shifts what follows, leaves most chunks as they were; holes are recorded and never read.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Mapping
from itertools import accumulate, takewhile
from typing import TYPE_CHECKING, Final, TypeAlias

from vcs.blobreader import list_items
from vcs.durable import read_all
from vcs.encoding import digest as digest_of
from vcs.encoding import encode_list, split
from vcs.errors import Damaged
from vcs.extents import data_extents
from vcs.heap import keep_freed_memory
from vcs.model import EMPTY_FILE, Chunked, Data, ListItem

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

    from vcs.trees import Objects, Sink

CHUNK_MIN = 32 << 10
CHUNK_AVERAGE = 128 << 10
CHUNK_MAX = 512 << 10
"""Small enough that a random read decompresses little, large enough that a gigabyte is only 8,000 chunks."""
_NORMALIZED: Final = 2
"""How close to the average chunks are (NC in the paper): a byte read at random is in one of 164 KiB, with 1 of 204."""

_Cut: TypeAlias = "tuple[memoryview, bytes | None]"
"""A chunk, and its digest if that is known."""

_WINDOW = 1 << 20
"""Bytes read at once: what is read, cut and hashed stays in the processor's cache."""
LARGE = 8 << 20
"""From here on, threads that read ahead and digest are worth their start."""
_AHEAD = 2
"""Windows that may wait for their digests."""


class _Cutter:
    """FastCDC, for one thread."""

    def __init__(self) -> None:
        from pyfastcdc import FastCDC  # 20 ms, and most commits never need it

        self._chunks = FastCDC(
            CHUNK_AVERAGE, min_size=CHUNK_MIN, max_size=CHUNK_MAX, normalized_chunking=_NORMALIZED
        ).cut_buf

    def first(self, data: memoryview) -> int:
        """The length of the chunk at the beginning of `data`, which is all there is or CHUNK_MAX bytes long at least.

        The byte at which the hash says so is the chunk's last one, where FastCDC would have it as the first of the
        next. So a cut depends on the bytes of its chunk alone."""
        return min(next(self._chunks(data)).length + 1, len(data), CHUNK_MAX)


class BlobWriter:
    """One file's content, fed in order; the pieces' sizes do not matter to the result.

    `before` is what an earlier version of the file has at which offset: see cuts_of(). Where it is still the same, no
    cut is searched for, which is half of the work. The result is the same.
    """

    def __init__(self, sink: Sink, before: Mapping[int, ListItem] | None = None) -> None:
        self._sink = sink
        self._before = before or {}
        self._parts: list[bytes | memoryview] = []
        self._waiting = 0
        self._items: list[ListItem] = []
        self._size = 0
        self._offset = 0
        self._hole = 0
        self._cutter: _Cutter | None = None
        self._hasher: ThreadPoolExecutor | None = None
        self._hashing: deque[tuple[list[_Cut], Future[list[bytes]]]] = deque()

    def feed(self, data: bytes | memoryview) -> None:
        """Append bytes. They are kept, not copied: the caller must not change them afterwards."""
        if not len(data):
            return
        self._flush_hole()
        self._parts.append(data)
        self._waiting += len(data)
        if self._waiting >= _WINDOW + CHUNK_MAX or self._offset + self._waiting in self._before:
            self._cut(final=False)

    def hole(self, length: int) -> None:
        """Append `length` bytes of nothing."""
        if length:
            self._cut(final=True)
            self._hole += length
            self._offset += length

    def finish(self) -> Data | Chunked:
        """The content, after the last byte."""
        if not self._items and not self._hole and self._waiting <= CHUNK_MAX:
            return put_data(self._sink, b"".join(self._parts))
        self._cut(final=True)
        self._flush_hole()
        if self._hasher is not None:
            self._hasher.shutdown()
        allocated = sum(item.length for item in self._items if item.digest)
        return Chunked(self._size, write_list(self._sink, self._items), allocated)

    def _flush_hole(self) -> None:
        if self._hole:
            self._append(self._hole, b"")
            self._hole = 0

    def _append(self, length: int, digest: bytes) -> None:
        self._items.append(ListItem(length, digest))
        self._size += length

    def _cut(self, final: bool) -> None:
        """Take whole chunks off what waits: all but those that further bytes could still change."""
        if not self._waiting:
            self._store(0)
            return
        data = b"".join(self._parts)
        view = memoryview(data)
        chunks: list[_Cut] = []
        done = 0
        least = 1 if final else CHUNK_MAX
        while done < len(data):
            found = self._still_there(view, done) if self._before else []
            if not found and len(data) - done < least:
                break
            found = found or list(self._searched(view, done, final))
            chunks += found
            done += sum(len(chunk) for chunk, _ in found)
        self._parts = [data[done:]] if done < len(data) else []
        self._waiting = len(data) - done
        self._offset += done
        self._put(chunks, final)

    def _searched(self, view: memoryview, done: int, final: bool) -> Iterator[_Cut]:
        """The chunks from here on, up to one after which the earlier version has a cut too."""
        if self._cutter is None:
            self._cutter = _Cutter()
        while done < len(view) and (final or len(view) - done >= CHUNK_MAX):
            start, done = done, done + self._cutter.first(view[done:])
            yield view[start:done], None
            if self._offset + done in self._before:
                return

    def _still_there(self, view: memoryview, done: int) -> list[_Cut]:
        """The chunks of the earlier version that follow one another from here on, and have their digests.

        A cut depends on the bytes of its chunk alone, so what has the digest of a chunk is cut as that was.
        """
        expected = []
        end = done
        while (item := self._before.get(self._offset + end)) and end + item.length <= len(view):
            expected.append((view[end : end + item.length], item.digest))
            end += item.length
        return list(takewhile(_has_digest, expected))

    def _put(self, chunks: list[_Cut], final: bool) -> None:
        """Store chunks. Of a large file, a thread digests them while the next ones are read and cut."""
        if self._hasher is None and self._size < LARGE:
            for chunk, known in chunks:
                self._append(len(chunk), self._sink.put_chunk(chunk, known))
            return
        if self._hasher is None:
            self._hasher = _thread()
        self._hashing.append((chunks, self._hasher.submit(_digests, chunks)))
        self._store(0 if final else _AHEAD)

    def _store(self, left: int) -> None:
        """Store what has been digested, until so many windows wait."""
        while len(self._hashing) > left:
            chunks, digests = self._hashing.popleft()
            for (chunk, _), digest in zip(chunks, digests.result(), strict=True):
                self._append(len(chunk), self._sink.put_chunk(chunk, digest))


def put_data(sink: Sink, data: bytes) -> Data:
    """A file of one chunk."""
    return Data(len(data), sink.put_chunk(data)) if data else EMPTY_FILE


def write_list(sink: Sink, items: list[ListItem]) -> bytes:
    """Write a chunk list, split into nodes where it is long; returns the digest of its top node."""
    leaf = True
    while True:
        parts = split(items, item_key)
        nodes = [ListItem(sum(i.length for i in p), sink.put_tree(encode_list(p, leaf))) for p in parts]
        if len(nodes) == 1:
            return nodes[0].digest
        items, leaf = nodes, False


def item_key(item: ListItem) -> bytes:
    """What a chunk list is cut by."""
    return item.digest + item.length.to_bytes(8, "little")


def write_file(
    sink: Sink, fd: int, status: os.stat_result, before: Mapping[int, ListItem] | None = None
) -> Data | Chunked:
    """Store an open regular file's content: its data extents, and its holes as holes.

    `before` is what BlobWriter says. `status` is the descriptor's fstat: a file that shrinks meanwhile is stored as far
    as it was read, and one that grows, perhaps as fast as it can be read, as long as it was.
    """
    size = status.st_size
    if status.st_blocks * 512 >= size:
        if size <= CHUNK_MAX:
            return put_data(sink, read_all(fd, size))
        writer = BlobWriter(sink, before)
        for data in _windows(fd, size, before or {}):
            writer.feed(data)
        return writer.finish()
    writer = BlobWriter(sink, before)
    for extent in data_extents(fd, size):
        writer.hole(extent.gap)
        _feed_range(writer, fd, extent.start, extent.length)
    return writer.finish()


def _windows(fd: int, size: int, before: Mapping[int, ListItem]) -> Iterator[bytes]:
    """A file's first `size` bytes in order; of a large one, the next are read while the last are worked on."""
    if size < LARGE:
        while size and (data := os.read(fd, min(_WINDOW, size))):
            size -= len(data)
            yield data
        return
    keep_freed_memory()
    lengths = _lengths(list(before))
    with _thread() as reader:
        coming = reader.submit(os.read, fd, min(next(lengths), size))
        while data := coming.result():
            size -= len(data)
            coming = reader.submit(os.read, fd, min(next(lengths), size))
            yield data


def _lengths(cuts: list[int]) -> Iterator[int]:
    """How much to read at once. Up to where the earlier version was cut, if it was: where nothing has changed, no bytes
    are left over then that would have to be joined with the next ones."""
    position = 0
    while True:
        nearest = bisect_right(cuts, position + _WINDOW) - 1
        end = cuts[nearest] if nearest >= 0 and cuts[nearest] > position else position + _WINDOW
        yield end - position
        position = end


def _digests(chunks: list[_Cut]) -> list[bytes]:
    return [known or digest_of(chunk) for chunk, known in chunks]


def _has_digest(cut: _Cut) -> bool:
    chunk, known = cut
    return digest_of(chunk) == known


def cuts_of(objects: Objects, content: object) -> dict[int, ListItem]:
    """The chunks of a file's earlier version, by the offset at which each begins, for BlobWriter. Not those that end
    where a hole or the end of the file made them end: with other bytes behind them they would not."""
    if not isinstance(content, Chunked):
        return {}
    try:
        items = list(list_items(objects, content.list))
    except Damaged:  # then the new version is cut without it
        return {}
    starts = accumulate((item.length for item in items), initial=0)
    return {
        start: item
        for start, item, following in zip(starts, items, items[1:], strict=False)
        if item.digest and following.digest
    }


def _thread() -> ThreadPoolExecutor:
    from concurrent.futures import ThreadPoolExecutor  # 5 ms, and most commits never need it

    return ThreadPoolExecutor(1, "blob")


def _feed_range(writer: BlobWriter, fd: int, start: int, length: int) -> None:
    end = start + length
    while start < end:
        data = os.pread(fd, min(_WINDOW, end - start), start)
        if not data:
            return
        writer.feed(data)
        start += len(data)
