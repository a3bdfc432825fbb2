"""For tests of whatever reads or writes objects: a store in memory, which keeps the promises of the real one."""

from __future__ import annotations

from collections.abc import Iterable

from vcs.encoding import digest
from vcs.errors import Missing, NotFound
from vcs.model import CommitId, RootId
from vcs.snapshot import CommitInfo


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

    def branches(self) -> dict[str, CommitId]:
        return dict(sorted(self.branch_map.items()))

    def tags(self) -> dict[str, CommitId]:
        return dict(sorted(self.tag_map.items()))

    def commit(self, commit: str) -> CommitInfo:
        try:
            return self.commits[CommitId(commit)]
        except KeyError:
            raise NotFound(f"no commit {commit}", revision=commit) from None

    def commit_ids(self) -> list[CommitId]:
        return list(reversed(self.commits))
