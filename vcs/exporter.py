"""A snapshot -> a directory of the host, every attribute as it was.

Nothing is reached by a path that somebody could bend: the target stays closed to others (0700) until all is there,
every directory is a descriptor, names are made anew (O_EXCL) and links are never followed. Attributes come in the order
in which the kernel leaves them alone: data, owner (which takes set-user-ID and capabilities away), extended attributes,
mode, times; a directory's own after everything in it.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vcs.errors import AlreadyExists, Denied, NoSpace, NotFound, StoreError, TreeringError
from vcs.model import Chunked, Data, Device, Entry, Symlink, type_name
from vcs.progress import Meter, Progress
from vcs.snapshot import Snapshot, split_path

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_MAX = 64
"""How many directories on the way down stay open; those above are found again by `..`."""

_FULL = (errno.ENOSPC, errno.EDQUOT)
_REFUSED = (errno.EPERM, errno.EACCES, errno.EROFS, errno.EOPNOTSUPP)
_ACLS = ("system.posix_acl_access", "system.posix_acl_default")


@dataclass(slots=True)
class ExportResult:
    """What an export wrote."""

    entries: int = 0
    """Names below the target."""
    size: int = 0
    """Bytes in files, holes included; a hard-linked file counts once."""
    skipped: list[tuple[bytes, str]] = field(default_factory=list)
    """What could not be written, by its path in the snapshot, and why."""


def export_directory(
    snapshot: Snapshot,
    path: bytes,
    target: Path,
    *,
    progress: Progress | None = None,
    owners: bool = True,
    devices: bool = True,
) -> ExportResult:
    """Write the directory at `path` in the snapshot as `target`, which must not exist or be an empty directory.

    NotFound or BadInput if `path` is not a directory there; AlreadyExists if the target is something else; NoSpace
    or Denied, with the path, where the system refuses. After an error nothing of the export is left.

    Only root can give files to others. Without `owners`, what only root can do is left out: owners, devices, and
    extended attributes outside user.* and ACLs; devices are among the result's `skipped`. Without `devices`, which is
    for the root of a user namespace, only devices and trusted.* attributes are left out, and both are in `skipped`.
    """
    top = snapshot.lookup(path)
    snapshot.directory(top)
    cursor, made = _open_target(target)
    try:
        mode = stat.S_IMODE(os.fstat(cursor.fd).st_mode)
        try:
            return _DirectoryExport(snapshot, cursor, progress, owners, devices and owners).run(
                top, b"/" + b"/".join(split_path(path))
            )
        except BaseException:
            cursor.empty(mode)
            if made:
                with suppress(OSError):
                    target.rmdir()
            raise
    finally:
        cursor.close()


def _open_target(target: Path) -> tuple[_Cursor, bool]:
    """The target, opened and seen to be empty, and whether it had to be made."""
    made = True
    try:
        try:
            target.mkdir(0o700)
        except FileExistsError:
            made = False
        fd = os.open(target, _DIRECTORY)
        if made or not os.listdir(fd):
            return _Cursor(fd), made
        os.close(fd)
    except FileNotFoundError as error:
        raise NotFound(f"{target.parent} does not exist", path=str(target.parent)) from error
    except OSError as error:
        if made or error.errno not in (errno.ENOTDIR, errno.ELOOP):
            raise refusal(error, os.fsencode(target)) from error
    raise AlreadyExists(f"{target} exists, and is not an empty directory", path=str(target))


def refusal(error: OSError, path: bytes) -> TreeringError:
    """What a failed system call on `path` means to the user."""
    shown = os.fsdecode(path)
    if error.errno in _FULL:
        return NoSpace(f"no space left to write {shown!r}: {error.strerror}", path=path)
    if error.errno in _REFUSED:
        missing = {"missing": "owner"} if isinstance(error, _NoSuchOwner) else {}
        return Denied(f"{shown!r} cannot be written as it is in the snapshot: {error.strerror}", path=path, **missing)
    return StoreError(f"{shown!r} cannot be written: {error.strerror}", path=path)


class _NoSuchOwner(PermissionError):
    """A user namespace does not have an owner's ids."""


