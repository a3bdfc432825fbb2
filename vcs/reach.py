"""What is needed: every object that some roots reach. What is not, is garbage.

Each tree and each chunk list is opened once, however many roots and commits share it. A set of digests takes some
100 bytes an object: 100 MB for a store of a million.
"""

from __future__ import annotations

from vcs.encoding import decode_list, decode_root, decode_tree
from vcs.model import Chunked, Data, Entry, ObjectId, RootId, Tree
from vcs.trees import Objects


class Reach:
    """The objects that the roots added so far reach; `digest in reach` asks for one."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._nodes: set[ObjectId] = set()
        """Roots, trees and chunk lists. Apart from the chunks: a file may hold the very bytes of a tree, and that its
        chunk is needed must not keep the tree from being opened."""
        self._chunks: set[ObjectId] = set()

    def __contains__(self, digest: ObjectId) -> bool:
        return digest in self._chunks or digest in self._nodes

    def __len__(self) -> int:
        return len(self._chunks | self._nodes)

    def add_root(self, root: RootId) -> None:
        """Take in all that a root reaches. Missing or Corrupt if that cannot be told: nothing may be removed then."""
        if root not in self._nodes:
            content = decode_root(self._objects.get(root)).content
            assert isinstance(content, Tree)  # a root's promise
            self._add_trees(content.tree)
            self._nodes.add(root)

    def _add_trees(self, top: ObjectId) -> None:
        """Iterative: trees may be deeper than Python's stack. In a set before it is read, since it may hold itself."""
        nodes, chunks = self._nodes, self._chunks
        todo = [top]
        while todo:
            digest = todo.pop()
            if digest in nodes:
                continue
            nodes.add(digest)
            for item in decode_tree(self._objects.get(digest)):
                if not isinstance(item, Entry):
                    todo.append(item.digest)
                    continue
                content = item.content
                kind = type(content)
                if kind is Data:
                    chunks.add(content.chunk)  # type: ignore[union-attr]
                elif kind is Tree:
                    todo.append(content.tree)  # type: ignore[union-attr]
                elif kind is Chunked:
                    self._add_list(content.list)  # type: ignore[union-attr]

    def _add_list(self, top: ObjectId) -> None:
        todo = [top]
        while todo:
            digest = todo.pop()
            if digest in self._nodes:
                continue
            self._nodes.add(digest)
            items, leaf = decode_list(self._objects.get(digest))
            if leaf:
                self._chunks.update(item.digest for item in items)
            else:
                todo += [item.digest for item in items]
