"""What is read of a container that stands still, kept in memory until it goes on.

To compress and to write takes longer than to read, so meanwhile chunks are only digested and held: 64 MB of them; what
is more goes to the batch at once, since memory has an end. Trees are held from the beginning: a scan that goes by an
earlier one reads that one's, and of those that a later scan replaced none need be stored.
"""

from __future__ import annotations

from vcs.encoding import decode_list, decode_root, decode_tree
from vcs.encoding import digest as digest_of
from vcs.model import Chunked, Content, Entry, RootId, Tree
from vcs.trees import Objects, Sink

_MOST = 64 << 20


class Staging:
    """Between scans of an upper and the batch that stores what they found. Satisfies `trees.Sink` and `Objects`."""

    def __init__(self, objects: Objects, batch: Sink) -> None:
        self._objects = objects
        self._batch = batch
        self._trees: dict[bytes, bytes] = {}
        self._chunks: dict[bytes, bytes] = {}
        self._held = 0
        self._holding = False

    def hold(self) -> None:
        """From now on, chunks are kept here."""
        self._holding = True

    def release(self) -> None:
        """Give the batch what was kept; from now on chunks go there at once."""
        self._holding = False
        for digest, data in self._chunks.items():
            self._batch.put_chunk(data, digest)
        self._chunks, self._held = {}, 0

    def finish(self, root: RootId) -> None:
        """Give the batch the trees of a root, those that were put here."""
        self.release()
        for data in self._below(root):
            self._batch.put_tree(data)

    def put_chunk(self, data: bytes | memoryview, digest: bytes | None = None) -> bytes:
        """Take a chunk; returns its digest."""
        digest = digest or digest_of(data)
        if not self._holding or self._held + len(data) > _MOST:
            return self._batch.put_chunk(data, digest)
        if digest not in self._chunks:
            self._chunks[digest] = bytes(data)
            self._held += len(data)
        return digest

    def put_tree(self, data: bytes) -> bytes:
        """Take a tree, a root or a chunk list; returns its digest."""
        digest = digest_of(data)
        self._trees[digest] = data
        return digest

    def get(self, digest: bytes) -> bytes:
        """A tree that was put here, or any object of the store below."""
        return self._trees.get(digest) or self._objects.get(digest)

    def _below(self, root: RootId) -> list[bytes]:
        """The trees, roots and chunk lists that were put here, at and below a root."""
        found: dict[bytes, bytes] = {}
        if root in self._trees:
            found[root] = self._trees[root]
            self._add(found, _of_content(decode_root(found[root]).content))
        return list(found.values())

    def _add(self, found: dict[bytes, bytes], first: tuple[bytes, bool] | None) -> None:
        stack = [first] if first else []
        while stack:
            digest, is_list = stack.pop()
            data = self._trees.get(digest)
            if data is None or digest in found:
                continue
            found[digest] = data
            if is_list:
                items, is_leaf = decode_list(data)
                stack += [] if is_leaf else [(item.digest, True) for item in items]
                continue
            for item in decode_tree(data):
                below = _of_content(item.content) if isinstance(item, Entry) else (item.digest, False)
                stack += [below] if below else []


def _of_content(content: Content) -> tuple[bytes, bool] | None:
    """The tree (False) or chunk list (True) that an entry has."""
    if isinstance(content, Tree):
        return content.tree, False
    return (content.list, True) if isinstance(content, Chunked) else None
