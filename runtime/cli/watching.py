"""Directories watched for changes of the files in them (inotify(7)): to ask whether there were any takes 2 us, and to
look at some hundred files half a millisecond.

The kernel tells of what is done through this machine's own file systems, so only these are watched.
"""

from __future__ import annotations

import ctypes
import os
import select
from collections.abc import Iterable

_CHANGES = 0x2 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400 | 0x800 | 0x2000
"""IN_MODIFY, IN_MOVED_FROM, IN_MOVED_TO, IN_CREATE, IN_DELETE, IN_DELETE_SELF, IN_MOVE_SELF, IN_UNMOUNT."""
_LOCAL = {0xEF53, 0x58465342, 0x9123683E, 0x01021994, 0x794C7630, 0xF2F52010, 0x2FC12FC1}
"""f_type of ext2 to ext4, XFS, btrfs, tmpfs, overlayfs, F2FS and ZFS (statfs(2))."""


class Watch:
    """A watch on directories, which every process that inherits it can ask."""

    def __init__(self, directories: Iterable[str]) -> None:
        """OSError if one of them cannot be watched."""
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = _checked(libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        try:
            for directory in directories:
                path = os.fsencode(directory)
                if _kind(libc, path) not in _LOCAL:
                    raise OSError(f"{directory} is on a file system that others may change")
                _checked(libc.inotify_add_watch(self._fd, path, _CHANGES))
        except OSError:
            os.close(self._fd)
            raise

    def is_quiet(self) -> bool:
        """Whether nothing has been told of since it was made; False too where it was closed."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        return not poll.poll(0)


def _kind(libc: ctypes.CDLL, path: bytes) -> int:
    buffer = (ctypes.c_long * 32)()
    _checked(libc.statfs(path, buffer))
    return int(buffer[0])


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
