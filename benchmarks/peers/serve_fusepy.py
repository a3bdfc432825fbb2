"""A directory served read-only through fusepy: `python serve_fusepy.py SOURCE MOUNTPOINT`, in the foreground.

A loopback as fusepy's own example has it, read-only, with what the kernel can keep turned on: names, attributes and
missing names for 300 s, pages over opening (kernel_cache), reads of 128 KiB, one thread (several are slower: they
wait for one another).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

import fuse

SECONDS = 300
_ATTRIBUTES = (
    *("st_ino", "st_mode", "st_nlink", "st_uid", "st_gid", "st_rdev", "st_size", "st_blocks", "st_blksize"),
    *("st_atime", "st_mtime", "st_ctime"),
)
_STATVFS = (
    *("f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail", "f_files", "f_ffree", "f_favail", "f_flag"),
    "f_namemax",
)


class Loopback(fuse.Operations):  # type: ignore[misc]
    """Paths come from the mount's top and begin with a slash."""

    def __init__(self, source: str) -> None:
        self._source = source

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        status = os.lstat(self._source + path)
        return {name: getattr(status, name) for name in _ATTRIBUTES}

    def readdir(self, path: str, _fh: int) -> Iterator[str]:
        yield from (".", "..", *os.listdir(self._source + path))

    def readlink(self, path: str) -> str:
        return os.readlink(self._source + path)

    def open(self, path: str, _flags: int) -> int:
        return os.open(self._source + path, os.O_RDONLY)

    def read(self, _path: str, size: int, offset: int, fh: int) -> bytes:
        return os.pread(fh, size, offset)

    def release(self, _path: str, fh: int) -> None:
        os.close(fh)

    def getxattr(self, path: str, name: str, _position: int = 0) -> bytes:
        return os.getxattr(self._source + path, name, follow_symlinks=False)

    def listxattr(self, path: str) -> list[str]:
        return os.listxattr(self._source + path, follow_symlinks=False)

    def statfs(self, path: str) -> dict[str, int]:
        status = os.statvfs(self._source + path)
        return {name: getattr(status, name) for name in _STATVFS}


if __name__ == "__main__":
    fuse.FUSE(
        Loopback(sys.argv[1].rstrip("/")), sys.argv[2], foreground=True, nothreads=True, ro=True, use_ino=True,
        default_permissions=True, kernel_cache=True, entry_timeout=SECONDS, attr_timeout=SECONDS,
        negative_timeout=SECONDS, max_read=131072, fsname="benchmark-fusepy",
    )  # fmt: skip
