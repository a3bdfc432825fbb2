"""Directories of the host, held open while they are read: everything in them is reached from their descriptors.

So a directory that is swapped for a symbolic link meanwhile leads nowhere, paths may be longer than PATH_MAX, and the
kernel walks one name a call instead of the whole path (a sixth of what it takes to look at a small file).
"""

from __future__ import annotations

import errno
import os
import sys
from typing import TypeAlias

from vcs.errors import BadInput, Conflict

Identity: TypeAlias = tuple[int, int]
"""st_dev and st_ino."""

GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO})
"""What open(2) says of a name that went away, or became another type of file, after we looked at it."""

_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_ENCODING = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()


def open_top(path: bytes) -> int:
    """Open the directory that a walk begins at; a symbolic link at the path's end is followed. OSError; BadInput
    without /proc, where each name would seem to have gone away just when its attributes are read."""
    fd = open_in(path, None, _DIRECTORY & ~os.O_NOFOLLOW)
    try:
        os.stat(f"/proc/self/fd/{fd}")
    except FileNotFoundError:
        os.close(fd)
        raise BadInput(
            "files cannot be read whole: their attributes are reached by /proc, and it is not mounted",
            advice="mount -t proc proc /proc",
        ) from None
    return fd


def open_directory(name: bytes, parent: int) -> int:
    """Open a directory in another. OSError, with an errno in GONE if it is none any more."""
    return open_in(name, parent, _DIRECTORY)


def open_in(name: bytes, directory: int | None, flags: int = _FILE) -> int:
    """Open a file for reading, without touching its atime where we may (only the owner and root may: open(2)).

    One that became a FIFO does not make us wait. OSError, like open_directory.
    """
    try:
        return os.open(name, flags | os.O_NOATIME, dir_fd=directory)
    except PermissionError:
        return os.open(name, flags, dir_fd=directory)


def open_parent(directory: int, identity: Identity) -> int:
    """Open the directory above. Conflict if it is not the one expected, because `directory` was moved."""
    fd = os.open(b"..", _DIRECTORY, dir_fd=directory)
    status = os.fstat(fd)
    if (status.st_dev, status.st_ino) != identity:
        os.close(fd)
        raise Conflict("a directory was moved while it was being read")
    return fd


def list_names(directory: int) -> list[bytes]:
    """The names in a directory, sorted. 60 bytes each; os.scandir's objects take three times that."""
    names = [name.encode(*_ENCODING) for name in os.listdir(directory)]
    names.sort()
    return names


def list_directories(directory: int) -> set[bytes]:
    """The names of those that are directories themselves."""
    with os.scandir(directory) as items:
        return {item.name.encode(*_ENCODING) for item in items if item.is_dir(follow_symlinks=False)}


def path_in(directory: int, name: bytes) -> bytes:
    """A path to a name in a directory, for calls that take no descriptor (listxattr); needs /proc."""
    return b"/proc/self/fd/%d/%b" % (directory, name)


def keeps_ctimes(directory: int) -> bool:
    """Whether st_ctime says when a file last changed. Not on what is mounted read-only: images of squashfs, erofs or
    ISO 9660 give the mtime instead, and so do other commits of ours."""
    return not os.fstatvfs(directory).f_flag & os.ST_RDONLY
