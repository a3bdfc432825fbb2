"""Descriptors of a process that has just been forked: which to keep, and which to move out of the way."""

from __future__ import annotations

import errno
import fcntl
import os


def close_all_but(keep: set[int]) -> None:
    """Close every other descriptor: a lock or a database that the caller had open must not live on in here. The kept
    ones become close-on-exec, but for the standard streams."""
    low = 0
    for fd in sorted(keep):
        if low < fd:  # an empty range would be taken for an endless one
            os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, 1 << 30)
    for fd in keep - {0, 1, 2}:
        os.set_inheritable(fd, False)


def duplicate(fd: int) -> int | None:
    """A close-on-exec copy above the standard streams; None if the caller has closed `fd`. OSError if there cannot be
    another: a stream that is wanted must not be taken for one that is not."""
    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    except OSError as error:
        if error.errno == errno.EBADF:
            return None
        raise


def same_file(one: int | None, other: int | None) -> bool:
    """Whether both lead to the same file, pipe or terminal."""
    return one is not None and other is not None and os.path.sameopenfile(one, other)
