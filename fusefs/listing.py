"""Directories, opened: their entries by position and by name, and the numbers of everything below.

The names of a root are counted in preorder: the root directory is 0, then comes its first entry, then all that is below
that entry, then the second. A directory's entry says how many names are below it, so an entry's count follows from its
own directory alone; nothing else has to be opened, and the same name always gets the same count (`Run.starts`).

A directory of up to some thousand names is held whole. Of a larger one, nodes are opened when they are needed: the
first names are there at once, and memory does not grow with it. If as many names are below it as are in it, counts are
positions; else all of its nodes are gone through once, to learn at which count each begins.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import TypeAlias

import msgspec

from fusefs.recent import Recent
from vcs.errors import Corrupt
from vcs.model import Entry, Tree
from vcs.snapshot import Directory, Source

_ENTRIES_KEPT = 32_768
"""Opened directories are kept up to so many entries in total: some 12 MB."""
_WHOLE_MOST = 8_192
"""Directories of so many entries are held whole."""
_LARGE_WEIGHT = 2_048
"""What a larger one counts for: a path of nodes, of up to 1,024 items each."""
_LONGEST = bytes(255)
"""A name that is as long as any."""
_NUMBERS_PER_ENTRY = 32
"""How many numbers in an array take as much memory as an entry."""


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbours in a directory."""

    first: int
    """The position of the first of them."""
    entries: Sequence[Entry]
    starts: Sequence[int]
    """For each: how many names after its directory's own it is counted, from 1."""
    directories: Sequence[int]
    """The places of those that are directories."""
    has_links: bool
    """Whether there are hard links among them."""

    @property
    def end(self) -> int:
        """The position after the last."""
        return self.first + len(self.entries)


def _run(first: int, count: int, entries: Sequence[Entry]) -> tuple[Run, int]:
    """Entries from a position on, the first of them with a count; and the count after the last name below them."""
    directories = [place for place, entry in enumerate(entries) if type(entry.content) is Tree]
    has_links = any(entry.link is not None for entry in entries)
    starts = array("Q")
    done = 0
    for place in directories:
        below = entries[place].content.entries  # type: ignore[union-attr]
        if below < 0:
            raise Corrupt(f"directory {entries[place].name!r} counts {below} names")
        if below:
            starts.extend(range(count, count + place + 1 - done))
            count += place + 1 - done + below
            done = place + 1
    last = range(count, count + len(entries) - done)
    starts.extend(last)
    return Run(first, entries, starts if done else last, directories, has_links), last.stop


class Listing:
    """One tree, opened. The same for every directory that holds it, in any root and at any path."""

    def __init__(self, directory: Directory) -> None:
        _, entries = directory.node_at(0)
        if directory.is_large:
            entries = list(directory)
        self._run, count = _run(0, 1, entries)
        self.below = count - 1
        """How many names are below this directory, at any depth."""
        self._positions: dict[bytes, int] | None = None
        self._complete = _complete_groups(entries) if self._run.has_links else {}

    def __len__(self) -> int:
        return len(self._run.entries)

    @property
    def weight(self) -> int:
        """Its size in memory, in entries."""
        return len(self) + 1

    def run_at(self, position: int) -> Run:
        """Entries of which one has this position."""
        return self._run

    def run_counted(self, count: int) -> Run:
        """Entries of which one has this count, or the name with it below it."""
        return self._run

    def find(self, name: bytes) -> tuple[Run, int] | None:
        """Where a name is: a run, and its place in there."""
        if self._positions is None:
            self._positions = {entry.name: position for position, entry in enumerate(self._run.entries)}
        position = self._positions.get(name)
        return None if position is None else (self._run, position)

    def complete_group(self, group: bytes) -> Hashable | None:
        """All entries of a group of hard links, if it is known that no name of it lies in another directory."""
        return self._complete.get(group)


