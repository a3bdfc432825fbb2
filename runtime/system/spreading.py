"""Directories that have nothing to do with one another, told to ext4.

ext4 puts a directory's files and subdirectories near it. So all containers of a store would share one region of the
disk, and each start searches there for free inodes: past all those that were freed within the last minute, since ext4
does not use them again so soon. An overlay makes and frees half a dozen as it is mounted, and a thousand took twice as
long as with a region for each. ext4 does that for the directories in one that has the flag T (chattr(1)).
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from pathlib import Path

from runtime.system import mounts
from vcs.errors import suppress_errno

GETFLAGS, _SETFLAGS = 0x80086601, 0x40086602
"""FS_IOC_GETFLAGS and FS_IOC_SETFLAGS (ioctl_iflags(2)), for a long of 64 bits; the kernel takes 32 of them."""
TOPDIR = 0x00020000
"""FS_TOPDIR_FL."""
_REFUSALS = (errno.EPERM, errno.EACCES, errno.EROFS, errno.ENOTTY, errno.EOPNOTSUPP, errno.EINVAL)


def spread(directory: Path) -> None:
    """Have what is made in a directory from now on lie apart, on ext4. Elsewhere, or where it is refused, nothing."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress_errno(_REFUSALS):
            if mounts.file_system_type(fd) != mounts.EXT4_MAGIC:
                return
            (flags,) = struct.unpack("@l", fcntl.ioctl(fd, GETFLAGS, bytes(struct.calcsize("@l"))))
            if not flags & TOPDIR:
                fcntl.ioctl(fd, _SETFLAGS, struct.pack("@l", flags | TOPDIR))
    finally:
        os.close(fd)
