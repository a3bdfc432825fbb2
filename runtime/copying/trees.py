"""A directory or file that is there -> items, by descriptors only.

Each directory is opened below the one at the top, with no symbolic link allowed on the way, and each name in it is
held (O_PATH) before it is looked at. A regular file is opened through what is held, so that no device or FIFO that
takes its place is ever opened. What vanishes or changes its kind meanwhile is left out, and noted.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from runtime.copying.item import CAPABILITY, Copied, Item, Pieces, is_carried
from runtime.system import mounts
from vcs.extents import Extent, data_extents

_HOLD = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_BELOW = mounts.RESOLVE_BENEATH | mounts.RESOLVE_NO_SYMLINKS
_PIECE = 1 << 20
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE)
_NO_ATTRIBUTE = (errno.ENODATA, errno.EOPNOTSUPP, errno.EPERM, errno.EACCES, errno.EOVERFLOW)
"""There is none, or it has gone; the file system has none; it may not be read; it is of ids that are nobody here."""
_KERNELS = {0x9FA0, 0x62656572, 0x27E0EB, mounts.CGROUP2_MAGIC, 0x19800202, 0x1CD1}
"""proc, sysfs, cgroup, cgroup2, mqueue, devpts (statfs(2))."""
_DEVICES = (stat.S_IFCHR, stat.S_IFBLK)


class Tree:
    """What is at a descriptor (O_PATH), and everything below it."""

    def __init__(self, top: int, copied: Copied, *, every_xattr: bool = False) -> None:
        self._top = top
        self._copied = copied
        self._every_xattr = every_xattr
        self._first: dict[tuple[int, int], bytes] = {}
        """The first path of each file that has several."""

    def __iter__(self) -> Iterator[Item]:
        status = os.fstat(self._top)
        yield self._item(b"", self._top, status)
        if not stat.S_ISDIR(status.st_mode):
            return
        todo = [b""]
        while todo:
            directory = todo.pop()
            below = []
            for item in self._children(directory):
                yield item
                if stat.S_ISDIR(item.mode):
                    below.append(item.path)
            todo += reversed(below)

    def _children(self, directory: bytes) -> Iterator[Item]:
        try:
            fd = mounts.open_beneath(
                self._top, directory or b".", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, 0, _BELOW
            )
        except OSError as error:
            self._leave_out(directory, error)
            return
        try:
            if directory and _is_kernels(fd):
                return
            for name in sorted(map(os.fsencode, os.listdir(fd))):
                path = directory + b"/" + name if directory else name
                try:
                    held = os.open(name, _HOLD, dir_fd=fd)
                except OSError as error:
                    self._leave_out(path, error)
                    continue
                try:
                    status = os.fstat(held)
                    if stat.S_ISSOCK(status.st_mode):
                        self._copied.skipped.append((path, "a socket cannot be copied"))
                        continue
                    yield self._item(path, held, status)
                finally:
                    os.close(held)
        finally:
            os.close(fd)

    def _leave_out(self, path: bytes, error: OSError) -> None:
        if error.errno not in _GONE:
            raise OSError(error.errno, error.strerror, path) from error
        self._copied.skipped.append((path, "it was removed or replaced meanwhile"))

    def _item(self, path: bytes, held: int, status: os.stat_result) -> Item:
        kind = stat.S_IFMT(status.st_mode)
        is_file = kind == stat.S_IFREG
        link = None
        if status.st_nlink > 1 and kind != stat.S_IFDIR:
            first = self._first.setdefault((status.st_dev, status.st_ino), path)
            link = None if first is path else first
        return Item(
            path=path,
            mode=status.st_mode,
            uid=status.st_uid,
            gid=status.st_gid,
            mtime=status.st_mtime_ns,
            size=status.st_size if is_file else 0,
            target=os.readlink(b"", dir_fd=held) if kind == stat.S_IFLNK else b"",
            device=(os.major(status.st_rdev), os.minor(status.st_rdev)) if kind in _DEVICES else (0, 0),
            xattrs=self._xattrs(path, held) if is_file or self._every_xattr else (),
            link=link,
            pieces=partial(_pieces, held) if is_file else None,
        )

    def _xattrs(self, path: bytes, held: int) -> tuple[tuple[bytes, bytes], ...]:
        place = b"/proc/self/fd/%d" % held
        names, found = [CAPABILITY], []
        if self._every_xattr:
            names = []
            with _reading_xattrs(path):
                names = [os.fsencode(name) for name in os.listxattr(place)]
        for name in names:
            if is_carried(name):
                with _reading_xattrs(path):
                    found.append((name, os.getxattr(place, name)))
        return tuple(found)


@contextmanager
def _reading_xattrs(path: bytes) -> Iterator[None]:
    """What cannot be had is passed over. OSError, with the path, for what else is refused: it would be lost."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ATTRIBUTE:
            raise OSError(error.errno, error.strerror, path) from error


def _is_kernels(directory: int) -> bool:
    """Whether a directory shows what the kernel knows, such as /proc: of that, only what is named itself is copied."""
    return mounts.file_system_type(directory) in _KERNELS


def _pieces(held: int) -> Pieces:
    """The data of a regular file that is held by an O_PATH descriptor."""
    fd = os.open(b"/proc/self/fd/%d" % held, _READ)
    try:
        status = os.fstat(fd)
        extents = _extents(fd, status.st_size) if status.st_blocks * 512 < status.st_size else None
        if extents is None:
            while data := os.read(fd, _PIECE):  # to its end: a file of /proc says that it has 0 bytes
                yield 0, data
            return
        for extent in extents:
            if extent.gap:
                yield extent.gap, b""
            position, end = extent.start, extent.start + extent.length
            while position < end and (data := os.pread(fd, min(_PIECE, end - position), position)):
                yield 0, data
                position += len(data)
    finally:
        os.close(fd)


def _extents(fd: int, size: int) -> list[Extent] | None:
    """Where a sparse file has data; None if its file system does not tell."""
    try:
        return list(data_extents(fd, size))
    except OSError:
        return None
