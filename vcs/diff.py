"""What differs between two roots. Subtrees with equal digests are never opened.

    A  added      M  modified (content or attributes)     D  deleted
    R  renamed: gone from one path, and with the same content at another; a directory as a whole
    C  copied: the same content is also at another path of the old root; only looked for if that is asked for
    T  another type of file

With a `similarity`, files whose contents are only alike are renamed and copied too (vcs.similarity).

A directory that holds a change has another mtime; that follows from the change and is not told again. Its own mode,
owner, extended attributes, or an mtime that changed alone are.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from vcs.model import Entry, ObjectId, Tree
from vcs.pairing import At, Letter, Pairs, Side, data, named_data, named_tree, tree
from vcs.similarity import similar
from vcs.snapshot import Snapshot, split_path
from vcs.trees import Directory, Objects, differing_entries


@dataclass(frozen=True, slots=True)
class Find:
    """How far to look for where what is new came from."""

    similarity: int | None = None
    """Percent of the larger content that both have: files that are so much alike belong together. None: equal ones."""
    copies: Literal["near", "everywhere"] | None = None
    """Copies of what differs, or is in a directory in which something differs; or of all that the old root has, which
    reads all of its directories."""


EXACT = Find()


@dataclass(frozen=True, slots=True)
class Change:
    """One path that differs. For R and C, `old_path` is where it was, or is; for D, `path` is where it was."""

    letter: Letter
    path: bytes
    old: Entry | None
    new: Entry | None
    old_path: bytes | None = None
    similarity: int | None = None
    """For R and C: percent, see Find."""

    @property
    def what(self) -> tuple[str, ...]:
        """Which parts differ, for M, R, C and T: of content, type, mode, owner, mtime, xattrs, link."""
        return _differences(self.old, self.new) if self.old and self.new else ()

    @property
    def status(self) -> str:
        """The letter, as git has it: R and C with the similarity, in three digits."""
        return self.letter if self.similarity is None else f"{self.letter}{self.similarity:03}"

    @property
    def name_status(self) -> tuple[bytes, ...]:
        """Status and path, with the old path between them if there is one: fields as `git diff --name-status` has."""
        return (self.status.encode(), *([] if self.old_path is None else [self.old_path]), self.path)


def diff(
    old: Snapshot, new: Snapshot, paths: Iterable[bytes] = (), renames: bool = True, find: Find = EXACT
) -> list[Change]:
    """Every change from `old` to `new`, sorted by path; with `paths`, only those at or below one of them."""
    if old.id == new.id:
        return []
    wanted = [b"/" + b"/".join(split_path(path)) for path in paths]
    walk = _Walk(old.objects, new.objects, wanted)
    walk.run(old.root, new.root)
    changes = walk.changes + _pair(old, new, walk, renames, find)
    if wanted:
        changes = [change for change in changes if _inside(change.path, wanted) or _inside(change.old_path, wanted)]
    return sorted(changes, key=lambda change: change.path)


class _Walk:
    """Walks both roots at once; what is only on one side is kept whole, to be paired or expanded later."""

    def __init__(self, old: Objects, new: Objects, wanted: Sequence[bytes]) -> None:
        self.old_objects = old
        self.new_objects = new
        self._wanted = wanted
        self.changes: list[Change] = []
        self.removed: Side = []
        self.added: Side = []
        self.changed: Side = []
        """What is on both sides and differs, as the old one has it: also where that is not asked for."""
        self.opened: list[tuple[bytes, ObjectId]] = []
        """The old side's directories in which something differs: what their paths begin with, and their trees."""

    def run(self, old: Entry, new: Entry) -> None:
        """Compare two roots. Iterative: trees may be deeper than Python's stack."""
        todo = [(b"/", old, new)]
        while todo:
            path, before, after = todo.pop()
            if before != after and _related(path, self._wanted):
                todo += self._compare(path, before, after)

    def _compare(self, path: bytes, old: Entry, new: Entry) -> list[tuple[bytes, Entry, Entry]]:
        """Note how two entries at one path differ; returns the pairs below them that do."""
        if isinstance(old.content, Tree) and isinstance(new.content, Tree):
            below = self._compare_trees(path, old.content, new.content)
            if set(_differences(old, new)) - ({"mtime"} if below is not None else set()):
                self.changes.append(Change("M", path, old, new))
            return below or []
        if stat.S_IFMT(old.mode) == stat.S_IFMT(new.mode):
            self.changes.append(Change("M", path, old, new))
        else:
            self.changes.append(Change("T", path, old, new))
            self.removed += _children(self.old_objects, path, old)
            self.added += _children(self.new_objects, path, new)
        return []

    def _compare_trees(self, path: bytes, old: Tree, new: Tree) -> list[tuple[bytes, Entry, Entry]] | None:
        """The names that are on both sides and differ; None where the trees are equal."""
        if old.tree == new.tree:
            return None
        prefix = path if path == b"/" else path + b"/"
        self.opened.append((prefix, old.tree))
        before, after = differing_entries(self.old_objects, old.tree, self.new_objects, new.tree)
        rest = {entry.name: entry for entry in before}
        both = []
        for entry in after:
            previous = rest.pop(entry.name, None)
            if previous is None:
                self.added.append((prefix + entry.name, entry))
            elif previous != entry:
                both.append((prefix + entry.name, previous, entry))
                self.changed.append((prefix + entry.name, previous))
        self.removed += [(prefix + entry.name, entry) for entry in rest.values()]
        return both


