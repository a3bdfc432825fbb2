"""The nodes that one worker has in memory: a cache over the numbers (numbers.py), bounded, and never the only place.

A node is made when the kernel is told of a file, and dropped when the kernel forgets the file, or when there are too
many. References are not counted: several workers read from one descriptor, so another one may be told what the kernel
has given back, and a worker that dies takes its count with it. What the kernel still knows and the cache has dropped is
found again from its number, by whichever worker is asked.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import islice

from fusefs.journal import FIRST_NUMBER
from fusefs.listing import Listings, Run
from fusefs.numbers import Numbering, Numbers
from vcs.model import Entry, RootId, Tree
from vcs.snapshot import Snapshot, Source

TREES, LOWERS = 2, 14
"""The numbers of the directories in which roots are (view.py)."""
NODES_MOST = 131_072
"""So many nodes are kept; each takes 600 bytes."""


class Node:
    """One file."""

    __slots__ = ("entry", "number")

    name_endless = True
    """Whether its name stays this file's for ever."""
    missing_endless = True
    """Of a directory: whether a name that is missing stays missing for ever, and so whether its listing stays."""

    def __init__(self, number: int, entry: Entry) -> None:
        self.number = number
        self.entry = entry


class Folder(Node):
    """A directory of a root."""

    __slots__ = ("end", "following", "inner", "numbering", "parent", "path", "root")

    def __init__(self, number: int, entry: Entry, root: RootId, path: bytes, parent: int) -> None:
        super().__init__(number, entry)
        self.root = root
        self.path = path
        """From the root, which is empty; every name begins with a slash."""
        self.parent = parent
        self.numbering: Numbering | None = None
        """How its files are numbered, once it was opened."""
        self.end = -1
        """The offset at which its listing ends, once it was listed; -1 before."""
        self.inner = 0
        """The number of the first directory in it, if that was listed; else 0."""
        self.following = 0
        """The number of the directory after it in the same one, if both were listed at once; else 0."""


class Table:
    """Nodes by number."""

    def __init__(self, source: Source, listings: Listings, numbers: Numbers, most: int = NODES_MOST) -> None:
        self._source = source
        self._listings = listings
        self.numbers = numbers
        self._most = most
        self.nodes: dict[int, Node] = {}

    def number_of(self, key: bytes) -> int:
        """The number of something above the roots: the same key has the same number for ever."""
        return self.numbers.number_of(key)

    def add(self, node: Node) -> Node:
        """Keep a node."""
        self.nodes[node.number] = node
        return node

    def add_run(self, folder: Folder, run: Run, start: int, numbers: Sequence[int], folders_only: bool = False) -> None:
        """Keep nodes for some entries of a directory, or the directories among them, which have these numbers; `start`
        is the place of the first."""
        nodes = self.nodes
        stop = start + len(numbers)
        entries = run.entries
        folders: dict[int, Node] = {}
        before = None
        for place in run.directories:
            if start <= place < stop:
                number, entry = numbers[place - start], entries[place]
                found = nodes.get(number)
                if not isinstance(found, Folder):
                    path = b"%b/%b" % (folder.path, entry.name)
                    found = Folder(number, entry, folder.root, path, folder.number)
                folders[number] = found
                if before is not None:
                    before.following = number
                elif not start:
                    folder.inner = number
                before = found
        if not folders_only:
            nodes.update(zip(numbers, map(Node, numbers, entries[start:stop]), strict=True))
        nodes.update(folders)

    def trim(self) -> None:
        """Drop the older half if there are too many."""
        if len(self.nodes) > self._most:
            for number in list(islice(self.nodes, len(self.nodes) // 2)):
                if number >= FIRST_NUMBER:
                    del self.nodes[number]

    def forget(self, number: int) -> None:
        """The kernel knows a node no more, as far as can be seen from here."""
        if number >= FIRST_NUMBER:
            self.nodes.pop(number, None)

    def root_folder(self, root: RootId, is_lower: bool) -> Folder:
        """The directory of a root, in the view or as overlays see it. Missing if there is none in the store."""
        entry = Snapshot(self._source, root).root
        tree = entry.content
        assert isinstance(tree, Tree)  # a root's promise
        self._listings.open(tree)  # before it gets numbers: whether its sum is right
        number = self.numbers.first_number(root, tree.entries, is_lower)
        found = self.nodes.get(number)
        if isinstance(found, Folder):
            return found
        return Folder(number, entry, root, b"", self._above(number))

    def _above(self, number: int) -> int:
        """The number of the directory in which a root's directory is."""
        return LOWERS if self.numbers.is_lower(number) else TREES

    def found_again(self, number: int) -> Node | None:
        """The node of a number in a root's range, found by walking down; None if it is in none. Missing or Corrupt if
        the way cannot be had."""
        where = self.numbers.root_of(number)
        if where is None:
            return None
        root, first = where
        folder = Folder(first, Snapshot(self._source, root).root, root, b"", self._above(first))
        while folder.number != number:
            tree = folder.entry.content
            assert isinstance(tree, Tree)  # what is gone into below
            count = number - folder.number
            run = self._listings.open(tree).run_counted(count)
            place = bisect_right(run.starts, count) - 1
            entry = run.entries[place]
            child = folder.number + run.starts[place]
            if not isinstance(entry.content, Tree):
                return Node(child, entry) if child == number else None
            folder = Folder(child, entry, root, b"%b/%b" % (folder.path, entry.name), folder.number)
        return folder
