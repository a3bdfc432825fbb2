"""File contents as objects: one chunk, or a list of chunks and holes.

A file of up to CHUNK_MAX bytes without holes is one chunk. A larger one is cut by FastCDC, so that a change, even one
that shifts what follows, leaves most chunks as they were; holes are recorded and never read.
"""

from __future__ import annotations

import errno
import os
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import accumulate, takewhile
from typing import TYPE_CHECKING, TypeAlias, cast

from vcs.encoding import decode_list, encode_list, split
from vcs.encoding import digest as digest_of
from vcs.errors import Corrupt, Damaged
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

_Cut: TypeAlias = "tuple[memoryview, bytes | None]"
"""A chunk, and its digest if that is known."""

_WINDOW = 1 << 20
"""Bytes read at once: what is read, cut and hashed stays in the processor's cache."""
LARGE = 8 << 20
"""From here on, threads that read ahead and digest are worth their start."""
_LOOK_AHEAD = 2 << 20
"""Bytes whose chunks are expected after those that a sequential reader asks for."""
AROUND_MOST = 1 << 20
"""Bytes that are told of around an offset. The blocks that commits write have less."""
_LEVELS_MAX = 32
"""Of lists in one file."""
_AHEAD = 2
"""Windows that may wait for their digests."""


@lru_cache(1)
def _chunker() -> Callable[..., Iterator[object]]:
    from fastcdc.fastcdc_cy import fastcdc_cy  # 20 ms, and most commits never need it

    return cast("Callable[..., Iterator[object]]", fastcdc_cy)


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
        data = view[done:]
        for chunk in _chunker()(data, CHUNK_MIN, CHUNK_AVERAGE, CHUNK_MAX, False, None):
            start, end = chunk.offset, chunk.offset + chunk.length  # type: ignore[attr-defined]
            if not final and len(data) - start < CHUNK_MAX:
                return
            yield data[start:end], None
            if self._offset + done + end in self._before:
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
            return put_data(sink, os.read(fd, size))
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


class BlobReader:
    """A chunk list, opened: ranges of bytes and of holes."""

    def __init__(
        self, objects: Objects, content: Chunked, expect: Callable[[Iterable[bytes]], None] | None = None
    ) -> None:
        """`expect` is told which chunks will be asked for soon."""
        self._objects = objects
        self._expect = expect
        self.size = content.size
        self._items = list(list_items(objects, content.list))
        self._ends = list(accumulate(item.length for item in self._items))
        if (self._ends or [0])[-1] != self.size:
            name = content.list.hex()
            raise Corrupt(f"chunk list {name} is not as long as its file, {self.size} bytes", digest=name)
        self._end = 0
        """Where the last range ended."""

    def items(self) -> list[ListItem]:
        """The chunks and holes, in order."""
        return self._items

    def read(self, offset: int, size: int) -> bytes:
        """The bytes of a range; shorter at the end of the file."""
        return b"".join(self.parts(offset, size))

    def parts(self, offset: int, size: int) -> list[memoryview]:
        """The same in pieces, which lie in the chunks: nothing is copied."""
        end = min(offset + size, self.size)
        parts = []
        position = bisect_right(self._ends, offset)
        if self._expect:
            is_sequence = offset == self._end and size > CHUNK_MIN
            self._look_ahead(self._expect, position, end, max(size, _LOOK_AHEAD) if is_sequence else 0)
        while offset < end:
            item = self._items[position]
            start = self._ends[position] - item.length
            stop = min(end, self._ends[position])
            if item.digest:
                chunk = self._objects.get(item.digest)
                parts.append(memoryview(chunk)[offset - start : stop - start])
            else:
                parts.append(memoryview(bytes(stop - offset)))
            offset = stop
            position += 1
        self._end = end
        return parts

    def around(self, offset: int, are_together: Callable[[bytes, bytes], bool]) -> tuple[int, list[bytes]]:
        """What is at hand around an offset: where in the file it begins, and the chunks from there on. Those are the
        chunk in which the offset lies and, next to it, those together with it; none around a hole, or past the end."""
        if not 0 <= offset < self.size:
            return offset, []
        items, ends = self._items, self._ends
        first = bisect_right(ends, offset)
        own = items[first].digest
        if not own:
            return offset, []
        chunks = [self._objects.get(own)]
        start, after = ends[first] - items[first].length, first + 1
        while after < len(items) and ends[after] - start <= AROUND_MOST and are_together(own, items[after].digest):
            chunks.append(self._objects.get(items[after].digest))
            after += 1
        least = ends[after - 1] - AROUND_MOST
        while first and start - items[first - 1].length >= least and are_together(own, items[first - 1].digest):
            first -= 1
            start -= items[first].length
            chunks.insert(0, self._objects.get(items[first].digest))
        return start, chunks

    def _look_ahead(self, expect: Callable[[Iterable[bytes]], None], position: int, end: int, more: int) -> None:
        """Tell which chunks a range has, and of one that goes on from the last, what follows it."""
        last = position
        while last < len(self._items) and self._ends[last] < end + more:
            last += 1
        if last > position:
            expect(item.digest for item in self._items[position : last + 1] if item.digest)

    def seek(self, offset: int, whence: int) -> int:
        """lseek(2) with SEEK_DATA or SEEK_HOLE; OSError ENXIO past the end or where no data follows."""
        if not 0 <= offset < self.size:
            raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))
        want_data = whence == os.SEEK_DATA
        for position in range(bisect_right(self._ends, offset), len(self._items)):
            if bool(self._items[position].digest) == want_data:
                return max(offset, self._ends[position] - self._items[position].length)
        if want_data:
            raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))
        return self.size


def list_items(objects: Objects, digest: bytes, level: int = 0) -> Iterator[ListItem]:
    """The chunks and holes of a chunk list, in order. `level`: how many lists this one is part of."""
    if level > _LEVELS_MAX:
        raise Corrupt(f"chunk list {digest.hex()} is the end of too long a chain", digest=digest.hex())
    items, leaf = decode_list(objects.get(digest))
    for item in items:
        if leaf:
            yield item
        else:
            yield from list_items(objects, item.digest, level + 1)


def file_pieces(objects: Objects, content: Data | Chunked) -> Iterator[tuple[int, bytes]]:
    """A file's content in order: pairs of a hole's length (0 for none) and bytes (empty for a hole)."""
    if isinstance(content, Data):
        if content.size:
            yield 0, objects.get(content.chunk)
        return
    for item in list_items(objects, content.list):
        yield (0, objects.get(item.digest)) if item.digest else (item.length, b"")
