"""A git repository as such: made, a ref changed whatever killed processes left, any object read by its id.

Whatever makes git's library read objects is asked here (GitObjects). Of a loose object that is cut off it would wait
for the rest for ever (libgit2 #7342), wherever it comes upon it: in a walk, in a revision's name, in the parents of a
commit that is written. So it has a third source of objects, ours, which it asks after the packs and before the loose
ones, and which looks at the file first. Packed objects are read as fast as before, and small loose ones are given to it
as they were read here.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pygit2
from pygit2.enums import ObjectType

from vcs.commits import parsed
from vcs.errors import Corrupt, Denied, NoSpace, NotFound, TreeringError
from vcs.gitfiles import check_pack_indexes
from vcs.gitwords import Author, clean, stamp, tree_entries
from vcs.loose import LooseObjects
from vcs.shortage import SHORTAGES, raise_shortage

_ID_LENGTH = 40
KINDS = {b"commit": 1, b"tree": 2, b"blob": 3, b"tag": 4}
"""pygit2's ObjectType."""
_PACKS, _OURS, _LOOSE = 3, 2, 1
"""Which source of objects git's library asks before which."""

pygit2.settings.enable_fsync_gitdir(True)
pygit2.settings.set_odb_packed_priority(_PACKS)
pygit2.settings.set_odb_loose_priority(_LOOSE)

# libgit2 keeps up to 256 MB of what was read, by default. Here a commit is mostly read once, and what walks a history
# holds what it needs of it: of 100,000 commits `du` takes 290 MB without, 380 MB with it, and no longer.
pygit2.settings.enable_caching(False)

_FULL = (errno.ENOSPC, errno.EDQUOT)
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)
_AMISS = (errno.EIO, errno.EBADMSG, errno.EUCLEAN, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP)
"""What it says where the disk has lost bytes, or the repository has not the files that it should have."""


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn libgit2's refusals into ours: full disks, missing permissions, a damaged repository. Whatever else keeps us
    from looking says nothing of what is there: OSError."""
    try:
        yield
    except TreeringError:
        raise
    except (pygit2.GitError, OSError, ValueError) as error:  # the last, for some kinds of damage
        text, code = str(error), _errno_of(error)
        if code in _FULL:
            raise NoSpace(f"the history cannot be written: {text}") from error
        if code in _REFUSED:
            raise Denied(f"the history cannot be used: {text}") from error
        raise_shortage(error)
        if code is None or code in _AMISS:
            raise Corrupt(f"the history cannot be used: {text}") from error
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise OSError(code, f"the history cannot be used: {text}") from error


def _errno_of(error: Exception) -> int | None:
    """What the kernel said, which libgit2 passes on only in words."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    return next((code for code in (*_FULL, *_REFUSED, *SHORTAGES) if os.strerror(code) in str(error)), None)


def are_settings(path: Path) -> bool:
    """Whether git could read a file of settings. OSError if it cannot be looked at."""
    try:
        with translated():
            list(pygit2.Config(str(path)))
    except Corrupt:
        return False
    return True


def make_repository(path: Path) -> None:
    """Make an empty one, whose first branch will be `main`."""
    with translated():
        repo = pygit2.init_repository(str(path), bare=True, initial_head="main")
        repo.config["core.logAllRefUpdates"] = "always"
        repo.config["gc.auto"] = 0
        repo.free()
    for name in ("hooks", "info"):  # texts of libgit2's that mean nothing here
        shutil.rmtree(path / name, ignore_errors=True)
    (path / "description").unlink(missing_ok=True)


def read_object(objects: pygit2.Repository | pygit2.Odb, oid: str) -> tuple[int, bytes]:
    """An object by its full id: its type (pygit2's ObjectType) and its bytes. NotFound or Corrupt."""
    try:
        kind, data = objects.read(oid)
    except KeyError:
        raise NotFound(f"no git object {oid}", revision=oid) from None
    except Exception:
        if len(oid) < _ID_LENGTH:
            raise NotFound(f"{oid!r} is no full id", revision=oid) from None
        with translated():  # only now: a history is read by 10,000 such calls
            raise
    return int(kind), data


def _packs(objects: Path) -> pygit2.Odb:
    """The packs in the `objects` directory of a repository, and nothing else."""
    found = pygit2.Odb()
    with translated():
        found.add_backend(pygit2.OdbBackendPack(str(objects)), _PACKS)
    return found


