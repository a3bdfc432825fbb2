"""Leases: what running processes rely on though no ref names it yet, so that gc does not remove it.

A writer finds that an object is in the store already, and does not write it again; only later a ref will need it. In
between, the writer's lease says which layers (and roots, and commits) it counts on. A lease is a file in
STORE/leases/, flocked by its holder, one line for each thing:

    layer HEX     an object in it was found, or will be; the layer stays
    root HEX      everything that the root needs stays
    commit HEX    the commit stays, and everything that its root needs

The lines and gc's marks are two halves of one protocol (docs/concurrency.md). The holder first writes the line, then
looks whether the thing is doomed; gc first dooms, then reads the leases. So one of them sees the other, and neither
waits.
A lease whose holder died is not locked any more, and counts for nothing.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from dataclasses import dataclass, field
from pathlib import Path

from vcs.durable import read_all, write_all
from vcs.existing import names_in
from vcs.model import CommitId, LayerId, RootId


class Lease:
    """One writer's lease. Everything noted holds until close()."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / os.urandom(8).hex()
        self._fd = _create_locked(self._path)
        self._layers: set[LayerId] = set()
        self._is_torn = False

    def layer(self, name: LayerId) -> bool:
        """Keep a layer; False if it is kept already. Look afterwards whether it is doomed."""
        if name in self._layers:
            return False
        self._note("layer", name.hex())
        self._layers.add(name)
        return True

    def root(self, name: RootId) -> None:
        """Keep all that a root needs. Look afterwards whether what led to it is still there."""
        self._note("root", name.hex())

    def commit(self, commit: CommitId) -> None:
        """Keep a commit that no ref names yet. To be called while the lock on refs is held."""
        self._note("commit", commit)

    def close(self) -> None:
        """Give everything up."""
        if self._fd >= 0:
            with contextlib.suppress(FileNotFoundError):
                self._path.unlink()
            os.close(self._fd)
            self._fd = -1

    def _note(self, kind: str, name: str) -> None:
        """A note that fails leaves nothing: it would be a part of the next one, which then counted for nothing."""
        if self._is_torn:
            raise OSError(errno.EIO, "the lease ends with half a line", os.fspath(self._path))
        size = os.fstat(self._fd).st_size
        try:
            write_all(self._fd, f"{kind} {name}\n".encode())
        except BaseException:
            self._is_torn = True
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, size)
                self._is_torn = False
            raise


@dataclass(frozen=True, slots=True)
class Leased:
    """What all living holders keep."""

    layers: set[LayerId] = field(default_factory=set)
    roots: set[RootId] = field(default_factory=set)
    commits: set[CommitId] = field(default_factory=set)


def read_leases(directory: Path, *, remove_dead: bool = True) -> Leased:
    """What living processes rely on now. Leases of dead ones are removed."""
    found = Leased()
    for path in (directory / name for name in names_in(directory)):
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            if _is_held(fd):
                _read(fd, found)
            elif remove_dead:
                path.unlink(missing_ok=True)
        finally:
            os.close(fd)
    return found


def _create_locked(path: Path) -> int:
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX)
        if os.fstat(fd).st_nlink:
            return fd
        os.close(fd)  # between open and flock another process took it for a dead one's, and removed it


def _is_held(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _read(fd: int, found: Leased) -> None:
    size = os.fstat(fd).st_size
    for line in read_all(fd, size).decode("ascii").split("\n")[:-1]:  # what follows is half a line
        match line.split():
            case ["layer", name]:
                found.layers.add(LayerId(bytes.fromhex(name)))
            case ["root", name]:
                found.roots.add(RootId(bytes.fromhex(name)))
            case ["commit", name]:
                found.commits.add(CommitId(name))
