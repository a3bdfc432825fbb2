"""What is new in a root, paired with where it came from: a path that is gone, or one that is still there.

A rename takes what is gone, so each path is paired at most once. A copy takes nothing: many can be of one.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal, NamedTuple, TypeAlias

from vcs.model import Chunked, Data, Entry, Symlink, Tree

Letter = Literal["A", "M", "D", "R", "C", "T"]
At: TypeAlias = tuple[bytes, Entry]
"""An entry and its path."""
Side: TypeAlias = list[At]
Key: TypeAlias = Callable[[Entry], object]
"""What must be equal for a pair; None for what has too little content to tell."""


class Pair(NamedTuple):
    """A path, and the one that it comes from."""

    letter: Letter
    path: bytes
    old: Entry
    new: Entry
    old_path: bytes
    similarity: int
    """Percent."""


class Alike(NamedTuple):
    """Two files that have so much of their contents in common."""

    similarity: int
    old: At
    new: At


class Pairs:
    """Those that were found."""

    def __init__(self) -> None:
        self.found: list[Pair] = []
        self._old = _Paths()
        self._new = _Paths()

    def match(self, removed: Sequence[At], added: Sequence[At], *keys: Key) -> tuple[Side, Side]:
        """Renames of equal keys, by one key after the other; returns what is left."""
        for key in keys:
            candidates = _by_key(removed, key)
            for item in added:
                same = candidates.get(key(item[1]))
                while same and not self._new.touches(item[0]):
                    self._rename(100, same.popleft(), item)  # one that is renamed already is of no use to others either
        return self._left(removed, added)

    def match_similar(self, removed: Sequence[At], added: Sequence[At], alike: Iterable[Alike]) -> tuple[Side, Side]:
        """Renames of files that are alike, those that are most so first; returns what is left."""
        for similarity, old, new in alike:
            self._rename(similarity, old, new)
        return self._left(removed, added)

    def copy(self, sources: Sequence[At], added: Sequence[At], *keys: Key) -> Side:
        """Copies of equal keys, by one key after the other; returns what is left."""
        for key in keys:
            candidates = _by_key(sources, key)
            for item in added:
                same = candidates.get(key(item[1]))
                if same:
                    self._copy(100, same[0], item)
        return self._left((), added)[1]

    def copy_similar(self, added: Sequence[At], alike: Iterable[Alike]) -> Side:
        """Copies of files that are alike; returns what is left."""
        for similarity, old, new in alike:
            self._copy(similarity, old, new)
        return self._left((), added)[1]

    def _rename(self, similarity: int, old: At, new: At) -> None:
        if not self._old.touches(old[0]) and not self._new.touches(new[0]):
            self._old.add(old[0])
            self._new.add(new[0])
            self.found.append(Pair("R", new[0], old[1], new[1], old[0], similarity))

    def _copy(self, similarity: int, old: At, new: At) -> None:
        if not self._new.touches(new[0]):
            self._new.add(new[0])
            self.found.append(Pair("C", new[0], old[1], new[1], old[0], similarity))

    def _left(self, removed: Sequence[At], added: Sequence[At]) -> tuple[Side, Side]:
        left = [item for item in removed if not self._old.covers(item[0])]
        return left, [item for item in added if not self._new.covers(item[0])]


class _Paths:
    """Paths of one side that are paired. Nothing at, above or below one of them can be paired once more."""

    def __init__(self) -> None:
        self._paths: set[bytes] = set()
        self._above: set[bytes] = set()

    def add(self, path: bytes) -> None:
        self._paths.add(path)
        self._above.update(_parents(path))

    def covers(self, path: bytes) -> bool:
        """Whether the path is paired, by itself or with a directory above it."""
        return bool(self._paths) and (path in self._paths or not self._paths.isdisjoint(_parents(path)))

    def touches(self, path: bytes) -> bool:
        return path in self._above or self.covers(path)


def _by_key(side: Sequence[At], key: Key) -> dict[object, deque[At]]:
    found: dict[object, deque[At]] = defaultdict(deque)
    for path, entry in side:
        if (value := key(entry)) is not None:
            found[value].append((path, entry))
    return found


def _parents(path: bytes) -> Iterator[bytes]:
    """The directories above a path, without the root."""
    while (cut := path.rfind(b"/")) > 0:
        path = path[:cut]
        yield path


# -- keys


def tree(entry: Entry) -> object:
    """Of directories that are not empty."""
    return entry.content.tree if isinstance(entry.content, Tree) and entry.content.entries else None


def named_tree(entry: Entry) -> object:
    """The same, with the name."""
    same = tree(entry)
    return same and (entry.name, same)


def data(entry: Entry) -> object:
    """Of regular files that are not empty."""
    match entry.content:
        case Data(size, chunk) if size:
            return chunk
        case Chunked(_, digest, _):
            return digest
    return None


def named_data(entry: Entry) -> object:
    """The same, with the name; and of symbolic links."""
    same = entry.content.target if isinstance(entry.content, Symlink) else data(entry)
    return same and (entry.name, same)
