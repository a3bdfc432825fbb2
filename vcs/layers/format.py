"""The bytes of a layer file, versions 1 and 2. Little-endian throughout; docs/format.md is the specification.

    header    magic, version
    blocks    each a run of objects, compressed as one
    sums      of the pieces of blocks that have some
    footer    counts, block table, digest of the sums, object digests, object lengths
    trailer   where the footer is, and its digest

Blocks follow one another from the header on, and objects follow one another inside a block, so no table holds an
offset that could contradict another. Without a block that has sums a layer is of version 1, byte for byte. They are not
in the footer, which whoever opens the layer must read.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import overload

from vcs.encoding import digest
from vcs.errors import Corrupt, UnknownFormat
from vcs.model import DIGEST_SIZE
from vcs.sums import SUM

VERSION = 1
"""Of the header: how blocks follow one another."""
SUMMED_VERSION = 2
"""Of the footer, if there are sums before it; else it is the header's."""
SUFFIX = ".layer"

HEADER = struct.Struct("<8sII")
MAGIC = b"TREERING"
TRAILER = struct.Struct("<QII32s8s")
END_MAGIC = b"GNIREERT"
_COUNTS = struct.Struct("<II")
_BLOCK = struct.Struct("<IIIBBH")
_COLUMNS = 4
"""Of a row of the block table, as words of 32 bits: the last one has the codec and the kind."""

CODEC_RAW = 0
CODEC_ZSTD = 1
CODEC_SUMMED = 2
"""As it is, like CODEC_RAW, and there are sums of its pieces: a part is read, and verified, without the rest."""
CODECS = (CODEC_RAW, CODEC_ZSTD, CODEC_SUMMED)

PIECE = 8 << 10
"""Bytes that have a sum. Twice as much is read for 4 KiB as with a half of it, in 4 % more time; and a file that does
not compress is imported a tenth faster, 1 GiB in 1.7 s instead of 1.9."""

KIND_CHUNKS = 0
KIND_TREES = 1
"""Trees, roots and chunk lists: apart from the chunks, so that walking a history never decompresses file contents."""
KINDS = (KIND_CHUNKS, KIND_TREES)

_TYPES = frozenset(codec | kind << 8 for codec in CODECS for kind in KINDS)

BLOCK_MAX = 64 << 20
"""No reader accepts a longer one (uncompressed)."""


@dataclass(frozen=True, slots=True)
class Block:
    """One compressed run of objects in a layer."""

    offset: int
    stored: int
    """Bytes in the file."""
    length: int
    """Bytes when decompressed."""
    objects: int
    codec: int
    kind: int
    sums: bytes = b""
    """Of its pieces, if it has some: for who writes it."""


