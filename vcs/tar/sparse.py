"""The maps of sparse members: which runs of a file the archive holds. The rest of the file is holes.

GNU tar has written four kinds: "old GNU" keeps the map in the header block and extension blocks; PAX 0.0 in repeated
records, 0.1 in one record, 1.0 in front of the data.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator

from vcs.errors import BadInput
from vcs.tar.block import BLOCK, SIZE_MAX, number
from vcs.tar.pax import Records, decimal
from vcs.tar.stream import Stream

EXTENTS_MAX = 1 << 20
"""The most runs of data that a member may have."""

_MAP_LINE_MAX = 20
_OLD_HEADER = slice(386, 482)
_OLD_EXTENDED = 482
_OLD_REAL_SIZE = slice(483, 495)
_OLD_EXTENSION = slice(0, 504)
_OLD_EXTENSION_EXTENDED = 504
_OLD_EXTENT = struct.Struct("12s12s")


class SparseMap:
    """A file's size, and its runs of data in order."""

    __slots__ = ("_numbers", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self._numbers = array("q")

    def add(self, offset: int, length: int) -> None:
        """Append a run. BadInput unless it lies behind the one before and within the file."""
        end = self._numbers[-2] + self._numbers[-1] if self._numbers else 0
        if not (end <= offset <= self.size and 0 <= length <= self.size - offset):
            raise BadInput(f"its sparse map is wrong: {length} bytes at {offset} of {self.size}")
        if len(self._numbers) >= 2 * EXTENTS_MAX:
            raise BadInput(f"its sparse map has more than {EXTENTS_MAX} parts")
        self._numbers.extend((offset, length))

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Pairs of offset and length."""
        numbers = iter(self._numbers)
        return zip(numbers, numbers, strict=True)

    def __len__(self) -> int:
        return len(self._numbers) // 2

    @property
    def data_size(self) -> int:
        """How many bytes the runs have together."""
        return sum(self._numbers[1::2])

    @property
    def is_whole_blocks(self) -> bool:
        """Whether every run but the last is a multiple of a block."""
        odd = [position for position, length in enumerate(self._numbers[1::2]) if length % BLOCK]
        return not odd or not any(self._numbers[2 * odd[0] + 3 :: 2])


def old_gnu_map(block: bytes, stream: Stream) -> SparseMap:
    """The map in a header block of type `S`, and in the extension blocks that follow it."""
    real_size = number(block[_OLD_REAL_SIZE], "real size")
    if real_size > SIZE_MAX:
        raise BadInput("its real size is out of range")
    sparse = SparseMap(real_size)
    _add_fields(sparse, block[_OLD_HEADER])
    more = block[_OLD_EXTENDED]
    while more:
        block = stream.take(BLOCK)
        if not block[0]:
            raise BadInput("its sparse map has an empty extension")
        _add_fields(sparse, block[_OLD_EXTENSION])
        more = block[_OLD_EXTENSION_EXTENDED]
    return sparse


def _add_fields(sparse: SparseMap, fields: bytes) -> None:
    for offset, length in _OLD_EXTENT.iter_unpack(fields):
        if not length[0]:
            return
        sparse.add(number(offset, "sparse offset"), number(length, "sparse length"))


def pax_map(records: Records) -> SparseMap | None:
    """The map of version 0.0 or 0.1, None if the records hold none."""
    size: int | None = None
    numbers: list[bytes] = []
    for keyword, value in records:
        if keyword == b"GNU.sparse.size":
            size = decimal(value, "real size")
        elif keyword in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
            if len(numbers) % 2 != (keyword == b"GNU.sparse.numbytes"):
                raise BadInput("its sparse map is out of order")
            numbers.append(value)
        elif keyword == b"GNU.sparse.map":
            numbers = value.split(b",") if value else []
    if size is None:
        if numbers:
            raise BadInput("its sparse map lacks the real size")
        return None
    if len(numbers) % 2:
        raise BadInput("its sparse map has an odd number of values")
    sparse = SparseMap(size)
    for offset, length in zip(numbers[::2], numbers[1::2], strict=True):
        sparse.add(decimal(offset, "sparse offset"), decimal(length, "sparse length"))
    return sparse


def read_map(stream: Stream, real_size: int) -> tuple[SparseMap, int]:
    """The map of version 1.0, which stands in front of the data, and how many bytes it took."""
    lines = _Lines(stream)
    sparse = SparseMap(real_size)
    for _ in range(lines.number(EXTENTS_MAX)):
        offset = lines.number(SIZE_MAX)
        sparse.add(offset, lines.number(SIZE_MAX))
    return sparse, lines.blocks * BLOCK


class _Lines:
    """Decimal numbers, one a line, in whole blocks."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._rest = b""
        self.blocks = 0

    def number(self, limit: int) -> int:
        line, newline, rest = self._rest.partition(b"\n")
        while not newline:
            if len(line) > _MAP_LINE_MAX:
                raise BadInput("its sparse map is malformed")
            self.blocks += 1
            line, newline, rest = (self._rest + self._stream.take(BLOCK)).partition(b"\n")
            self._rest = line + newline + rest
        self._rest = rest
        return decimal(line, "sparse map", limit)


def build_map(extents: list[tuple[int, int]]) -> bytes:
    """The map of version 1.0 for these (offset, length) pairs, in whole blocks."""
    numbers = [len(extents), *(number for extent in extents for number in extent)]
    text = b"".join(b"%d\n" % number for number in numbers)
    return text + bytes(-len(text) % BLOCK)
