"""Layers of two roots, made once and then found again (vcs.madelayers)."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from typing import BinaryIO

from runtime.images.blobs import Writing
from runtime.images.compression import BLOCK, MEDIA_TYPES, Compression, compressor
from runtime.images.layout import LayoutWriter
from runtime.images.model import Descriptor
from vcs.layer_export import export_layer
from vcs.madelayers import MadeLayer, Sides, find_layer, layout_path, note_layer, used
from vcs.progress import Progress
from vcs.snapshot import Snapshot
from vcs.store import Store, translated


class Made:
    """The blobs of a store's images."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.layout = LayoutWriter(layout_path(store.caches))

    def layer(self, sides: Sides, compression: Compression, progress: Progress | None = None) -> MadeLayer:
        """A layer; made, if it is not there. BadInput if no layer can hold a name; NoSpace or Denied."""
        found = find_layer(self._store.caches, sides)
        if found is not None:
            return found
        old = self._store.snapshot(sides.old) if sides.old is not None else None
        with translated("the layer cannot be written"), self.layout.writing() as blob:
            diff_id = _pack(old, self._store.snapshot(sides.new), compression, blob, progress)
        made = MadeLayer(diff_id, blob.digest, blob.size)
        note_layer(self._store.caches, sides, made)
        return made

    def put(self, data: bytes, media_type: str) -> Descriptor:
        """Keep a config or a manifest."""
        with translated("the image cannot be written"):
            return self.layout.put(data, media_type)

    @property
    def marker(self) -> bytes:
        """The file that makes a directory a layout."""
        return (self.layout.path / "oci-layout").read_bytes()

    def open(self, descriptor: Descriptor) -> BinaryIO:
        """A blob that is there."""
        return (self.layout.path / "blobs" / descriptor.algorithm / descriptor.hex).open("rb")


@contextlib.contextmanager
def made_images(store: Store) -> Iterator[Made]:
    """A store's blobs; they stay at least until the block ends."""
    with translated("the image cannot be written"), used(store.caches):
        yield Made(store)


def descriptor(layer: MadeLayer, compression: Compression) -> Descriptor:
    """What names a layer in a manifest."""
    return Descriptor(MEDIA_TYPES[compression], layer.digest, layer.size)


def _pack(
    old: Snapshot | None, new: Snapshot, compression: Compression, blob: Writing, progress: Progress | None
) -> str:
    """Write a layer compressed; returns its digest before that."""
    stream = _Blocks(compression, blob)
    try:
        export_layer(old, new, stream, progress=progress)
        stream.finish()
    finally:
        stream.abandon()
    return f"sha256:{stream.sum.hexdigest()}"


class _Blocks:
    """Cuts a stream into blocks, and hashes and compresses each."""

    def __init__(self, compression: Compression, blob: Writing) -> None:
        self._compressor = compressor(compression, blob)
        self._held = bytearray()
        self.sum = hashlib.sha256()

    def write(self, data: bytes, /) -> int:
        self._held += data
        if len(self._held) >= BLOCK:
            end = len(self._held) - len(self._held) % BLOCK
            for start in range(0, end, BLOCK):
                self._add(bytes(self._held[start : start + BLOCK]))
            del self._held[:end]
        return len(data)

    def finish(self) -> None:
        if self._held:
            self._add(bytes(self._held))
        self._compressor.finish()

    def abandon(self) -> None:
        self._compressor.abandon()

    def _add(self, block: bytes) -> None:
        self.sum.update(block)
        self._compressor.add(block)
