"""Start profiles, from the container's side: the service is told of a start, asked what was read, and that is kept.

The service notes and reads ahead (fusefs.starts) but writes nothing; the profile is written here, by a process of its
own that nobody waits for. What the last start read comes first, then what the profile had before: so the starts of
different commands on one commit come to share it, and what is no longer read is the first to go.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vcs.errors import TreeringError
from vcs.model import CommitId, RootId
from vcs.profiles import open_profile, profile_path, save_profile

if TYPE_CHECKING:
    from fusefs.client import Lease
    from vcs.store import Store

_SECONDS = 10.0
"""How long a start takes, for us."""
_NEW_SHARE = 1 / 16
"""A profile is written anew if it lacks more than this share of the bytes that were read."""
_ANCESTORS = 32
"""How many commits are looked at for a profile."""

_PROGRAM = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from runtime.profiles import main
main(sys.argv[1:])
"""


class Recording:
    """A container's start, of which the service notes what is read. Its methods raise nothing: a start without a
    profile is only slower."""

    def __init__(self, store: Store, commit: CommitId, lease: Lease) -> None:
        """Tell the service that a container is about to start on a commit. The lease must be held until the end."""
        self._lease: Lease | None = lease
        self._place: int | None = None
        """Where the lease is among the descriptors that are kept, if ours is another."""
        self._path = store.path
        self._root = store.commit(commit).root
        self._before: Path | None = None
        self._end = time.monotonic() + _SECONDS
        with suppress(TreeringError, OSError):
            self._before = nearest_profile(store, commit)
            if self._before:
                os.utime(self._before)  # those that nobody uses are the first to go
            lease.starting(self._root, self._before)

    def describe(self, keep: Sequence[int]) -> dict[str, Any] | None:
        """What another process needs to finish this recording in our place; the lease's descriptor is among `keep`."""
        lease = self._lease
        if lease is None:
            return None
        return {
            "lease": keep.index(lease.fileno()) if self._place is None else self._place,
            "mountpoint": lease.mountpoint, "device": lease.device,
            "pid": lease.pid, "path": self._path, "root": self._root, "before": self._before, "end": self._end,
        }  # fmt: skip

    @classmethod
    def restore(cls, described: Mapping[str, Any], keep: Sequence[int]) -> Recording:
        """The recording that was described. It has a descriptor of the lease of its own."""
        from fusefs.client import Lease

        made = cls.__new__(cls)
        connection = socket.socket(fileno=os.dup(keep[described["lease"]]))
        made._lease = Lease(connection, described["mountpoint"], described["device"], described["pid"], is_awaited=True)
        made._place = described["lease"]
        made._path, made._root = described["path"], described["root"]
        made._before, made._end = described["before"], described["end"]
        return made

    @property
    def fds(self) -> set[int]:
        """All descriptors that finish() needs: the lease's, until the recording is finished."""
        return {self._lease.fileno()} if self._lease else set()

    @property
    def remaining(self) -> float | None:
        """Seconds until it is time to finish; None once that is done."""
        return max(0.0, self._end - time.monotonic()) if self._lease else None

    def finish(self) -> None:
        """Have what was read kept, if it is worth it. Returns before that is done; again does nothing."""
        lease, self._lease = self._lease, None
        if lease is None:
            return
        with suppress(TreeringError, OSError):
            objects, size, new = lease.started()
            if new > _NEW_SHARE * size:
                self._keep(objects)

    def _keep(self, objects: list[bytes]) -> None:
        from runtime.engine import spawn

        words = os.memfd_create("start")
        try:
            os.write(words, json.dumps([digest.hex() for digest in objects]).encode())
            os.lseek(words, 0, os.SEEK_SET)
            package = str(Path(__file__).resolve().parent.parent)
            before = [str(self._before)] if self._before else []
            program = [sys.executable, "-P", "-c", _PROGRAM, package]
            spawn([*program, str(self._path), self._root.hex(), *before], (words, None, None))
        finally:
            os.close(words)


def nearest_profile(store: Store, commit: CommitId) -> Path | None:
    """The profile of a commit's root, or of the first before it that has one, going by first parents."""
    following: CommitId | None = commit
    for _ in range(_ANCESTORS):
        if following is None:
            break
        info = store.commit(following)
        path = profile_path(store.caches, info.root)
        if path.exists():
            return path
        following = info.parents[0] if info.parents else None
    return None


def keep_profile(store: Store, root: RootId, objects: Sequence[bytes], before: Path | None) -> int:
    """Write a root's profile: these objects, and those of the profile before, as far as they are the root's.

    Opens every directory of the root, which takes 0.03 s for 15,000 names. Returns the bytes of objects in it.
    Missing or Corrupt if the root cannot be walked; OSError.
    """
    from vcs.reach import Reach

    reach = Reach(store)
    reach.add_root(root)
    known: list[bytes] = []
    if before and (profile := open_profile(before)):
        known = [item.digest for item in profile.items]
        profile.close()
    return save_profile(store.caches, root, (digest for digest in (*objects, *known) if digest in reach), store)


def main(arguments: Sequence[str]) -> None:
    """The process that keeps a profile: store, root, and the profile before; the objects come on standard input."""
    from vcs.store import Store

    path, root, *before = arguments
    os.nice(10)
    objects = [bytes.fromhex(digest) for digest in json.load(sys.stdin)]
    with suppress(TreeringError, OSError), Store.open(Path(path)) as store:
        keep_profile(store, RootId(bytes.fromhex(root)), objects, Path(before[0]) if before else None)
