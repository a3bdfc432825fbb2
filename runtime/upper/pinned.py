"""Files of a directory that a running container may be changing, held so that none can be swapped for another.

Every file is first opened with O_PATH | O_NOFOLLOW, relative to its directory's descriptor. That opens nothing: a
device or FIFO put in the place of a file has no effect, and a symbolic link leads nowhere. What it is, its attributes
and its content are then asked of that descriptor, so they are all of one inode. Directories are read through their
descriptors; the parent of one that had to be given up is reached by `..` and recognised by its inode.
"""

from __future__ import annotations

import errno
import os

from vcs.errors import Conflict

_PIN = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})

Identity = tuple[int, int]
"""st_dev and st_ino."""


def pin(directory: int, name: bytes) -> int | None:
    """An O_PATH descriptor of a name of any type, or None if it is not there any more."""
    try:
        return os.open(name, _PIN, dir_fd=directory)
    except FileNotFoundError:
        return None


def open_file(pinned: int) -> int:
    """Open a pinned regular file for reading, its atime untouched where we may (only the owner and root: open(2))."""
    path = f"/proc/self/fd/{pinned}"
    try:
        return os.open(path, _READ | os.O_NOATIME)
    except PermissionError:
        return os.open(path, _READ)


def open_directory(path: bytes, parent: int | None = None) -> int | None:
    """Open a directory for listing; None if the name is not there or is no directory (any more)."""
    try:
        return os.open(path, _DIRECTORY | os.O_NOATIME, dir_fd=parent)
    except PermissionError:
        return os.open(path, _DIRECTORY, dir_fd=parent)
    except OSError as error:
        if error.errno in _GONE:
            return None
        raise


def open_parent(directory: int, identity: Identity) -> int:
    """Open the directory above; Conflict if it is not the one expected, because `directory` was moved."""
    fd = os.open(b"..", _DIRECTORY, dir_fd=directory)
    if identity_of(os.fstat(fd)) != identity:
        os.close(fd)
        raise Conflict("a directory was moved while the upper was being read")
    return fd


def identity_of(status: os.stat_result) -> Identity:
    return status.st_dev, status.st_ino


def same_state(one: os.stat_result, other: os.stat_result) -> bool:
    """Whether two fstat results of one file say that nothing happened to it in between."""
    return (
        one.st_ctime_ns == other.st_ctime_ns and one.st_mtime_ns == other.st_mtime_ns and one.st_size == other.st_size
    )
