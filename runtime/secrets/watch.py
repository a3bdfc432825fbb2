"""What is read for a commit, looked at on its way into the store.

Each content is looked at once, as it is written: that is a chunk, which a file of up to 512 KiB is. Larger files are
looked at chunk by chunk, so a secret that is cut by the end of one is not seen. Which files it was is asked only if
something was found, of what differs from the commit before: what was there already was told of when it came.

To refuse means that nothing of what was read is stored. So the names are asked for before the batch ends, when new
trees can only be had from here: while a refusal is possible, they are held in memory.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from runtime.secrets.patterns import kinds_in
from runtime.secrets.policy import Policy
from vcs.blobreader import list_items
from vcs.diff import Change, diff
from vcs.errors import SecretsFound
from vcs.model import Chunked, Data, Entry, RootId
from vcs.snapshot import Snapshot
from vcs.trees import Objects, Sink


@dataclass(frozen=True, slots=True)
class Finding:
    """A file that holds secrets."""

    path: bytes
    kinds: tuple[str, ...]


class SecretWatch:
    """Between who reads files and the batch that stores them. Satisfies `trees.Sink` and `trees.Objects`."""

    def __init__(self, objects: Objects, batch: Sink, policy: Policy) -> None:
        self._objects = objects
        self._batch = batch
        self._policy = policy
        self._trees: dict[bytes, bytes] = {}
        self._found: dict[bytes, tuple[str, ...]] = {}
        if policy == "off":
            self.put_chunk = batch.put_chunk  # type: ignore[method-assign]
        if policy != "refuse":
            self.put_tree = batch.put_tree  # type: ignore[method-assign]

    def put_chunk(self, data: bytes | memoryview, digest: bytes | None = None) -> bytes:
        """Hand a chunk on, and look at it."""
        digest = self._batch.put_chunk(data, digest)
        kinds = kinds_in(data)
        if kinds:
            self._found[digest] = kinds
        return digest

    def put_tree(self, data: bytes) -> bytes:
        """Hand a tree on, and hold it."""
        digest = self._batch.put_tree(data)
        self._trees[digest] = data
        return digest

    def get(self, digest: bytes) -> bytes:
        """A tree that was put here, or any object of the store below."""
        return self._trees.get(digest) or self._objects.get(digest)

    def refuse(self, old: RootId | None, new: RootId) -> None:
        """SecretsFound, with what was found as facts, if there are secrets in what a root has and an older one has not,
        and that is to be refused. For use inside the batch, which then stores nothing."""
        if self._policy == "refuse" and (findings := self._between(self, old, new)):
            first, *more = findings
            others = f", and {len(more):,} more" if more else ""
            raise SecretsFound(
                f"{first.path.decode(errors='backslashreplace')} holds a secret ({', '.join(first.kinds)}){others}: "
                "nothing was committed",
                files=[(finding.path, list(finding.kinds)) for finding in findings],
            )

    def findings(self, old: RootId | None, new: RootId) -> tuple[Finding, ...]:
        """The files with secrets that a root has and an older one has not. For use after the batch."""
        return self._between(self._objects, old, new)

    def _between(self, objects: Objects, old: RootId | None, new: RootId) -> tuple[Finding, ...]:
        if not self._found:
            return ()
        end = Snapshot(objects, new)
        if old is None:
            return self._named(objects, end.walk())
        return self._named(objects, _arrived(diff(Snapshot(self._objects, old), end)))

    def _named(self, objects: Objects, entries: Iterable[tuple[bytes, Entry]]) -> tuple[Finding, ...]:
        found = []
        for path, entry in entries:
            kinds = dict.fromkeys(kind for chunk in _chunks(objects, entry) for kind in self._found.get(chunk, ()))
            if kinds:
                found.append(Finding(path, tuple(kinds)))
        return tuple(found)


def _arrived(changes: Iterable[Change]) -> Iterable[tuple[bytes, Entry]]:
    """What has content that was not at its path before; a renamed file brings nothing."""
    return (
        (change.path, change.new)
        for change in changes
        if change.new is not None and (change.letter in "AT" or (change.letter == "M" and "content" in change.what))
    )


def _chunks(objects: Objects, entry: Entry) -> Iterable[bytes]:
    if isinstance(entry.content, Data):
        return (entry.content.chunk,)
    if isinstance(entry.content, Chunked):
        return (item.digest for item in list_items(objects, entry.content.list))
    return ()
