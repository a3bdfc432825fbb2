"""A git repository as such: made, a ref changed whatever killed processes left, any object read by its id."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pygit2
from pygit2.enums import ObjectType

from vcs.errors import Corrupt, Denied, NoSpace, NotFound, TreeringError
from vcs.gitfiles import check_pack_indexes, remove_stale

_ID_LENGTH = 40

# libgit2 keeps up to 256 MB of what was read, by default. Here a commit is mostly read once, and what walks a history
# holds what it needs of it: of 100,000 commits `du` takes 290 MB without, 380 MB with it, and no longer.
pygit2.settings.enable_caching(False)


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn libgit2's refusals into ours: full disks, missing permissions, a damaged repository."""
    try:
        yield
    except TreeringError:
        raise
    except (pygit2.GitError, OSError, ValueError) as error:  # the last, for some kinds of damage
        text = str(error)
        if "No space left" in text or "quota exceeded" in text:
            raise NoSpace(f"the history cannot be written: {text}") from error
        if "Permission denied" in text or "Read-only file system" in text:  # libgit2 gives no errno
            raise Denied(f"the history cannot be used: {text}") from error
        raise Corrupt(f"the history cannot be used: {text}") from error


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


def retry(path: Path, change: Callable[[], None]) -> None:
    """Change a ref of the repository at `path`; once more after removing the `.lock` files that killed processes left.
    The caller holds the lock on refs."""
    try:
        change()
    except (pygit2.GitError, pygit2.AlreadyExistsError, OSError):
        if not remove_stale(path):
            raise
        change()


def read_object(repository: pygit2.Repository, oid: str) -> tuple[int, bytes]:
    """An object by its full id: its type (pygit2's ObjectType) and its bytes. NotFound or Corrupt."""
    try:
        kind, data = repository.read(oid)
    except KeyError:
        raise NotFound(f"no git object {oid}", revision=oid) from None
    except Exception:
        if len(oid) < _ID_LENGTH:
            raise NotFound(f"{oid!r} is no full id", revision=oid) from None
        with translated():  # only now: a history is read by 10,000 such calls
            raise
    return int(kind), data


class GitObjects:
    """The objects of a git repository, which is opened apart from others: what these have read does not matter."""

    def __init__(self, path: Path) -> None:
        with translated():
            check_pack_indexes(path / "objects" / "pack")
            self._repo = pygit2.Repository(str(path))

    def close(self) -> None:
        """Free libgit2's descriptors."""
        self._repo.free()

    def read(self, oid: str) -> tuple[int, bytes]:
        """An object by its full id: its type (pygit2's ObjectType) and its bytes. NotFound or Corrupt."""
        return read_object(self._repo, oid)

    def write(self, kind: int, data: bytes) -> str:
        """Write an object, durably, unless it is there; returns its id. The caller holds the lock on refs."""
        with translated():
            return str(self._repo.write(ObjectType(kind), data))

    def parts(self, commit: str) -> list[str]:
        """The ids of what a commit consists of: itself, its tree, the files in it; the last is the one that cannot be
        read, if there is one."""
        found = [commit]
        with contextlib.suppress(TreeringError, KeyError), translated():
            found.append(str(cast(pygit2.Commit, self._repo[commit]).tree_id))
            for item in cast(pygit2.Tree, self._repo[found[1]]):
                found.append(str(item.id))
                self._repo.read(item.id)
        return found