def _pair(old: Snapshot, new: Snapshot, walk: _Walk, renames: bool, find: Find) -> list[Change]:
    """Renames among what is on one side only, and copies; the rest, expanded, is deleted and added.

    Directories come first, as wholes: those that are equally deep in what is gone and in what is new without being
    opened, then at any depth, outer ones before inner ones. Then files.
    """
    pairs = Pairs()
    removed, added = walk.removed, walk.added
    gone = list(removed)
    lone_removed: Side = []
    lone_added: Side = []
    while removed or added:
        if renames:
            removed, added = pairs.match(removed, added, named_tree, tree)
        lone_removed += removed
        lone_added += added
        removed = [child for path, entry in removed for child in _children(walk.old_objects, path, entry)]
        added = [child for path, entry in added for child in _children(walk.new_objects, path, entry)]
        gone += removed
    if renames:
        lone_removed, lone_added = pairs.match(lone_removed, lone_added, tree)
        lone_removed, lone_added = pairs.match(lone_removed, lone_added, named_data, data)
        if find.similarity is not None:
            alike = similar(old, new, lone_removed, lone_added, find.similarity)
            lone_removed, lone_added = pairs.match_similar(lone_removed, lone_added, alike)
    if find.copies is not None:
        lone_added = pairs.copy(_sources(old, walk, gone, find), lone_added, named_tree, tree, named_data, data)
        if find.similarity is not None:
            sources = list(old.walk()) if find.copies == "everywhere" else [*walk.changed, *gone]
            lone_added = pairs.copy_similar(lone_added, similar(old, new, sources, lone_added, find.similarity))
    changes = [Change(*pair) for pair in pairs.found]
    changes += [Change("D", path, entry, None) for path, entry in lone_removed]
    changes += [Change("A", path, None, entry) for path, entry in lone_added]
    return changes


def _sources(old: Snapshot, walk: _Walk, gone: Side, find: Find) -> Side:
    """What copies can be from: what is gone, and all that was in the directories that changed; or everything."""
    if find.copies == "everywhere":
        return list(old.walk())
    beside = [
        (prefix + entry.name, entry) for prefix, tree in walk.opened for entry in Directory(walk.old_objects, tree)
    ]
    return [*beside, *gone]


def _children(objects: Objects, path: bytes, entry: Entry) -> Iterator[At]:
    if isinstance(entry.content, Tree):
        for child in Directory(objects, entry.content.tree):
            yield path + b"/" + child.name, child


def _differences(old: Entry, new: Entry) -> tuple[str, ...]:
    both_trees = isinstance(old.content, Tree) and isinstance(new.content, Tree)
    pairs = {
        "type": (stat.S_IFMT(old.mode), stat.S_IFMT(new.mode)),
        "content": (None, None) if both_trees else (old.content, new.content),
        "mode": (stat.S_IMODE(old.mode), stat.S_IMODE(new.mode)),
        "owner": ((old.uid, old.gid), (new.uid, new.gid)),
        "mtime": (old.mtime, new.mtime),
        "xattrs": (old.xattrs, new.xattrs),
        "link": (old.link, new.link),
    }
    return tuple(name for name, (before, after) in pairs.items() if before != after)


def _related(path: bytes, wanted: Sequence[bytes]) -> bool:
    """Whether `path` is above, at or below one of the wanted ones (which may also be its own)."""
    return not wanted or _inside(path, wanted) or any(_inside(one, [path]) for one in wanted)


def _inside(path: bytes | None, tops: Sequence[bytes]) -> bool:
    return path is not None and any(path == top or path.startswith(top if top == b"/" else top + b"/") for top in tops)
