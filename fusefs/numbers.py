"""Node numbers: which names are the same file, and which number it has, for every worker alike.

The kernel knows a file by its node's number; two names with one number are one file to it and to overlayfs, with one
page cache. So:

    directory   a node of its own in every root: the kernel allows a directory one place
    file        one node for every root in which the same path holds the same entry: a thousand containers on fifty
                commits share one page cache
    hard links  one node for the names of a group in one root. Roots share it if all names of the group lie in one
                directory, and that path has the same of them: only then does one directory prove that they are the same
    otherwise   two paths never share a node, however equal their content

A root has other numbers as an overlay's lower (view.py) than in the view, and shares none between them: the kernel
keeps what a node says, and of a lower's files something else is said.

Numbers are st_ino too. Each root gets a range as long as its number of names, when it is first looked up, and a name's
number is its count in the root (see listing.py) from there. So a number is small, stands for one name of one root as
long as the mount lives, and leads back to it by the counts alone.

A file that several roots share has the number that it has in the first of them: when a tree is first opened at a path,
the journal says so, and of all trees that were opened at this path before, the first that holds the same entry gives
the number. That is a function of the journal's order, and of nothing that one worker knows and another does not.
Directories of more names than are held whole (listing.py) are shared only if they are identical.
"""

from __future__ import annotations

import errno
from collections.abc import Hashable
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from fusefs.journal import KEY_PART, Journal, Kind, Ranges, Record, record
from fusefs.listing import AnyListing, Listing, Listings, Run, unnamed
from fusefs.recent import Recent
from vcs.errors import Damaged
from vcs.model import Entry, RootId, Tree

_ENTRIES_KEPT = 65_536
"""Files of paths at which several trees were opened are kept by entry up to so many."""


class Numbering(NamedTuple):
    """How the files of a directory are numbered."""

    own: int
    """The directory's number: its subdirectories are counted from there."""
    base: int
    """The number of the directory as which this tree was first opened at this path: its files are counted from there,
    unless an earlier tree has them."""
    low: int
    high: int
    """The range of the directory's root."""
    path: bytes | None
    """Where other trees were opened before: the path's digest."""
    generation: int


class _Path:
    """All files of all trees that were opened at one path, each with its number."""

    def __init__(self) -> None:
        self.files: dict[Hashable, int] = {}
        self.taken = 0
        """How many trees are in it."""


