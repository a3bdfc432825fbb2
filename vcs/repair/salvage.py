"""What can still be read of a damaged layer, wherever the damage is.

The tables of a layer are looked for even if its header, its trailer or their digest is damaged: whatever they say is
proven by the digests of the objects. If they make no sense, the index knows which objects are in which block and how
long they are, and blocks follow one another: a zstd frame ends where it says, and an uncompressed block with its last
object.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from io import FileIO
from itertools import groupby
from pathlib import Path

import zstandard

from vcs.encoding import digest as digest_of
from vcs.errors import TreeringError
from vcs.index import Location
from vcs.layers.format import (
    BLOCK_MAX,
    HEADER,
    KIND_CHUNKS,
    KIND_TREES,
    TRAILER,
    Footer,
    decode_footer,
)
from vcs.layers.reader import decompress
from vcs.model import DIGEST_SIZE
from vcs.repair.references import references
from vcs.shortage import raise_shortage

_PIECE = 64 << 10


def salvage(path: Path, rows: Iterable[tuple[bytes, Location]]) -> Iterator[tuple[int, bytes, bytes]]:
    """The objects of a layer file that have their digests: kind, digest, bytes.

    `rows` are the objects that the index lists in the layer, sorted by place.
    """
    listed = list(rows)
    expected = {digest for digest, _ in listed}
    with path.open("rb", buffering=0) as file:
        size = path.stat().st_size
        footer = _footer(file, size)
        if footer is not None:
            digests = footer.digests
            expected.update(digests[at : at + DIGEST_SIZE] for at in range(0, len(digests), DIGEST_SIZE))
        found = _by_index(file, listed) if footer is None else _by_footer(file, footer)
        for kind, data in found:
            digest = digest_of(data)
            if digest in expected:
                expected.discard(digest)
                yield kind, digest, data


def _footer(file: FileIO, size: int) -> Footer | None:
    """The tables, if they agree with one another. One of the two numbers that say where they are may be wrong."""
    at, length = TRAILER.unpack(_read(file, max(0, size - TRAILER.size), TRAILER.size).rjust(TRAILER.size, b"\0"))[:2]
    room = size - TRAILER.size
    for offset, wanted in ((at, length), (at, room - at), (room - length, length)):
        if HEADER.size <= offset <= room and offset + wanted == room:
            body = _read(file, offset, wanted)
            try:
                return decode_footer(body, digest_of(body), offset)
            except TreeringError:
                continue
    return None


def _by_footer(file: FileIO, footer: Footer) -> Iterator[tuple[int, bytes]]:
    first = 0
    for block in footer.blocks:
        lengths = footer.lengths[first : first + block.objects]
        first += block.objects
        try:
            data = decompress(_read(file, block.offset, block.stored), block)
        except TreeringError:
            continue
        start = 0
        for length in lengths:
            yield block.kind, data[start : start + length]
            start += length


def _by_index(file: FileIO, rows: list[tuple[bytes, Location]]) -> Iterator[tuple[int, bytes]]:
    at, following = HEADER.size, 0
    for number, group in groupby(rows, lambda row: row[1].block):
        objects = list(group)
        for _ in range(following, number):  # of these blocks another layer has everything
            _, at = _frame(file, at)
        data, at = _block(file, at, objects)
        following = number + 1
        for _, place in objects:
            part = data[place.start : place.start + place.length]
            yield KIND_CHUNKS if references(part) is None else KIND_TREES, part


def _block(file: FileIO, at: int, objects: list[tuple[bytes, Location]]) -> tuple[bytes, int]:
    """A block and where the next one begins. An uncompressed one may hold what looks like a frame."""
    end = max(place.start + place.length for _, place in objects)
    data = _read(file, at, end)
    if any(digest_of(data[place.start : place.start + place.length]) == digest for digest, place in objects):
        return data, at + end
    data, following = _frame(file, at)
    return (data, following) if following > at else (b"", at + end)


def _frame(file: FileIO, at: int) -> tuple[bytes, int]:
    """A zstd frame and where it ends; nothing, and where it begins, if there is none that is whole."""
    inflater = zstandard.ZstdDecompressor(max_window_size=BLOCK_MAX).decompressobj()
    parts: list[bytes] = []
    position = at
    try:
        while not inflater.eof and (piece := _read(file, position, _PIECE)):
            parts.append(inflater.decompress(piece))
            position += len(piece)
            if sum(map(len, parts)) > BLOCK_MAX:
                return b"", at
    except zstandard.ZstdError as error:
        raise_shortage(error)
        return b"", at
    return (b"".join(parts), position - len(inflater.unused_data)) if inflater.eof else (b"", at)


def _read(file: FileIO, at: int, length: int) -> bytes:
    file.seek(at)
    return file.read(max(0, length))
