"""Directories as objects: reading them node by node, and writing them.

A directory of up to NODE_LIMIT entries is one node. A larger one is a small search tree of nodes, so that looking up a
name opens one path through it, and one changed name rewrites one path.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain, islice
from typing import Protocol, cast

from vcs.encoding import (
    NODE_LIMIT,
    Cutter,
    decode_root,
    decode_tree,
    encode_entries,
    encode_root,
    encode_tree_index,
    split,
)
from vcs.errors import Corrupt
from vcs.model import SIZE_MAX, Chunked, Data, Entry, ObjectId, RootId, Tree, TreeItem

_LEVELS_MAX = 32
"""Of nodes in one directory; a million names have three."""


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

    def put_chunk(self, data: bytes | memoryview, digest: bytes | None = None) -> bytes:
        """Take a chunk; returns its digest, which may be given if it is known."""
        ...


class Directory:
    """The entries of one tree, sorted by name. Nodes are fetched when they are needed; the last one is kept."""

    def __init__(self, objects: Objects, tree: ObjectId, level: int = 0) -> None:
        """`level`: how many nodes of the same directory are above this one."""
        if level > _LEVELS_MAX:
            raise Corrupt(f"tree node {tree.hex()} is the end of too long a chain", digest=tree.hex())
        self.objects = objects
        self._level = level
        self.items: Sequence[Entry] | Sequence[TreeItem] = decode_tree(objects.get(tree))
        """The top node: the entries, or the nodes below it."""
        self.is_large = bool(self.items) and isinstance(self.items[0], TreeItem)
        self._keys: list[bytes] | None = None
        self._child: tuple[int, Directory] | None = None
        self._ends: list[int] = []
        """Of a large one: the positions after the last of each node's."""
        if self.is_large:
            self._ends += accumulate(item.count for item in self.items)  # type: ignore[union-attr]
            if self._ends[-1] > SIZE_MAX:
                raise Corrupt(f"tree node {tree.hex()} has more entries than can be counted", digest=tree.hex())

    def __len__(self) -> int:
        return self._ends[-1] if self.is_large else len(self.items)

    def lookup(self, name: bytes) -> Entry | None:
        """The entry with this name, or None."""
        position = self._position(name)
        if position < 0:
            return None
        if self.is_large:
            return self._node(position).lookup(name)
        entry = self.items[position]
        assert isinstance(entry, Entry)
        return entry if entry.name == name else None

    def __iter__(self) -> Iterator[Entry]:
        return self.entries()

    def entries(self, start: int = 0) -> Iterator[Entry]:
        """The entries from position `start` on; opens no node before it."""
        while start < len(self):
            first, entries = self.node_at(start)
            yield from islice(entries, start - first, None)
            start = first + len(entries)

    def node_at(self, position: int) -> tuple[int, list[Entry]]:
        """The node of entries that holds a position, below the directory's length, and the position where it begins.

        Corrupt if it does not hold as many as the nodes above say.
        """
        if not self.is_large:
            return 0, self.items  # type: ignore[return-value]
        child = bisect_right(self._ends, position)
        before = self._ends[child - 1] if child else 0
        first, entries = self._node(child).node_at(position - before)
        return before + first, entries

    def node_of(self, name: bytes) -> tuple[int, list[Entry]]:
        """The same for the node that holds a name, if any does."""
        if not self.is_large:
            return 0, self.items  # type: ignore[return-value]
        child = max(self._position(name), 0)
        before = self._ends[child - 1] if child else 0
        first, entries = self._node(child).node_of(name)
        return before + first, entries

    def _position(self, name: bytes) -> int:
        """Where the last item that does not come after `name` is, -1 if all do."""
        if self._keys is None:
            self._keys = [item.first if isinstance(item, TreeItem) else item.name for item in self.items]
        return bisect_right(self._keys, name) - 1

    def _node(self, position: int) -> Directory:
        if self._child is None or self._child[0] != position:
            item = self.items[position]
            assert isinstance(item, TreeItem)
            child = Directory(self.objects, item.digest, self._level + 1)
            if len(child) != item.count:
                digest = item.digest.hex()
                raise Corrupt(f"tree node {digest} has {len(child)} entries, not {item.count}", digest=digest)
            self._child = position, child
        return self._child[1]


def differing_entries(
    old_objects: Objects, old: ObjectId, new_objects: Objects, new: ObjectId
) -> tuple[list[Entry], list[Entry]]:
    """The entries of two trees that are not in a node both share: what a comparison has to look at, sorted by name.

    Nodes with equal digests are never opened, so one changed name in a million costs two small paths of nodes. Nodes
    are compared level by level, from where the two trees are equally high.
    """
    sides = [_Side(old_objects, old), _Side(new_objects, new)]
    for side, other in zip(sides, reversed(sides), strict=True):
        side.measure(other.digests())
    while sides[0].height or sides[1].height:
        height = max(side.height for side in sides)
        shared = sides[0].digests() & sides[1].digests()
        for side in sides:
            if side.height == height:
                side.descend(shared)
    return cast("tuple[list[Entry], list[Entry]]", tuple(side.items for side in sides))


