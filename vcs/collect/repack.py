"""Everything that is needed, written anew as tightly as is reasonable: `gc --repack`.

What resembles one another should share a block. So chunks are ordered by type of file, then name, then path: programs
lie beside programs, and the versions of a file beside one another, the newest first, where zstd finds that they are
nearly equal. The chunks of a large file stay in their order, each beside its own versions. Directories are ordered by
their path, likewise with their versions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace

from vcs.blobreader import list_items
from vcs.collect.copying import Compaction, Doomed, LayerSink
from vcs.encoding import decode_list, decode_tree
from vcs.errors import Damaged
from vcs.layers.compression import TIGHT
from vcs.layers.format import KIND_CHUNKS, KIND_TREES
from vcs.layers.writer import LayerWriter
from vcs.model import Chunked, Data, Entry, ObjectId, RootId, Tree
from vcs.objects import Objects
from vcs.store import Store
from vcs.trees import read_root

_CACHE_BYTES = 192 << 20
"""Decompressed blocks that are kept: what is read in one order was written in another."""
_STEP = 256
"""Objects between two calls of the progress."""


class Repack:
    """Copies in the order of resemblance, compressed hard."""

    everything = True

    def writer(self, store: Store) -> LayerWriter:
        return LayerWriter(store.path / "layers", TIGHT)

    def copy(self, doomed: Doomed, sink: LayerSink) -> None:
        objects = Objects(doomed.store.index, doomed.store.layer_path, _CACHE_BYTES)
        try:
            order = Order(objects, doomed.wanted)
            for commit in doomed.store.commit_ids():
                order.add_root(doomed.store.commit(commit).root)
            _copy(doomed, sink, objects, order)
        finally:
            objects.close()
        # What only a reflog or a reader needs has no path here; what is damaged is told of.
        Compaction().copy(replace(doomed, progress=lambda _: None), sink)


class Order:
    """Wanted objects, by what they resemble. Some 150 bytes for each."""

    def __init__(self, objects: Objects, wanted: Iterable[ObjectId]) -> None:
        self._objects = objects
        self._left = set(wanted)
        self._seen: set[ObjectId] = set()
        self._chunks: list[tuple[bytes, ObjectId]] = []
        self._trees: list[tuple[bytes, ObjectId]] = []

    def add_root(self, root: RootId) -> None:
        """Give a place to what a root needs and no root before it did. Newer ones come first."""
        if root in self._seen:
            return
        self._seen.add(root)
        self._place(self._trees, b"", root)
        todo = [(b"", read_root(self._objects, root))]
        while todo:
            path, entry = todo.pop()
            match entry.content:
                case Tree(tree):
                    todo += self._below(path, tree)
                case Data(_, chunk):
                    self._place(self._chunks, resemblance(path), chunk)
                case Chunked(_, digest, _):
                    self._large_file(path, digest)

    def objects(self) -> Iterator[tuple[int, ObjectId]]:
        """Kind and digest of each, in order. Trees apart from chunks, as in every layer."""
        for kind, placed in ((KIND_TREES, self._trees), (KIND_CHUNKS, self._chunks)):
            placed.sort(key=_key)  # stable: among equal keys the newest stays first
            for _, digest in placed:
                yield kind, digest

    def _below(self, path: bytes, tree: ObjectId) -> Iterator[tuple[bytes, Entry]]:
        nodes = [tree]
        while nodes:
            digest = nodes.pop()
            if digest in self._seen:
                continue
            self._seen.add(digest)
            self._place(self._trees, path, digest)
            for item in decode_tree(self._objects.get(digest)):
                if isinstance(item, Entry):
                    yield path + b"/" + item.name, item
                else:
                    nodes.append(item.digest)

    def _large_file(self, path: bytes, digest: ObjectId) -> None:
        if digest in self._seen:
            return
        self._lists(path, digest)
        start = 0
        for item in list_items(self._objects, digest):
            if item.digest:
                self._place(self._chunks, resemblance(path) + b"\0" + start.to_bytes(8), item.digest)
            start += item.length

    def _lists(self, path: bytes, top: ObjectId) -> None:
        nodes = [top]
        while nodes:
            digest = nodes.pop()
            if digest not in self._seen:
                self._seen.add(digest)
                self._place(self._trees, path, digest)
                items, leaf = decode_list(self._objects.get(digest))
                nodes += [] if leaf else [item.digest for item in items]

    def _place(self, order: list[tuple[bytes, ObjectId]], key: bytes, digest: ObjectId) -> None:
        if digest in self._left:
            self._left.remove(digest)
            order.append((key, digest))


def resemblance(path: bytes) -> bytes:
    """A key that is near for files that are alike: of one type, of one name, of one directory.

    >>> resemblance(b"/usr/lib/libz.so.1.2"), resemblance(b"/etc/passwd")
    (b'so\\x00libz.so.1.2\\x00/usr/lib/libz.so.1.2', b'\\x00passwd\\x00/etc/passwd')
    """
    name = path[path.rfind(b"/") + 1 :]
    suffix = b"so" if b".so." in name else name[name.rfind(b".") + 1 :] if b"." in name[1:] else b""
    return suffix + b"\0" + name + b"\0" + path


def _key(item: tuple[bytes, ObjectId]) -> bytes:
    return item[0]


def _copy(doomed: Doomed, sink: LayerSink, objects: Objects, order: Order) -> None:
    stored = sum(doomed.store.layer_path(name).stat().st_size for name in doomed.layers)
    step = stored * _STEP // max(_STEP, len(doomed.wanted))
    for number, (kind, digest) in enumerate(order.objects(), 1):
        with suppress(Damaged, OSError):  # it stays wanted, and is told of afterwards
            sink.put(kind, digest, objects.get(digest))
            doomed.wanted.discard(digest)
        if number % _STEP == 0:
            doomed.progress(step)
