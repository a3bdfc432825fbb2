"""The kernel's mount calls, which Python 3.11 does not have: mount(2), umount2(2), unshare(2), setns(2), the new mount
API (fsopen(2) and its family) and openat2(2). Thin: bytes and numbers in, OSError out.

The numbers of the newer system calls are the same on every architecture that Python's `os.uname` can name here
(include/uapi/asm-generic/unistd.h); the older calls go through the C library.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000

MS_NOSUID = 2
MS_NODEV = 4
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19

MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8

OVERLAYFS_MAGIC = 0x794C7630
CGROUP2_MAGIC = 0x63677270
EXT4_MAGIC = 0xEF53
"""statfs(2) f_type of file systems that we treat specially (linux/magic.h)."""

RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

_AT_FDCWD = -100
_SYS_OPEN_TREE, _SYS_MOUNT_SETATTR = 428, 442
_SYS_MOVE_MOUNT, _SYS_FSOPEN, _SYS_FSCONFIG, _SYS_FSMOUNT, _SYS_OPENAT2 = 429, 430, 431, 432, 437
_FSOPEN_CLOEXEC = 1
_FSMOUNT_CLOEXEC = 1
_FSCONFIG_SET_FLAG, _FSCONFIG_SET_STRING, _FSCONFIG_CMD_CREATE = 0, 1, 6
_MOVE_MOUNT_F_EMPTY_PATH = 4
_OPEN_TREE_CLONE, _AT_RECURSIVE, _AT_EMPTY_PATH = 1, 0x8000, 0x1000
_MOUNT_ATTR_IDMAP = 0x00100000
_PR_SET_PDEATHSIG, _PR_SET_NAME, _PR_SET_CHILD_SUBREAPER = 1, 15, 36

_RACES = 1000

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]


def _check(result: int, path: bytes | None = None) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return result


def _retry(call: Callable[..., int], *arguments: Any, path: bytes | None = None) -> int:
    """Repeat a call that a signal interrupted (a FUSE server may be asked), as PEP 475 does for Python's own."""
    while True:
        try:
            return _check(call(*arguments), path)
        except InterruptedError:
            continue


def mount(source: bytes | None, target: bytes, fstype: bytes | None, flags: int = 0, data: bytes | None = None) -> None:
    """mount(2)."""
    _check(_libc.mount(source, target, fstype, flags, data), target)


def umount(target: bytes, flags: int = 0) -> None:
    """umount2(2)."""
    _check(_libc.umount2(target, flags), target)


def unshare(flags: int) -> None:
    """unshare(2): give this process namespaces of its own."""
    _check(_libc.unshare(flags))


def setns(fd: int, flags: int = 0) -> None:
    """setns(2): enter the namespace (or, with a pidfd, the namespaces) of `fd`."""
    _check(_libc.setns(fd, flags))


def private_mount_namespace() -> None:
    """Give this process its own mount table. What we mount stays in it and ends with its last process.

    The copy is a slave, not private: what the host unmounts afterwards is unmounted here too, so that a container
    never keeps a disk of the host busy.
    """
    unshare(CLONE_NEWNS)
    mount(None, b"/", None, MS_REC | MS_SLAVE)


def become_subreaper(on: bool = True) -> None:
    """Orphaned descendants become this process's children (PR_SET_CHILD_SUBREAPER, prctl(2)), or no longer do."""
    _check(_libc.prctl(_PR_SET_CHILD_SUBREAPER, int(on), 0, 0, 0))


