"""A directory served read-only through pyfuse3: `python3 serve_pyfuse3.py SOURCE MOUNTPOINT`, in the foreground.

A passthrough as pyfuse3's own example has it (a path for each inode, attributes by lstat), with what the kernel can
keep turned on: names, attributes and missing names for 300 s, which are pyfuse3's defaults, and pages over closing
(keep_cache). Runs with Debian's interpreter, whose package python3-pyfuse3 is.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import Any

import pyfuse3
import trio

SECONDS = 300.0


class Passthrough(pyfuse3.Operations):  # type: ignore[misc]
    """Descriptors are the handles of files, inodes those of directories."""

    supports_dot_lookup = False
    enable_writeback_cache = False

    def __init__(self, source: str) -> None:
        super().__init__()
        self._paths: dict[int, bytes] = {pyfuse3.ROOT_INODE: os.fsencode(source)}

    def _attributes(self, path: bytes, inode: int | None = None) -> Any:
        try:
            status = os.lstat(path)
        except OSError as error:
            raise pyfuse3.FUSEError(error.errno) from None
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = inode or status.st_ino
        entry.st_mode = status.st_mode
        entry.st_nlink = status.st_nlink
        entry.st_uid = status.st_uid
        entry.st_gid = status.st_gid
        entry.st_rdev = status.st_rdev
        entry.st_size = status.st_size
        entry.st_blocks = status.st_blocks
        entry.st_blksize = status.st_blksize
        entry.st_atime_ns = status.st_atime_ns
        entry.st_mtime_ns = status.st_mtime_ns
        entry.st_ctime_ns = status.st_ctime_ns
        entry.generation = 0
        entry.entry_timeout = entry.attr_timeout = SECONDS
        return entry

    async def lookup(self, parent: int, name: bytes, _ctx: Any = None) -> Any:
        path = os.path.join(self._paths[parent], name)
        try:
            entry = self._attributes(path)
        except pyfuse3.FUSEError as error:
            if error.errno != errno.ENOENT:
                raise
            entry = pyfuse3.EntryAttributes()  # inode 0: the kernel keeps that there is no such name
            entry.st_ino = 0
            entry.entry_timeout = SECONDS
            return entry
        self._paths.setdefault(entry.st_ino, path)
        return entry

    async def getattr(self, inode: int, _ctx: Any = None) -> Any:
        return self._attributes(self._paths[inode], inode)

    async def readlink(self, inode: int, _ctx: Any = None) -> bytes:
        return os.readlink(self._paths[inode])

    async def opendir(self, inode: int, _ctx: Any = None) -> int:
        return inode

    async def readdir(self, inode: int, start: int, token: Any) -> None:
        path = self._paths[inode]
        for number, name in enumerate(sorted(os.listdir(path))[start:], start + 1):
            child = os.path.join(path, name)
            entry = self._attributes(child)
            if not pyfuse3.readdir_reply(token, name, entry, number):
                break
            self._paths.setdefault(entry.st_ino, child)

    async def open(self, inode: int, _flags: int, _ctx: Any = None) -> Any:
        try:
            return pyfuse3.FileInfo(fh=os.open(self._paths[inode], os.O_RDONLY), keep_cache=True)
        except OSError as error:
            raise pyfuse3.FUSEError(error.errno) from None

    async def read(self, fh: int, offset: int, size: int) -> bytes:
        return os.pread(fh, size, offset)

    async def release(self, fh: int) -> None:
        os.close(fh)

    async def getxattr(self, inode: int, name: bytes, _ctx: Any = None) -> bytes:
        try:
            return os.getxattr(self._paths[inode], name, follow_symlinks=False)
        except OSError as error:
            raise pyfuse3.FUSEError(error.errno) from None

    async def listxattr(self, inode: int, _ctx: Any = None) -> list[bytes]:
        return [os.fsencode(name) for name in os.listxattr(self._paths[inode], follow_symlinks=False)]

    async def statfs(self, _ctx: Any = None) -> Any:
        status = os.statvfs(self._paths[pyfuse3.ROOT_INODE])
        found = pyfuse3.StatvfsData()
        for name in ("f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail", "f_files", "f_ffree", "f_favail"):
            setattr(found, name, getattr(status, name))
        found.f_namemax = status.f_namemax
        return found


if __name__ == "__main__":
    options = set(pyfuse3.default_options) | {"fsname=benchmark-pyfuse3", "ro"}
    pyfuse3.init(Passthrough(sys.argv[1]), sys.argv[2], options)
    trio.run(pyfuse3.main)
