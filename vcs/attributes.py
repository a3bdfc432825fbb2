"""A file's attributes as the operating system gives them -> the fields of an Entry.

Used by everything that reads live files: the directory importer and the upper scanner. Which extended attributes a
commit holds is decided here and only here:

    user.*, trusted.*                           all
    system.posix_acl_access, .posix_acl_default yes (acl(5))
    security.*                                  yes (capability, ima, ...), except the labels below
    security.selinux, .apparmor, .SMACK64*      no: labels of this host's policy; SELinux gives each container its own
    security.evm                                no: a keyed digest of this host over the inode's number
    other system.*, btrfs.*, ...                no: the file system's own view of itself, cannot be set elsewhere

Atime, ctime and birth time are not kept.
"""

from __future__ import annotations

import errno
import os
import stat

from vcs.errors import BadInput, Denied, NoSpace, TreeringError
from vcs.model import Content, Device, Entry, Link, Special, Symlink, Xattrs

_KEPT_NAMESPACES = ("user.", "trusted.", "security.")
_KEPT_NAMES = frozenset({"system.posix_acl_access", "system.posix_acl_default"})
_LABELS = ("security.selinux", "security.apparmor", "security.SMACK64", "security.evm")
_NO_XATTRS = frozenset({errno.EOPNOTSUPP, errno.ENOSYS})


def is_kept(name: str) -> bool:
    """Whether a commit holds the extended attribute of this name (xattr(7))."""
    if name.startswith(_KEPT_NAMESPACES):
        return not name.startswith(_LABELS)
    return name in _KEPT_NAMES


def read_xattrs(target: bytes | str | int) -> Xattrs:
    """The kept extended attributes of a path (never following a link at its end) or of a descriptor, sorted by name.

    One llistxattr(2) where there are none; a file system without extended attributes has none. OSError as the
    system gives it; an attribute that vanishes between list and read is left out.
    """
    try:
        names = os.listxattr(target) if type(target) is int else os.listxattr(target, follow_symlinks=False)
    except OSError as error:
        if error.errno in _NO_XATTRS:
            return ()
        raise
    return _read_named(target, names) if names else ()


def read_pinned_xattrs(fd: int) -> Xattrs:
    """The same of a file of any type held by an O_PATH descriptor, which fgetxattr(2) refuses; needs /proc."""
    link = f"/proc/self/fd/{fd}"  # the kernel jumps to the descriptor's own inode, even where that is a symbolic link
    try:
        names = os.listxattr(link)
    except OSError as error:
        if error.errno in _NO_XATTRS:
            return ()
        raise
    return _read_named(link, names, follow=True) if names else ()


def _read_named(target: bytes | str | int, names: list[str], follow: bool = False) -> Xattrs:
    found = []
    for name in names:
        if not is_kept(name):
            continue
        try:
            value = os.getxattr(target, name, follow_symlinks=follow or type(target) is int)
        except OSError as error:
            if error.errno != errno.ENODATA:
                raise
        else:
            found.append((os.fsencode(name), value))
    found.sort()
    return tuple(found)


def entry_of(
    name: bytes, status: os.stat_result, content: Content, xattrs: Xattrs = (), link: Link | None = None
) -> Entry:
    """The entry of a file with this name, status (lstat or fstat) and content."""
    return Entry(name, status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, content, xattrs, link)


def special_content(status: os.stat_result) -> Device | Special:
    """What a device, FIFO or socket holds. BadInput for another type of file."""
    kind = stat.S_IFMT(status.st_mode)
    if kind in (stat.S_IFCHR, stat.S_IFBLK):
        return Device(os.major(status.st_rdev), os.minor(status.st_rdev))
    if kind in (stat.S_IFIFO, stat.S_IFSOCK):
        return Special()
    raise BadInput(f"files of type {kind:o} cannot be stored", mode=status.st_mode)


def pinned_symlink(fd: int) -> Symlink:
    """The target of a symbolic link held by an O_PATH | O_NOFOLLOW descriptor (readlinkat(2) with an empty path)."""
    return Symlink(os.readlink(b"", dir_fd=fd))


def read_error(error: OSError, path: bytes) -> TreeringError:
    """What a failed system call on `path` means to the caller: Denied, NoSpace or BadInput."""
    kind: type[TreeringError] = BadInput
    if error.errno in (errno.EACCES, errno.EPERM):
        kind = Denied
    elif error.errno in (errno.ENOSPC, errno.EDQUOT):
        kind = NoSpace
    return kind(f"{os.fsdecode(path)!r}: {error.strerror}", path=path, errno=error.errno)
