"""Parts of objects out of a layer: of blocks that have sums, nothing is read but the pieces in which a part lies.

That a piece is an object's is what the footer says, which has a digest; the index has none, and is not asked.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate

from vcs.encoding import digest as digest_of
from vcs.errors import Corrupt
from vcs.layers.format import PIECE
from vcs.layers.reader import LayerReader
from vcs.model import DIGEST_SIZE
from vcs.sums import SUM, sums_of


class Parts:
    """The blocks of one layer that have sums. Usable as long as its reader is."""

    def __init__(self, reader: LayerReader, most: int) -> None:
        """Corrupt or OSError if the layer's tables cannot be read. Where more than `most` objects are in such blocks,
        none is known."""
        self._reader = reader
        self._blocks = blocks = reader.blocks
        self._positions: dict[bytes, int] = {}
        """Of the objects in these blocks, among all of the layer."""
        summed = [number for number in range(len(blocks)) if blocks.has_sums(number)]
        if not 0 < sum(blocks.objects[number] for number in summed) <= most:
            return
        footer = reader.footer()
        self._sums = reader.at(blocks.end, blocks.sum_bytes)
        if digest_of(self._sums) != footer.sums:
            raise Corrupt("a layer's sums do not have their digest", layer=reader.stem)
        self._before = list(accumulate(footer.lengths, initial=0))
        for number in summed:
            for at in range(blocks.first[number], blocks.first[number + 1]):
                self._positions[footer.digests[at * DIGEST_SIZE : (at + 1) * DIGEST_SIZE]] = at

    def __len__(self) -> int:
        """How many objects there are."""
        return len(self._positions)

    def read(self, digest: bytes, start: int, end: int) -> bytes | None:
        """A range of an object's bytes; None if it is in no block that has sums. Corrupt if it is damaged."""
        position = self._positions.get(digest)
        if position is None:
            return None
        blocks, before = self._blocks, self._before
        number = bisect_right(blocks.first, position) - 1
        starts = before[blocks.first[number]]
        start, end = before[position] - starts + start, before[position] - starts + end
        if end > before[position + 1] - starts:
            raise Corrupt("an object is not as long as its chunk list says")
        first, after = start // PIECE, -(-end // PIECE)
        begins = first * PIECE
        length = min(after * PIECE, blocks.lengths[number]) - begins
        data = self._reader.at(blocks.offset(number) + begins, length)
        sums, _ = blocks.sums(number)
        if sums_of(data, PIECE) != self._sums[sums + first * SUM : sums + after * SUM]:
            raise Corrupt("a piece does not have its sum")
        return data[start - begins : end - begins]
