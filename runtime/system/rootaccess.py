"""Looking into a container's root from outside, safely.

Every path is looked up by the kernel as if the root's directory were `/` (openat2(2) with RESOLVE_IN_ROOT), so no
symbolic link, `..` or race made by the container can reach the host.
"""

from __future__ import annotations

import errno
import os
import stat

from runtime.system import mounts
from vcs.errors import EngineError

_MAX_LINKS = 40
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


class Root:
    """A directory as the root of paths. Does not own its descriptor."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def open(self, path: bytes, flags: int, mode: int = 0, follow: bool = True) -> int:
        """Open a path inside the root. Without `follow`, a symbolic link anywhere on it is ELOOP."""
        resolve = mounts.RESOLVE_IN_ROOT if follow else mounts.RESOLVE_IN_ROOT | mounts.RESOLVE_NO_SYMLINKS
        return mounts.open_beneath(self.fd, path, flags, mode, resolve)

    def stat(self, path: bytes) -> os.stat_result | None:
        """What a path leads to, links followed inside the root; None if nothing."""
        try:
            fd = self.open(path, os.O_PATH)
        except OSError as error:
            if error.errno in _ABSENT:
                return None
            raise
        try:
            return os.fstat(fd)
        finally:
            os.close(fd)

    def read(self, path: bytes, limit: int = 16 << 20) -> bytes | None:
        """A regular file's first `limit` bytes, links followed inside the root; None if there is no such file.

        A device or FIFO is never opened, since it could block or have effects, also if it takes the file's place after
        we have looked: what is looked at is held.
        """
        try:
            held = self.open(path, os.O_PATH)
        except OSError as error:
            if error.errno in _ABSENT:
                return None
            raise
        try:
            if not stat.S_ISREG(os.fstat(held).st_mode):
                return None
            with open(f"/proc/self/fd/{held}", "rb") as file:
                return file.read(limit)
        finally:
            os.close(held)

    def readlink(self, path: bytes) -> bytes | None:
        """The target of a symbolic link at `path`, whose parents must be real; None if there is no link."""
        try:
            fd = self.open(path, os.O_PATH | os.O_NOFOLLOW, follow=True)
        except OSError as error:
            if error.errno in _ABSENT:
                return None
            raise
        try:
            return os.readlink(b"", dir_fd=fd) if stat.S_ISLNK(os.fstat(fd).st_mode) else None
        finally:
            os.close(fd)

    def resolve(self, path: bytes) -> bytes:
        """The absolute path with every link followed inside the root; names that do not exist are kept.

        EngineError after 40 links.
        """
        if self._is_real(path):
            return b"/" + b"/".join(_names(path))
        done: list[bytes] = []
        todo = _names(path)[::-1]
        links = 0
        while todo:
            name = todo.pop()
            if name == b"..":
                del done[-1:]
                continue
            target = self.readlink(b"/".join([b"", *done, name]))
            if target is None:
                done.append(name)
                continue
            links += 1
            if links > _MAX_LINKS:
                raise EngineError(f"too many symbolic links in {os.fsdecode(path)}", path=path)
            if target.startswith(b"/"):
                done.clear()
            todo.extend(_names(target)[::-1])
        return b"/" + b"/".join(done)

    def _is_real(self, path: bytes) -> bool:
        """Whether there is no symbolic link on a path, as far as it exists, and no `..`: one look instead of one for
        each name."""
        if b".." in path:
            return False
        try:
            os.close(self.open(path, os.O_PATH, follow=False))
        except OSError as error:
            return error.errno in (errno.ENOENT, errno.ENOTDIR)
        return True


def _names(path: bytes) -> list[bytes]:
    return [name for name in path.split(b"/") if name not in (b"", b".")]
