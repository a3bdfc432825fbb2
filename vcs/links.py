"""Hard links: which entries of a root are one file, found while a tree is built, and counted again when some go.

A group's members are spread over directories, so its count and its id are known only after the last name has been
seen, while trees are written bottom up. The scheme for whatever builds trees from live files or an archive:

    groups = LinkGroups(base)                 base: the root that the new one is based on, or None for an import
    tree = PendingTree(entry)                 for each directory, its entry without content
      tree.add(entry)                         a name that is complete
      groups.add(key, path)                   a name that may be one of several of a file: st_nlink > 1,
      tree.add_linked(entry, key)             key = (st_dev, st_ino) or whatever tells the file
      parent.add(done) or parent.add_pending(tree)      after the directory's last name:
        done = tree.close(sink)               written, if nothing in it waits; else None and the tree stays pending
    root = settle(sink, tree, groups)         after the root's last name

So directories without hard links are written, and forgotten, at once; the others keep their entries, about 300 bytes
each. A file of whose names only one is in the tree (the others lie outside) is no hard link.

A group's id is the first 16 bytes of BLAKE3 over "treering link 1\\0", the base root's digest (32 zero bytes for an
import) and the bytewise smallest path among its members: the same input gives the same root, and since a root's digest
depends on the ids in it, a group made later never has the id of one that is already there. A group that takes the place
of one of the base, of which no name is left, has that one's id (LinkGroups.reuse).

When names are taken out of a base root's tree, the groups they were in have fewer members: `Recount` (and `relink`, its
short form) counts and rewrites them, opening only subtrees whose `Tree.linked` says that there is something.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator
from dataclasses import dataclass, field

from blake3 import blake3
from msgspec.structs import replace

from vcs.encoding import LINK_GROUP_SIZE
from vcs.model import DIGEST_SIZE, Entry, Link, RootId, Tree
from vcs.trees import Directory, Objects, Sink, write_tree

_CONTEXT = b"treering link 1\0"
NO_TREE = Tree(b"", 0, 0, 0)
"""Stands in a directory's entry until its tree has been written."""


def group_id(base: RootId | None, path: bytes) -> bytes:
    """The id of a group whose smallest path is `path` (absolute), first seen in a root based on `base`."""
    return blake3(_CONTEXT + (base or bytes(DIGEST_SIZE)) + path).digest(LINK_GROUP_SIZE)


class LinkGroups:
    """Counts names and keeps the smallest path of each file that has several. Memory: one path a file."""

    def __init__(self, base: RootId | None = None) -> None:
        self._base = base
        self._counts: dict[Hashable, int] = {}
        self._smallest: dict[Hashable, tuple[bytes, Link | None]] = {}
        self._reused: dict[Hashable, bytes] = {}

    def add(self, key: Hashable, path: bytes, before: Link | None = None) -> None:
        """Another name of the file `key`; `path` is absolute, from the root that is being built.

        `before` is what the entry that it replaces in the base holds: see reuse().
        """
        self._counts[key] = self._counts.get(key, 0) + 1
        known = self._smallest.get(key)
        if known is None or path < known[0]:
            self._smallest[key] = path, before

    def reuse(self, vacant: Collection[bytes]) -> None:
        """Give the ids of base groups that have lost all their names to the groups that replace them.

        So a group written anew as it was (a package installed again) is no change. Of several groups whose smallest
        names were all in one group of the base, the one with the smallest gets its id.
        """
        taken = set()
        for key, (_, before) in sorted(self._smallest.items(), key=lambda item: item[1][0]):
            if before is not None and before.group in vacant and before.group not in taken and self._counts[key] > 1:
                taken.add(before.group)
                self._reused[key] = before.group

    def link(self, key: Hashable) -> Link | None:
        """What the names of this file hold, once every name has been added; None for one with a single name."""
        count = self._counts.get(key, 0)
        if count < 2:
            return None
        return Link(self._reused.get(key) or group_id(self._base, self._smallest[key][0]), count)