class LargeListing:
    """The same for a directory of which only some nodes are in memory. Its groups of hard links are not known."""

    def __init__(self, directory: Directory, below: int) -> None:
        """`below`: how many names are said to be below it, at any depth."""
        self._directory = directory
        self._firsts, self._counts = array("Q"), array("Q")
        """Where nodes begin: positions and counts. Empty if the two are the same, but for 1."""
        self._last: Run | None = None
        self.below = len(directory)
        if below != self.below:
            self.below = self._count_all()

    def __len__(self) -> int:
        return len(self._directory)

    @property
    def weight(self) -> int:
        return _LARGE_WEIGHT + 2 * len(self._firsts) // _NUMBERS_PER_ENTRY

    def run_at(self, position: int) -> Run:
        last = self._last
        if last is not None and last.first <= position < last.end:
            return last
        return self._opened(*self._directory.node_at(position))

    def run_counted(self, count: int) -> Run:
        """Entries of which one has this count, or the name with it below it."""
        if not self._firsts:
            return self.run_at(count - 1)
        return self.run_at(self._firsts[bisect_right(self._counts, count) - 1])

    def find(self, name: bytes) -> tuple[Run, int] | None:
        run = self._opened(*self._directory.node_of(name))
        place = bisect_left(run.entries, name, key=_name)
        return (run, place) if place < len(run.entries) and run.entries[place].name == name else None

    def complete_group(self, group: bytes) -> Hashable | None:
        return None

    def _opened(self, first: int, entries: Sequence[Entry]) -> Run:
        """A node as a run. Corrupt if more names are below it than its directory's entry says."""
        if self._last is None or self._last.entries is not entries:
            count = self._counts[bisect_right(self._firsts, first) - 1] if self._firsts else first + 1
            self._last, end = _run(first, count, entries)
            if not self._firsts and end - count != len(entries):
                raise Corrupt(
                    f"{end - count} names are below {entries[0].name!r} and those after it, not {len(entries)}"
                )
        return self._last

    def _count_all(self) -> int:
        """Go through all nodes; returns how many names are below the directory."""
        count = 1
        position = 0
        while position < len(self):
            first, entries = self._directory.node_at(position)
            self._firsts.append(first)
            self._counts.append(count)
            run, count = _run(first, count, entries)
            position = run.end
        return count - 1


AnyListing: TypeAlias = Listing | LargeListing


def fitting(
    listing: AnyListing, position: int, room: int, size_of: Callable[[bytes], int]
) -> Iterator[tuple[Run, int, int]]:
    """The entries from a position on whose sizes together fit into some room: runs, each with the places in it, from
    and up to."""
    largest = size_of(_LONGEST)
    while position < len(listing):
        run = listing.run_at(position)
        start = stop = position - run.first
        entries = run.entries
        last = len(entries)
        if run.end == len(listing) and (last - start) * largest <= room:
            stop = last
        while stop < last:
            room -= size_of(entries[stop].name)
            if room < 0:
                break
            stop += 1
        yield run, start, stop
        if stop < last:
            return
        position = run.end


def _complete_groups(entries: Sequence[Entry]) -> dict[bytes, Hashable]:
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
        self._recent: Recent[bytes, AnyListing] = Recent(_ENTRIES_KEPT)

    def open(self, tree: Tree) -> AnyListing:
        """A directory's entries. Missing or Corrupt if they cannot be had, or do not add up.

        A sum that lies would let a name be counted as another one's, and so be taken for its file.
        """
        listing = self._recent.get(tree.tree)
        if listing is None:
            directory = Directory(self._source, tree.tree)
            is_large = len(directory) > _WHOLE_MOST
            listing = LargeListing(directory, tree.entries) if is_large else Listing(directory)
            self._recent.put(tree.tree, listing, listing.weight)
        if listing.below != tree.entries:
            digest = tree.tree.hex()
            raise Corrupt(f"tree {digest} has {listing.below} names, its entry says {tree.entries}", digest=digest)
        return listing


_name = attrgetter("name")


def unnamed(entry: Entry) -> Entry:
    """What an entry says about its file, whatever its name."""
    return msgspec.structs.replace(entry, name=b"")