class BlockTable(Sequence[Block]):
    """The blocks of a layer, in the order of the file, as compact as there: a process that only opens the layer looks
    at few of them."""

    def __init__(self, table: bytes) -> None:
        words = uint32s(table)
        self.stored, self.lengths, self.objects = (words[column::_COLUMNS] for column in range(_COLUMNS - 1))
        self._types = words[_COLUMNS - 1 :: _COLUMNS]
        self._offsets = array("Q", accumulate(self.stored, initial=HEADER.size))
        self.first = array("Q", accumulate(self.objects, initial=0))
        """The number of each block's first object in the layer; in the end, how many objects there are."""
        self._first_sum = self._first_sums() if any(word & 0xFF == CODEC_SUMMED for word in set(self._types)) else None
        """The number of each block's first sum in the layer, if there are some."""

    def __len__(self) -> int:
        return len(self.stored)

    @overload
    def __getitem__(self, number: int) -> Block: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[Block]: ...
    def __getitem__(self, number: int | slice) -> Block | Sequence[Block]:
        if isinstance(number, slice):
            return [self[each] for each in range(*number.indices(len(self)))]
        number = range(len(self))[number]
        codec, kind = _codec_and_kind(self._types[number])
        return Block(
            self._offsets[number], self.stored[number], self.lengths[number], self.objects[number], codec, kind
        )

    def offset(self, number: int) -> int:
        """Where in the file a block begins."""
        return self._offsets[number]

    def has_sums(self, number: int) -> bool:
        """Whether a block has."""
        return self._types[number] & 0xFF == CODEC_SUMMED

    def sums(self, number: int) -> tuple[int, int]:
        """Where among all sums those of a block begin and end."""
        first = self._first_sum
        return (SUM * first[number], SUM * first[number + 1]) if first is not None else (0, 0)

    def room(self, number: int) -> int:
        """Bytes of the file that a block takes, with its sums."""
        start, end = self.sums(number)
        return self.stored[number] + end - start

    @property
    def sum_bytes(self) -> int:
        """How long all sums are."""
        return SUM * self._first_sum[-1] if self._first_sum is not None else 0

    @property
    def end(self) -> int:
        """Where in the file the last block ends."""
        return self._offsets[-1]

    def _first_sums(self) -> array[int]:
        counts = (-(-length // PIECE) if self.has_sums(number) else 0 for number, length in enumerate(self.lengths))
        return array("Q", accumulate(counts, initial=0))

    @property
    def is_known(self) -> bool:
        """Whether every block has a codec and a kind that there is."""
        return {word & 0xFFFF for word in set(self._types)} <= _TYPES


@dataclass(frozen=True, slots=True)
class Place:
    """One object's place: `offset` and `length` in bytes inside the decompressed block number `block`."""

    digest: bytes
    block: int
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Footer:
    """What a layer holds."""

    blocks: BlockTable
    digests: bytes
    """All objects' digests, one after another, in the order of the objects."""
    lengths: Sequence[int]
    sums: bytes = b""
    """The digest of all sums, if there are some."""

    def places(self) -> Iterator[Place]:
        """Every object, in the order of the file."""
        return places_of(self.blocks, self.digests, self.lengths)


def places_of(blocks: Iterable[Block], digests: bytes, lengths: Sequence[int]) -> Iterator[Place]:
    """The objects of blocks, from the digests and lengths of all of them."""
    first = 0
    for number, block in enumerate(blocks):
        offset = 0
        for position in range(first, first + block.objects):
            start = position * DIGEST_SIZE
            length = lengths[position]
            yield Place(digests[start : start + DIGEST_SIZE], number, offset, length)
            offset += length
        first += block.objects


def header() -> bytes:
    """The first bytes of a layer."""
    return HEADER.pack(MAGIC, VERSION, 0)


def check_header(data: bytes) -> None:
    """Corrupt if this is no layer; UnknownFormat if it is one of another version."""
    if len(data) < HEADER.size:
        raise Corrupt("a layer is shorter than its header")
    magic, version, flags = HEADER.unpack_from(data)
    if magic != MAGIC:
        raise Corrupt("a layer does not begin with its magic number")
    if version != VERSION or flags:
        raise UnknownFormat(
            f"a layer has format version {version}.{flags}, this program knows {VERSION}", version=version
        )


def encode_footer(blocks: Sequence[Block], digests: Sequence[bytes], lengths: Sequence[int]) -> bytes:
    """What follows the blocks: sums, footer and trailer."""
    table = b"".join(_BLOCK.pack(b.stored, b.length, b.objects, b.codec, b.kind, 0) for b in blocks)
    sums = b"".join(b.sums for b in blocks)
    counts = _COUNTS.pack(len(blocks), len(digests))
    body = b"".join((counts, table, digest(sums) if sums else b"", *digests, _uint32_bytes(lengths)))
    offset = (blocks[-1].offset + blocks[-1].stored if blocks else HEADER.size) + len(sums)
    version = SUMMED_VERSION if sums else VERSION
    return sums + body + TRAILER.pack(offset, len(body), version, digest(body), END_MAGIC)


def decode_trailer(data: bytes, file_size: int) -> tuple[int, int, bytes]:
    """The footer's offset, length and digest, from the last TRAILER.size bytes of a file."""
    if len(data) != TRAILER.size:
        raise Corrupt("a layer is shorter than its trailer")
    offset, length, version, expected, magic = TRAILER.unpack(data)
    if magic != END_MAGIC:
        raise Corrupt("a layer does not end with its magic number")
    if version not in (VERSION, SUMMED_VERSION):
        raise UnknownFormat(
            f"a layer has format version {version}, this program knows up to {SUMMED_VERSION}", version=version
        )
    if offset + length + TRAILER.size != file_size:
        raise Corrupt("a layer's trailer does not fit its size")
    return offset, length, expected


def decode_footer(body: bytes, expected: bytes, offset: int) -> Footer:
    """The footer of a layer, which begins at `offset`. Corrupt unless everything in it agrees."""
    if digest(body) != expected:
        raise Corrupt("a layer's footer does not have its digest")
    if len(body) < _COUNTS.size:
        raise Corrupt("a layer's footer is shorter than its counts")
    block_count, object_count = _COUNTS.unpack_from(body)
    sums_at = _COUNTS.size + block_count * _BLOCK.size
    if sums_at > len(body):
        raise Corrupt("a layer's footer is shorter than its block table")
    blocks = BlockTable(body[_COUNTS.size : sums_at])
    objects_at = sums_at + (DIGEST_SIZE if blocks.sum_bytes else 0)
    lengths_at = objects_at + object_count * DIGEST_SIZE
    if lengths_at + 4 * object_count != len(body):
        raise Corrupt("a layer's footer does not fit its counts")
    lengths = uint32s(body[lengths_at:])
    _check_agreement(blocks, lengths, offset - blocks.sum_bytes)
    return Footer(blocks, body[objects_at:lengths_at], lengths, body[sums_at:objects_at])


def _check_agreement(blocks: BlockTable, lengths: Sequence[int], end: int) -> None:
    if blocks.end != end:
        raise Corrupt("a layer's blocks do not end where its sums or its footer begin")
    if blocks.first[-1] != len(lengths):
        raise Corrupt("a layer's blocks do not hold the objects that its footer lists")
    if not blocks.is_known or max(blocks.lengths, default=0) > BLOCK_MAX:
        raise Corrupt("a layer has a block of an unknown codec, kind or size")
    before = list(accumulate(lengths, initial=0))
    if [before[first] for first in blocks.first] != list(accumulate(blocks.lengths, initial=0)):
        raise Corrupt("a layer's block is not as long as its objects")


def _codec_and_kind(word: int) -> tuple[int, int]:
    return word & 0xFF, word >> 8 & 0xFF


def _uint32_bytes(numbers: Sequence[int]) -> bytes:
    return struct.pack(f"<{len(numbers)}I", *numbers)


def tables_at(file_size: int, objects: int) -> tuple[int, int]:
    """Where in a layer file the objects' digests and their lengths begin."""
    lengths = file_size - TRAILER.size - 4 * objects
    return lengths - DIGEST_SIZE * objects, lengths


def uint32s(data: bytes) -> array[int]:
    """Numbers of 32 bits, as the footer has them."""
    values = array("I")
    assert values.itemsize == 4
    values.frombytes(data)
    if sys.byteorder != "little":
        values.byteswap()
    return values
