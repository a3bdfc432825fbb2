"""Directories, opened: their entries by position and by name, and the numbers of everything below.

The names of a root are counted in preorder: the root directory is 0, then comes its first entry, then all that is below
that entry, then the second. A directory's entry says how many names are below it, so an entry's count follows from its
own directory alone; nothing else has to be opened, and the same name always gets the same count (`starts`).
"""

from __future__ import annotations

from array import array
from collections.abc import Hashable

import msgspec

from fusefs.recent import Recent
from vcs.errors import Corrupt
from vcs.model import Entry, Tree
from vcs.snapshot import Directory, Source

_ENTRIES_KEPT = 32_768
"""Opened directories are kept up to so many entries in total: some 12 MB."""


class Listing:
    """One tree, opened. The same for every directory that holds it, in any root and at any path."""

    __slots__ = ("_complete", "_positions", "below", "entries", "starts")

    def __init__(self, entries: list[Entry]) -> None:
        self.entries = entries
        self.starts = array("Q")
        """By position: how many names after its directory's own an entry is counted, from 1."""
        count = 1
        linked = False
        for entry in entries:
            self.starts.append(count)
            content = entry.content
            count += 1
            if type(content) is Tree:
                if content.entries < 0:
                    raise Corrupt(f"directory {entry.name!r} counts {content.entries} names")
                count += content.entries
            linked = linked or entry.link is not None
        self.below = count - 1
        """How many names are below this directory, at any depth."""
        self._positions: dict[bytes, int] | None = None
        self._complete = _complete_groups(entries) if linked else {}

    def position(self, name: bytes) -> int | None:
        """Where a name is among the entries."""
        if self._positions is None:
            self._positions = {entry.name: position for position, entry in enumerate(self.entries)}
        return self._positions.get(name)

    def complete_group(self, group: bytes) -> Hashable | None:
        """All entries of a group of hard links, if no name of it lies in another directory."""
        return self._complete.get(group)


def _complete_groups(entries: list[Entry]) -> dict[bytes, Hashable]:
    groups: dict[bytes, list[Entry]] = {}
    for entry in entries:
        if entry.link is not None:
            groups.setdefault(entry.link.group, []).append(entry)
    return {
        group: tuple(members)
        for group, members in groups.items()
        if all(entry.link is not None and entry.link.count == len(members) for entry in members)
    }


class Listings:
    """Opens directories, and keeps the last ones open."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._recent: Recent[bytes, Listing] = Recent(_ENTRIES_KEPT)

    def open(self, tree: Tree) -> Listing:
        """A directory's entries. Missing or Corrupt if they cannot be had, or do not add up.

        A sum that lies would let a name be counted as another one's, and so be taken for its file.
        """
        listing = self._recent.get(tree.tree)
        if listing is None:
            listing = Listing(list(Directory(self._source, tree.tree)))
            self._recent.put(tree.tree, listing, len(listing.entries) + 1)
        if listing.below != tree.entries:
            digest = tree.tree.hex()
            raise Corrupt(f"tree {digest} has {listing.below} names, its entry says {tree.entries}", digest=digest)
        return listing


def unnamed(entry: Entry) -> Entry:
    """What an entry says about its file, whatever its name."""
    return msgspec.structs.replace(entry, name=b"")
