"""The objects of a history's git repository: which are needed, packed into one file, and away with the others.

A commit is three or four small files, which take a block of the disk each; packed, a thousand commits take what fifty
did. libgit2 can write a pack, durably, but neither says what is in one nor removes anything.

Beside vcs.history the only importer of pygit2, with a repository of its own: what a History has read does not matter.
"""

from __future__ import annotations

import contextlib
import os
import re
import struct
from bisect import bisect_left
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pygit2

from vcs.errors import Corrupt, Missing
from vcs.existing import is_there, names_in
from vcs.gitobjects import GitObjects, translated
from vcs.model import CommitId
from vcs.names import RefFiles

_LOOSE_KEPT = 256
"""So many needed objects may lie in files of their own before they are packed: some 80 commits, 1 MB."""
_FANOUT = struct.Struct(">4sI256I")
_FANOUT_NAME = re.compile(r"[0-9a-f]{2}")
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
        self._later: set[bytes] = set()
        """Of what is needed, what came to be so when the new pack was made already."""
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
        with translated():
            todo = [bytes.fromhex(tip) for tip in tips if tip]
            if missing_ok:
                todo = [raw for raw in todo if raw in self._needed or has_object(self._git, self._directory, raw.hex())]
            while todo:
                raw = todo.pop()
                if raw not in self._needed:
                    self._need(raw)
                    todo += self._below(raw, commits)
        return commits

    def _need(self, raw: bytes) -> None:
        self._needed.add(raw)
        if self._new is not None:
            self._later.add(raw)

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
                elif entry.id.raw not in self._needed:
                    self._need(entry.id.raw)

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
        if not self._is_worth_it():
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
        self._new = next(index for index in self._indexes() if self._has_all(index))

    def _is_worth_it(self) -> bool:
        loose = (raw for raw, _ in self._loose() if raw in self._needed)
        if sum(1 for _ in islice(loose, _LOOSE_KEPT + 1)) > _LOOSE_KEPT:
            return True
        indexes = self._indexes()
        return len(indexes) > 1 or any(raw not in self._needed for index in indexes for raw in ids_in(index))

    def _has_all(self, index: Path) -> bool:
        """Whether a pack has what is needed, and nothing else."""
        return count_in(index) == len(self._needed) and all(raw in self._needed for raw in ids_in(index))

    def _fill(self, builder: pygit2.PackBuilder) -> None:
        for raw in sorted(self._needed):
            builder.add(pygit2.Oid(raw=raw))

    def garbage(self) -> Pruned:
        """What prune() would remove, about: nothing is changed."""
        garbage: set[bytes] = set()
        size = 0
        for raw, path in self._loose():
            if raw not in self._needed:
                garbage.add(raw)
                size += _allocated(path)
        garbage.update(raw for index in self._indexes() for raw in ids_in(index) if raw not in self._needed)
        return Pruned(sum(map(self._is_commit, garbage)), len(garbage), size)

    def prune(self) -> Pruned:
        """Remove what is not needed, and what the new pack has too. The caller holds the lock on refs, has added all
        that refs name now, and has nobody else write meanwhile."""
        # What the new pack has is needed, so what is needed is in it, but for what came to be so later.
        alone: Container[bytes] = self._needed if self._new is None else self._later
        before = self.garbage()
        freed = 0
        for remains in self._directory.glob("tmp_object_git2_*"):
            freed += _unlink(remains)
        for raw, path in self._loose():
            if raw not in alone:
                freed += _unlink(path)
        for directory in self._fanout():
            _remove_empty(directory)
        if self._new is not None:
            freed -= sum(map(_allocated, self._parts(self._new)))
            freed += sum(self._remove_pack(index) for index in self._indexes() if self._is_spent(index))
        self._git.close()
        return Pruned(before.commits, before.objects, freed)

    def _is_spent(self, index: Path) -> bool:
        """Whether nothing needed would go with a pack: what came to be needed since may be in an old one only."""
        return (
            index != self._new
            and not is_there(index.with_suffix(".keep"))
            and not any(raw in self._later for raw in ids_in(index))
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
        return sorted(_indexes(self._packs))

    def _loose(self) -> Iterator[tuple[bytes, str]]:
        """The objects in files of their own, a directory at a time: those that were given may be removed. Not as Paths:
        there may be some 300,000."""
        for directory in self._fanout():
            top = os.fspath(directory)
            for name in os.listdir(top):
                if len(name) == 2 * _ID_SIZE - 2:
                    yield bytes.fromhex(directory.name + name), f"{top}/{name}"

    def _fanout(self) -> Iterator[Path]:
        return (self._directory / name for name in names_in(self._directory) if _FANOUT_NAME.fullmatch(name))

    def _is_commit(self, raw: bytes) -> bool:
        """Not if it is damaged: garbage goes all the same."""
        with contextlib.suppress(Corrupt), translated(), self._git.asking() as repo:
            return isinstance(repo.get(pygit2.Oid(raw=raw)), pygit2.Commit)
        return False


def has_object(git: GitObjects, objects: Path, oid: str) -> bool:
    """Whether the repository whose `objects` these are has an object, by its full id. OSError or Corrupt if that cannot
    be told.

    Git's library takes packs that it could not look at when it opened them for packs that are not there, for as long as
    it is open (libgit2 1.9.7), and gc removes what it denies. So only the files can say no. If they say yes, it is
    closed, so that it looks again.
    """
    with git.asking() as repository:
        if oid in repository:
            return True
    if not _is_in_files(objects, oid):
        return False
    git.close()
    return True


def _is_in_files(objects: Path, oid: str) -> bool:
    """In this order: what is packed meanwhile is in the pack before its own file goes."""
    if is_there(objects / oid[:2] / oid[2:]):
        return True
    return any(_has_id(index, bytes.fromhex(oid)) for index in _indexes(objects / "pack"))


def _indexes(packs: Path) -> Iterator[Path]:
    """Those of packs that are complete. OSError if that cannot be told."""
    for name in names_in(packs):
        path = packs / name
        if name.startswith("pack-") and path.suffix == ".idx" and is_there(path.with_suffix(".pack")):
            yield path


def _has_id(index: Path, raw: bytes) -> bool:
    """Whether an id is in a pack: some ten reads, however large it is. Not if the pack was removed just now."""
    with contextlib.suppress(FileNotFoundError), index.open("rb") as file:
        counts = _counts(index, file.read(_FANOUT.size))

        def at(number: int) -> bytes:
            return os.pread(file.fileno(), _ID_SIZE, _FANOUT.size + number * _ID_SIZE)

        place = bisect_left(range(counts[-1]), raw, counts[raw[0] - 1] if raw[0] else 0, counts[raw[0]], key=at)
        return at(place) == raw
    return False


def ids_in(index: Path) -> Iterator[bytes]:
    """The ids in a pack, from its index (gitformat-pack(5), version 2), sorted."""
    with index.open("rb") as file:
        for _ in range(_counts(index, file.read(_FANOUT.size))[-1]):
            yield file.read(_ID_SIZE)


def count_in(index: Path) -> int:
    """How many there are."""
    with index.open("rb") as file:
        return _counts(index, file.read(_FANOUT.size))[-1]


def _counts(index: Path, data: bytes) -> tuple[int, ...]:
    """For each first byte, how many ids begin with that or a smaller one."""
    magic, version, *counts = _FANOUT.unpack(data)
    if magic != _IDX_MAGIC or version != 2:
        raise Corrupt(f"the history's {index.name} is no index of version 2")
    return tuple(counts)


def _allocated(path: str | Path) -> int:
    return os.stat(path).st_blocks * 512


def _unlink(path: str | Path) -> int:
    """Remove a file if it is there; returns the bytes on the disk that it had."""
    try:
        size = _allocated(path)
        os.unlink(path)
    except FileNotFoundError:
        return 0
    return size


def _remove_empty(directory: Path) -> None:
    with contextlib.suppress(OSError):
        directory.rmdir()
