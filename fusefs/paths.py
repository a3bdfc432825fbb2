"""Paths, resolved to nodes: for a driver whose kernel side speaks of paths and never says what it has forgotten.

Below a root nothing changes, so what was found there is kept, up to a number of paths; above, each name is looked up
anew. What is kept no longer is dropped from the table (inodes.py) too: no kernel will say that it is forgotten. Found
again, it has the number that it had, since numbers are the journal's.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from itertools import islice

from fusefs.filesystem import FileSystem
from fusefs.inodes import Folder, Node
from fusefs.view import ROOT
from vcs.model import RootId

KEPT = 65_536
"""Paths; some 40 MB with their nodes."""
_DROPPED = 8
"""What part of them goes when there are too many."""


class Paths:
    """The paths of one mount. Not safe for several threads."""

    def __init__(self, filesystem: FileSystem, keep: Callable[[RootId], bool], limit: int = KEPT) -> None:
        """`keep` is called before anything is read of a root: gc is to leave it alone from now on. It returns whether
        the root is there."""
        self._fs = filesystem
        self._keep = keep
        self._limit = limit
        self._found: dict[bytes, Node] = {}
        """In the order found."""

    def node(self, path: bytes) -> Node:
        """The node at an absolute path; links are not followed. OSError ENOENT, ENOTDIR."""
        node = self._found.get(path)
        return node if node is not None and node.name_endless else self._resolved(path)

    def _resolved(self, path: bytes) -> Node:
        """Look up what is not known, from the longest part of the path that is. A path may be deeper than the stack."""
        node = None
        names = []
        parent = path
        while len(parent) > 1 and node is None:
            parent, _, name = parent.rpartition(b"/")
            names.append(name)
            node = self._found.get(parent)
            if node is not None and not node.name_endless:
                node = None
        if node is None:
            node, parent = self._fs.node(ROOT), b""
        for name in reversed(names):
            parent = b"%b/%b" % (parent, name)
            node = self._child(node, parent, name)
        return node

    def _child(self, parent: Node, path: bytes, name: bytes) -> Node:
        node = self._fs.lookup(parent, name)
        if node is None:
            raise OSError(errno.ENOENT, "no such file")
        if isinstance(node, Folder) and not node.path and not self._keep(node.root):
            self._fs.forget(node.number)
            raise OSError(errno.ENOENT, "no such root")
        self._remember(path, node)
        return node

    def _remember(self, path: bytes, node: Node) -> None:
        before = self._found.pop(path, None)
        if before is not None and before is not node:
            self._fs.forget(before.number)
        self._found[path] = node
        if len(self._found) > self._limit:
            for old in list(islice(self._found, self._limit // _DROPPED + 1)):
                self._fs.forget(self._found.pop(old).number)
