"""A directory with a few names changed, without reading or writing the rest of it.

The result is what write_tree would make of the changed entries, digest for digest. A level of a large directory is a
sequence of items (entries, or the nodes of the level below) cut into nodes. Since a cut depends on nothing before its
own node, only nodes in which an item changes are cut anew, and those after them until a new cut falls where an old one
was. The nodes that went and came are the changes of the level above.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias, cast

from vcs.encoding import NODE_LIMIT, SPLIT_MIN, Cutter, decode_tree, split
from vcs.model import Entry, ObjectId, Tree, TreeItem
from vcs.trees import Directory, Sink, added, entry_name, node_first, sums_of, write_node, write_top

_Item: TypeAlias = Entry | TreeItem
_Edits: TypeAlias = Mapping[bytes, _Item | None]
"""By name, or by the first name of a node: the item that is there now, or None."""


def edit_tree(sink: Sink, directory: Directory, tree: Tree, changes: Mapping[bytes, Entry | None]) -> Tree:
    """A directory (`tree`, opened) with other entries at some names; None removes the name, if it is there.

    Opens the nodes that hold the names and those above them, and writes those that differ.
    """
    old = _Old(directory)
    old.measure(next(iter(changes), b""))
    edits: dict[bytes, _Item | None] = {}
    gone: list[Entry] = []
    for name, entry in changes.items():
        before = old.entry(name)
        if before != entry:
            edits[name] = entry
            if before is not None:
                gone.append(before)
    if not edits:
        return tree
    come = [entry for entry in edits.values() if isinstance(entry, Entry)]
    sums = added(added((tree.entries, tree.size, tree.linked), sums_of(come)), sums_of(gone), -1)
    return Tree(_edited(old, sink, edits, len(come) - len(gone)), *sums)


def _edited(old: _Old, sink: Sink, edits: _Edits, growth: int) -> ObjectId:
    """Write a tree with `edits` to its entries, which make it longer by `growth`; returns its digest."""
    for level in range(old.height + 1):
        if level == old.height or (growth < 0 and old.least(level) + growth <= NODE_LIMIT):
            gone = list(old.nodes(level))
            items = _applied(_key(level), [item for node in gone for item in old.items(node)], edits.items())
            if level and len(items) == 1:
                return cast(TreeItem, items[0]).digest
            made = [write_node(sink, cast("Sequence[Entry]", part)) for part in split(items, _key(level))]
        else:
            gone, made = _recut(old, sink, level, edits)
        growth = len(made) - len(gone)
        edits = _difference(gone, made)
    return write_top(sink, made)


def _recut(old: _Old, sink: Sink, level: int, edits: _Edits) -> tuple[list[TreeItem], list[TreeItem]]:
    """Cut one level anew where items change; returns the nodes that go, and those that come."""
    keys = sorted(edits)
    gone: list[TreeItem] = []
    made: list[TreeItem] = []
    done = 0
    while done < len(keys):
        cutter: Cutter[Any] = Cutter(_key(level))
        end: bytes | None = keys[done]
        while end is not None:
            node, end = old.find(level, end)
            upto = len(keys) if end is None else bisect_left(keys, end, done)
            items = _applied(_key(level), old.items(node), [(key, edits[key]) for key in keys[done:upto]])
            done = upto
            gone.append(node)
            made += [write_node(sink, part) for part in cutter.feed(items)]
            if not cutter.rest:
                break
        if cutter.rest:
            made.append(write_node(sink, cutter.rest))
    return gone, made


def _applied(key: Callable[[Any], bytes], items: Sequence[_Item], edits: Iterable[tuple[bytes, _Item | None]]) -> Any:
    """Some items with edits made, sorted."""
    found: dict[bytes, _Item | None] = {key(item): item for item in items}
    found.update(edits)
    return [found[name] for name in sorted(found) if found[name] is not None]


def _difference(gone: Sequence[TreeItem], made: Sequence[TreeItem]) -> _Edits:
    before = {node.first: node for node in gone}
    after = {node.first: node for node in made}
    return {first: after.get(first) for first in before | after if before.get(first) != after.get(first)}


def _key(level: int) -> Callable[[Any], bytes]:
    return node_first if level else entry_name


class _Old:
    """A tree's nodes by level and key; level 0 is that of entries. Each is opened once."""

    def __init__(self, directory: Directory) -> None:
        self._objects = directory.objects
        self._opened: dict[bytes, Sequence[_Item]] = {b"": directory.items}
        self._top = TreeItem(b"", b"", len(directory))
        self.height = 0
        """The level of the one node at the top."""

    def items(self, node: TreeItem) -> Sequence[_Item]:
        """What is in a node."""
        items = self._opened.get(node.digest)
        if items is None:
            items = self._opened[node.digest] = decode_tree(self._objects.get(node.digest))
        return items

    def measure(self, key: bytes) -> None:
        """Learn how high the tree is, on the way to a key."""
        node = self._top
        while (below := self._below(node, key)) is not None:
            node = below[0]
            self.height += 1

    def find(self, level: int, key: bytes) -> tuple[TreeItem, bytes | None]:
        """The node of a level that holds a key, or would; and where the next one begins, if there is one."""
        node, end = self._top, None
        for _ in range(self.height - level):
            below = self._below(node, key)
            assert below is not None
            node, end = below[0], below[1] or end
        return node, end

    def nodes(self, level: int) -> Iterator[TreeItem]:
        """All nodes of a level."""
        end: bytes | None = b""
        while end is not None:
            node, end = self.find(level, end)
            yield node

    def entry(self, name: bytes) -> Entry | None:
        """The entry with a name."""
        items = cast("Sequence[Entry]", self.items(self.find(0, name)[0]))
        position = bisect_left(items, name, key=entry_name)
        return items[position] if position < len(items) and items[position].name == name else None

    def least(self, level: int) -> int:
        """How many items a level has at least, from its length of nodes; of level 0 how many exactly."""
        if not level:
            return self._top.count
        least = len(self.items(self._top))
        for _ in range(self.height - level):
            least = SPLIT_MIN * (least - 1) + 1
        return least

    def _below(self, node: TreeItem, key: bytes) -> tuple[TreeItem, bytes | None] | None:
        """The node in a node of nodes that holds a key, and where the next one in it begins; None if it has entries."""
        items = self.items(node)
        if not items or not isinstance(items[0], TreeItem):
            return None
        nodes = cast("Sequence[TreeItem]", items)
        position = max(bisect_right(nodes, key, key=node_first) - 1, 0)
        return nodes[position], nodes[position + 1].first if position + 1 < len(nodes) else None
