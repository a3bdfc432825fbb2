"""The objects of a history's git repository: which are needed, packed into one file, and away with the others.

A commit is three or four small files, which take a block of the disk each; packed, a thousand commits take what fifty
did. libgit2 can write a pack, durably, but neither says what is in one nor removes anything.

Beside vcs.history the only importer of pygit2, with a repository of its own: what a History has read does not matter.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pygit2

from vcs.errors import Corrupt, Missing
from vcs.gitobjects import GitObjects, translated
from vcs.model import CommitId
from vcs.names import RefFiles

_LOOSE_KEPT = 256
"""So many needed objects may lie in files of their own before they are packed: some 80 commits, 1 MB."""
_FANOUT = struct.Struct(">4sI256I")
_IDX_MAGIC = b"\xfftOc"
_ID_SIZE = 20


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was, or would be, removed."""

    commits: int = 0
    objects: int = 0
    """Git's, commits among them."""
    bytes: int = 0
    """On the disk."""


class Packing:
    """One collection of the garbage in a git repository. `needed` only grows: add() what refs name, and again later."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._directory = path / "objects"
        self._packs = self._directory / "pack"
        self._needed: set[bytes] = set()
        self._new: Path | None = None
        self._git = GitObjects(path)
        self._repo = self._git.repository

    def close(self) -> None:
        """Free libgit2's descriptors."""
        self._git.close()

    # -- what is needed

    def refs(self) -> dict[str, str]:
        """What all refs and HEAD name, tag objects not peeled. The caller holds the lock on refs.

        Denied or Corrupt if one cannot be read. libgit2 passes over a directory that it cannot open.
        """
        with translated():
            ids = RefFiles(self._path).ids(strict=True)
            found = {os.fsdecode(ref): oid for ref, oid in ids.items()}
            found["HEAD"] = "" if self._repo.head_is_unborn else str(self._repo.head.target)
            return found

    def add(self, tips: Iterable[str], missing_ok: bool = False) -> list[CommitId]:
        """Need these objects and all that they reach; returns the commits among them that were not needed before.

        With `missing_ok`, tips that are not there are passed over; otherwise, and for anything below: Missing.
        """
        commits: list[CommitId] = []
        tips = filter(None, tips)
        todo = [bytes.fromhex(tip) for tip in tips]
        if missing_ok:
            with self._git.asking() as repo:
                todo = [raw for raw in todo if pygit2.Oid(raw=raw) in repo]
        with translated():
            while todo:
                raw = todo.pop()
                if raw not in self._needed:
                    self._needed.add(raw)
                    todo += self._below(raw, commits)
        return commits

    def _below(self, raw: bytes, commits: list[CommitId]) -> Iterator[bytes]:
        found = self._object(raw)
        if isinstance(found, pygit2.Commit):
            commits.append(CommitId(str(found.id)))
            yield found.tree_id.raw
            yield from (parent.raw for parent in found.parent_ids)
        elif isinstance(found, pygit2.Tag):
            yield found.target.raw
        elif isinstance(found, pygit2.Tree):
            for entry in found:
                if isinstance(entry, pygit2.Tree):
                    yield entry.id.raw
                else:
                    self._needed.add(entry.id.raw)

    def _object(self, raw: bytes) -> pygit2.Object:
        try:
            with self._git.asking() as repo:
                return repo[pygit2.Oid(raw=raw)]
        except KeyError:
            raise Missing(f"object {raw.hex()} of the history is missing", digest=raw.hex()) from None

    # -- packing and removing

    def remove_remains(self) -> None:
        """Remove what a killed collection left of a pack that it was writing. Only one collection may run."""
        for path in self._packs.glob("pack_git2_*"):
            path.unlink(missing_ok=True)

    def pack(self) -> None:
        """Write one pack of all that is needed, durably, if there are many loose files or garbage in the old packs.
        Nobody need wait meanwhile. NoSpace."""
        packed = [set(_ids(index)) for index in self._indexes()]
        loose = sum(raw in self._needed for raw, _ in self._loose())
        if loose <= _LOOSE_KEPT and len(packed) <= 1 and all(ids <= self._needed for ids in packed):
            return
        with translated():
            for raw, _ in self._loose():
                if raw in self._needed:
                    self._git.read(raw.hex())  # Corrupt: the library would wait for one that is cut off
            # Not the repository that is watched: no Python can run while a pack is made.
            repository = pygit2.Repository(str(self._path))
            try:
                # One thread: more would choose other deltas each time.
                repository.pack(pack_delegate=self._fill, n_threads=1)
            finally:
                repository.free()
        self._new = next(index for index in self._indexes() if set(_ids(index)) == self._needed)

    def _fill(self, builder: pygit2.PackBuilder) -> None:
        for raw in sorted(self._needed):
            builder.add(pygit2.Oid(raw=raw))

    def garbage(self) -> Pruned:
        """What prune() would remove, about: nothing is changed."""
        garbage = {raw: path for raw, path in self._loose() if raw not in self._needed}
        packed = {raw for index in self._indexes() for raw in _ids(index)} - self._needed
        commits = sum(self._is_commit(raw) for raw in {*garbage, *packed})
        return Pruned(commits, len({*garbage, *packed}), sum(_allocated(path) for path in garbage.values()))

    def prune(self) -> Pruned:
        """Remove what is not needed, and what the new pack has too. The caller holds the lock on refs, has added all
        that refs name now, and has nobody else write meanwhile."""
        fresh = set(_ids(self._new)) if self._new else set()
        before = self.garbage()
        freed = 0
        for path in self._directory.glob("tmp_object_git2_*"):
            freed += _unlink(path)
        for raw, path in list(self._loose()):
            if raw in fresh or raw not in self._needed:
                freed += _unlink(path)
                _remove_empty(path.parent)
        if self._new is not None:
            freed -= sum(map(_allocated, self._parts(self._new)))
            freed += sum(self._remove_pack(index) for index in self._indexes() if self._is_spent(index, fresh))
        self._git.close()
        return Pruned(before.commits, before.objects, freed)

    def _is_spent(self, index: Path, fresh: set[bytes]) -> bool:
        """Whether nothing needed would go with a pack: what came to be needed since may be in an old one only."""
        return (
            index != self._new and not index.with_suffix(".keep").exists() and fresh >= self._needed & set(_ids(index))
        )

    def _remove_pack(self, index: Path) -> int:
        # These two name packs, or commits in them, for stock git; it does without.
        for name in ("pack/multi-pack-index", "info/commit-graph"):
            (self._directory / name).unlink(missing_ok=True)
        # The index first: a pack without one is not looked at.
        return sum(map(_unlink, [index, *sorted(self._parts(index))]))

    @staticmethod
    def _parts(index: Path) -> list[Path]:
        return list(index.parent.glob(f"{index.stem}.*"))

    def _indexes(self) -> list[Path]:
        """The packs that are complete."""
        return sorted(path for path in self._packs.glob("pack-*.idx") if path.with_suffix(".pack").exists())

    def _loose(self) -> Iterator[tuple[bytes, Path]]:
        for directory in self._directory.glob("[0-9a-f][0-9a-f]"):
            for path in directory.iterdir():
                name = directory.name + path.name
                if len(name) == 2 * _ID_SIZE:
                    yield bytes.fromhex(name), path

    def _is_commit(self, raw: bytes) -> bool:
        """Not if it is damaged: garbage goes all the same."""
        with contextlib.suppress(Corrupt), translated(), self._git.asking() as repo:
            return isinstance(repo.get(pygit2.Oid(raw=raw)), pygit2.Commit)
        return False


def _ids(index: Path) -> Iterator[bytes]:
    """The ids in a pack, from its index (gitformat-pack(5), version 2)."""
    data = index.read_bytes()
    magic, version, *fanout = _FANOUT.unpack_from(data)
    if magic != _IDX_MAGIC or version != 2:
        raise Corrupt(f"the history's {index.name} is no index of version 2")
    end = _FANOUT.size + _ID_SIZE * fanout[-1]
    for start in range(_FANOUT.size, end, _ID_SIZE):
        yield data[start : start + _ID_SIZE]


def _allocated(path: Path) -> int:
    return path.stat().st_blocks * 512


def _unlink(path: Path) -> int:
    """Remove a file if it is there; returns the bytes on the disk that it had."""
    try:
        size = _allocated(path)
        path.unlink()
    except FileNotFoundError:
        return 0
    return size


def _remove_empty(directory: Path) -> None:
    with contextlib.suppress(OSError):
        directory.rmdir()
