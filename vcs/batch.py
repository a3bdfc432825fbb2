"""Objects on their way into a store: they become one durable layer, or nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from vcs.durable import sync_directory
from vcs.encoding import digest as digest_of
from vcs.index import Index
from vcs.layers.compression import Compression
from vcs.layers.format import KIND_CHUNKS, KIND_TREES, Place
from vcs.layers.writer import LayerWriter
from vcs.leases import Lease
from vcs.model import LayerId


class Batch:
    """Objects being added. Satisfies `trees.Sink`, and `trees.Objects` for what it and the store hold."""

    def __init__(self, layers: Path, index: Index, lease: Lease, compression: Compression) -> None:
        self._layers = layers
        self._index = index
        self._lease = lease
        self._writer = LayerWriter(layers, compression)
        self._own: set[bytes] = set()
        self._kept: set[int] = set()
        self._fresh = index.is_empty()
        self.layer: LayerId | None = None
        """The layer that was written; None before finish(), and if everything was in the store already."""
        self.added = 0
        """Bytes of that layer."""

    def put_chunk(self, data: bytes | memoryview, digest: bytes | None = None) -> bytes:
        """Take a chunk, unless the store has it; returns its digest, which may be given if it is known."""
        return self._put(KIND_CHUNKS, data, digest or digest_of(data))

    def put_tree(self, data: bytes) -> bytes:
        """Take a tree, a root or a chunk list, unless the store has it; returns its digest."""
        return self._put(KIND_TREES, data, digest_of(data))

    def _put(self, kind: int, data: bytes | memoryview, digest: bytes) -> bytes:
        if digest not in self._own and (self._fresh or not self._is_kept(digest)):
            self._own.add(digest)
            self._writer.add(kind, digest, data)
        return digest

    def _is_kept(self, digest: bytes) -> bool:
        """Whether the store has an object, and will: gc does not remove the layer that it is in."""
        place = self._index.find(digest)
        if place is None:
            return False
        if place.layer not in self._kept:
            with contextlib.suppress(FileNotFoundError):
                self._lease.layer(self._index.layer_name(place.layer))
            if self._index.is_doomed(place.layer):
                return False
            self._kept.add(place.layer)
        return True

    @property
    def objects(self) -> int:
        """How many objects were new."""
        return self._writer.objects

    def finish(self) -> None:
        """Make what was added durable and findable, and what was found durable: who wrote that may have been killed, or
        refused, after the layer got its name and before that was synced. Where it is on the disk already, this is one
        flush more than the dozen of a commit."""
        layer = None
        if self._writer.objects:
            layer, self.added = self._writer.complete()
            self._lease.layer(layer)
            self._index.add(layer, self.added, self._places(), self._writer.publish)
        if layer or self._kept:
            sync_directory(self._layers)
        self.layer = layer

    def close(self) -> None:
        """Drop what was added, unless it was finished."""
        self._writer.close()

    def _places(self) -> Iterator[Place]:
        blocks, digests, lengths = self._writer.contents()
        objects = zip(digests, lengths, strict=True)
        for number, block in enumerate(blocks):
            offset = 0
            for digest, length in islice(objects, block.objects):
                yield Place(digest, number, offset, length)
                offset += length
