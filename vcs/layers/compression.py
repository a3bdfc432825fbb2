"""How objects become blocks: how many share one, and how hard it is compressed.

FAST is what imports and commits write, TIGHT what `gc --repack` leaves. Measured on a Debian root (506 MB of distinct
files) and on 1 GiB of database pages; the processor time is that of the compression, on one core:

                                   Debian root            1 GiB file
    zstd 1, blocks of 256 KiB      200 MB     1.1 s       662 MB     2.8 s
    FAST                           194 MB     1.2 s       617 MB     3.1 s
    zstd 3, blocks of 256 KiB      189 MB     1.8 s       593 MB     5.0 s
    zstd 12, blocks of 1 MiB       163 MB    17 s         533 MB    45 s
    TIGHT                          159 MB    21 s         520 MB    60 s
    zstd 15, blocks of 1 MiB       163 MB    57 s         530 MB   180 s

(The last three in the order of vcs.collect.repack.) FAST is zstd's level 1 with a hash table four times as large: for
blocks of this size its own is too small. A random read decompresses one block: 0.3 ms of FAST, 2 ms of TIGHT. A
dictionary for all blocks was tried for TIGHT: it saves 1 %, less than blocks twice as large.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import zstandard

from vcs.layers.format import KIND_CHUNKS, KIND_TREES


@dataclass(frozen=True, slots=True)
class Compression:
    """A way to make blocks. Frozen, so that threads may keep a compressor for each."""

    level: int
    hash_log: int | None
    """zstd's own for the level, or another."""
    chunk_block: int
    """Bytes (uncompressed) at which a block of chunks is closed."""
    tree_block: int
    """The same for trees, roots and chunk lists. They are read at random, chunks mostly in sequence."""

    @property
    def targets(self) -> Mapping[int, int]:
        """By kind: bytes at which a block is closed."""
        return {KIND_CHUNKS: self.chunk_block, KIND_TREES: self.tree_block}

    def compressor(self) -> zstandard.ZstdCompressor:
        """A compressor that does it, for one thread."""
        if self.hash_log is None:
            return zstandard.ZstdCompressor(level=self.level)
        chosen = zstandard.ZstdCompressionParameters.from_level(
            self.level, source_size=self.chunk_block, hash_log=self.hash_log, min_match=6, target_length=0
        )
        return zstandard.ZstdCompressor(compression_params=chosen)


# Twice the size of a common chunk: with 256 KiB more chunks would be alone, in 1 % more room.
FAST = Compression(level=1, hash_log=16, chunk_block=288 << 10, tree_block=64 << 10)
TIGHT = Compression(level=12, hash_log=None, chunk_block=2 << 20, tree_block=256 << 10)
