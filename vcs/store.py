"""A store, opened: its objects, its history, and the one way to add to them.

    STORE/format        the version of all this
    STORE/layers/       layer files                     vcs.layers
    STORE/index.db      where each object lies          vcs.index
    STORE/history.git/  commits, branches, tags         vcs.history
    STORE/locks/        files that are flocked
    STORE/leases/       what running writers rely on    vcs.leases
    STORE/caches/       what may be deleted at any time
    STORE/containers/   run/                            runtime's and fusefs's

Objects are added through a Batch, which becomes one layer; then a commit names the new root; then a branch moves. Each
step is durable before the next begins, and what is left of an interrupted one is garbage that nothing refers to. All
three happen inside one `writing()`, so that gc leaves alone what they have written or found:

    with store.writing():
        with store.batch() as batch:
            root = ...
        commit = store.add_commit(root, ...)
        store.history.move(...)
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from vcs.ancestry import Ancestry
from vcs.batch import Batch
from vcs.durable import replace_file, sync_directory
from vcs.errors import AlreadyExists, Corrupt, Denied, NoSpace, NotAStore, NotFound, UnknownFormat
from vcs.existing import is_there
from vcs.gitwords import is_of_notes
from vcs.index import Index
from vcs.indexerrors import told_by_sqlite
from vcs.layers.compression import FAST, Compression
from vcs.layers.format import SUFFIX
from vcs.layers.writer import remove_abandoned
from vcs.leases import Lease
from vcs.locks import flocked
from vcs.model import CommitId, LayerId, RootId
from vcs.names import BRANCHES, TAGS, RefFiles, RefNames, branch_at
from vcs.objects import Objects
from vcs.signed import Sign, with_signature
from vcs.snapshot import CommitInfo, Names, Snapshot

if TYPE_CHECKING:
    from vcs.history import Author, History
    from vcs.operations import Operations

FORMAT = 1
FORMAT_LINE = b"treering store %d\n" % FORMAT
_CACHE_BYTES = 24 << 20
_DIRECTORIES = ("layers", "locks", "leases", "caches", "containers", "run")

_HISTORY_NEW = ".history.git.new"
_INDEX_FILES = ("index.db", "index.db-journal", "index.db-wal", "index.db-shm")
_MADE_FIRST = {*_DIRECTORIES, _HISTORY_NEW, "history.git", *_INDEX_FILES, ".format.new"}
"""What there is of a store that was not made to its end."""


class Store:
    """The objects and the history of one store. Satisfies `trees.Objects` and `snapshot.Source`.

    Not safe for use by several threads at once; any number of processes may have the same store open.
    """

    def __init__(self, path: Path, cache_bytes: int = _CACHE_BYTES, read_ahead: bool = False) -> None:
        self.path = path
        self._layers = path / "layers"
        self._layers_name = os.fspath(self._layers)
        with translated(f"the store {path} cannot be opened"):
            self._index = Index(path / "index.db", self._layers)
        self._objects = Objects(self._index, self._layer_file, cache_bytes, read_ahead)
        self._lease: Lease | None = None
        self.sign: Sign | None = None
        """Signs each commit that is added from now on."""

    @classmethod
    def create(cls, path: Path) -> Store:
        """Make an empty store in a directory that is not there yet, or is empty. AlreadyExists, Denied, NoSpace."""
        with translated(f"the store {path} cannot be made"):
            if is_there(path / "format"):
                raise AlreadyExists(f"{path} is a store already", path=str(path))
            if is_there(path) and set(os.listdir(path)) - _MADE_FIRST:
                raise AlreadyExists(f"{path} is there, and it is not empty", path=str(path))
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.chmod(0o700)
            for name in _DIRECTORIES:
                (path / name).mkdir(mode=0o700, exist_ok=True)
            with flocked(path / "locks" / "making", fcntl.LOCK_EX):
                cls._fill(path)
            sync_directory(path.parent)
        return cls.open(path)

    @staticmethod
    def _fill(path: Path) -> None:
        from vcs.history import History

        if is_there(path / "format"):  # another process has just made it
            raise AlreadyExists(f"{path} is a store already", path=str(path))
        is_new = not is_there(path / "history.git")
        if is_new:  # never removed: a store that has lost its format file has commits there
            shutil.rmtree(path / _HISTORY_NEW, ignore_errors=True)
            History.create(path / _HISTORY_NEW, path / "locks" / "refs").close()
        Index(path / "index.db", path / "layers").close()
        # Nothing gets its name before all of it is on the disk, since who finds a history takes it for whole. The
        # format file makes it a store, so it comes last.
        os.sync()
        if is_new:
            (path / _HISTORY_NEW).rename(path / "history.git")
        replace_file(path / "format", FORMAT_LINE)

    @classmethod
    def open(cls, path: Path, cache_bytes: int = _CACHE_BYTES, read_ahead: bool = False) -> Store:
        """Open a store. NotAStore, UnknownFormat or Denied if that cannot be.

        `cache_bytes` and `read_ahead` are for whoever reads much: see vcs.objects.
        """
        with translated(f"the store {path} cannot be opened"):
            check_format(path)
            return cls(path, cache_bytes, read_ahead)

    def close(self) -> None:
        """Give back descriptors and memory."""
        self._objects.close()
        if "operations" in self.__dict__:
            self.operations.flush()
        if "history" in self.__dict__:
            self.history.close()
        self._index.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @cached_property
    def history(self) -> History:
        """The commits. Opened when first used: pygit2 takes 70 ms to import, and reading objects needs none of it."""
        from vcs.history import History

        history = History(self.path / "history.git", self.path / "locks" / "refs", self.operations)
        if is_there(self.operations.moves):
            from vcs.takingback import finish_moves

            finish_moves(history, self.operations)
        return history

    @cached_property
    def operations(self) -> Operations:
        """What commands did to refs and containers."""
        from vcs.operations import Operations

        return Operations(self.path / "operations.log")

    @property
    def repository(self) -> Path:
        """The history's git repository, with its refs and reflogs."""
        return self.path / "history.git"

    @cached_property
    def _refs(self) -> RefFiles:
        return RefFiles(self.repository)

    @cached_property
    def _ancestry(self) -> Ancestry:
        return Ancestry(self.history.raw)

    @property
    def index(self) -> Index:
        """Where the objects lie."""
        return self._index

    # -- reading

    def get(self, digest: bytes) -> bytes:
        """An object's bytes, verified against its digest. Missing or Corrupt if it cannot be had."""
        return self._objects.get(digest)

    def part(self, digest: bytes, start: int, end: int) -> bytes | None:
        """A range of an object, without the rest: see vcs.objects."""
        return self._objects.part(digest, start, end)

    def are_together(self, one: bytes, other: bytes) -> bool:
        """Whether having read one object, another can be had without reading anything."""
        return self._objects.are_together(one, other)

    def expect(self, digests: Iterable[bytes]) -> None:
        """These objects will be asked for soon, in this order: see vcs.objects."""
        self._objects.expect(digests)

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._index

    def snapshot(self, root: RootId) -> Snapshot:
        """The filesystem of a root."""
        return Snapshot(self, root)

    def snapshot_of(self, commit: str) -> Snapshot:
        """The filesystem of a commit, by its full id."""
        return Snapshot(self, self.commit(commit).root)

    def tip(self, branch: str) -> CommitId:
        """Where a branch is. NotFound if there is none."""
        tip = self.history.target(f"refs/heads/{branch}")
        if tip is None:
            raise NotFound(f"no branch {branch!r}", name=branch)
        return tip

    def branches(self) -> dict[str, CommitId]:
        return self.history.refs("refs/heads/")

    def tags(self) -> dict[str, CommitId]:
        return self.history.refs("refs/tags/")

    def commit(self, commit: str) -> CommitInfo:
        return self.history.info(commit)

    def commit_ids(self) -> list[CommitId]:
        return self.history.commit_ids()

    @property
    def names(self) -> dict[str, Names]:
        """Branches and tags, as `snapshot.Source` has them."""
        return {
            "branches": RefNames(self._refs, BRANCHES, lambda: self._ancestry),
            "tags": RefNames(self._refs, TAGS, lambda: self._ancestry),
        }

    def branch_at(self, name: bytes, time: int) -> CommitId | None:
        return branch_at(self._refs, self.repository, self._ancestry, name, time)

    def reachable(self) -> list[CommitId]:
        return self._ancestry.reachable(self._ids().values())

    def about(self) -> dict[str, str]:
        ids = self._ids()
        commits = self._ancestry.reachable(ids.values())
        branches, tags = (sum(ref.startswith(kind) for ref in ids) for kind in (BRANCHES, TAGS))
        counts = {"commits": len(commits), "branches": branches, "tags": tags}
        return {"store": str(self.path), **{kind: str(count) for kind, count in counts.items()}}

    def _ids(self) -> dict[bytes, str]:
        """What refs name, not peeled, but for notes."""
        return {ref: oid for ref, oid in self._refs.ids().items() if not is_of_notes(os.fsdecode(ref))}

    def layer_path(self, layer: LayerId) -> Path:
        """The file of a layer."""
        return Path(self._layer_file(layer))

    def _layer_file(self, layer: LayerId) -> str:
        """As text: a Path takes as long to make as a layer to open."""
        return f"{self._layers_name}/{layer.hex()}{SUFFIX}"

    # -- writing

    @property
    def leases(self) -> Path:
        """The directory of leases."""
        return self.path / "leases"

    @property
    def caches(self) -> Path:
        """The directory of files that may be deleted at any time."""
        path = self.path / "caches"
        path.mkdir(mode=0o700, exist_ok=True)
        return path

    @contextlib.contextmanager
    def writing(self) -> Iterator[Lease]:
        """Keep what is written or found inside from being removed by gc, until refs name it. May be nested."""
        if self._lease is not None:
            yield self._lease
            return
        with translated("the store cannot be written"):
            self.leases.mkdir(mode=0o700, exist_ok=True)
            self._lease = Lease(self.leases)
        try:
            yield self._lease
        finally:
            lease, self._lease = self._lease, None
            lease.close()

    @contextlib.contextmanager
    def batch(self, compression: Compression = FAST) -> Iterator[Batch]:
        """Add objects: they become one durable layer when the block ends without an exception, else nothing.

        NoSpace or Denied if the operating system refuses; nothing is left behind then.
        """
        with translated("the store cannot be written"), self.writing() as lease:
            remove_abandoned(self._layers)
            batch = Batch(self._layers, self.index, lease, compression)
            try:
                yield batch
                batch.finish()
            finally:
                batch.close()

    def add_commit(
        self,
        root: RootId,
        config: dict[str, Any],
        message: str,
        author: Author,
        parents: tuple[CommitId, ...] = (),
        *,
        is_draft: bool = False,
    ) -> CommitId:
        """Write a commit whose root is in the store; nothing refers to it yet. Durable when it returns. Signed if
        `sign` is set, and it is no draft of another; whatever that raises, no commit is written."""
        history = self.history
        with translated("the commit cannot be written"), self.writing() as lease:
            with history.locked():
                if self.sign is None or is_draft:
                    commit = history.write_commit(root, config, message, author, parents)
                    lease.commit(commit)
                    return commit
                draft, tree = history.drafted(root, config, message, author, parents)
                lease.commit(CommitId(tree))  # what is kept may be any object of git's
            signed = with_signature(draft, self.sign(draft))  # without the lock: a key may ask somebody
            with history.locked():
                commit = history.write(signed)
                lease.commit(commit)
                return commit


def check_format(path: Path) -> None:
    """NotAStore unless there is a store at `path`; UnknownFormat if its format is not ours."""
    try:
        line = (path / "format").read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise NotAStore(f"{path} is not a store", path=str(path)) from None
    words = line.decode("ascii", "replace").split()
    if words[:2] != ["treering", "store"] or len(words) != 3 or not words[2].isdecimal():
        raise NotAStore(f"{path} is not a store: its format file is not one of ours", path=str(path))
    if int(words[2]) != FORMAT:
        raise UnknownFormat(
            f"the store {path} has format {words[2]}; this program knows format {FORMAT}",
            path=str(path),
            found=words[2],
        )


@contextlib.contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn the operating system's refusals into ours: full disks and missing permissions. StoreError for what else
    keeps SQLite from its work."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(f"{what}: {error.strerror}", path=error.filename) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise Denied(f"{what}: {error.strerror}", path=error.filename) from error
        raise
    except sqlite3.OperationalError as error:
        raise told_by_sqlite(what, error) from error
    except sqlite3.DatabaseError as error:
        raise Corrupt(f"{what}: the index is damaged: {error}", index="") from error
