"""Objects read out of layers, and verified: a block cache, and the next blocks read ahead.

A block is decompressed once for all the objects in it, which a reader mostly wants one after another; while they are in
the cache, an object is found without asking the index.
"""

from __future__ import annotations

import math
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from vcs.encoding import digest as digest_of
from vcs.errors import Corrupt, Missing, TreeringError
from vcs.index import Index, Location
from vcs.layers.parts import Parts
from vcs.layers.reader import LayerReader
from vcs.model import LayerId

if TYPE_CHECKING:
    from vcs.ahead import Ahead, Key

_READERS_KEPT = 256
"""Layers held open at once, of the descriptors that a process may have (often 1,024)."""

_NEAR = 8
"""Blocks."""

_DISK_SECONDS = 40e-6
"""What is in the page cache is found in 10 us."""
_WARMING_PAUSE = 50
"""Tables are read whole again after so many times as long as that took: of many layers, or on a busy machine where
other things than the disk make a look-up slow, it must not become what the time goes into."""

_OBJECT_BYTES = 256
"""What it takes to remember where an object of a cached block is. Of 400,000 commits' roots and trees, which have some
60 bytes each, that is four times what they have."""

_EXPECTED_MOST = 4096
"""Objects whose place is remembered until they are asked for."""

_PARTS_MOST = 131_072
"""Objects of which it is remembered where their pieces are: those of some 16 GiB, in some 35 MB."""
_PARTS_LAYERS = 16
"""Layers in which they may be: each is asked."""


class _Block(Struct, frozen=True, gc=False):
    data: bytes
    digests: tuple[bytes, ...]

    @property
    def size(self) -> int:
        """The memory that it takes in the cache."""
        return len(self.data) + _OBJECT_BYTES * len(self.digests)


