"""What is needed in doomed layers is copied into new ones. Nothing is copied that does not have its digest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from vcs.durable import sync_directory
from vcs.encoding import digest as digest_of
from vcs.errors import Corrupt, Damaged
from vcs.layers.compression import FAST
from vcs.layers.format import Block, places_of
from vcs.layers.reader import LayerReader, decompress
from vcs.layers.writer import LayerWriter
from vcs.model import LayerId
from vcs.store import Store

LAYER_BYTES = 1 << 30
LAYER_OBJECTS = 200_000
"""A new layer is full after so many bytes or objects: bounds the memory for its tables to some 50 MB."""


@dataclass(slots=True)
class Doomed:
    """The layers that are to go, and what of them must be copied."""

    store: Store
    layers: list[LayerId]
    """In the order in which they came to the store."""
    wanted: set[bytes]
    """The digests of what is needed and found in these layers. Whoever copies an object takes it out."""
    progress: Callable[[int], None] = lambda _: None
    """Called with the bytes of a layer that was gone through."""
    problems: list[str] = field(default_factory=list)
    """What could not be read. It stays where it is: a layer with something wanted in it is not removed."""


class Strategy(Protocol):
    """How new layers are written."""

    everything: bool
    """Whether all that is needed is rewritten, and not only what is worth it."""

    def writer(self, store: Store) -> LayerWriter:
        """A new layer."""
        ...

    def copy(self, doomed: Doomed, sink: LayerSink) -> None:
        """Copy what is wanted."""
        ...


class LayerSink:
    """Where copies go: into new layers, one after the other."""

    def __init__(self, store: Store, strategy: Strategy) -> None:
        self._store = store
        self._strategy = strategy
        self._writer: LayerWriter | None = None
        self._bytes = 0
        self.layers: list[LayerId] = []
        """Those that are complete."""
        self.added = 0
        """Bytes of them."""

    def put(self, kind: int, digest: bytes, data: bytes) -> None:
        """Take an object, which has this digest."""
        self._open().add(kind, digest, data)
        self._count(len(data))

    def put_block(self, block: Block, stored: bytes, digests: list[bytes], lengths: list[int]) -> None:
        """Take a whole block as it is in its layer. The objects in it have these digests."""
        self._open().add_block(block, stored, digests, lengths)
        self._count(len(stored))

    def finish(self) -> None:
        """Make what was taken durable, and found in the new layers where the index found it in doomed ones."""
        writer, self._writer = self._writer, None
        if writer is None:
            return
        try:
            name, size = writer.complete()
            blocks, digests, lengths = writer.contents()
            places = places_of(blocks, b"".join(digests), lengths)
            self._store.index.add(name, size, places, writer.publish)
        finally:
            writer.close()
        sync_directory(self._store.path / "layers")
        self.layers.append(name)
        self.added += size
        self._bytes = 0

    def close(self) -> None:
        """Drop what was not finished."""
        if self._writer is not None:
            self._writer.close()

    def _open(self) -> LayerWriter:
        if self._writer is None:
            self._writer = self._strategy.writer(self._store)
        return self._writer

    def _count(self, size: int) -> None:
        self._bytes += size
        assert self._writer is not None
        if self._bytes >= LAYER_BYTES or self._writer.objects >= LAYER_OBJECTS:
            self.finish()


class Compaction:
    """Copies in the order of the old layers, and whole blocks as they are: mostly a matter of reading and writing."""

    everything = False

    def writer(self, store: Store) -> LayerWriter:
        return LayerWriter(store.path / "layers")

    def copy(self, doomed: Doomed, sink: LayerSink) -> None:
        for name in doomed.layers:
            copy_layer(doomed, sink, name)


def copy_layer(doomed: Doomed, sink: LayerSink, name: LayerId) -> None:
    """Copy what is still wanted of a layer, in its order."""
    try:
        reader = LayerReader(doomed.store.layer_path(name))
    except (Damaged, OSError) as error:
        doomed.problems.append(f"layer {name.hex()} cannot be read: {error}")
        return
    try:
        for number in range(reader.block_count):
            _copy_block(doomed, sink, reader, number)
        doomed.progress(reader.size)
    finally:
        reader.close()


def _copy_block(doomed: Doomed, sink: LayerSink, reader: LayerReader, number: int) -> None:
    """Copy what is wanted of a block: the block itself if all of it is, and it is of a good size."""
    try:
        objects = reader.objects(number)
        wanted = [found for found in objects if found[0] in doomed.wanted]
        if not wanted:
            return
        block, stored = reader.stored(number)
        pieces = _verified(block, stored, wanted)
    except (Damaged, OSError) as error:
        doomed.problems.append(f"layer {reader.stem}, block {number} is damaged: {error}")
        return
    if len(pieces) == len(objects) and block.length >= FAST.targets[block.kind] // 2:
        sink.put_block(block, stored, [name for name, _ in pieces], [length for _, _, length in objects])
    else:
        for name, data in pieces:
            sink.put(block.kind, name, data)
    doomed.wanted.difference_update(name for name, _ in pieces)


def _verified(block: Block, stored: bytes, wanted: Sequence[tuple[bytes, int, int]]) -> list[tuple[bytes, bytes]]:
    data = decompress(stored, block)
    pieces = [(name, data[start : start + length]) for name, start, length in wanted]
    for name, piece in pieces:
        if digest_of(piece) != name:
            raise Corrupt(f"object {name.hex()} does not have its digest", digest=name.hex())
    return pieces
