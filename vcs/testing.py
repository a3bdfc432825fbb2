"""For tests of whatever reads or writes objects: a store in memory, which keeps the promises of the real one."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from vcs.encoding import digest
from vcs.errors import Missing, NotFound
from vcs.model import CommitId, RootId
from vcs.snapshot import CommitInfo, Names


class MemoryStore:
    """Objects and commits in dicts. Satisfies `trees.Objects`, `trees.Sink` and `snapshot.Source`."""

    def __init__(self) -> None:
        self.objects: dict[bytes, bytes] = {}
        self.commits: dict[CommitId, CommitInfo] = {}
        self.branch_map: dict[str, CommitId] = {}
        self.tag_map: dict[str, CommitId] = {}

    def get(self, digest: bytes) -> bytes:
        try:
            return self.objects[digest]
        except KeyError:
            raise Missing(f"no object {digest.hex()}", digest=digest.hex()) from None

    def part(self, digest: bytes, start: int, end: int) -> bytes | None:
        """They are in memory already."""
        return None

    def are_together(self, one: bytes, other: bytes) -> bool:
        return one in self.objects and other in self.objects

    def expect(self, digests: Iterable[bytes]) -> None:
        """They are in memory already."""

    def put_tree(self, data: bytes) -> bytes:
        name = digest(data)
        self.objects[name] = data
        return name

    def put_chunk(self, data: bytes | memoryview, digest: bytes | None = None) -> bytes:
        return self.put_tree(bytes(data))

    def add_commit(self, root: RootId, branch: str, message: str = "", time: int = 0) -> CommitId:
        """Make a commit of `root` on a branch."""
        parent = self.branch_map.get(branch)
        made = CommitId(f"{len(self.commits) + 1:040x}")
        parents = (parent,) if parent else ()
        self.commits[made] = CommitInfo(made, root, parents, message, "tester", "tester@localhost", time, 0)
        self.branch_map[branch] = made
        return made

    @property
    def names(self) -> dict[str, Names]:
        return {"branches": MemoryNames(self.branch_map), "tags": MemoryNames(self.tag_map)}

    def branch_at(self, name: bytes, time: int) -> CommitId | None:
        """There are no reflogs: what the times of commits say."""
        commit = self.branch_map.get(os.fsdecode(name))
        while commit is not None and self.commits[commit].time > time:
            commit = next(iter(self.commits[commit].parents), None)
        return commit

    def about(self) -> dict[str, str]:
        return {"store": "in memory"}

    def commit(self, commit: str) -> CommitInfo:
        try:
            return self.commits[CommitId(commit)]
        except KeyError:
            raise NotFound(f"no commit {commit}", revision=commit) from None

    def reachable(self) -> list[CommitId]:
        """All of them: nothing is ever removed."""
        return list(self.commits)


class MemoryNames:
    """Names in a dict. Satisfies `snapshot.Names`."""

    def __init__(self, names: dict[str, CommitId]) -> None:
        self._names = names

    def find(self, name: bytes) -> CommitId | None:
        return self._names.get(os.fsdecode(name))

    def below(self, directory: bytes) -> dict[bytes, bool]:
        parts = [name.removeprefix(directory).partition(b"/") for name in self._in(directory)]
        return {name: bool(slash) for name, slash, _ in parts}

    def is_directory(self, directory: bytes) -> bool:
        return any(self._in(directory))

    def _in(self, directory: bytes) -> Iterator[bytes]:
        return (name for name in map(os.fsencode, self._names) if name.startswith(directory))