class _Cursor:
    """The directory that is being written, as a descriptor, and the way back up."""

    def __init__(self, top: int) -> None:
        self.fd = top
        self._top = os.dup(top)
        self._above: list[int | tuple[int, int]] = []
        """The directories above: a descriptor, or (st_dev, st_ino) of one that was closed meanwhile."""

    def enter(self, name: bytes) -> None:
        fd = os.open(name, _DIRECTORY, dir_fd=self.fd)
        self._above.append(self.fd)
        self.fd = fd
        if len(self._above) > _OPEN_MAX:
            self._forget(len(self._above) - _OPEN_MAX)

    def leave(self) -> None:
        above = self._above.pop()
        if isinstance(above, tuple):
            fd = os.open(b"..", _DIRECTORY, dir_fd=self.fd)
            if _identity(fd) != above:
                os.close(fd)
                self._above.append(above)
                raise OSError(errno.ESTALE, "a directory was moved while it was written")
            above = fd
        os.close(self.fd)
        self.fd = above

    def make(self, name: bytes) -> None:
        """Make a directory and enter it."""
        os.mkdir(name, 0o700, dir_fd=self.fd)
        self.enter(name)

    def proc_path(self, name: bytes) -> bytes:
        """A path to a name in this directory, for the system calls that know no directory descriptors."""
        return b"/proc/self/fd/%d/%s" % (self.fd, name)

    def link(self, source: list[bytes], name: bytes) -> None:
        """Make `name` in this directory another name of the file at `source`, whose names begin at the top."""
        fd = os.dup(self._top)
        try:
            for step in source[:-1]:
                below = os.open(step, _DIRECTORY, dir_fd=fd)
                os.close(fd)
                fd = below
            os.link(source[-1], name, src_dir_fd=fd, dst_dir_fd=self.fd, follow_symlinks=False)
        finally:
            os.close(fd)

    def empty(self, mode: int) -> None:
        """Remove everything below the top, as far as the system lets us, and give the top its mode back."""
        self._drop()
        self.fd = os.dup(self._top)
        with suppress(OSError):
            os.fchmod(self.fd, 0o700)
            self._remove_below()
            os.fchmod(self.fd, mode)

    def close(self) -> None:
        self._drop()
        os.close(self._top)

    def _remove_below(self) -> None:
        names = [os.listdir(self.fd)]
        entered: list[str] = []
        while names:
            if not names[-1]:
                names.pop()
                if names:
                    self.leave()
                    os.rmdir(entered.pop(), dir_fd=self.fd)
                continue
            name = names[-1].pop()
            try:
                os.unlink(name, dir_fd=self.fd)
            except IsADirectoryError:
                os.chmod(name, 0o700, dir_fd=self.fd)
                self.enter(os.fsencode(name))
                entered.append(name)
                names.append(os.listdir(self.fd))

    def _forget(self, count: int) -> None:
        above = self._above[count - 1]
        if isinstance(above, int):
            self._above[count - 1] = _identity(above)
            os.close(above)

    def _drop(self) -> None:
        for fd in [self.fd, *self._above]:
            if isinstance(fd, int) and fd >= 0:
                os.close(fd)
        self.fd = -1
        self._above = []


