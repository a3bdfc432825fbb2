"""What a store's names lead to: commits, and their roots; and the directories that the names make.

A commit never changes, so its root is asked for once. Names are asked for each time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from fusefs import moments
from vcs.errors import NotFound
from vcs.model import CommitId, RootId
from vcs.snapshot import Names, Source

_ID_DIGITS = frozenset("0123456789abcdef")
_ID_LENGTHS = (40, 64)


@dataclass(frozen=True, slots=True)
class Known:
    """What is remembered of a commit."""

    id: CommitId
    root: RootId
    time: int
    """Seconds since 1970."""


class References:
    """Commits and roots of a store, by name."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._commits: dict[str, Known] = {}

    def commit(self, commit: str) -> Known | None:
        """A commit by its full id, None if there is none."""
        found = self._commits.get(commit)
        if found is None:
            if len(commit) not in _ID_LENGTHS or not _ID_DIGITS.issuperset(commit):
                return None
            try:
                info = self._source.commit(commit)
            except NotFound:
                return None
            if info.id != commit:
                return None
            found = self._commits[commit] = Known(info.id, info.root, info.time)
        return found

    def commits(self) -> Iterable[CommitId]:
        """Every commit reachable from a ref, in no order."""
        return self._source.reachable()

    def roots(self) -> set[RootId]:
        """Every root of those commits."""
        return {found.root for commit in self.commits() if (found := self.commit(commit))}


class Place(Protocol):
    """A directory of names that lead to commits, at any depth. Names are single ones: the caller splits paths."""

    def commit(self, name: bytes) -> CommitId | None:
        """The commit that a name leads to; None if it is a directory or not there."""
        ...

    def inner(self, name: bytes) -> Place | None:
        """The directory of a name, whether there is anything in it or not; None if there can be none."""
        ...

    def exists(self) -> bool:
        """Whether the directory is there now."""
        ...

    def names(self) -> Iterable[tuple[bytes, bool]]:
        """What is in it, in no order, and whether that is a directory itself."""
        ...


class Commits:
    """Every commit, by its full id."""

    def __init__(self, references: References) -> None:
        self._references = references

    def commit(self, name: bytes) -> CommitId | None:
        found = self._references.commit(name.decode("latin-1"))
        return None if found is None else found.id

    def inner(self, name: bytes) -> Place | None:
        return None

    def exists(self) -> bool:
        return True

    def names(self) -> Iterable[tuple[bytes, bool]]:
        return [(commit.encode(), False) for commit in self._references.commits()]


class Named:
    """Names of one kind, branches, say, or a directory of them."""

    def __init__(self, names: Names, directory: bytes = b"") -> None:
        self._names = names
        self._directory = directory

    def commit(self, name: bytes) -> CommitId | None:
        return self._names.find(self._directory + name)

    def inner(self, name: bytes) -> Place | None:
        return Named(self._names, self._directory + name + b"/")

    def exists(self) -> bool:
        return not self._directory or self._names.is_directory(self._directory)

    def names(self) -> Iterable[tuple[bytes, bool]]:
        return self._names.below(self._directory).items()


class Moments:
    """Every moment, by its ISO time. None is listed: there are too many."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def commit(self, name: bytes) -> CommitId | None:
        return None

    def inner(self, name: bytes) -> Place | None:
        time = moments.parsed(name)
        return None if time is None else Then(self._source.names["branches"], self._source.branch_at, time)

    def exists(self) -> bool:
        return True

    def names(self) -> Iterable[tuple[bytes, bool]]:
        return ()


class Then:
    """The branches that there are now, as they were at a time, or a directory of them."""

    def __init__(
        self, names: Names, at: Callable[[bytes, int], CommitId | None], time: int, directory: bytes = b""
    ) -> None:
        self._names = names
        self._at = at
        self._time = time
        self._directory = directory

    def commit(self, name: bytes) -> CommitId | None:
        return self._at(self._directory + name, self._time)

    def inner(self, name: bytes) -> Then:
        return Then(self._names, self._at, self._time, self._directory + name + b"/")

    def exists(self) -> bool:
        return not self._directory or any(True for _ in self.names())

    def names(self) -> Iterable[tuple[bytes, bool]]:
        for name, is_directory in self._names.below(self._directory).items():
            if self.inner(name).exists() if is_directory else self.commit(name) is not None:
                yield name, is_directory
