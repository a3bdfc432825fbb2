"""Node numbers: which names are the same file, and which number it has.

The kernel knows a file by its node's number; two names with one number are one file to it and to overlayfs, with one
page cache. So:

    directory   a node of its own in every root: the kernel allows a directory one place
    file        one node for every root in which the same path holds the same entry: a thousand containers on fifty
                commits share one page cache
    hard links  one node for the names of a group in one root. Roots share it if all names of the group lie in one
                directory, and that path has the same of them: only then does one directory prove that they are the same
                (one that is held whole: see listing.py)
    otherwise   two paths never share a node, however equal their content

Numbers are st_ino too. Each root gets a range as long as its number of names, when it is first looked up, and a name's
number is its count in the root (see listing.py) from there. So a number is small, stands for one name of one root as
long as the mount lives, whatever the kernel forgets in between, and could be found again from the list of roots alone.
A file shared by several roots has the number of the root through which the kernel first came to know it.

A node lives from the first time that the kernel is told of it until the kernel has given back (FORGET) all references.
"""

from __future__ import annotations

from collections.abc import Hashable

from vcs.model import Entry, RootId


class Node:
    """One file that the kernel knows."""

    __slots__ = ("entry", "key", "number", "references")

    name_endless = True
    """Whether its name stays this file's for ever."""
    missing_endless = True
    """Of a directory: whether a name that is missing stays missing for ever, and so whether its listing stays."""

    def __init__(self, number: int, entry: Entry, key: Hashable) -> None:
        self.number = number
        self.entry = entry
        self.key = key
        """What makes it the same file as another name's."""
        self.references = 0


class Folder(Node):
    """A directory of a root."""

    __slots__ = ("parent", "path", "root")

    def __init__(self, number: int, entry: Entry, root: RootId, path: bytes, parent: int) -> None:
        super().__init__(number, entry, None)
        self.root = root
        self.path = path
        """From the root, which is empty; every name begins with a slash."""
        self.parent = parent


class Table:
    """The nodes that the kernel knows, and the numbers that are given out."""

    def __init__(self, first: int) -> None:
        self.nodes: dict[int, Node] = {}
        self.files: dict[Hashable, Node] = {}
        """All but directories of roots, by key."""
        self.ranges: dict[RootId, int] = {}
        """The first number of each root's range, in the order given out."""
        self._next = first
        self._numbers: dict[bytes, int] = {}

    def take(self, count: int = 1) -> int:
        """The first of `count` numbers that nothing else ever gets."""
        number = self._next
        self._next += count
        return number

    def number_of(self, key: bytes) -> int:
        """The number of what a key stands for, above the roots (view.py): the same key, the same number for ever."""
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = self.take()
        return number

    def first_number(self, root: RootId, names: int) -> int:
        """Where a root's range begins; it holds the root directory and the `names` below it."""
        number = self.ranges.get(root)
        if number is None:
            number = self.ranges[root] = self.take(names + 1)
        return number

    def roots(self) -> list[RootId]:
        """The roots of which the kernel knows any file: it keeps the directories above one that it knows, up to the
        root's. May be called from another thread."""
        return [root for root, number in list(self.ranges.items()) if number in self.nodes]

    def add(self, node: Node) -> None:
        """Enter a node, without references yet."""
        self.nodes[node.number] = node
        if node.key is not None:
            self.files[node.key] = node

    def forget(self, number: int, count: int) -> None:
        """The kernel gives back `count` references; a node without any is dropped."""
        node = self.nodes.get(number)
        if node is None or number < FIRST_NUMBER:
            return
        node.references -= count
        if node.references <= 0:
            del self.nodes[number]
            if node.key is not None:
                del self.files[node.key]


FIRST_NUMBER = 16
"""Numbers below are the fixed directories', which are never forgotten."""
