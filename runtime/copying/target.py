"""Items -> names below a directory, which is held by a descriptor.

A name is made anew beside its place, gets its attributes through a descriptor, and is renamed into its place: links are
replaced, never followed, and nobody sees half a file. A file has no name until it is whole, so that a kill leaves
nothing of it; in a container that rests not until it is synced, so that neither does a power cut. Attributes come in
the order in which the kernel leaves them alone: data, owner (which takes set-user-ID and capabilities away), extended
attributes, mode, times; a new directory's own after everything in it. A directory that is there already keeps its own.
"""

from __future__ import annotations

import errno
import os
import posixpath
import secrets
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from runtime.copying.item import Copied, Item
from runtime.copying.placing import Waiting, put, put_nameless, removed_on_error
from runtime.idranges import SIZE
from runtime.system import mounts
from runtime.upper.owners import NOBODY
from vcs.errors import suppress_errno

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NAMELESS = os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC
_NO_NAMELESS = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL)
"""What a file system says that has no files without a name, or a kernel that knows of none there (open(2))."""
_NO_ATTRIBUTE = (errno.EOPNOTSUPP, errno.EPERM, errno.EACCES, errno.EINVAL)
"""As with Docker: not every file system has a kind of attribute, not everybody may set it, and an access list may name
ids that are nobody here (EINVAL)."""
_HOLD = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY
_BELOW = mounts.RESOLVE_BENEATH | mounts.RESOLVE_NO_SYMLINKS
_SYNCED_FILES, _SYNCED_BYTES = 128, 64 << 20
"""What is synced with one call: each of these files keeps two descriptors open."""

OpenDirectory = Callable[[bytes], int]
"""Opens a directory by its path below the top; the caller closes it."""


@dataclass(frozen=True, slots=True)
class Owners:
    """Who owns what is made."""

    keep: bool
    """Whoever owns the item; otherwise `user` and `group`, whom items of those that own themselves stay set-ID for."""
    user: int = 0
    group: int = 0
    shift: int = 0
    """What is added to each: the first id, on the machine, of a container with ids of its own."""

    def of(self, item: Item) -> tuple[int, int]:
        """As the machine counts."""
        user, group = (item.uid, item.gid) if self.keep else (self.user, self.group)
        return user + self.shift, group + self.shift

    def mode(self, item: Item) -> int:
        """The permissions. Set-ID bits go where they would give away somebody else than before."""
        mode = stat.S_IMODE(item.mode)
        if self.keep or stat.S_ISDIR(item.mode):
            return mode
        if item.uid != self.user:
            mode &= ~stat.S_ISUID
        return mode if item.gid == self.group else mode & ~stat.S_ISGID


def seen_inside(number: int, shift: int) -> int:
    """What an id of the machine is in a container whose ids begin at `shift`."""
    if not shift:
        return number
    return number - shift if shift <= number < shift + SIZE else NOBODY


def strictly(top: int) -> OpenDirectory:
    """Directories below a descriptor, by no symbolic link."""
    return lambda path: mounts.open_beneath(top, path or b".", _DIRECTORY | os.O_NOFOLLOW, 0, _BELOW)


