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

So directories without hard links are written, and forgotten, at once; the others keep their entries, about 500 bytes
each. Who adds names in order says so (`PendingTree.ordered`), and a large directory is written while it is read, up to
the first name that has to wait. A file of whose names only one is in the tree (the others lie outside) is no hard link.

A directory that is one of the base with changes begins there (`PendingTree.start_from`); of its names only those that
change are added or removed, and of its nodes only theirs are opened (vcs.tree_edit).

A group's id is the first 16 bytes of BLAKE3 over "treering link 1\\0", the base root's digest (32 zero bytes for an
import) and the bytewise smallest path among its members: the same input gives the same root, and since a root's digest
depends on the ids in it, a group made later never has the id of one that is already there. A group that takes the place
of one of the base, of which no name is left, has that one's id (LinkGroups.reuse).

When names are taken out of a base root's tree, the groups they were in have fewer members: `Recount` counts and
rewrites them, opening only subtrees whose `Tree.linked` says that there is something.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator
from dataclasses import dataclass, field

from blake3 import blake3
from msgspec.structs import replace

from vcs.encoding import LINK_GROUP_SIZE
from vcs.model import DIGEST_SIZE, Entry, Link, RootId, Tree
from vcs.tree_edit import edit_tree
from vcs.trees import Directory, Objects, Sink, TreeWriter, entry_name, write_tree

_CONTEXT = b"treering link 1\0"
_HELD = 4096
"""Entries of a large directory that are held before they are written: 2 MB."""
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

    def finished(self, entry: Entry, key: Hashable) -> Entry:
        """An entry that waited for settle()."""
        return replace(entry, link=self.link(key))


@dataclass(slots=True)
class PendingTree:
    """A directory whose names are being collected; see the module's scheme."""

    entry: Entry
    """The directory's own name and attributes; its content is not looked at."""
    unless_only_time_of: Entry | None = None
    """If the finished entry differs from this one in nothing but its mtime, this one is taken."""
    ordered: Sink | None = None
    """A promise that names come sorted, and where a large directory's entries may be written before its end."""
    _done: list[Entry] = field(default_factory=list)
    _linked: list[tuple[Entry, Hashable]] = field(default_factory=list)
    _pending: list[PendingTree] = field(default_factory=list)
    _base: _Base | None = None
    _writer: TreeWriter | None = None
    """Has what came before what is held here."""

    def start_from(self, directory: Directory, tree: Tree) -> None:
        """Begin with the names of a directory of the base (`tree`, opened); what is added takes a name's place."""
        self._base = _Base(directory, tree)

    def remove(self, name: bytes) -> None:
        """Take out a name of the base's directory, which has it."""
        assert self._base is not None
        self._base.gone.append(name)

    def add(self, entry: Entry) -> None:
        """A complete name; one with hard links at or below it is from the base, and may be recounted."""
        self._done.append(entry)
        if self.ordered is not None and len(self._done) >= _HELD:
            self._write_ahead(self.ordered)

    def add_linked(self, entry: Entry, key: Hashable) -> None:
        """A name of the file `key`, to which settle() gives its link."""
        self._linked.append((entry, key))

    def add_pending(self, tree: PendingTree) -> None:
        """A subdirectory that could not be closed."""
        self._pending.append(tree)

    def is_empty(self) -> bool:
        return not (self._done or self._linked or self._pending or self._writer or (self._base and self._base.stays()))

    def close(self, sink: Sink) -> Entry | None:
        """Write the directory if no hard link is at or below it; None if it must wait for settle()."""
        if self._waits() or (self._base is not None and self._base.tree.linked):
            return None
        return self._finished(sink, self._done)

    def base_links(self) -> Iterator[Entry]:
        """The entries from the base, at any depth, that are or hold hard links."""
        stack = [self]
        while stack:
            tree = stack.pop()
            yield from filter(holds_links, tree._done)
            if tree._base is not None:
                yield from tree._base.links(tree._names())
            stack.extend(tree._pending)

    def _names(self) -> set[bytes]:
        """The names that were added, unless they have been written."""
        names = {entry.name for entry in self._done} | {entry.name for entry, _ in self._linked}
        return names | {tree.entry.name for tree in self._pending}

    def _waits(self) -> bool:
        return bool(self._linked or self._pending) or any(map(holds_links, self._done))

    def _write_ahead(self, sink: Sink) -> None:
        """Write what is held, unless something in it waits: then all that follows is held as well."""
        if self._waits():
            self.ordered = None
            return
        self._writer = self._writer or TreeWriter(sink)
        self._writer.extend(self._done)
        self._done = []

    def _finished(self, sink: Sink, entries: Collection[Entry]) -> Entry:
        """Write the directory; `entries` are its names, but for the base's and those that have been written."""
        if self._base is not None:
            tree = self._base.edited(sink, entries)
        elif self._writer is not None:
            self._writer.extend(sorted(entries, key=entry_name))
            tree = self._writer.close()
        else:
            tree = write_tree(sink, entries)
        done = replace(self.entry, content=tree)
        other = self.unless_only_time_of
        return other if other is not None and replace(done, mtime=other.mtime) == other else done


