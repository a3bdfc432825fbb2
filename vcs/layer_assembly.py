"""The names of an image layer, laid over a root: a tree in memory of what the layer says, and then a new root.

What a layer hides, it hides of the root below only, wherever in the archive that stands: so names are collected first,
and put together with the root below at the end. For each directory that the layer names:

    the root below has one    its entries stay, but for those that are replaced or hidden. If the layer describes the
                              directory itself, it has the layer's attributes, else those that it had
    it has something else,    only the layer's entries are there. A link that the layer merely has names below is
    or it is hidden           refused: tools disagree on whether these names lie where it leads

Only directories that the layer names are opened, and those with hard links whose count changes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from msgspec.structs import replace

from vcs.assembly import Held, HeldDirectory, Node, TreeBuilder, entry_of, not_a_directory
from vcs.errors import BadInput
from vcs.links import LinkGroups, holds_links, linked_entries, rewrite_links
from vcs.model import Entry, Link, RootId, Tree
from vcs.snapshot import Snapshot, split_path
from vcs.tree_edit import edit_tree
from vcs.trees import Directory, Objects, Sink, write_tree


class _LayerDirectory(HeldDirectory):
    """With what the layer hides in it: some names, or all."""

    __slots__ = ("hidden", "is_opaque")

    def __init__(self, entry: Entry, is_implied: bool = False) -> None:
        super().__init__(entry, is_implied)
        self.hidden: set[bytes] | None = None
        self.is_opaque = False

    def hides(self, name: bytes) -> bool:
        return self.is_opaque or (self.hidden is not None and name in self.hidden)


class _Lower(Held):
    """A file of the root below that the layer gives another name."""

    __slots__ = ()


@dataclass(slots=True)
class _Merging:
    """A directory of the layer, and the one that it lies over."""

    parent: _LayerDirectory | None
    name: bytes
    path: bytes
    """With a slash at its end."""
    here: _LayerDirectory
    below: Entry | None


class LayerBuilder(TreeBuilder):
    """What a layer adds and hides. A name that cannot be is BadInput; the builder is of no use after that."""

    def __init__(self, objects: Objects, base: RootId | None) -> None:
        super().__init__()
        self._objects = objects
        self._base = base
        self._snapshot = Snapshot(objects, base) if base else None
        self._lower: dict[bytes, _Lower] = {}
        """By the group of hard links, or the path."""
        self._targets: list[bytes] = []

    def hide(self, path: bytes) -> None:
        """Hide what the root below has at a path."""
        parent, name = self._place(path)
        here = _layered(parent)
        here.hidden = here.hidden or set()
        if name not in here.hidden:
            self._count_name(len(name))
            here.hidden.add(name)

    def hide_all(self, path: bytes) -> None:
        """Hide all that the root below has in a directory."""
        parent, name = self._place(path)
        if not name:
            _layered(self._root).is_opaque = True
            return
        there = parent.names.get(name)
        if there is None:
            there, _ = self._place(path + b"/.wh.")  # makes the directory, and not this name in it
        if not isinstance(there, _LayerDirectory):
            raise not_a_directory(there, path)
        there.is_opaque = True

    def finish(self, sink: Sink) -> Entry:
        """Write every directory that changed, deepest first, and return the root's entry. Empty afterwards."""
        for target in self._targets:
            self._check_shown(target)
        order = list(self._merged())
        counts, vacated = self._link_changes(order)
        groups = LinkGroups(self._base)
        if self._has_links:
            self._count_new_links(groups)
            groups.reuse(vacated)
        done = _Finishing(self._objects, sink, groups, counts)
        while True:
            item = order.pop()
            entry = done.written(item)
            item.here.names = {}
            if item.parent is None:
                assert entry is not None
                return entry
            item.parent.names.pop(item.name)
            if entry is not None:
                held = HeldDirectory(entry)
                item.parent.names[item.name] = held.packed

    def _directory(self, entry: Entry, is_implied: bool = False) -> HeldDirectory:
        return _LayerDirectory(entry, is_implied)

    def _elsewhere(self, target: bytes, way: Node | None) -> Held:
        found = self._snapshot.find(target) if self._snapshot and way is None else None
        if found is None:
            raise BadInput(
                f"a hard link to {target!r}, which is neither in the layer before it nor below", target=target
            )
        if found.is_dir:
            raise BadInput(f"a hard link to {target!r}, which is a directory", target=target)
        path = b"/" + b"/".join(split_path(target))
        node = self._lower.setdefault(found.link.group if found.link else path, _Lower(found))
        self._targets.append(path)
        # The name that is there already is one of the layer's too: of a file that it names anew, or replaces after all.
        parent, name = self._place(path)
        self._set(parent, name, node)
        return node

    def _check_shown(self, target: bytes) -> None:
        """BadInput if the layer hides what it has a hard link to."""
        here: Node | None = self._root
        for name in split_path(target):
            if not isinstance(here, _LayerDirectory):
                return
            if here.hides(name):
                raise BadInput(f"a hard link to {target!r}, which the layer deletes", target=target)
            here = here.names.get(name)

    def _merged(self) -> Iterator[_Merging]:
        """Every directory of the layer, with what it lies over, parents first."""
        below = self._snapshot.root if self._snapshot else None
        stack = [_Merging(None, b"", b"/", _layered(self._root), below)]
        while stack:
            item = stack.pop()
            yield item
            lower = self._lower_names(item)
            for name, node in sorted(item.here.names.items(), key=lambda pair: pair[0]):
                if isinstance(node, _LayerDirectory):
                    path = item.path + name + b"/"
                    stack.append(_Merging(item.here, name, path, node, _over(node, path, lower, item.here, name)))

    def _lower_names(self, item: _Merging) -> Directory | None:
        """The directory below, if anything of it is seen."""
        if item.below is None or item.here.is_opaque or not isinstance(item.below.content, Tree):
            return None
        return Directory(self._objects, item.below.content.tree)

    def _link_changes(self, order: list[_Merging]) -> tuple[dict[bytes, Link | None], set[bytes]]:
        """What names of the base's groups hold now, of those groups whose count is another; and which lost a name."""
        gone: Counter[bytes] = Counter()
        counts: dict[bytes, int] = {}
        for item in order:
            for entry in self._replaced(item):
                for linked in linked_entries(self._objects, entry):
                    assert linked.link is not None
                    gone[linked.link.group] += 1
                    counts[linked.link.group] = linked.link.count
        come: Counter[bytes] = Counter()
        for item in order if self._lower else ():
            for node in item.here.names.values():
                if isinstance(node, _Lower) and (link := node.entry.link):
                    come[link.group] += 1
                    counts[link.group] = link.count
        left = {group: count - gone[group] + come[group] for group, count in counts.items()}
        changed = {
            group: Link(group, count) if count > 1 else None for group, count in left.items() if count != counts[group]
        }
        return changed, {group for group, count in left.items() if not count}

    def _replaced(self, item: _Merging) -> Iterator[Entry]:
        """The entries of the directory below that are not seen any more, if there are hard links at or below them."""
        if item.below is None or not isinstance(item.below.content, Tree) or not item.below.content.linked:
            return
        for entry in filter(holds_links, Directory(self._objects, item.below.content.tree)):
            above = item.here.names.get(entry.name)
            if item.here.hides(entry.name) or not (
                above is None or (entry.is_dir and isinstance(above, HeldDirectory))
            ):
                yield entry

    def _count_new_links(self, groups: LinkGroups) -> None:
        """Count the names of the files that the layer itself has under several, or gives their second."""
        stack = [(b"/", self._root)]
        while stack:
            prefix, directory = stack.pop()
            for name, node in directory.names.items():
                if isinstance(node, HeldDirectory):
                    stack.append((prefix + name + b"/", node))
                elif isinstance(node, Held) and not (isinstance(node, _Lower) and node.entry.link):
                    path = prefix + name
                    before = self._snapshot.find(path) if self._snapshot else None
                    groups.add(id(node), path, before.link if before else None)


