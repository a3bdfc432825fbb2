"""The hard links of an import that takes most names over from the last one, unread.

A group's id and count depend on all of its names, and most of them may be in directories that nobody opens. What they
are is in the rows of the last import's cache: who has which names, by their records. So the groups that the last root
has, and those that the new one must have, can be computed from rows alone, and only trees in which the two differ are
opened and written again.

A record tells a file from all others, and a file that was changed from what it was. So it is the key of a group: names
that stay and names that were read are one file exactly if their records are equal.
"""

from __future__ import annotations

from collections.abc import Hashable

from vcs.importcache import Previous
from vcs.links import LinkGroups
from vcs.livedir import Identity
from vcs.model import Entry, Link


class NewLinksError(Exception):
    """A file that was alone in the last root has more names now, though its record is as it was: they had been left
    out. Nothing in that root says which entry is meant, so it is of no use to this import."""


class ImportLinks:
    """The names with st_nlink above 1 that an import has come by."""

    def __init__(self) -> None:
        self.groups = LinkGroups()
        self.read: dict[Identity, tuple[Hashable, Entry]] = {}
        """The files that were read: their key in the groups, and the first name's entry."""
        self._keys: set[Hashable] = set()
        """Those of which a name stays."""
        self._rows: list[tuple[int, bytes, bool]] = []

    def stays(self, record: bytes, path: bytes) -> None:
        """A name stays as it was."""
        self.groups.add(record, path)
        self._keys.add(record)

    def row_stays(self, at: int, path: bytes, *, below: bool) -> None:
        """All names of a directory stay, whose row is at `at`, and those in its subdirectories too, if `below`."""
        self._rows.append((at, path, below))

    def changed(self, previous: Previous) -> dict[bytes, Link | None]:
        """The groups of the last root whose names that stay must hold something else, and what; asked once, at the
        end. NewLinksError if that cannot be said."""
        for at, path, below in self._rows:
            for record, name in previous.linked(at, path, below=below):
                self.stays(record, name)
        before = LinkGroups()
        for record, name in previous.linked(previous.top, b""):
            before.add(record, name)
        changed = {}
        for key in self._keys:
            old, new = before.link(key), self.groups.link(key)
            if old is None and new is not None:
                raise NewLinksError
            if old is not None and old != new:
                changed[old.group] = new
        return changed