class _Side:
    """One level of a tree: what of it differs from another tree."""

    def __init__(self, objects: Objects, tree: ObjectId) -> None:
        self._objects = objects
        self._opened: dict[bytes, Sequence[Entry | TreeItem]] = {}
        self.items = self._open(tree)
        self.height = 0
        """How many levels are below this one, once it was measured."""

    def digests(self) -> set[bytes]:
        return {item.digest for item in self.items if isinstance(item, TreeItem)}

    def measure(self, others: set[bytes]) -> None:
        """Learn the height, by a way that has to be gone anyway: through a node that the other side does not have."""
        items = self.items
        while nodes := [item.digest for item in items if isinstance(item, TreeItem)]:
            items = self._open(next((node for node in nodes if node not in others), nodes[0]))
            self.height += 1

    def descend(self, shared: set[bytes]) -> None:
        """Go down a level, leaving out the nodes in `shared`."""
        nodes = [item.digest for item in self.items if isinstance(item, TreeItem)]
        self.items = [item for node in nodes if node not in shared for item in self._open(node)]
        self.height -= 1

    def _open(self, node: ObjectId) -> Sequence[Entry | TreeItem]:
        items = self._opened.get(node)
        if items is None:
            items = self._opened[node] = decode_tree(self._objects.get(node))
        return items


class TreeWriter:
    """Writes a directory whose entries come sorted by name: a node as soon as it is certain.

    In memory are the entries of one node, and of each node written its item: 3 MB for a million entries.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._cutter = Cutter(entry_name)
        self._waiting: list[Entry] = []
        """All entries, while they may be one node."""
        self._nodes: list[TreeItem] = []
        self._sums = (0, 0, 0)
        self._count = 0

    def extend(self, entries: Sequence[Entry]) -> None:
        """Take the next entries. Their names differ, and come after all before."""
        self._sums = added(self._sums, sums_of(entries))
        self._count += len(entries)
        if self._count <= NODE_LIMIT:
            self._waiting += entries
            return
        for part in self._cutter.feed(chain(self._waiting, entries)):
            self._nodes.append(write_node(self._sink, part))
        self._waiting = []

    def close(self) -> Tree:
        """Write what is left. Returns what the directory's entry holds."""
        if rest := self._cutter.rest or self._waiting:
            self._nodes.append(write_node(self._sink, rest))
        return Tree(write_top(self._sink, self._nodes or [write_node(self._sink, [])]), *self._sums)


def write_tree(sink: Sink, entries: Iterable[Entry]) -> Tree:
    """Write a directory; `entries` may come in any order, their names must differ. Returns what its entry holds."""
    writer = TreeWriter(sink)
    writer.extend(sorted(entries, key=entry_name))
    return writer.close()


def write_node(sink: Sink, items: Sequence[Entry] | Sequence[TreeItem]) -> TreeItem:
    """Write one node, of entries or of nodes; returns its place in the level above."""
    if items and isinstance(items[0], TreeItem):
        nodes = cast("Sequence[TreeItem]", items)
        return TreeItem(nodes[0].first, sink.put_tree(encode_tree_index(nodes)), sum(node.count for node in nodes))
    entries = cast("Sequence[Entry]", items)
    return TreeItem(entries[0].name if entries else b"", sink.put_tree(encode_entries(entries)), len(entries))


def write_top(sink: Sink, nodes: Sequence[TreeItem]) -> ObjectId:
    """Write the levels above some nodes, until one node is left: the tree's digest."""
    while len(nodes) > 1:
        nodes = [write_node(sink, part) for part in split(nodes, node_first)]
    return nodes[0].digest


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


def entry_in(objects: Objects, tree: ObjectId, name: bytes) -> Entry | None:
    """The entry of a directory with this name, for one who asks for no other: as Directory.lookup, in half the time."""
    items = decode_tree(objects.get(tree))
    if not items or isinstance(items[0], TreeItem):
        return Directory(objects, tree).lookup(name)
    position = bisect_left(items, name, key=entry_name)
    return items[position] if position < len(items) and items[position].name == name else None


def write_root(sink: Sink, root: Entry) -> RootId:
    """Write a root entry (its name must be empty); the digest names the whole filesystem."""
    return RootId(sink.put_tree(encode_root(root)))


def read_root(objects: Objects, root: RootId) -> Entry:
    """The root entry of a filesystem."""
    return decode_root(objects.get(root))


def added(sums: tuple[int, int, int], more: tuple[int, int, int], sign: int = 1) -> tuple[int, int, int]:
    """Sums (see sums_of) with others added to them, or taken from them."""
    return sums[0] + sign * more[0], sums[1] + sign * more[1], sums[2] + sign * more[2]


def entry_name(entry: Entry) -> bytes:
    """What a directory is sorted by."""
    return entry.name


def node_first(item: TreeItem) -> bytes:
    """What the nodes of a directory are sorted by."""
    return item.first