def signature_of(author: Author) -> pygit2.Signature:
    """Who and when, for git's library."""
    return pygit2.Signature(clean(author.name), clean(author.email), author.time, author.offset)


def stamp_of(signature: pygit2.Signature) -> bytes:
    """The same as git writes it."""
    return stamp(signature.raw_name, signature.raw_email, signature.time, signature.offset)


class _Watched(pygit2.OdbBackend):
    """The loose objects of a repository, each looked at before git's library reads it. KeyError leaves it to that."""

    def __init__(self, loose: LooseObjects) -> None:
        super().__init__()
        self.error: BaseException | None = None
        """What was raised here: the library may make something else of it."""
        self._loose = loose

    def read_cb(self, oid: object) -> tuple[int, bytes]:
        try:
            found = self._loose.checked(str(oid))
        except FileNotFoundError:
            raise KeyError(oid) from None
        except BaseException as error:
            self.error = error
            raise
        if found is None:
            raise KeyError(oid)
        return KINDS.get(found[0], 0), found[1]

    def read_header_cb(self, oid: object) -> tuple[int, int]:
        kind, data = self.read_cb(oid)
        return kind, len(data)

    def read_prefix_cb(self, prefix: object) -> tuple[int, bytes, str]:
        if len(str(prefix)) == _ID_LENGTH:
            return *self.read_cb(prefix), str(prefix)
        for oid in self._loose.beginning(str(prefix)):
            with contextlib.suppress(KeyError):
                self.read_cb(oid)
        raise KeyError(prefix)  # there may be several, in packs too

    def exists_cb(self, oid: object) -> bool:
        return False

    def exists_prefix_cb(self, prefix: object) -> str:
        raise KeyError(prefix)

    def refresh_cb(self) -> None:
        pass


class GitObjects:
    """The objects of a git repository, which is opened apart from others: what these have read does not matter."""

    def __init__(self, path: Path) -> None:
        self._directory = path / "objects"
        self.loose = LooseObjects(self._directory)
        self._packs: pygit2.Odb | None = None
        self._writer: pygit2.Odb | None = None
        self._watched: _Watched | None = None
        self._lock = threading.RLock()
        with translated():
            check_pack_indexes(self._directory / "pack")
            self.repository = pygit2.Repository(str(path))

    def close(self) -> None:
        """Free libgit2's descriptors, and forget what was read. Who asks again has it opened again."""
        with self._lock:
            self.repository.free()
            self._packs = self._writer = self._watched = None

    @contextlib.contextmanager
    def asking(self) -> Iterator[pygit2.Repository]:
        """The repository, for a question for which git's library may look for objects. Corrupt if it came upon one that
        is damaged, OSError upon one that could not be looked at. One thread at a time: it holds a lock of its own while
        it asks us."""
        with self._lock:
            watched = self._watched = self._watched or self._watching()
            watched.error = None
            try:
                yield self.repository
            except Exception:
                if watched.error is not None:
                    with translated():
                        raise watched.error from None
                raise

    def read(self, oid: str) -> tuple[int, bytes]:
        """An object by its full id: its type (pygit2's ObjectType) and its bytes. NotFound only if it is not there,
        Corrupt, OSError."""
        packs = self._packs = self._packs or _packs(self._directory)
        try:
            return read_object(packs, oid)  # alone they take 3 us; with the others, which are asked too, 7
        except NotFound:
            with self.asking() as repository:
                return read_object(repository, oid)

    def write(self, kind: int, data: bytes) -> str:
        """Write an object, durably, unless it is there; returns its id. The caller holds the lock on refs."""
        with translated():
            if self._writer is None:  # the other sources are for reading only
                self._writer = pygit2.Odb(str(self._directory))
            return str(self._writer.write(ObjectType(kind), data))

    def parts(self, commit: str) -> list[str]:
        """The ids of what a commit consists of: itself, its tree, the files in it; the last is the one that cannot be
        read, if there is one."""
        found = [commit]
        with contextlib.suppress(TreeringError):
            tree = parsed(commit, self.read(commit)[1]).tree
            found.append(tree)
            for _, (_, oid) in tree_entries(self.read(tree)[1]):
                found.append(oid)
                self.read(oid)
        return found

    def _watching(self) -> _Watched:
        """Have what the repository has open ask us."""
        with translated():
            watched = _Watched(self.loose)
            self.repository.odb.add_backend(watched, _OURS)
        return watched