class Objects:
    """The objects of a store's layers. Satisfies `trees.Objects`.

    `cache_bytes` bounds the memory of the decompressed blocks that are kept. With `read_ahead`, threads decompress what
    is expected, and the next block of a layer that is being read in order.
    """

    def __init__(
        self, index: Index, path_of: Callable[[LayerId], str | Path], cache_bytes: int, read_ahead: bool = False
    ) -> None:
        self._index = index
        self._path_of = path_of
        self._cache_bytes = cache_bytes
        self._cached = 0
        self._readers: OrderedDict[int, LayerReader] = OrderedDict()
        self._parts: OrderedDict[int, Parts] = OrderedDict()
        """Of open layers."""
        self._looked: int | None = None
        """When the directory of layers had changed, in ns, as open layers were last looked at for removed ones. With
        hundreds of them open, that takes three times as long as opening one does."""
        self._blocks: OrderedDict[Key, _Block] = OrderedDict()
        self._near: dict[bytes, tuple[Key, int, int, bool]] = {}
        """Where the objects of these blocks begin and end, and whether they were verified."""
        self._expected: dict[bytes, Location] = {}
        self._ahead = _ahead() if read_ahead else None
        self._last: Key = (0, 0)
        self._warm_again = -math.inf
        """When the tables may be read whole again, by the performance counter."""

    def close(self) -> None:
        """Give back descriptors, memory and the thread."""
        if self._ahead is not None:
            self._ahead.close()
        for reader in self._readers.values():
            reader.close()
        self._readers.clear()
        self._parts.clear()
        self._blocks.clear()
        self._near.clear()

    def get(self, digest: bytes) -> bytes:
        """An object's bytes. Missing or Corrupt, with the digest and the layer as facts, if they cannot be had."""
        found = self._near.get(digest)
        if found is None:
            place = self._locate(digest)
            found = self._near.get(digest) or (*place, False)
        else:
            self._blocks.move_to_end(found[0])
        key, start, end, is_verified = found
        block = self._blocks[key].data
        data = block if end - start == len(block) else block[start:end]
        if not is_verified:
            if digest_of(data) != digest:
                self._drop(key)
                layer = self._index.layer_name(key[0]).hex()
                raise Corrupt(f"object {digest.hex()} in layer {layer} is damaged", digest=digest.hex(), layer=layer)
            if digest in self._near:
                self._near[digest] = key, start, end, True
        return data

    def part(self, digest: bytes, start: int, end: int) -> bytes | None:
        """A range of an object's bytes, for which the rest of it is not read. None if that cannot be, if all of it is
        at hand, or if it is damaged: get() has it, or tells."""
        if digest in self._near:
            return None
        try:
            for parts in self._parts.values():
                if (data := parts.read(digest, start, end)) is not None:
                    return data
            place = self._expected.get(digest) or self._find(digest)
            if place is None:
                return None
            self._expected[digest] = place  # get() need not look it up again
            blocks = self._reader(place.layer).blocks
            if place.layer in self._parts or place.block >= len(blocks) or not blocks.has_sums(place.block):
                return None
            return self._parts_of(place.layer).read(digest, start, end)
        except (Corrupt, OSError):
            return None

    def _parts_of(self, layer: int) -> Parts:
        parts = self._parts[layer] = Parts(self._reader(layer), _PARTS_MOST)
        while len(self._parts) > _PARTS_LAYERS or sum(map(len, self._parts.values())) > _PARTS_MOST:
            self._parts.popitem(last=False)
        return parts

    def are_together(self, one: bytes, other: bytes) -> bool:
        """Whether two objects lie in the same block, which is in memory."""
        first, second = self._near.get(one), self._near.get(other)
        return first is not None and second is not None and first[0] == second[0]

    def expect(self, digests: Iterable[bytes]) -> None:
        """These objects will be asked for in this order, the first of them at once.

        So that one is left to who asks, unless it is on its way: handing it over would take as long.
        """
        if self._ahead is None:
            return
        if len(self._expected) > _EXPECTED_MOST:
            self._expected.clear()
        wanted: dict[int, list[int]] = {}
        own: Key | None = None
        for position, digest in enumerate(digests):
            if digest in self._near or digest in self._expected:
                continue
            place = self._find(digest)
            if place is not None:
                self._expected[digest] = place
                key = place.layer, place.block
                if key not in self._blocks and key not in self._ahead:
                    blocks = wanted.setdefault(place.layer, [])
                    if place.block not in blocks:
                        blocks.append(place.block)
                    if not position:
                        own = key
        for layer, numbers in wanted.items():
            with suppress(TreeringError, OSError):  # whoever asks for it is told
                reader = self._reader(layer)
                reader.want(numbers)
                self._ahead.begin(reader, layer, [number for number in numbers if (layer, number) != own])

    def _locate(self, digest: bytes) -> tuple[Key, int, int]:
        """Find and load an object's block; returns where in it the object begins and ends. Once more where gc has moved
        the object to another layer meanwhile."""
        for again in (False, True):
            place = self._expected.pop(digest, None) or self._find(digest)
            if place is not None:
                key = place.layer, place.block
                with suppress(FileNotFoundError):
                    if key not in self._blocks:
                        self._load_for(key, digest)
                    return key, place.start, place.start + place.length
            if not again:
                self._expected.clear()
                self._index.refresh()
        raise Missing(f"object {digest.hex()} is in no layer", digest=digest.hex())

    def _find(self, digest: bytes) -> Location | None:
        """Look an object up. Where that takes so long that it must have been on the disk, the tables are not in the
        page cache any more: they are read whole then, which takes no longer than some ten such looks."""
        began = time.perf_counter()
        place = self._index.find(digest)
        found = time.perf_counter()
        if found - began > _DISK_SECONDS and found > self._warm_again:
            self._index.warm()
            for reader in self._readers.values():
                reader.warm()
            warmed = time.perf_counter()
            self._warm_again = warmed + _WARMING_PAUSE * (warmed - found)
        return place

    def _load_for(self, key: Key, digest: bytes) -> None:
        try:
            self._load(key, digest)
        except Corrupt as error:
            raise Corrupt(f"object {digest.hex()}: {error}", digest=digest.hex(), **error.facts) from error

    def _load(self, key: Key, digest: bytes) -> None:
        reader = self._reader(key[0])
        data, known = (self._ahead.take(key) if self._ahead else None) or (reader.block(key[1]), None)
        objects = [(digest, 0, len(data))] if reader.is_alone(key[1]) else reader.objects(key[1])
        block = self._blocks[key] = _Block(data, tuple([name for name, _, _ in objects]))
        for name, start, length in objects:
            self._near[name] = key, start, start + length, name == known
        self._cached += block.size
        while self._cached > self._cache_bytes and len(self._blocks) > 1:
            self._drop(next(iter(self._blocks)))
        if self._ahead is not None:
            self._begin_next(self._ahead, reader, key)

    def _drop(self, key: Key) -> None:
        block = self._blocks.pop(key, None)
        if block is not None:
            self._cached -= block.size
            for name in block.digests:
                self._near.pop(name, None)

    def _begin_next(self, ahead: Ahead, reader: LayerReader, key: Key) -> None:
        """Have the next block decompressed, if this one follows the last. A reader skips what it has already, and the
        blocks of large chunks lie between those of small ones, so "next" means near."""
        layer, number = key
        forward = layer == self._last[0] and 0 < number - self._last[1] <= _NEAR
        self._last = key
        if not forward or not ahead.is_idle():
            return
        for following in range(number + 1, min(number + 1 + _NEAR, reader.block_count)):
            if (layer, following) not in self._blocks:
                if (layer, following) not in ahead:
                    ahead.begin(reader, layer, [following])
                return

    def _reader(self, layer: int) -> LayerReader:
        reader = self._readers.get(layer)
        if reader is not None:
            self._readers.move_to_end(layer)
            return reader
        path = self._path_of(self._index.layer_name(layer))
        reader = self._readers[layer] = LayerReader(path)
        if reader.is_open:
            self._give_back(path)
        if len(self._readers) > _READERS_KEPT:
            self._close_reader(next(iter(self._readers)))
        return reader

    def _give_back(self, path: str | Path) -> None:
        """Close layers that were removed, if the directory that this one is in has changed: else their bytes stay on
        the disk."""
        changed = os.stat(os.path.dirname(path)).st_mtime_ns
        if changed != self._looked:
            self._looked = changed
            for number in [number for number, other in self._readers.items() if other.is_removed]:
                self._close_reader(number)

    def _close_reader(self, layer: int) -> None:
        if self._ahead is not None:
            self._ahead.settle()  # it may be reading from this very layer
        self._parts.pop(layer, None)
        self._readers.pop(layer).close()


def _ahead() -> Ahead:
    from vcs.ahead import Ahead  # 5 ms, and only a service reads ahead

    return Ahead()
