"""Objects read out of layers, and verified each time: a block cache, and the next block read ahead.

A block is decompressed once for all the objects in it, which a reader mostly wants one after another; while they are in
the cache, an object is found without asking the index.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from vcs.encoding import digest as digest_of
from vcs.errors import Corrupt, Missing, TreeringError
from vcs.index import Index
from vcs.layers.reader import LayerReader
from vcs.model import LayerId

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

_READERS_KEPT = 256
"""Layers held open at once, of the descriptors that a process may have (often 1,024)."""

_NEAR = 8
"""Blocks."""

_Key: TypeAlias = tuple[int, int]
"""The index's number for a layer, and the number of a block in it."""


@dataclass(slots=True)
class _Block:
    data: bytes
    digests: list[bytes]


class Objects:
    """The objects of a store's layers. Satisfies `trees.Objects`.

    `cache_bytes` bounds the decompressed blocks that are kept. With `read_ahead`, a thread decompresses the next block
    of a layer that is being read in order.
    """

    def __init__(
        self, index: Index, path_of: Callable[[LayerId], Path], cache_bytes: int, read_ahead: bool = False
    ) -> None:
        self._index = index
        self._path_of = path_of
        self._cache_bytes = cache_bytes
        self._cached = 0
        self._readers: OrderedDict[int, LayerReader] = OrderedDict()
        self._blocks: OrderedDict[_Key, _Block] = OrderedDict()
        self._near: dict[bytes, tuple[_Key, bytes, int, int]] = {}
        self._ahead = _thread() if read_ahead else None
        self._coming: tuple[_Key, Future[bytes]] | None = None
        self._last: _Key = (0, 0)

    def close(self) -> None:
        """Give back descriptors, memory and the thread."""
        if self._ahead is not None:
            self._ahead.shutdown(cancel_futures=True)
        self._coming = None
        for reader in self._readers.values():
            reader.close()
        self._readers.clear()
        self._blocks.clear()
        self._near.clear()

    def get(self, digest: bytes) -> bytes:
        """An object's bytes. Missing or Corrupt, with the digest and the layer as facts, if they cannot be had."""
        found = self._near.get(digest)
        if found is None:
            key, block, start, length = self._locate(digest)
        else:
            key, block, start, length = found
            self._blocks.move_to_end(key)
        data = block[start : start + length]
        if digest_of(data) != digest:
            self._drop(key)
            layer = self._index.layer_name(key[0]).hex()
            raise Corrupt(f"object {digest.hex()} in layer {layer} is damaged", digest=digest.hex(), layer=layer)
        return data

    def _locate(self, digest: bytes) -> tuple[_Key, bytes, int, int]:
        """Find and load an object's block: once more where gc has moved the object to another layer meanwhile."""
        for again in (False, True):
            place = self._index.find(digest)
            if place is not None:
                key = place.layer, place.block
                with suppress(FileNotFoundError):
                    block = self._blocks.get(key) or self._loaded(key, digest)
                    return key, block.data, place.start, place.length
            if not again:
                self._index.refresh()
        raise Missing(f"object {digest.hex()} is in no layer", digest=digest.hex())

    def _loaded(self, key: _Key, digest: bytes) -> _Block:
        try:
            return self._load(key)
        except Corrupt as error:
            raise Corrupt(f"object {digest.hex()}: {error}", digest=digest.hex(), **error.facts) from error

    def _load(self, key: _Key) -> _Block:
        reader = self._reader(key[0])
        data = self._awaited(key) or reader.block(key[1])
        objects = reader.objects(key[1])
        block = self._blocks[key] = _Block(data, [name for name, _, _ in objects])
        for name, start, length in objects:
            self._near[name] = key, data, start, length
        self._cached += len(data)
        while self._cached > self._cache_bytes and len(self._blocks) > 1:
            self._drop(next(iter(self._blocks)))
        if self._ahead is not None:
            self._begin_next(self._ahead, reader, key)
        return block

    def _drop(self, key: _Key) -> None:
        block = self._blocks.pop(key, None)
        if block is not None:
            self._cached -= len(block.data)
            for name in block.digests:
                self._near.pop(name, None)

    def _begin_next(self, ahead: ThreadPoolExecutor, reader: LayerReader, key: _Key) -> None:
        """Have the next block decompressed, if this one follows the last. A reader skips what it has already, and the
        blocks of large chunks lie between those of small ones, so "next" means near."""
        layer, number = key
        forward = layer == self._last[0] and 0 < number - self._last[1] <= _NEAR
        self._last = key
        if not forward or (self._coming is not None and not self._coming[1].done()):
            return
        for following in range(number + 1, min(number + 1 + _NEAR, reader.block_count)):
            if (layer, following) not in self._blocks:
                self._coming = (layer, following), ahead.submit(reader.block, following)
                return

    def _awaited(self, key: _Key) -> bytes | None:
        """The block that was read ahead, if it is this one and could be read."""
        if self._coming is None or self._coming[0] != key:
            return None
        _, coming = self._coming
        self._coming = None
        with suppress(TreeringError, OSError):
            return coming.result()
        return None

    def _reader(self, layer: int) -> LayerReader:
        reader = self._readers.get(layer)
        if reader is not None:
            self._readers.move_to_end(layer)
            return reader
        for number in [number for number, other in self._readers.items() if other.is_removed]:
            self._close_reader(number)  # else its bytes stay on the disk
        reader = self._readers[layer] = LayerReader(self._path_of(self._index.layer_name(layer)))
        if len(self._readers) > _READERS_KEPT:
            self._close_reader(next(iter(self._readers)))
        return reader

    def _close_reader(self, layer: int) -> None:
        if self._coming is not None:
            with suppress(TreeringError, OSError):
                self._coming[1].result()  # it may be reading from this very layer
        self._readers.pop(layer).close()


def _thread() -> ThreadPoolExecutor:
    from concurrent.futures import ThreadPoolExecutor  # 5 ms, and only a service reads ahead

    return ThreadPoolExecutor(1, "read-ahead")