@dataclass(slots=True)
class _Base:
    """A directory of the base of which a new one is made."""

    directory: Directory
    tree: Tree
    gone: list[bytes] = field(default_factory=list)

    def stays(self) -> bool:
        """Whether a name is left."""
        return len(self.directory) > len(self.gone)

    def links(self, replaced: Collection[bytes]) -> list[Entry]:
        """The entries left that are or hold hard links."""
        if not self.tree.linked:
            return []
        names = {*self.gone, *replaced}
        linked = filter(holds_links, self.directory)
        return [entry for entry in linked if entry.name not in names]

    def edited(self, sink: Sink, entries: Iterable[Entry]) -> Tree:
        """The directory with these entries and without those that are gone."""
        changes: dict[bytes, Entry | None] = dict.fromkeys(self.gone)
        changes.update((entry.name, entry) for entry in entries)
        return edit_tree(sink, self.directory, self.tree, changes)


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
        kept = here._done
        if recount:
            if here._base is not None:
                kept = [*kept, *here._base.links(here._names() | {entry.name for entry in entries})]
            kept = [recount(sink, entry) for entry in kept]
        entries += [groups.finished(entry, key) for entry, key in here._linked]
        entries += kept
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

    def changed(self) -> dict[bytes, Link | None]:
        """The groups whose members hold something else now, and what; to be asked once all are counted."""
        return {
            group: Link(group, count) if count > 1 else None
            for group, count in self._counts.items()
            if count and count != self._before[group]
        }

    def apply(self, sink: Sink, entry: Entry) -> Entry:
        """The entry with the new counts at and below it; the same one if none of them changed."""
        if self._changed is None:
            self._changed = self.changed()
        return rewrite_links(self._objects, sink, entry, self._changed)


def rewrite_links(objects: Objects, sink: Sink, top: Entry, changed: dict[bytes, Link | None]) -> Entry:
    """An entry with the links of these groups, at and below it, replaced; the same one if there are none."""
    if not changed or not holds_links(top):
        return top
    # With a stack of its own: trees may be deeper than Python's.
    above: dict[bytes, Entry | None] = {}
    stack: list[tuple[Entry, Directory | None, Iterator[Entry], dict[bytes, Entry | None]]]
    stack = [(top, None, iter([top]), above)]
    while True:
        here, directory, todo, changes = stack[-1]
        entry = next(todo, None)
        if entry is None:
            stack.pop()
            if not stack:
                return above.get(top.name) or top
            if changes and directory is not None and isinstance(here.content, Tree):
                tree = edit_tree(sink, directory, here.content, changes)
                stack[-1][3][here.name] = replace(here, content=tree)
        elif isinstance(entry.content, Tree):
            below = Directory(objects, entry.content.tree)
            stack.append((entry, below, filter(holds_links, below), {}))
        elif entry.link is not None and entry.link.group in changed:
            changes[entry.name] = replace(entry, link=changed[entry.link.group])