def end_with_parent(parent: int) -> None:
    """This process is killed when its parent, of that pid, ends (PR_SET_PDEATHSIG, prctl(2)); at once if it has."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def set_process_name(name: bytes) -> None:
    """What ps calls this process; at most 15 bytes count."""
    _check(_libc.prctl(_PR_SET_NAME, ctypes.c_char_p(name), 0, 0, 0))


def file_system_type(path: bytes | int) -> int:
    """f_type of statfs(2), the magic number of the file system at a path or descriptor."""
    buffer = ctypes.create_string_buffer(256)
    call = _libc.fstatfs if isinstance(path, int) else _libc.statfs
    _retry(call, path, buffer)
    return int(struct.unpack_from("@l", buffer)[0]) & 0xFFFFFFFF


def sync_file_system(fd: int) -> None:
    """syncfs(2): all of the file system in which `fd` is becomes durable. OSError."""
    _retry(_libc.syncfs, fd)


def open_beneath(directory: int, path: bytes, flags: int, mode: int = 0, resolve: int = RESOLVE_IN_ROOT) -> int:
    """openat2(2): open a path as if `directory` were the root. Nothing outside it can be reached, whatever links say.

    The descriptor is close-on-exec. RESOLVE_NO_MAGICLINKS is always added.
    """
    how = struct.pack("@QQQ", flags | os.O_CLOEXEC, mode, resolve | RESOLVE_NO_MAGICLINKS)
    for _ in range(_RACES):
        with suppress(BlockingIOError):  # somebody renames directories, and the kernel cannot tell where `..` leads
            return _retry(_libc.syscall, _SYS_OPENAT2, directory, path, how, len(how), path=path)
    raise OSError(errno.EAGAIN, "directories on this path are being renamed all the time", path)


class FsContext:
    """A file system being configured: fsopen(2), fsconfig(2), fsmount(2). Linux 5.2 and later.

    Values never pass through the option parser of mount(2), which would stumble over commas, and the kernel's own words
    about what it dislikes can be read.
    """

    def __init__(self, fstype: bytes) -> None:
        self._fd = _check(_libc.syscall(_SYS_FSOPEN, fstype, _FSOPEN_CLOEXEC))

    def __enter__(self) -> FsContext:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def set(self, key: bytes, value: bytes) -> None:
        """Set an option. OSError (EINVAL) if the file system does not know it; older ones only say so in `mount`."""
        _check(_libc.syscall(_SYS_FSCONFIG, self._fd, _FSCONFIG_SET_STRING, key, value, 0))

    def set_flag(self, key: bytes) -> None:
        """Set an option that has no value. OSError as of `set`."""
        _check(_libc.syscall(_SYS_FSCONFIG, self._fd, _FSCONFIG_SET_FLAG, key, None, 0))

    def mount(self) -> int:
        """Make the file system; returns a descriptor of its root, mounted nowhere yet."""
        _check(_libc.syscall(_SYS_FSCONFIG, self._fd, _FSCONFIG_CMD_CREATE, None, None, 0))
        return _check(_libc.syscall(_SYS_FSMOUNT, self._fd, _FSMOUNT_CLOEXEC, 0))

    def messages(self) -> list[str]:
        """What the kernel has to say about the last failure, one line each."""
        lines = []
        with suppress(OSError):
            while line := os.read(self._fd, 1024):
                lines.append(line.decode(errors="replace").strip().partition(" ")[2])
        return lines


def attach(mount_fd: int, target: bytes) -> None:
    """move_mount(2): show a mount made with FsContext at a path."""
    _check(_libc.syscall(_SYS_MOVE_MOUNT, mount_fd, b"", _AT_FDCWD, target, _MOVE_MOUNT_F_EMPTY_PATH), target)


def clone(path: bytes, *, recursive: bool = False) -> int:
    """open_tree(2): a descriptor of a mount that shows what is at `path` (`recursive`: and what is mounted below).
    It is mounted nowhere yet; once it is attached, it is a bind mount."""
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC | (_AT_RECURSIVE if recursive else 0)
    return _retry(_libc.syscall, _SYS_OPEN_TREE, _AT_FDCWD, path, flags, path=path)


def set_idmap(mount_fd: int, user_namespace: int) -> None:
    """mount_setattr(2): let a cloned mount show its files with the ids that a user namespace gives to theirs."""
    attributes = struct.pack("@QQQQ", _MOUNT_ATTR_IDMAP, 0, 0, user_namespace)
    _check(_libc.syscall(_SYS_MOUNT_SETATTR, mount_fd, b"", _AT_EMPTY_PATH, attributes, len(attributes)))