class _Finishing:
    """Writes the directories of a layer, one at a time."""

    def __init__(self, objects: Objects, sink: Sink, groups: LinkGroups, counts: dict[bytes, Link | None]) -> None:
        self._objects = objects
        self._sink = sink
        self._groups = groups
        self._counts = counts

    def written(self, item: _Merging) -> Entry | None:
        """A directory, all in it being written; None if there is none: the layer only hides something in it."""
        here, below = item.here, item.below
        if below is None and here.is_implied and not here.names and item.parent is not None:
            return None
        own = replace(below, name=item.name) if here.is_implied and below is not None else here.entry
        changes: dict[bytes, Entry | None] = dict.fromkeys(here.hidden or ())
        changes.update((name, self._entry(name, node)) for name, node in here.names.items())
        if below is None or here.is_opaque or not isinstance(below.content, Tree):
            return replace(own, content=write_tree(self._sink, filter(None, changes.values())))
        directory = Directory(self._objects, below.content.tree)
        if self._counts and below.content.linked:
            for entry in filter(holds_links, directory):
                if entry.name not in changes:
                    changes[entry.name] = rewrite_links(self._objects, self._sink, entry, self._counts)
        return replace(own, content=edit_tree(self._sink, directory, below.content, changes))

    def _entry(self, name: bytes, node: Node) -> Entry:
        entry = entry_of(node)
        if not isinstance(node, Held):
            return entry
        if isinstance(node, _Lower) and entry.link:
            return replace(entry, name=name, link=self._counts.get(entry.link.group, entry.link))
        return replace(entry, name=name, link=self._groups.link(id(node)))


def _over(
    node: _LayerDirectory, path: bytes, lower: Directory | None, parent: _LayerDirectory, name: bytes
) -> Entry | None:
    """The directory that one of the layer lies over, None if there is none."""
    below = None if lower is None or parent.hides(name) else lower.lookup(name)
    if below is None or below.is_dir:
        return below
    if node.is_implied:
        raise not_a_directory(HeldDirectory(below), path.rstrip(b"/"))
    return None


def _layered(directory: HeldDirectory) -> _LayerDirectory:
    assert isinstance(directory, _LayerDirectory)
    return directory
