"""Objects out of a layer file."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import zstandard

from vcs.durable import read_all
from vcs.errors import Corrupt, Damaged
from vcs.layers.format import (
    CODEC_ZSTD,
    HEADER,
    SUFFIX,
    TRAILER,
    Block,
    BlockTable,
    Footer,
    check_header,
    decode_footer,
    decode_trailer,
    tables_at,
    uint32s,
)
from vcs.model import DIGEST_SIZE
from vcs.shortage import raise_shortage

_local = threading.local()
_AHEAD = 1 << 20
"""Bytes that are asked for ahead of one who reads block after block."""
_WARMED_MOST = 4 << 20
"""Bytes of tables that are worth reading whole: 110,000 objects."""
_SMALL = 16 << 10
"""A layer of at most so many bytes, as most commits' are, is read whole: in one call instead of six, and its descriptor
is given back at once."""
_NEAR = 256 << 10
"""A block that begins so soon after the last one's end follows it."""


class LayerReader:
    """One layer, opened. Its footer is checked at once, its blocks are read when they are asked for.

    The kernel's own readahead is turned off: around blocks of scattered files it read more than twice of what was asked
    for. Who reads block after block has the next ones on their way nevertheless.
    """

    def __init__(self, path: str | Path) -> None:
        self._name = os.path.basename(path)
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._end = self._asked = 0
        """Where the last block ended, and up to where the kernel was asked to read."""
        self._whole: bytes | None = None
        """All of a small layer."""
        try:
            self._open()
            check_header(self.at(0, HEADER.size))
            footer = self.footer()
            self._blocks = footer.blocks
            self._footer = footer if self._whole is not None else None
        except Exception as error:
            self.close()
            if isinstance(error, Damaged):
                raise Corrupt(f"{self._name}: {error}", layer=self.stem) from error
            raise

    def _open(self) -> None:
        self.size = os.fstat(self._fd).st_size
        if self.size > _SMALL:
            os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_RANDOM)
            return
        self._whole = read_all(self._fd, self.size)
        self.close()

    def at(self, offset: int, length: int) -> bytes:
        """Bytes of the file."""
        if self._whole is not None:
            return self._whole[offset : offset + length]
        return read_all(self._fd, length, offset)

    @property
    def stem(self) -> str:
        """The layer's name, in hexadecimal digits."""
        return self._name.removesuffix(SUFFIX)

    def footer(self) -> Footer:
        """The tables of the layer. Read anew each time: of a big layer only the block table is worth its memory."""
        trailer = self.at(max(0, self.size - TRAILER.size), TRAILER.size)
        offset, length, expected = decode_trailer(trailer, self.size)
        return decode_footer(self.at(offset, length), expected, offset)

    @property
    def blocks(self) -> BlockTable:
        """What is known of each block."""
        return self._blocks

    @property
    def block_count(self) -> int:
        return len(self._blocks)

    def is_alone(self, number: int) -> bool:
        """Whether a block holds one object, as those of large chunks do."""
        return self._blocks.objects[number] == 1

    def objects(self, number: int) -> list[tuple[bytes, int, int]]:
        """What is in a block: digest, start and length (bytes) of each object, as the footer has them."""
        first, end = self._blocks.first[number], self._blocks.first[number + 1]
        if self._footer is not None:
            digests, lengths = (
                self._footer.digests[first * DIGEST_SIZE : end * DIGEST_SIZE],
                self._footer.lengths[first:end],
            )
        else:
            digests_at, lengths_at = tables_at(self.size, self._blocks.first[-1])
            digests = self.at(digests_at + first * DIGEST_SIZE, (end - first) * DIGEST_SIZE)
            lengths = uint32s(self.at(lengths_at + first * 4, (end - first) * 4))
        starts = accumulate(lengths, initial=0)
        names = (digests[at : at + DIGEST_SIZE] for at in range(0, len(digests), DIGEST_SIZE))
        return list(zip(names, starts, lengths, strict=False))  # `starts` has one more, where the last one ends

    @property
    def is_open(self) -> bool:
        """Whether it holds the file open: a small one is in memory."""
        return self._fd >= 0

    @property
    def is_removed(self) -> bool:
        """Whether the file has no name any more, and takes its room on the disk since we have it open."""
        return self._fd >= 0 and not os.fstat(self._fd).st_nlink

    def want(self, numbers: Sequence[int]) -> None:
        """Have the kernel read these blocks, in this order: neighbours at once."""
        start = end = -1
        for number in numbers:
            block = self._blocks[number]
            if block.offset != end:
                self._want(start, end)
                start = block.offset
            end = block.offset + block.stored
        self._want(start, end)

    def _want(self, start: int, end: int) -> None:
        if start < end and self._whole is None:
            os.posix_fadvise(self._fd, start, end - start, os.POSIX_FADV_WILLNEED)

    def warm(self) -> None:
        """Have the kernel read the tables of the layer, unless they are large, or all of it is read."""
        if self._whole is not None:
            return
        start, _ = tables_at(self.size, self._blocks.first[-1])
        if self.size - start <= _WARMED_MOST:
            os.posix_fadvise(self._fd, start, 0, os.POSIX_FADV_WILLNEED)

    def close(self) -> None:
        """Give the descriptor back. The reader cannot be used afterwards."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def stored(self, number: int) -> tuple[Block, bytes]:
        """A block as it is in the file."""
        block = self._blocks[number]
        return block, self._read(block)

    def sums(self, number: int) -> bytes:
        """Those of a block, as they are in the file; none, if it has none."""
        start, end = self._blocks.sums(number)
        return self.at(self._blocks.end + start, end - start)

    def _read(self, block: Block) -> bytes:
        """What a block's place in the file holds. Threads that do this at once may ask for too much, nothing else."""
        if self._whole is not None:
            return self.at(block.offset, block.stored)
        end = block.offset + block.stored
        if not 0 <= block.offset - self._end <= _NEAR:
            self._asked = end
        elif end + _AHEAD // 2 > self._asked:
            start = max(end, self._asked)
            self._asked = end + _AHEAD
            self._want(start, self._asked)
        self._end = end
        return read_all(self._fd, block.stored, block.offset)

    def block(self, number: int) -> bytes:
        """A block's objects, decompressed. Corrupt if it is not there or does not decompress to its length."""
        try:
            block = self._blocks[number]
        except IndexError:
            raise Corrupt(f"{self._name} has no block {number}", layer=self.stem) from None
        stored = self._read(block)
        try:
            return decompress(stored, block)
        except Corrupt as error:
            raise Corrupt(f"{self._name}, block {number}: {error}", layer=self.stem, block=number) from error


def decompress(stored: bytes, block: Block) -> bytes:
    """The bytes of a block. Never yields more than the block's length, whatever `stored` claims."""
    if len(stored) != block.stored:
        raise Corrupt("the file ends inside it")
    if block.codec != CODEC_ZSTD:
        if block.stored != block.length:
            raise Corrupt("it does not have its length")
        return stored
    decompressor = getattr(_local, "decompressor", None)
    if decompressor is None:
        decompressor = _local.decompressor = zstandard.ZstdDecompressor()
    try:
        if zstandard.frame_content_size(stored) != block.length:
            raise Corrupt("it does not have its length")
        data: bytes = decompressor.decompress(stored, max_output_size=block.length, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise_shortage(error)
        raise Corrupt(f"it does not decompress: {error}") from error
    return data
