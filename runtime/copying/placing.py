"""New files -> their names.

A name is given with link(2) where nothing is, and renamed into place where something is: links are replaced, never
followed. Files without a name can wait until several are synced with one call: after a power cut each is as before, or
whole, though file systems may write a name before the data of a file that nobody has synced.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from runtime.system import mounts

_HOLD = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class _Nameless:
    """A file that is whole. Both descriptors are its own."""

    fd: int
    parent: int
    path: bytes
    aside: bytes
    """A name beside its own, for the moment before it replaces something."""


class Waiting:
    """Files that wait for their names: up to `count` of them, or `size` bytes, which are synced together.

    `where`: of what their paths are below, for messages.
    """

    def __init__(self, where: bytes, count: int, size: int) -> None:
        self._where = where
        self._count = count
        self._size = size
        self._bytes = 0
        self._files: list[_Nameless] = []
        self._names: set[bytes] = set()

    def has(self, path: bytes) -> bool:
        """Whether a file waits for a name that is in the path, in whatever directory: paths may lead through links."""
        return not self._names.isdisjoint(path.split(b"/"))

    def add(self, fd: int, size: int, parent: int, path: bytes, aside: bytes) -> None:
        """A file that is whole; both descriptors may be closed afterwards. OSError if there are too many."""
        own = os.dup(fd)
        try:
            self._files.append(_Nameless(own, os.dup(parent), path, aside))
        except OSError:
            os.close(own)
            raise
        self._names.add(posixpath.basename(path))
        self._bytes += size

    @property
    def is_full(self) -> bool:
        """Whether no more is to be added before `end`."""
        return len(self._files) >= self._count or self._bytes >= self._size

    def end(self) -> None:
        """Give all that wait their names. OSError, with the path of the file that is refused."""
        if not self._files:
            return
        mounts.sync_file_system(self._files[0].fd)
        try:
            for file in self._files:
                _name(file, self._where)
        finally:
            self.forget()

    def forget(self) -> None:
        """Let go of all that wait: what has no name yet gets none."""
        for file in self._files:
            os.close(file.fd)
            os.close(file.parent)
        self._files.clear()
        self._names.clear()
        self._bytes = 0


def _name(file: _Nameless, where: bytes) -> None:
    try:
        put_nameless(file.fd, file.parent, posixpath.basename(file.path), file.aside)
    except OSError as error:
        raise OSError(error.errno, error.strerror, posixpath.join(where, file.path)) from error


def put_nameless(fd: int, parent: int, name: bytes, aside: bytes) -> None:
    """Give a file a name in a directory; if something is there, by way of another name. OSError."""
    file = b"/proc/self/fd/%d" % fd
    try:
        os.link(file, name, dst_dir_fd=parent, follow_symlinks=True)
    except FileExistsError:
        with removed_on_error(parent, aside):
            os.link(file, aside, dst_dir_fd=parent, follow_symlinks=True)
            put(parent, aside, name)


@contextmanager
def removed_on_error(parent: int, aside: bytes) -> Iterator[None]:
    """Whatever goes wrong in this block, nothing of that name is left."""
    try:
        yield
    except BaseException:
        with suppress(OSError):
            os.unlink(aside, dir_fd=parent)
        raise


def put(parent: int, aside: bytes, name: bytes) -> None:
    """Rename into place. What is a mount point, such as a container's /etc/hosts, is written to instead. OSError."""
    try:
        os.rename(aside, name, src_dir_fd=parent, dst_dir_fd=parent)
    except OSError as error:
        if error.errno in (errno.EISDIR, errno.ENOTEMPTY, errno.EEXIST):
            raise OSError(errno.EISDIR, "a directory cannot be replaced by what is none") from error
        if error.errno != errno.EBUSY:
            raise
        _overwrite(parent, aside, name)
        os.unlink(aside, dir_fd=parent)


def _overwrite(parent: int, aside: bytes, name: bytes) -> None:
    held = [os.open(one, _HOLD, dir_fd=parent) for one in (aside, name)]
    try:
        if not all(stat.S_ISREG(os.fstat(fd).st_mode) for fd in held):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        with (
            open(b"/proc/self/fd/%d" % held[0], "rb", buffering=0) as source,
            open(b"/proc/self/fd/%d" % held[1], "wb", buffering=0) as target,
        ):
            while os.sendfile(target.fileno(), source.fileno(), None, 1 << 20):
                pass
    finally:
        for fd in held:
            os.close(fd)
