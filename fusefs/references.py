"""What a store's names point to: commits, and their roots.

A commit never changes, so its root is asked for once. What is reachable follows from the branches and tags, so a long
history is not walked again while those stay.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from vcs.errors import NotFound
from vcs.model import CommitId, RootId
from vcs.snapshot import CommitInfo, Source

_ID_DIGITS = frozenset("0123456789abcdef")
_ID_LENGTHS = (40, 64)


class References:
    """Commits and roots of a store, by name."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._commits: dict[str, CommitInfo] = {}
        self._seen: Hashable = None
        self._reachable: list[CommitId] = []

    def commit(self, commit: str) -> CommitInfo | None:
        """A commit by its full id, None if there is none."""
        found = self._commits.get(commit)
        if found is None:
            if len(commit) not in _ID_LENGTHS or not _ID_DIGITS.issuperset(commit):
                return None
            try:
                found = self._source.commit(commit)
            except NotFound:
                return None
            if found.id != commit:
                return None
            self._commits[commit] = found
        return found

    def commits(self) -> Sequence[CommitId]:
        """Every commit reachable from a branch or a tag, sorted."""
        seen = tuple(self._source.branches().items()), tuple(self._source.tags().items())
        if seen != self._seen:
            self._reachable = sorted(self._source.commit_ids())
            self._seen = seen
        return self._reachable

    def roots(self) -> Sequence[RootId]:
        """Every root of those commits, sorted."""
        return sorted({found.root for commit in self.commits() if (found := self.commit(commit))})