class Numbers:
    """The journal, understood. For the thread of the loop alone."""

    def __init__(self, journal: Journal, listings: Listings) -> None:
        self._journal = journal.reader()
        self._listings = listings
        self._ranges = Ranges()
        self._directories: dict[bytes, int | list[int]] = {}
        """By a path's digest: the positions of the records of trees that were opened there."""
        self._links: dict[bytes, int] = {}
        self._paths: Recent[bytes, _Path] = Recent(_ENTRIES_KEPT)
        self._encode = msgspec.msgpack.Encoder().encode
        self.generation = 0
        """Changes when a root is dropped: numberings of before count no more."""
        self.catch_up()

    def catch_up(self) -> None:
        """Read what was written."""
        for position, found in self._journal.news():
            if found.kind == Kind.DIRECTORY:
                self._note(found.short, position)
            elif found.kind == Kind.LINK:
                self._links.setdefault(found.short, found.number)
            else:
                self._ranges.take(found)
                if found.kind == Kind.DROP:
                    self.generation += 1
                    self._paths = Recent(_ENTRIES_KEPT)

    def _note(self, path: bytes, position: int) -> None:
        """The record at a position says that a tree was opened at a path."""
        before = self._directories.get(path)
        if before is None:
            self._directories[path] = position
        elif type(before) is int:
            self._directories[path] = [before, position]
        else:
            before.append(position)  # type: ignore[union-attr]

    # -- roots and keys

    def first_number(self, root: RootId, names: int, is_lower: bool = False) -> int:
        """Where a root's range begins; it holds the root directory and the `names` below it. OSError EOVERFLOW."""
        self.catch_up()  # whether it was dropped
        first = self._ranges.lowers if is_lower else self._ranges.first
        number = first.get(root)
        if number is None:
            if not self._ranges.fits(names):
                raise OSError(errno.EOVERFLOW, "more names than there are numbers")
            self._append(record(Kind.LOWER if is_lower else Kind.ROOT, 0, digest=root, amount=names))
            number = first[root]
        return number

    def is_lower(self, number: int) -> bool:
        """Whether a number is of a file as overlays see it."""
        found = self._ranges.range_of(number)
        return found is not None and found[0] in self._ranges.of_lowers

    def root_of(self, number: int) -> tuple[RootId, int] | None:
        """The root in whose range a number lies, and the range's first number."""
        found = self._ranges.range_of(number)
        if found is None:
            self.catch_up()
            found = self._ranges.range_of(number)
        return None if found is None else (RootId(found[2]), found[0])

    def number_of(self, key: bytes) -> int:
        """The number of something above the roots: the same key has the same number for ever."""
        number = self._ranges.keys.get(key)
        if number is None:
            self._append(key_records(key))
            number = self._ranges.keys[key]
        return number

    def key_of(self, number: int) -> bytes | None:
        """The key that has a number."""
        if number not in self._ranges.named and self._ranges.range_of(number) is None:
            self.catch_up()
        return self._ranges.named.get(number)

    def _append(self, records: bytes) -> None:
        self._journal.append(records)
        self.catch_up()

    # -- the names of a root

    def numbering(self, number: int, path: bytes, tree: Tree, listing: AnyListing) -> Numbering:
        """How the files of a directory of a root are numbered, which is opened at this moment."""
        while True:
            generation = self.generation
            found = self._numbering(number, path, tree, listing)
            if found is not None and generation == self.generation:
                return found  # else a root was dropped meanwhile, perhaps this one

    def _numbering(self, number: int, path: bytes, tree: Tree, listing: AnyListing) -> Numbering | None:
        own = self._ranges.range_of(number)
        assert own is not None  # a directory's number comes from its root's range
        low, high, _ = own
        if low in self._ranges.dropped:  # just when it was looked up
            return Numbering(number, number, low, high, None, self.generation)
        digest = short_digest(b"lower" + path if low in self._ranges.of_lowers else path)
        is_first = digest not in self._directories
        found = None if is_first else self._recorded(digest, tree)
        if found is None:
            position = self._journal.append_one(record(Kind.DIRECTORY, number, digest, tree.tree, tree.entries))
            if position is None:
                self.catch_up()
            else:
                self._note(digest, position)
            found = (number, False) if is_first and position is not None else self._recorded(digest, tree)
            if found is None:
                return None
        base, has_earlier = found
        self._lean(low, high, base)
        is_shared = has_earlier and isinstance(listing, Listing)
        return Numbering(number, base, low, high, digest if is_shared else None, self.generation)

    def _recorded(self, path: bytes, tree: Tree) -> tuple[int, bool] | None:
        """The number as which a tree was first opened at a path, and whether another tree was before it."""
        has_earlier = False
        for found in self._records(path):
            if found.digest == tree.tree:
                return found.number, has_earlier
            has_earlier = True
        return None

    def _records(self, path: bytes, after: int = 0) -> list[Record]:
        """What was opened at a path, by roots that were not dropped."""
        positions = self._directories.get(path, [])
        found = map(self._journal.at, [positions] if isinstance(positions, int) else positions)
        dropped = self._ranges.dropped
        if not dropped:
            return list(found)[after:]
        return [each for each in found if self._start_of(each.number) not in dropped][after:]

    def _start_of(self, number: int) -> int:
        found = self._ranges.range_of(number)
        assert found is not None
        return found[0]

    def of_run(self, numbering: Numbering, listing: AnyListing, run: Run, start: int, stop: int) -> list[int]:
        """The numbers of some names of a directory, from one place in a run to another."""
        own, base = numbering.own, numbering.base
        starts, entries = run.starts, run.entries
        if numbering.path is None and not run.has_links:
            numbers = [base + count for count in starts[start:stop]]
            if own != base:
                for place in run.directories:
                    if start <= place < stop:
                        numbers[place - start] = own + starts[place]
            return numbers
        return [
            own + starts[place]
            if type(entries[place].content) is Tree
            else self._of_file(numbering, listing, run, place)
            for place in range(start, stop)
        ]

    def _of_file(self, numbering: Numbering, listing: AnyListing, run: Run, place: int) -> int:
        """The number of one file of a directory, where counting alone may not tell."""
        entry = run.entries[place]
        key: Hashable = entry
        if entry.link is not None:
            members = listing.complete_group(entry.link.group)
            if members is None:
                return self._of_link(numbering, entry, numbering.own + run.starts[place])
            key = members, unnamed(entry)
        number = self._files(numbering.path).get(key) if numbering.path is not None else None
        if number is None:
            return numbering.base + (run.starts[place] if entry.link is None else _first_equal(listing, entry))
        self._lean(numbering.low, numbering.high, number)
        return number

    def _of_link(self, numbering: Numbering, entry: Entry, number: int) -> int:
        """Of a file with names in several directories: the number of the one that was met first."""
        digest = short_digest(b"%d " % numbering.low + self._encode(unnamed(entry)))
        found = self._links.get(digest)
        if found is None:
            self._append(record(Kind.LINK, number, digest))
            found = self._links[digest]
        return found

    def _files(self, path: bytes) -> dict[Hashable, int]:
        """All files that were opened at a path."""
        known = self._paths.get(path)
        if known is None:
            known = _Path()
        records = self._records(path, known.taken)
        if records:
            for found in records:
                self._add(known.files, found)
            known.taken += len(records)
            self._paths.put(path, known, len(known.files) + 1)
        return known.files

    def _add(self, files: dict[Hashable, int], found: Record) -> None:
        try:
            listing = self._listings.open(Tree(found.digest, found.amount, 0, 0))
        except Damaged:
            return  # who opens it is told
        if not isinstance(listing, Listing):
            return
        run = listing.run_at(0)
        for entry, start in zip(run.entries, run.starts, strict=True):
            if type(entry.content) is Tree:
                continue
            if entry.link is None:
                files.setdefault(entry, found.number + start)
            elif (members := listing.complete_group(entry.link.group)) is not None:
                files.setdefault((members, unnamed(entry)), found.number + start)

    def _lean(self, low: int, high: int, number: int) -> None:
        """A file in the range from `low` to `high` has this number. If it is another root's, that one is needed too."""
        if not low <= number < high:
            pair = low, self._start_of(number)
            if pair not in self._ranges.leans:
                self._append(record(Kind.LEAN, pair[0], amount=pair[1]))


def _first_equal(listing: AnyListing, entry: Entry) -> int:
    """The count of the first name in a directory that is a hard link of this one. Names of one group that nevertheless
    differ in owner or content (a store made by somebody else) are files of their own."""
    run = listing.run_at(0)
    same = unnamed(entry)
    return next(
        start
        for other, start in zip(run.entries, run.starts, strict=True)
        if other.link == entry.link and unnamed(other) == same
    )


def short_digest(data: bytes) -> bytes:
    """What paths and links are known by: 16 bytes."""
    return blake2b(data, digest_size=16).digest()


def key_records(key: bytes) -> bytes:
    """The parts of a key, as many records."""
    name = short_digest(key)
    return b"".join(
        record(Kind.KEY, place, name, key[start : start + KEY_PART], len(key))
        for place, start in enumerate(range(0, len(key), KEY_PART))
    )
