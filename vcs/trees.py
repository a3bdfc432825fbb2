"""Directories as objects: reading them node by node, and writing them.

A directory of up to NODE_LIMIT entries is one node. A larger one is a small search tree of nodes, so that looking up a
name opens one path through it, and one changed name rewrites one path.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, islice
from typing import Protocol, cast

from vcs.encoding import decode_root, decode_tree, encode_entries, encode_root, encode_tree_index, split
from vcs.model import Chunked, Data, Entry, ObjectId, RootId, Tree, TreeItem


class Objects(Protocol):
    """Where objects are read from. What it returns has the digest it was asked for."""

    def get(self, digest: ObjectId) -> bytes:
        """The object's bytes. Missing or Corrupt if it cannot be had."""
        ...


class Sink(Protocol):
    """Where objects are written to."""

    def put_tree(self, data: bytes) -> bytes:
        """Take a tree, a root or a chunk list; returns its digest."""
        ...

    def put_chunk(self, data: bytes) -> bytes:
        """Take a chunk; returns its digest."""
        ...


class Directory:
    """The entries of one tree, sorted by name. Nodes are fetched when they are needed."""

    def __init__(self, objects: Objects, tree: ObjectId) -> None:
        self._objects = objects
        self._items = decode_tree(objects.get(tree))
        self.is_large = bool(self._items) and isinstance(self._items[0], TreeItem)
        self._keys: list[bytes] | None = None
        self._child: tuple[int, Directory] | None = None
        counts = (item.count for item in self._items) if self.is_large else ()  # type: ignore[union-attr]
        self._ends = list(accumulate(counts))

    def __len__(self) -> int:
        return self._ends[-1] if self.is_large else len(self._items)

    def lookup(self, name: bytes) -> Entry | None:
        """The entry with this name, or None."""
        if self._keys is None:
            self._keys = [item.first if isinstance(item, TreeItem) else item.name for item in self._items]
        position = bisect_right(self._keys, name) - 1
        if position < 0:
            return None
        if self.is_large:
            return self._node(position).lookup(name)
        entry = self._items[position]
        assert isinstance(entry, Entry)
        return entry if entry.name == name else None

    def __iter__(self) -> Iterator[Entry]:
        return self.entries()

    def entries(self, start: int = 0) -> Iterator[Entry]:
        """The entries from position `start` on; opens no node before it."""
        if not self.is_large:
            yield from islice(self._items, start, None)
            return
        position = bisect_right(self._ends, start)
        while position < len(self._items):
            before = self._ends[position - 1] if position else 0
            yield from self._node(position).entries(max(0, start - before))
            position += 1

    def _node(self, position: int) -> Directory:
        if self._child is None or self._child[0] != position:
            item = self._items[position]
            self._child = position, Directory(self._objects, item.digest)  # type: ignore[union-attr]
        return self._child[1]


def differing_entries(objects: Objects, old: ObjectId, new: ObjectId) -> tuple[list[Entry], list[Entry]]:
    """The entries of two trees that are not in a node both share: what a comparison has to look at, sorted by name.

    Nodes with equal digests are never opened, so one changed name in a million costs two small paths of nodes.
    """
    sides: list[list[Entry | TreeItem]] = [list(decode_tree(objects.get(old))), list(decode_tree(objects.get(new)))]
    while any(isinstance(item, TreeItem) for side in sides for item in side):
        shared = _node_digests(sides[0]) & _node_digests(sides[1])
        sides = [list(_opened(objects, side, shared)) for side in sides]
    return cast("tuple[list[Entry], list[Entry]]", tuple(sides))


def _node_digests(items: Sequence[Entry | TreeItem]) -> set[bytes]:
    return {item.digest for item in items if isinstance(item, TreeItem)}


def _opened(objects: Objects, items: Sequence[Entry | TreeItem], shared: set[bytes]) -> Iterator[Entry | TreeItem]:
    for item in items:
        if not isinstance(item, TreeItem):
            yield item
        elif item.digest not in shared:
            yield from decode_tree(objects.get(item.digest))


def write_tree(sink: Sink, entries: Iterable[Entry]) -> Tree:
    """Write a directory; `entries` may come in any order, their names must differ. Returns what its entry holds."""
    ordered = sorted(entries, key=_name)
    items = [_write_node(sink, part) for part in split(ordered, _name)]
    while len(items) > 1:
        items = [_write_index(sink, part) for part in split(items, _first)]
    return Tree(items[0].digest, *sums_of(ordered))


def sums_of(entries: Iterable[Entry]) -> tuple[int, int, int]:
    """What a directory of these entries has at and below them: entries, bytes in files, entries with a hard link."""
    count = size = linked = 0
    for entry in entries:
        content = entry.content
        count += 1
        if isinstance(content, Tree):
            count += content.entries
            size += content.size
            linked += content.linked
        else:
            linked += entry.link is not None
            if isinstance(content, (Data, Chunked)):
                size += content.size
    return count, size, linked


def write_root(sink: Sink, root: Entry) -> RootId:
    """Write a root entry (its name must be empty); the digest names the whole filesystem."""
    return RootId(sink.put_tree(encode_root(root)))


def read_root(objects: Objects, root: RootId) -> Entry:
    """The root entry of a filesystem."""
    return decode_root(objects.get(root))


def _name(entry: Entry) -> bytes:
    return entry.name


def _first(item: TreeItem) -> bytes:
    return item.first


def _write_node(sink: Sink, entries: Sequence[Entry]) -> TreeItem:
    digest = sink.put_tree(encode_entries(entries))
    return TreeItem(entries[0].name if entries else b"", digest, len(entries))


def _write_index(sink: Sink, items: Sequence[TreeItem]) -> TreeItem:
    digest = sink.put_tree(encode_tree_index(items))
    return TreeItem(items[0].first, digest, sum(item.count for item in items))
