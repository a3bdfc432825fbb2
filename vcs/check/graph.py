"""The objects that commits need: each is there, canonical, and agrees with what refers to it.

Each object is looked at once, whatever number of commits share it, and without its paths: if something turns out to be
wrong, vcs.check.naming finds out where it is. Chunks are not read here; that they are there and as long as they should
be, the index knows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

from vcs.blobs import CHUNK_MAX, item_key
from vcs.check.indexed import Indexed
from vcs.check.report import Faults, Kind, Progress, Report
from vcs.check.shape import Shape, index_shape, is_canonical, leaf_shape
from vcs.encoding import check_entry, check_tree, decode_list, decode_root, encode_list, encode_root
from vcs.errors import Corrupt, Damaged
from vcs.layers.format import KIND_CHUNKS, KIND_TREES
from vcs.model import DIGEST_SIZE, Chunked, Data, Entry, ListItem, RootId, Tree, TreeItem
from vcs.trees import Objects, added, entry_name, node_first, sums_of

_NOT_CUT = "it is not cut into nodes as it should be"


@dataclass(frozen=True, slots=True)
class _Node:
    """A tree node, with all below it that belongs to the same directory."""

    shape: Shape
    sums: tuple[int, int, int]
    first: bytes
    last: bytes


@dataclass(frozen=True, slots=True)
class _List:
    """A chunk list node, with all below it."""

    shape: Shape
    length: int
    allocated: int
    begins_with_hole: bool
    ends_with_hole: bool


class Graph:
    """One check of everything below some roots."""

    def __init__(
        self, objects: Objects, indexed: Indexed, damaged: dict[bytes, str], report: Report, progress: Progress
    ) -> None:
        """`damaged` has what is known already of objects that cannot be read, by digest."""
        self._objects = objects
        self._indexed = indexed
        self._damaged = damaged
        self._report = report
        self._progress = progress
        self._read = 0
        self._roots: set[RootId] = set()
        self._nodes: dict[bytes, _Node | None] = {}
        self._lists: dict[bytes, _List | None] = {}
        self._todo: list[bytes] = []
        self._claims: list[tuple[bytes, bytes, Tree]] = []
        self.faults = Faults()

    def check_root(self, root: RootId) -> None:
        """Check a root and everything below it that was not checked before."""
        if root in self._roots:
            return
        self._roots.add(root)
        try:
            data = self._get(root)
            entry = decode_root(data)
            check_entry(entry)
            if encode_root(entry) != data:
                raise Corrupt("a root's encoding is not canonical")
        except Damaged as error:
            self._fault(root, error)
            return
        self._check_content(root, entry)
        while self._todo:
            self._check_tree(self._todo.pop())
        # Known only now: a directory's tree is looked at after the node that says what is in it.
        for node, name, claimed in self._claims:
            found = self._nodes.get(claimed.tree)
            if found is not None and found.sums != (claimed.entries, claimed.size, claimed.linked):
                self._entry_fault(node, name, "a directory's sums do not fit its entries")
        self._claims.clear()

    # -- details

    def _get(self, digest: bytes) -> bytes:
        self._indexed.see(digest)
        data = self._objects.get(digest)
        self._read += len(data)
        self._progress("commits", self._read, 0)
        return data

    def _fault(self, digest: bytes, error: Damaged) -> None:
        is_lost = "digest" in error.facts
        kind: Kind = "object" if is_lost else "tree"
        self.faults.objects.setdefault(digest, (kind, str(error)))
        if is_lost:
            self._report.lost[digest] = KIND_TREES

    def _entry_fault(self, node: bytes, name: bytes, message: str) -> None:
        self.faults.entries.setdefault((node, name), ("tree", message))

    def _check_content(self, node: bytes, entry: Entry) -> None:
        content = entry.content
        if isinstance(content, Tree):
            self._claims.append((node, entry.name, content))
            if content.tree not in self._nodes:
                self._todo.append(content.tree)
        elif isinstance(content, Data) and content.size:
            if self._check_chunk(content.chunk) not in (-1, content.size):
                self._entry_fault(node, entry.name, f"chunk {content.chunk.hex()} is not as long as it should be")
            elif content.size > CHUNK_MAX:
                self._entry_fault(node, entry.name, "a file is one chunk and should be a list of them")
        elif isinstance(content, Chunked):
            self._check_file(node, entry.name, content)

    def _check_chunk(self, digest: bytes) -> int:
        """The length of a chunk, -1 if there is none."""
        before = self._indexed.seen
        length = self._indexed.see(digest)
        self._report.chunks += self._indexed.seen - before
        if length < 0 or digest in self._damaged:
            message = self._damaged.get(digest) or f"object {digest.hex()} is in no layer"
            self.faults.objects.setdefault(digest, ("object", message))
            self._report.lost[digest] = KIND_CHUNKS
        return length

    # -- directories

    def _check_tree(self, tree: bytes) -> None:
        """Look at a directory's nodes that were not seen before, deepest first."""
        if tree in self._nodes:
            return
        self._report.trees += 1
        opened: dict[bytes, list[TreeItem]] = {}
        stack = [tree]
        while stack:
            digest = stack[-1]
            if digest in self._nodes:
                stack.pop()
            elif digest in opened:
                stack.pop()
                self._nodes[digest] = self._index_node(digest, opened.pop(digest))
            else:
                stack += self._open_node(digest, opened)
        top = self._nodes[tree]
        if top is not None and not is_canonical(top.shape):
            self.faults.objects.setdefault(tree, ("tree", f"a large directory: {_NOT_CUT}"))

    def _open_node(self, digest: bytes, opened: dict[bytes, list[TreeItem]]) -> list[bytes]:
        """Read a node: one of entries is done with, one of nodes is put into `opened`. Returns what is below it."""
        try:
            items = check_tree(self._get(digest))
        except Damaged as error:
            self._fault(digest, error)
            self._nodes[digest] = None
            return []
        if items and isinstance(items[0], TreeItem):
            opened[digest] = [item for item in items if isinstance(item, TreeItem)]
            return [item.digest for item in opened[digest] if item.digest not in self._nodes]
        entries = cast("list[Entry]", items)
        for entry in entries:
            self._check_content(digest, entry)
        first, last = (entries[0].name, entries[-1].name) if entries else (b"", b"")
        self._nodes[digest] = _Node(leaf_shape(entries, entry_name), sums_of(entries), first, last)
        return []

    def _index_node(self, digest: bytes, items: list[TreeItem]) -> _Node | None:
        below = [self._nodes[item.digest] for item in items]
        nodes = [node for node in below if node is not None]
        if len(nodes) < len(items):
            return None
        if not _agree(items, nodes):
            self.faults.objects.setdefault(digest, ("tree", "the index of a large directory does not fit its nodes"))
            return None
        sums = (0, 0, 0)
        for node in nodes:
            sums = added(sums, node.sums)
        shape = index_shape(items, node_first, [node.shape for node in nodes])
        return _Node(shape, sums, nodes[0].first, nodes[-1].last)

    # -- large files

    def _check_file(self, node: bytes, name: bytes, content: Chunked) -> None:
        found = self._check_list(content.list)
        if found is None:
            return
        if (found.length, found.allocated) != (content.size, content.allocated):
            self._entry_fault(node, name, "a file's chunks are not as long as the file")
        elif content.size == content.allocated <= CHUNK_MAX:
            self._entry_fault(node, name, "a file is a list of chunks and should be one chunk")

    def _check_list(self, digest: bytes) -> _List | None:
        """A chunk list. Recursive: three levels of at least 16 items each hold a gigabyte, and a level more 16 times
        that; one that is deeper than files can be long is refused."""
        found = self._list_node(digest, 0)
        if found is not None and not is_canonical(found.shape):
            self.faults.objects.setdefault(digest, ("tree", f"a chunk list: {_NOT_CUT}"))
        return found

    def _list_node(self, digest: bytes, depth: int) -> _List | None:
        if digest not in self._lists:
            try:
                self._lists[digest] = self._new_list_node(digest, depth)
            except Damaged as error:
                self._fault(digest, error)
                self._lists[digest] = None
        return self._lists[digest]

    def _new_list_node(self, digest: bytes, depth: int) -> _List | None:
        data = self._get(digest)
        items, leaf = decode_list(data)
        if encode_list(items, leaf) != data or not _good_items(items, leaf) or depth > 16:
            raise Corrupt("a chunk list is not canonical")
        if leaf:
            return self._leaf_list(digest, items)
        below = [node for item in items if (node := self._list_node(item.digest, depth + 1)) is not None]
        if len(below) < len(items):
            return None
        if [node.length for node in below] != [item.length for item in items] or any(
            a.ends_with_hole and b.begins_with_hole for a, b in pairwise(below)
        ):
            raise Corrupt("a chunk list does not fit the lists below it")
        shape = index_shape(items, item_key, [node.shape for node in below])
        sizes = sum(node.length for node in below), sum(node.allocated for node in below)
        return _List(shape, *sizes, below[0].begins_with_hole, below[-1].ends_with_hole)

    def _leaf_list(self, digest: bytes, items: list[ListItem]) -> _List:
        chunks = [item for item in items if item.digest]
        for item in chunks:
            if self._check_chunk(item.digest) not in (-1, item.length):
                message = f"chunk {item.digest.hex()} is not as long as it should be"
                self.faults.objects.setdefault(digest, ("tree", message))
        sizes = sum(item.length for item in items), sum(item.length for item in chunks)
        return _List(leaf_shape(items, item_key), *sizes, not items[0].digest, not items[-1].digest)


def _agree(items: list[TreeItem], nodes: list[_Node]) -> bool:
    return all(
        (item.first, item.count) == (node.first, node.shape.counts[0]) for item, node in zip(items, nodes, strict=True)
    ) and all(a.last < b.first for a, b in pairwise(nodes))


def _good_items(items: Iterable[ListItem], leaf: bool) -> bool:
    sizes = {len(item.digest) for item in items}
    return (
        bool(sizes)
        and sizes <= ({0, DIGEST_SIZE} if leaf else {DIGEST_SIZE})
        and all(item.length > 0 for item in items)
        and not any(not a.digest and not b.digest for a, b in pairwise(items))
    )