class Target:
    """Makes items below a directory. With `name`, the top item gets this name; without, it is the directory itself.

    `where` is the directory's path, for messages. `aside`: how the second names begin that files need for a moment to
    replace others; with it, files are synced before they have any.
    """

    def __init__(
        self, directory: OpenDirectory, where: bytes, name: bytes | None, owners: Owners, copied: Copied,
        aside: bytes | None = None,
    ) -> None:  # fmt: skip
        self._directory = directory
        self._where = where
        self._name = name
        self._owners = owners
        self._copied = copied
        self._new_directories: list[tuple[bytes, Item]] = []
        self._waiting = Waiting(where, _SYNCED_FILES, _SYNCED_BYTES) if aside is not None else None
        self._aside = aside or b".treering-"

    def add(self, item: Item) -> None:
        """Make one name. OSError, with its path, if the system refuses."""
        path = self._place(item.path)
        self._end_waiting(path, item)
        try:
            if path:
                self._add(path, item)
            elif not stat.S_ISDIR(item.mode):
                raise OSError(errno.EISDIR, "a directory cannot be replaced by what is none")
        except OSError as error:
            raise OSError(error.errno, error.strerror, posixpath.join(self._where, path)) from error
        if path:
            self._copied.files += 1

    def _end_waiting(self, path: bytes, item: Item) -> None:
        """Give files that wait their names if there are enough, or if the order matters."""
        if self._waiting is None:
            return
        is_data = stat.S_ISREG(item.mode) and item.link is None  # such files get their names in order anyway
        needed = posixpath.dirname(path) if is_data else path
        if self._waiting.is_full or self._waiting.has(needed) or (item.link and self._waiting.has(item.link)):
            self._waiting.end()

    def finish(self) -> None:
        """Give what waits its name, and new directories their attributes, once everything is in them. OSError, with
        the path."""
        if self._waiting is not None:
            self._waiting.end()
        for path, item in reversed(self._new_directories):
            with suppress(FileNotFoundError, NotADirectoryError):
                fd = self._directory(path)
                try:
                    self._set_attributes(fd, item)
                finally:
                    os.close(fd)

    def close(self) -> None:
        """What has no name yet gets none."""
        if self._waiting is not None:
            self._waiting.forget()

    def _place(self, path: bytes) -> bytes:
        if self._name is None:
            return path
        return self._name + b"/" + path if path else self._name

    def _add(self, path: bytes, item: Item) -> None:
        folder, _, name = path.rpartition(b"/")
        parent = self._directory(folder)
        try:
            if stat.S_ISDIR(item.mode):
                if self._make_directory(parent, path, name):
                    self._new_directories.append((path, item))
                return
            aside = self._aside + secrets.token_hex(8).encode()
            with removed_on_error(parent, aside):
                if item.link is None or not self._link(item.link, parent, aside):
                    if stat.S_ISREG(item.mode):
                        self._make_file(parent, path, aside, item)
                        return
                    self._make(parent, aside, item)
                put(parent, aside, name)
        finally:
            os.close(parent)

    def _make_directory(self, parent: int, path: bytes, name: bytes) -> bool:
        """Make sure that there is a directory; whether it is new."""
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
            return True
        except FileExistsError:
            try:
                os.close(self._directory(path))
            except OSError as error:
                if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                    raise
                raise OSError(errno.ENOTDIR, "what is there is no directory, and stays") from error
            return False

    def _link(self, first: bytes, parent: int, aside: bytes) -> bool:
        """Make another name of an earlier item; False if it is on another file system, or is gone."""
        folder, _, name = self._place(first).rpartition(b"/")
        try:
            there = self._directory(folder)
            try:
                os.link(name, aside, src_dir_fd=there, dst_dir_fd=parent, follow_symlinks=False)
            finally:
                os.close(there)
        except OSError as error:
            if error.errno in (errno.EXDEV, errno.ENOENT, errno.EMLINK, errno.EPERM):
                return False
            raise
        return True

    def _make_file(self, parent: int, path: bytes, aside: bytes, item: Item) -> None:
        name = posixpath.basename(path)
        try:
            fd = os.open(b".", _NAMELESS, 0o600, dir_fd=parent)
        except OSError as error:
            if error.errno not in _NO_NAMELESS:
                raise
            self._make_named_file(parent, name, aside, item)
            return
        try:
            size = self._write(fd, item)
            self._set_attributes(fd, item)
            if self._waiting is None:
                put_nameless(fd, parent, name, aside)
            else:
                self._waiting.add(fd, size, parent, path, aside)
        finally:
            os.close(fd)

    def _make_named_file(self, parent: int, name: bytes, aside: bytes, item: Item) -> None:
        """Where files have names from the beginning."""
        fd = os.open(aside, _NEW_FILE, 0o600, dir_fd=parent)
        try:
            self._write(fd, item)
            self._set_attributes(fd, item)
            if self._waiting is not None:
                os.fdatasync(fd)
        finally:
            os.close(fd)
        put(parent, aside, name)

    def _make(self, parent: int, name: bytes, item: Item) -> None:
        """Make what is neither a directory nor a regular file."""
        kind = stat.S_IFMT(item.mode)
        if kind == stat.S_IFLNK:
            os.symlink(item.target, name, dir_fd=parent)
        else:
            os.mknod(name, kind | 0o600, os.makedev(*item.device), dir_fd=parent)
        held = os.open(name, _HOLD, dir_fd=parent)
        try:
            status = os.fstat(held)
            if stat.S_IFMT(status.st_mode) != kind or status.st_nlink != 1:
                raise OSError(errno.ESTALE, "something else was put in its place meanwhile")
            self._set_attributes_of_held(b"/proc/self/fd/%d" % held, item)
        finally:
            os.close(held)

    def _write(self, fd: int, item: Item) -> int:
        """Write the data; how many bytes, holes included."""
        if item.pieces is None:
            raise OSError(errno.ENOENT, "the file that it is another name of is not there")
        size, hole = 0, 0
        for hole, data in item.pieces():
            if hole:
                os.lseek(fd, hole, os.SEEK_CUR)
            size += hole + len(data)
            while data:
                data = data[os.write(fd, data) :]
        if hole:
            os.ftruncate(fd, size)
        self._copied.size += size
        return size

    def _set_attributes(self, fd: int, item: Item) -> None:
        os.chown(fd, *self._owners.of(item))
        self._set_xattrs(fd, item)
        os.fchmod(fd, self._owners.mode(item))
        os.utime(fd, ns=(item.mtime, item.mtime))

    def _set_attributes_of_held(self, place: bytes, item: Item) -> None:
        """Those of what must not be opened. `place` leads to what is held, a symbolic link itself not followed."""
        os.chown(place, *self._owners.of(item))
        self._set_xattrs(place, item)
        if not stat.S_ISLNK(item.mode):
            os.chmod(place, self._owners.mode(item))
        os.utime(place, ns=(item.mtime, item.mtime))

    def _set_xattrs(self, place: int | bytes, item: Item) -> None:
        for name, value in item.xattrs:
            with suppress_errno(_NO_ATTRIBUTE):
                os.setxattr(place, name, value)
