"""A sink that keeps nothing: to learn which root something would be, and to compare it, without storing it."""

from __future__ import annotations

from vcs.encoding import digest as digest_of
from vcs.trees import Objects


class Scratch:
    """Digests chunks and forgets them; holds new trees in memory. Satisfies `trees.Sink` and `trees.Objects`."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._trees: dict[bytes, bytes] = {}

    def put_chunk(self, data: bytes) -> bytes:
        """The digest that the chunk would have."""
        return digest_of(data)

    def put_tree(self, data: bytes) -> bytes:
        """The digest that the tree would have; it can be read back from here."""
        digest = digest_of(data)
        self._trees[digest] = data
        return digest

    def get(self, digest: bytes) -> bytes:
        """A tree that was put here, or whatever the store below has."""
        return self._trees.get(digest) or self._objects.get(digest)
