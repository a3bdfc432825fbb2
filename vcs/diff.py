"""What differs between two roots. Subtrees with equal digests are never opened.

    A  added      M  modified (content or attributes)     D  deleted
    R  renamed: gone from one path, and with the same content at another; a directory as a whole
    T  another type of file

A directory that holds a change has another mtime; that follows from the change and is not told again. Its own mode,
owner, extended attributes, or an mtime that changed alone are.
"""

from __future__ import annotations

import stat
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from vcs.model import Chunked, Data, Entry, Symlink, Tree
from vcs.snapshot import Snapshot, split_path
from vcs.trees import Directory, Objects, differing_entries

Letter = Literal["A", "M", "D", "R", "T"]


@dataclass(frozen=True, slots=True)
class Change:
    """One path that differs. For R, `old_path` is where it was; for D, `path` is where it was."""

    letter: Letter
    path: bytes
    old: Entry | None
    new: Entry | None
    old_path: bytes | None = None

    @property
    def what(self) -> tuple[str, ...]:
        """Which parts differ, for M, R and T: of content, type, mode, owner, mtime, xattrs, link."""
        return _differences(self.old, self.new) if self.old and self.new else ()


def diff(old: Snapshot, new: Snapshot, paths: Iterable[bytes] = (), renames: bool = True) -> list[Change]:
    """Every change from `old` to `new`, sorted by path; with `paths`, only those at or below one of them."""
    if old.id == new.id:
        return []
    wanted = [b"/" + b"/".join(split_path(path)) for path in paths]
    walk = _Walk(old.objects, new.objects, wanted)
    walk.run(old.root, new.root)
    changes = walk.changes + _pair(walk, renames)
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
        self.removed: list[tuple[bytes, Entry]] = []
        self.added: list[tuple[bytes, Entry]] = []

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
        before, after = self._differing(old, new)
        rest = {entry.name: entry for entry in before}
        both = []
        for entry in after:
            previous = rest.pop(entry.name, None)
            if previous is None:
                self.added.append((prefix + entry.name, entry))
            elif previous != entry:
                both.append((prefix + entry.name, previous, entry))
        self.removed += [(prefix + entry.name, entry) for entry in rest.values()]
        return both

    def _differing(self, old: Tree, new: Tree) -> tuple[list[Entry], list[Entry]]:
        if self.old_objects is self.new_objects:
            return differing_entries(self.old_objects, old.tree, new.tree)
        return list(Directory(self.old_objects, old.tree)), list(Directory(self.new_objects, new.tree))


def _pair(walk: _Walk, renames: bool) -> list[Change]:
    """Renames among what is on one side only; the rest, expanded, is deleted and added."""
    changes: list[Change] = []
    removed, added = walk.removed, walk.added
    lone_removed: list[tuple[bytes, Entry]] = []
    lone_added: list[tuple[bytes, Entry]] = []
    while removed or added:
        if renames:
            removed, added = _match(removed, added, changes)
        lone_removed += removed
        lone_added += added
        removed = [child for path, entry in removed for child in _children(walk.old_objects, path, entry)]
        added = [child for path, entry in added for child in _children(walk.new_objects, path, entry)]
    if renames:
        lone_removed, lone_added = _match(lone_removed, lone_added, changes)
    changes += [Change("D", path, entry, None) for path, entry in lone_removed]
    changes += [Change("A", path, None, entry) for path, entry in lone_added]
    return changes


def _match(
    removed: Sequence[tuple[bytes, Entry]], added: Sequence[tuple[bytes, Entry]], changes: list[Change]
) -> tuple[list[tuple[bytes, Entry]], list[tuple[bytes, Entry]]]:
    """Pair what has the same content, the same last name first; appends to `changes`, returns what is left."""
    candidates: dict[object, list[tuple[bytes, Entry]]] = defaultdict(list)
    for path, entry in removed:
        if (key := _identity(entry)) is not None:
            candidates[key].append((path, entry))
    left_added = []
    gone: set[bytes] = set()
    for path, entry in added:
        same = candidates.get(_identity(entry))
        if not same:
            left_added.append((path, entry))
            continue
        position = next((i for i, (_, other) in enumerate(same) if other.name == entry.name), 0)
        old_path, old = same.pop(position)
        gone.add(old_path)
        changes.append(Change("R", path, old, entry, old_path))
    return [item for item in removed if item[0] not in gone], left_added


def _identity(entry: Entry) -> object:
    """What must be equal for a rename; None for what has too little content to tell."""
    match entry.content:
        case Data(size, chunk) if size:
            return chunk
        case Chunked(_, digest, _):
            return digest
        case Tree(tree, entries) if entries:
            return tree
        case Symlink(target):
            return entry.name, target
    return None


def _children(objects: Objects, path: bytes, entry: Entry) -> Iterator[tuple[bytes, Entry]]:
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