def _identity(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


class _DirectoryExport:
    def __init__(
        self, snapshot: Snapshot, cursor: _Cursor, progress: Progress | None, owners: bool, devices: bool
    ) -> None:
        self._snapshot = snapshot
        self._cursor = cursor
        self._owners = owners
        self._devices = devices
        self._meter = Meter(progress)
        self._first: dict[bytes, list[bytes]] = {}
        """The first name of each group of hard links."""
        self._names: list[bytes] = []
        """The names on the way to the directory that is being written."""
        self._result = ExportResult()

    def run(self, top: Entry, prefix: bytes) -> ExportResult:
        entry = top
        self._prefix = prefix.rstrip(b"/")
        try:
            self._take_over()
            stack: list[tuple[Entry, Iterator[Entry]]] = [(top, iter(self._snapshot.directory(top)))]
            while stack:
                directory, todo = stack[-1]
                for entry in todo:
                    if entry.is_dir:
                        self._cursor.make(entry.name)
                        self._names.append(entry.name)
                        self._result.entries += 1
                        stack.append((entry, iter(self._snapshot.directory(entry))))
                        break
                    self._write(entry)
                else:
                    entry = directory
                    self._set_attributes(self._cursor.fd, entry)
                    stack.pop()
                    if stack:
                        self._names.pop()
                        self._cursor.leave()
        except OSError as error:
            names = self._names if entry.is_dir else [*self._names, entry.name]
            raise refusal(error, b"/".join([self._prefix, *names])) from error
        self._meter.close()
        return self._result

    def _take_over(self) -> None:
        """Nobody else may look in, and nothing may be inherited, until the target gets its own attributes."""
        fd = self._cursor.fd
        for name in _ACLS:
            with suppress(OSError):
                os.removexattr(fd, name)
        os.fchmod(fd, 0o700)

    def _write(self, entry: Entry) -> None:
        """Make one name that is no directory."""
        if entry.link is not None:
            if entry.link.group in self._first:
                self._cursor.link(self._first[entry.link.group], entry.name)
                self._result.entries += 1
                return
            self._first[entry.link.group] = [*self._names, entry.name]
        match entry.content:
            case Data() | Chunked():
                self._write_file(entry, entry.content)
            case Symlink(target):
                os.symlink(target, entry.name, dir_fd=self._cursor.fd)
                self._set_special_attributes(entry)
            case Device(major, minor):
                if not self._devices:
                    self._skip(entry, f"only root can make a {type_name(entry)}")
                    if entry.link is not None:
                        del self._first[entry.link.group]
                    return
                self._make_device(entry, major, minor)
                self._set_special_attributes(entry)
            case _:
                os.mknod(entry.name, stat.S_IFMT(entry.mode) | 0o600, dir_fd=self._cursor.fd)
                self._set_special_attributes(entry)
        self._result.entries += 1
        self._meter.add(1, 0)

    def _skip(self, entry: Entry, why: str) -> None:
        names = self._names if entry.is_dir else [*self._names, entry.name]
        self._result.skipped.append((b"/".join([self._prefix, *names]) or b"/", why))

    def _make_device(self, entry: Entry, major: int, minor: int) -> None:
        try:
            device = os.makedev(major, minor)
        except OverflowError:
            raise OSError(errno.EINVAL, f"no device can have the number {major}:{minor}") from None
        os.mknod(entry.name, stat.S_IFMT(entry.mode) | 0o600, device, dir_fd=self._cursor.fd)

    def _write_file(self, entry: Entry, content: Data | Chunked) -> None:
        fd = os.open(entry.name, _NEW_FILE, 0o600, dir_fd=self._cursor.fd)
        try:
            self._write_data(fd, content)
            self._set_attributes(fd, entry)
        finally:
            os.close(fd)
        self._result.size += content.size

    def _write_data(self, fd: int, content: Data | Chunked) -> None:
        ends_in_hole = False
        for hole, data in self._snapshot.pieces(content):
            ends_in_hole = bool(hole)
            if hole:
                os.lseek(fd, hole, os.SEEK_CUR)
            self._meter.add(0, len(data))
            while data:
                data = data[os.write(fd, data) :]
        if ends_in_hole:
            os.ftruncate(fd, content.size)

    def _set_attributes(self, fd: int, entry: Entry) -> None:
        """Those of a file or directory that is open."""
        if self._owners:
            self._chown(fd, entry)
        if entry.xattrs:
            self._set_xattrs(fd, entry)
        os.fchmod(fd, self._mode(entry))
        os.utime(fd, ns=(entry.mtime, entry.mtime))

    def _set_special_attributes(self, entry: Entry) -> None:
        """Those of what must not be opened: symbolic links, devices, FIFOs and sockets."""
        at = self._cursor.fd
        if self._owners:
            self._chown(entry.name, entry, dir_fd=at, follow_symlinks=False)
        if entry.xattrs:
            self._set_xattrs(self._cursor.proc_path(entry.name), entry)
        if not isinstance(entry.content, Symlink):
            os.chmod(entry.name, self._mode(entry), dir_fd=at)
        os.utime(entry.name, ns=(entry.mtime, entry.mtime), dir_fd=at, follow_symlinks=False)

    def _chown(self, file: int | bytes, entry: Entry, **how: Any) -> None:
        try:
            os.chown(file, entry.uid, entry.gid, **how)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            text = f"there is no owner {entry.uid}:{entry.gid} in this user namespace"
            raise _NoSuchOwner(errno.EPERM, text) from error

    def _mode(self, entry: Entry) -> int:
        # A set-ID bit would give away whoever exports, where the owner is not the entry's.
        return stat.S_IMODE(entry.mode) if self._owners else entry.mode & 0o1777

    def _set_xattrs(self, file: int | bytes, entry: Entry) -> None:
        for name, value in entry.xattrs:
            if not self._owners and not name.startswith((b"user.", b"system.posix_acl_")):
                continue
            if not self._devices and name.startswith(b"trusted."):
                self._skip(entry, f"only root can set the attribute {os.fsdecode(name)}")
                continue
            try:
                if isinstance(file, int):
                    os.setxattr(file, name, value)
                else:
                    os.setxattr(file, name, value, follow_symlinks=False)
            except OSError as error:
                text = f"extended attribute {os.fsdecode(name)}: {error.strerror}"
                raise OSError(error.errno, text) from error
