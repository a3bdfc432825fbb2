"""Where what is lost may still be: another store, a directory, an archive."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from vcs.encoding import digest as digest_of
from vcs.errors import Damaged
from vcs.importer import import_directory
from vcs.layers.format import KIND_CHUNKS
from vcs.repair.references import references
from vcs.store import Store, check_format
from vcs.tar_import import import_tar
from vcs.trees import Sink

_TREES_KEPT = 256 << 20
"""Bytes of directories and lists that are held while a directory or an archive is gone through."""

Has = Callable[[bytes], bool]
"""Whether the store that is repaired has an object, undamaged."""


class Source(Protocol):
    """Something that may have what is lost."""

    def find(self, wanted: dict[bytes, int], has: Has, sink: Sink) -> set[bytes]:
        """Put into the sink what is `wanted` (kinds by digest) and here, and what it refers to that the store does not
        have either. Returns the digests that were put. Errors of the source as they are."""
        ...


def open_source(path: Path) -> Source:
    """A store, if there is one at `path`; else a directory or an archive."""
    if (path / "format").is_file() and (path / "layers").is_dir():
        check_format(path)
        return StoreSource(path)
    return FilesSource(path)


class StoreSource:
    """Another store."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def find(self, wanted: dict[bytes, int], has: Has, sink: Sink) -> set[bytes]:
        found: set[bytes] = set()
        todo = list(wanted.items())
        with Store.open(self.path) as other:
            while todo:
                digest, kind = todo.pop()
                try:
                    data = other.get(digest)
                except Damaged:
                    continue
                found.add(digest)
                todo += _put(sink, kind, data, lambda name: name in found or has(name))
        return found


class FilesSource:
    """A directory or an archive: imported, to see what the objects would be."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def find(self, wanted: dict[bytes, int], has: Has, sink: Sink) -> set[bytes]:
        """Twice, if a directory was found: what is in it is known after it has been passed."""
        finder = _Finder(wanted, has, sink)
        self._import(finder)
        if finder.settle():
            self._import(finder)
        return finder.found

    def _import(self, sink: Sink) -> None:
        if self._path.is_dir():
            import_directory(sink, self._path)
        else:
            with self._path.open("rb") as file:
                import_tar(file, sink)


class _Finder:
    """A sink that digests everything and keeps what is wanted. Satisfies `trees.Sink`."""

    def __init__(self, wanted: dict[bytes, int], has: Has, sink: Sink) -> None:
        self._wanted = dict(wanted)
        self._has = has
        self._sink = sink
        self._held: dict[bytes, bytes] = {}
        self._room = _TREES_KEPT
        self.found: set[bytes] = set()

    def put_chunk(self, data: bytes | memoryview, digest: bytes | None = None) -> bytes:
        """Take a chunk if it is wanted."""
        digest = digest or digest_of(data)
        if self._wanted.get(digest) == KIND_CHUNKS and digest not in self.found:
            self.found.add(digest)
            self._sink.put_chunk(data, digest)
        return digest

    def put_tree(self, data: bytes) -> bytes:
        """Hold a tree that the store does not have: it may lie below one that is wanted."""
        digest = digest_of(data)
        if digest not in self._held and len(data) <= self._room and (digest in self._wanted or not self._has(digest)):
            self._held[digest] = data
            self._room -= len(data)
        return digest

    def settle(self) -> bool:
        """Put the trees that are wanted, and want what they refer to. Whether chunks have come to be wanted."""
        todo = [(digest, kind) for digest, kind in self._wanted.items() if digest in self._held]
        before = len(self._wanted)
        while todo:
            digest, kind = todo.pop()
            if digest in self.found or digest not in self._held:
                continue
            self.found.add(digest)
            below = _put(self._sink, kind, self._held[digest], self._has)
            self._wanted.update(below)
            todo += below
        return len(self._wanted) > before


def _put(sink: Sink, kind: int, data: bytes, has: Has) -> list[tuple[bytes, int]]:
    """Put an object; returns what it refers to that is not there."""
    if kind == KIND_CHUNKS:
        sink.put_chunk(data)
        return []
    sink.put_tree(data)
    return [(digest, below) for digest, below in references(data) or () if not has(digest)]
