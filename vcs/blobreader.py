"""File contents read: ranges of a chunk list, whole files, and what is around a place.

What a chunk list consists of, and where files are cut, is in blobs.py.
"""

from __future__ import annotations

import errno
import os
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from typing import TYPE_CHECKING

from vcs.encoding import decode_list
from vcs.errors import Corrupt
from vcs.model import Chunked, Data, ListItem

if TYPE_CHECKING:
    from vcs.trees import Objects

_SEQUENCE_LEAST = 32 << 10
"""Bytes. Whoever reads less at once is not in a hurry to have the next ones."""
_AHEAD_LEAST, _AHEAD_MOST = 2 << 20, 8 << 20
"""Bytes whose chunks are expected after those that a sequential reader asks for: as many as were read in order, but not
less, and not more."""
AROUND_MOST = 1 << 20
"""Bytes that are told of around an offset. The blocks that commits write have less."""
_ALONE_MOST = 8
"""Ranges of a chunk that are read alone. The chunk takes as long as four of them, and then the others are there too: so
nobody takes more than three times as long for that."""
_LEVELS_MAX = 32
"""Of lists in one file."""


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
        self._alone = bytearray(len(self._items))
        """How many ranges of each chunk were read alone."""
        self._end = 0
        """Where the last range ended."""
        self._begun = 0
        """Where the first of those began that followed one another."""

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
            self._look_ahead(self._expect, position, end, self._more(offset, size))
        at = offset
        while at < end:
            item = self._items[position]
            start = self._ends[position] - item.length
            stop = min(end, self._ends[position])
            if item.digest:
                chunk = self._objects.get(item.digest)
                parts.append(memoryview(chunk)[at - start : stop - start])
            else:
                parts.append(memoryview(bytes(stop - at)))
            at = stop
            position += 1
        self._was_read(offset, end)
        return parts

    def alone(self, offset: int, size: int, part: Callable[[bytes, int, int], bytes | None]) -> list[bytes] | None:
        """The bytes of a small range, for which not all of its chunks is read; None where that cannot be, or where so
        much was read already that the chunks pay. `part` gives a range of a chunk, or None."""
        end = min(offset + size, self.size)
        parts = []
        position = bisect_right(self._ends, offset)
        at = offset
        while at < end:
            item = self._items[position]
            if not item.digest or self._alone[position] >= _ALONE_MOST:
                return None
            start = self._ends[position] - item.length
            stop = min(end, self._ends[position])
            data = part(item.digest, at - start, stop - start)
            if data is None:
                self._alone[position] = _ALONE_MOST
                return None
            self._alone[position] += 1
            parts.append(data)
            at = stop
            position += 1
        self._was_read(offset, end)
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

    def _more(self, offset: int, size: int) -> int:
        """How many bytes after a range are expected to be asked for next: none, if it does not follow the last one."""
        if offset != self._end or size <= _SEQUENCE_LEAST:
            return 0
        return min(max(size, offset - self._begun, _AHEAD_LEAST), _AHEAD_MOST)

    def _was_read(self, offset: int, end: int) -> None:
        if offset != self._end:
            self._begun = offset
        self._end = end

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
    if leaf:
        yield from items
        return
    for item in items:
        yield from list_items(objects, item.digest, level + 1)


def file_pieces(objects: Objects, content: Data | Chunked) -> Iterator[tuple[int, bytes]]:
    """A file's content in order: pairs of a hole's length (0 for none) and bytes (empty for a hole)."""
    if isinstance(content, Data):
        if content.size:
            yield 0, objects.get(content.chunk)
        return
    for item in list_items(objects, content.list):
        yield (0, objects.get(item.digest)) if item.digest else (item.length, b"")
