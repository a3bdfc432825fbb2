"""What differs between two roots. Subtrees with equal digests are never opened.

    A  added      M  modified (content or attributes)     D  deleted
    R  renamed: gone from one path, and with the same content at another; a directory as a whole
    T  another type of file

A directory that holds a change has another mtime; that follows from the change and is not told again. Its own mode,
owner, extended attributes, or an mtime that changed alone are.
"""

from __future__ import annotations

import stat
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from vcs.model import Chunked, Data, Entry, Symlink, Tree
from vcs.snapshot import Snapshot, split_path
from vcs.trees import Directory, Objects, differing_entries

Letter = Literal["A", "M", "D", "R", "T"]
_At: TypeAlias = tuple[bytes, Entry]
"""An entry and its path."""
_Side: TypeAlias = list[_At]


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
        self.removed: _Side = []
        self.added: _Side = []

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
        before, after = differing_entries(self.old_objects, old.tree, self.new_objects, new.tree)
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


class _Moved:
    """Paths of one side that were renamed. Nothing at, above or below one of them can be renamed once more."""

    def __init__(self) -> None:
        self._paths: set[bytes] = set()
        self._above: set[bytes] = set()

    def add(self, path: bytes) -> None:
        self._paths.add(path)
        self._above.update(_parents(path))

    def covers(self, path: bytes) -> bool:
        """Whether the path is renamed, by itself or with a directory above it."""
        return bool(self._paths) and (path in self._paths or not self._paths.isdisjoint(_parents(path)))

    def touches(self, path: bytes) -> bool:
        return path in self._above or self.covers(path)


class _Renames:
    """Pairs what is gone with what is new: the same content, each at most once."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self._old = _Moved()
        self._new = _Moved()

    def match(
        self, removed: Sequence[_At], added: Sequence[_At], *keys: Callable[[Entry], object]
    ) -> tuple[_Side, _Side]:
        """Pair entries with equal keys (None: never), by one key after the other; returns what is left."""
        for key in keys:
            candidates: dict[object, deque[_At]] = defaultdict(deque)
            for path, entry in removed:
                if (value := key(entry)) is not None:
                    candidates[value].append((path, entry))
            for path, entry in added:
                same = candidates.get(key(entry))
                if same and not self._new.touches(path):
                    self._take(same, path, entry)
        left_removed = [item for item in removed if not self._old.covers(item[0])]
        return left_removed, [item for item in added if not self._new.covers(item[0])]

    def _take(self, candidates: deque[_At], path: bytes, entry: Entry) -> None:
        while candidates:
            old_path, old = candidates.popleft()
            if not self._old.touches(old_path):
                self._old.add(old_path)
                self._new.add(path)
                self.changes.append(Change("R", path, old, entry, old_path))
                return


def _pair(walk: _Walk, renames: bool) -> list[Change]:
    """Renames among what is on one side only; the rest, expanded, is deleted and added.

    Directories come first, as wholes: those that are equally deep in what is gone and in what is new without being
    opened, then at any depth, outer ones before inner ones. Then files.
    """
    pairs = _Renames()
    removed, added = walk.removed, walk.added
    lone_removed: _Side = []
    lone_added: _Side = []
    while removed or added:
        if renames:
            removed, added = pairs.match(removed, added, _named_tree, _tree)
        lone_removed += removed
        lone_added += added
        removed = [child for path, entry in removed for child in _children(walk.old_objects, path, entry)]
        added = [child for path, entry in added for child in _children(walk.new_objects, path, entry)]
    if renames:
        lone_removed, lone_added = pairs.match(lone_removed, lone_added, _tree)
        lone_removed, lone_added = pairs.match(lone_removed, lone_added, _named_data, _data)
    changes = pairs.changes
    changes += [Change("D", path, entry, None) for path, entry in lone_removed]
    changes += [Change("A", path, None, entry) for path, entry in lone_added]
    return changes


# What must be equal for a rename; None for what has too little content to tell.


def _tree(entry: Entry) -> object:
    return entry.content.tree if isinstance(entry.content, Tree) and entry.content.entries else None


def _named_tree(entry: Entry) -> object:
    tree = _tree(entry)
    return tree and (entry.name, tree)


def _data(entry: Entry) -> object:
    match entry.content:
        case Data(size, chunk) if size:
            return chunk
        case Chunked(_, digest, _):
            return digest
    return None


def _named_data(entry: Entry) -> object:
    same = entry.content.target if isinstance(entry.content, Symlink) else _data(entry)
    return same and (entry.name, same)


def _parents(path: bytes) -> Iterator[bytes]:
    """The directories above a path, without the root."""
    while (cut := path.rfind(b"/")) > 0:
        path = path[:cut]
        yield path


def _children(objects: Objects, path: bytes, entry: Entry) -> Iterator[_At]:
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
