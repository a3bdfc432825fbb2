"""What has changed in an upper since a scan: found by looking at every name, or only at those that may have changed.

To look at a name is one stat(2). The kernel takes 1.1 us for it and Python 0.3 (measured: 100,000 names in 143 ms, in C
110). So a live commit looks at everything while the container runs, and when it is frozen only at what it was told of
since (runtime.upper.watch), or at everything once more where nobody could tell.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from runtime.system import mounts
from runtime.upper.seen import Seen, SeenDirectory
from vcs.attributes import read_error
from vcs.snapshot import Snapshot

_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG})


@dataclass(slots=True)
class Change:
    """What is to be read again of a directory that is still the one that was seen: these names, and itself."""

    ctime: int | None = None
    """The directory's (ns), before its names were looked at; None if nothing can have changed since."""
    names: set[bytes] = field(default_factory=set)


Changes = dict[bytes, Change]
"""By the directory's path, as in Seen."""

_LARGE = 20_000
"""Names from which on a second process looks as well: to start it takes 3 ms."""
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[tuple[bytes, Change]]).decode


@dataclass(slots=True)
class Hints:
    """Where to look."""

    names: dict[int, set[bytes]] = field(default_factory=dict)
    """Names, by the inode of the directory that they are, or were, in."""
    inodes: set[int] = field(default_factory=set)
    """Files and directories that were changed themselves."""
    paths: set[bytes] = field(default_factory=set)
    """Files, by path as in Seen."""


def look_everywhere(upper: Path, seen: Seen) -> Changes:
    """What is not as it was seen, each name compared. Denied or BadInput if it cannot be looked at.

    Of a large upper, a process looks at each half: on two processors that takes half the time.
    """
    try:
        fd = os.open(upper, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            found = _look_twice(fd, seen) if seen.files >= _LARGE else _look(fd, seen, seen.directories)
        finally:
            os.close(fd)
    except OSError as error:
        raise read_error(error, os.fsencode(upper)) from error
    changes: Changes = {}
    for path, change in found:
        changes.setdefault(path, Change(change.ctime)).names |= change.names
    return changes


def _look_twice(upper: int, seen: Seen) -> list[tuple[bytes, Change]]:
    paths = list(seen.directories)
    middle = _middle(seen, paths)
    with _elsewhere(lambda: _look(upper, seen, paths[middle:])) as answer:
        return [*_look(upper, seen, paths[:middle]), *answer()]


def _look(upper: int, seen: Seen, paths: Iterable[bytes]) -> list[tuple[bytes, Change]]:
    """The same, of these directories."""
    found = []
    for path in paths:
        known = seen.directories[path]
        fd = _open(upper, path)
        try:
            status = os.fstat(fd) if fd is not None else None
            if fd is None or status is None or status.st_ino != known.inode:
                found.append(_missing(seen, path))
                continue
            names = _listed(fd, known) if status.st_ctime_ns != known.ctime else set()
            names.update(_differing(fd, known))
            if names or status.st_ctime_ns != known.ctime:
                found.append((path, Change(status.st_ctime_ns, names)))
        finally:
            if fd is not None:
                os.close(fd)
    return found


def _middle(seen: Seen, paths: list[bytes]) -> int:
    """How many of the directories have half of the names."""
    half, count = seen.files // 2, 0
    for number, path in enumerate(paths):
        count += len(seen.directories[path].packed_inodes) // 8
        if count >= half:
            return number + 1
    return len(paths)


@contextmanager
def _elsewhere(
    look: Callable[[], list[tuple[bytes, Change]]],
) -> Iterator[Callable[[], list[tuple[bytes, Change]]]]:
    """Have a process of its own look; yields what waits for its answer. It is ended with the block."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if not child:
        with suppress(BaseException), os.fdopen(writer, "wb") as output:
            output.write(_encode(look()))
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        try:
            yield lambda: _decode(data) if (data := file.read()) else look()
        finally:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def look_at(seen: Seen, hints: Hints) -> Changes:
    """The same where it is known where to look, and nothing moves meanwhile: what is hinted at counts as changed.

    A directory whose name is hinted at is read as a new one, also if it has the inode of the old one: that may have
    been removed, and then the names that went with it cannot be told by its inode.
    """
    changes: Changes = {}
    for path, known in seen.directories.items():
        names = set(hints.names.get(known.inode, ()))
        is_hinted = bool(names) or known.inode in hints.inodes
        if not hints.inodes.isdisjoint(known.inodes):
            names.update(name for name, inode in zip(known.names, known.inodes, strict=True) if inode in hints.inodes)
        if is_hinted or names:
            changes[path] = Change(names=names)
    add_paths(changes, seen, hints.paths)
    return changes


def add_paths(changes: Changes, seen: Seen, paths: Iterable[bytes]) -> None:
    """Have these files, where the upper has them, read again too."""
    for path in paths:
        parent, _, name = path.rpartition(b"/")
        known = seen.directories.get(parent)
        if known is not None and path not in seen.directories and name in known.names:
            changes.setdefault(parent, Change(known.ctime)).names.add(name)


class Known:
    """An earlier scan, what has changed since, and the root that it gave."""

    def __init__(self, seen: Seen, changes: Changes, root: Snapshot) -> None:
        self.seen = seen
        self.changes = changes
        self.root = root
        self._ways = _ways(changes)

    def below(self, path: bytes) -> Collection[bytes]:
        """The subdirectories of a directory to go on to."""
        return self._ways.get(path, ())


def _ways(changes: Changes) -> dict[bytes, set[bytes]]:
    """The way to what has changed: by directory, the subdirectories to go on to."""
    found: dict[bytes, set[bytes]] = {}
    for changed in changes:
        path = changed
        while path:
            path, _, name = path.rpartition(b"/")
            below = found.setdefault(path, set())
            if name in below:
                break
            below.add(name)
    return found


def _open(upper: int, path: bytes) -> int | None:
    """A directory of the upper, None if it is none (any more). No link is followed, wherever it is on the path."""
    try:
        return mounts.open_beneath(
            upper,
            path or b".",
            os.O_RDONLY | os.O_DIRECTORY,
            resolve=mounts.RESOLVE_IN_ROOT | mounts.RESOLVE_NO_SYMLINKS,
        )
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        raise


def _listed(fd: int, known: SeenDirectory) -> set[bytes]:
    """The names that came or went."""
    return set(map(os.fsencode, os.listdir(fd))) ^ {*known.names, *known.directories}


def _differing(fd: int, known: SeenDirectory) -> list[bytes]:
    """The names whose file is another, or has changed."""
    found = []
    look = os.stat
    for name, inode, ctime in zip(known.names, known.inodes, known.ctimes, strict=True):
        try:
            status = look(name, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            found.append(name)
            continue
        if status.st_ctime_ns != ctime or status.st_ino != inode:
            found.append(name)
    return found


def _missing(seen: Seen, path: bytes) -> tuple[bytes, Change]:
    """A directory is not there any more, or is another: its name is to be read by its parent."""
    if not path:
        raise FileNotFoundError(errno.ENOENT, "the upper is not the one that was seen")
    parent, _, name = path.rpartition(b"/")
    return parent, Change(seen.directories[parent].ctime, {name})