@dataclass(slots=True)
class PendingTree:
    """A directory whose names are being collected; see the module's scheme."""

    entry: Entry
    """The directory's own name and attributes; its content is not looked at."""
    unless_only_time_of: Entry | None = None
    """If the finished entry differs from this one in nothing but its mtime, this one is taken."""
    _done: list[Entry] = field(default_factory=list)
    _linked: list[tuple[Entry, Hashable]] = field(default_factory=list)
    _pending: list[PendingTree] = field(default_factory=list)

    def add(self, entry: Entry) -> None:
        """A complete name; one with hard links at or below it is from the base, and may be recounted."""
        self._done.append(entry)

    def add_linked(self, entry: Entry, key: Hashable) -> None:
        """A name of the file `key`, to which settle() gives its link."""
        self._linked.append((entry, key))

    def add_pending(self, tree: PendingTree) -> None:
        """A subdirectory that could not be closed."""
        self._pending.append(tree)

    def is_empty(self) -> bool:
        return not (self._done or self._linked or self._pending)

    def close(self, sink: Sink) -> Entry | None:
        """Write the directory if no hard link is at or below it; None if it must wait for settle()."""
        if self._linked or self._pending or any(map(holds_links, self._done)):
            return None
        return self._finished(sink, self._done)

    def base_links(self) -> Iterator[Entry]:
        """The entries from the base, at any depth, that are or hold hard links."""
        stack = [self]
        while stack:
            tree = stack.pop()
            yield from filter(holds_links, tree._done)
            stack.extend(tree._pending)

    def _finished(self, sink: Sink, entries: Iterable[Entry]) -> Entry:
        done = replace(self.entry, content=write_tree(sink, entries))
        other = self.unless_only_time_of
        return other if other is not None and replace(done, mtime=other.mtime) == other else done


def settle(
    sink: Sink, tree: PendingTree, groups: LinkGroups, recount: Callable[[Sink, Entry], Entry] | None = None
) -> Entry:
    """Write a pending directory and all below it, every link filled in; `recount` is applied to base entries."""
    stack: list[tuple[PendingTree, list[Entry]]] = [(tree, [])]
    while True:
        here, entries = stack[-1]
        if here._pending:
            stack.append((here._pending.pop(), []))
            continue
        entries += [replace(entry, link=groups.link(key)) for entry, key in here._linked]
        entries += [recount(sink, entry) for entry in here._done] if recount else here._done
        stack.pop()
        done = here._finished(sink, entries)
        if not stack:
            return done
        stack[-1][1].append(done)


def holds_links(entry: Entry) -> bool:
    """Whether there is a hard link at or below an entry; no tree is opened."""
    return entry.content.linked > 0 if isinstance(entry.content, Tree) else entry.link is not None


def linked_entries(objects: Objects, entry: Entry) -> Iterator[Entry]:
    """The entries with a hard link at and below `entry`, opening only directories that have some."""
    stack = [entry]
    while stack:
        here = stack.pop()
        if isinstance(here.content, Tree):
            stack.extend(filter(holds_links, Directory(objects, here.content.tree)))
        elif here.link is not None:
            yield here


class Recount:
    """New counts for the groups in `touched`: first count() what the new root keeps of the base, then apply()."""

    def __init__(self, objects: Objects, touched: Collection[bytes]) -> None:
        self._objects = objects
        self._counts = dict.fromkeys(touched, 0)
        self._before: dict[bytes, int] = {}
        self._changed: dict[bytes, Link | None] | None = None

    def count(self, entry: Entry) -> None:
        """Count the members at and below an entry of the base that the new root keeps."""
        for found in linked_entries(self._objects, entry):
            link = found.link
            if link is not None and link.group in self._counts:
                self._counts[link.group] += 1
                self._before[link.group] = link.count

    def vacant(self) -> set[bytes]:
        """The groups of which nothing was counted."""
        return {group for group, count in self._counts.items() if not count}

    def apply(self, sink: Sink, entry: Entry) -> Entry:
        """The entry with the new counts at and below it; the same one if none of them changed."""
        if self._changed is None:
            self._changed = {
                group: Link(group, count) if count > 1 else None
                for group, count in self._counts.items()
                if count and count != self._before[group]
            }
        if not self._changed or not holds_links(entry):
            return entry
        return _rewrite(self._objects, sink, entry, self._changed)


def relink(objects: Objects, sink: Sink, root: Entry, touched: Collection[bytes]) -> Entry:
    """The root with the counts of the `touched` groups made to agree with the names it has; one name is no group.

    `objects` must be able to read every tree of the root; directories without hard links are not opened.
    """
    recount = Recount(objects, touched)
    recount.count(root)
    return recount.apply(sink, root)


def _rewrite(objects: Objects, sink: Sink, top: Entry, changed: dict[bytes, Link | None]) -> Entry:
    """Replace links at and below an entry. With a stack of its own: trees may be deeper than Python's."""
    done: list[Entry] = []
    stack: list[tuple[Entry, Iterator[Entry], list[Entry]]] = [(top, iter([top]), done)]
    while stack:
        directory, todo, entries = stack[-1]
        entry = next(todo, None)
        if entry is None:
            stack.pop()
            if stack:
                stack[-1][2].append(replace(directory, content=write_tree(sink, entries)))
        elif isinstance(entry.content, Tree) and entry.content.linked:
            stack.append((entry, iter(Directory(objects, entry.content.tree)), []))
        elif entry.link is not None and entry.link.group in changed:
            entries.append(replace(entry, link=changed[entry.link.group]))
        else:
            entries.append(entry)
    return done[0]
