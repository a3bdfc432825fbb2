"""A sink that keeps nothing: to learn which root something would be, and to compare it, without storing it."""

from __future__ import annotations

from collections.abc import Collection

from vcs.encoding import digest as digest_of
from vcs.trees import Objects, Sink


class Scratch:
    """Digests chunks and forgets them; holds new trees in memory. Satisfies `trees.Sink` and `trees.Objects`.

    Of the chunks, the first `keep` bytes are held too, so that what is compared can also be read, and all of those that
    are `wanted` by their digests.
    """

    def __init__(self, objects: Objects, keep: int = 0, wanted: Collection[bytes] = ()) -> None:
        self._objects = objects
        self._chunks: dict[bytes, bytes] = {}
        self._trees: dict[bytes, bytes] = {}
        self._room = keep
        self._wanted = wanted

    def put_chunk(self, data: bytes | memoryview, digest: bytes | None = None) -> bytes:
        """The digest that the chunk would have."""
        digest = digest or digest_of(data)
        if digest in self._wanted:
            self._chunks[digest] = bytes(data)
        elif len(data) <= self._room and digest not in self._chunks:
            self._chunks[digest] = bytes(data)
            self._room -= len(data)
        return digest

    def put_tree(self, data: bytes) -> bytes:
        """The digest that the tree would have; it can be read back from here."""
        digest = digest_of(data)
        self._trees[digest] = data
        return digest

    def get(self, digest: bytes) -> bytes:
        """What is held here, or whatever the store below has."""
        return self._trees.get(digest) or self._chunks.get(digest) or self._objects.get(digest)

    def copy_to(self, sink: Sink) -> None:
        """Give a sink all that is held."""
        for digest, data in self._chunks.items():
            sink.put_chunk(data, digest)
        for data in self._trees.values():
            sink.put_tree(data)
