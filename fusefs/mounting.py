"""Mounts: mount(2) and umount2(2) through the C library, what /proc/self/mountinfo says, and readahead."""

from __future__ import annotations

import errno
import logging
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from vcs.errors import Denied, StoreError

if TYPE_CHECKING:
    import ctypes

_log = logging.getLogger(__name__)

DEVICE = Path("/dev/fuse")
FILESYSTEM = "fuse.treering"
READAHEAD = 1024
"""KiB. The kernel's default is 128: then a large file comes at a quarter of the speed. With 4096, what programs map
into memory is read whole: a compiler's start read 50 MB instead of 42."""

_MS_RDONLY, _MS_NOSUID, _MS_NODEV = 1, 2, 4
_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8
_REFUSALS = (errno.EPERM, errno.EACCES)


@dataclass(frozen=True, slots=True)
class Mount:
    """A line of /proc/self/mountinfo (proc_pid_mountinfo(5))."""

    device: str
    """Major and minor number of the superblock, as in `0:42`."""
    root: bytes
    """Which directory of the superblock is mounted."""
    point: bytes
    filesystem: str
    source: bytes


def mounts() -> list[Mount]:
    """Every mount of this process's mount namespace, in the order of mounting."""
    with open("/proc/self/mountinfo", "rb") as file:
        return [parse_mount(line) for line in file]


def parse_mount(line: bytes) -> Mount:
    """One line of mountinfo."""
    before, _, after = line.partition(b" - ")
    _, _, device, root, point, *_ = before.split(b" ")
    filesystem, source, *_ = after.split(b" ")
    return Mount(device.decode(), _unescaped(root), _unescaped(point), filesystem.decode(), _unescaped(source))


def _unescaped(field: bytes) -> bytes:
    """Space, tab, newline and backslash are written as three octal digits."""
    first, *rest = field.split(b"\\")
    return first + b"".join(bytes([int(part[:3], 8)]) + part[3:] for part in rest)


def mount_at(point: Path) -> Mount | None:
    """The uppermost mount at a path, which must have no symbolic links in it."""
    name = os.fsencode(point)
    return next((mount for mount in reversed(mounts()) if mount.point == name), None)


def open_device() -> int:
    """A new FUSE connection. Denied, or StoreError where there is no /dev/fuse."""
    try:
        return os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise _refused(f"{DEVICE} cannot be opened", error) from error


def mount(device: int, point: Path, source: str) -> Mount:
    """Mount a FUSE connection on a directory; `source` is what mount tables show for it.

    Read-only, without set-user-ID and devices (an overlay on top honours both nevertheless), for the user who mounts
    alone; overlayfs reads with the rights of who mounted it. The kernel checks permissions (default_permissions, which
    POSIX ACLs need). Denied or StoreError.
    """
    options = f"fd={device},rootmode=40000,user_id={os.geteuid()},group_id={os.getegid()},default_permissions"
    arguments = (os.fsencode(source), os.fsencode(point), FILESYSTEM.encode())
    flags = _MS_RDONLY | _MS_NOSUID | _MS_NODEV
    if _libc().mount(*arguments, flags, options.encode()):
        raise _refused(f"{point} cannot be mounted", _last_error())
    mounted = mount_at(point)
    if mounted is None:
        raise StoreError(f"{point} was mounted, but is not in the mount table", path=str(point))
    return mounted


def unmount(point: Path) -> bool:
    """Unmount a path, unless somebody is inside: False then. Denied or StoreError."""
    return _unmount(point, _UMOUNT_NOFOLLOW)


def detach(point: Path) -> None:
    """Take a path's uppermost mount out of the namespace at once; whoever is inside stays. Denied or StoreError."""
    _unmount(point, _UMOUNT_NOFOLLOW | _MNT_DETACH)


def set_readahead(mounted: Mount, kilobytes: int = READAHEAD) -> bool:
    """How far the kernel reads ahead on a mount. False, and logged, where /sys cannot be written."""
    path = Path("/sys/class/bdi") / mounted.device / "read_ahead_kb"
    try:
        path.write_text(f"{kilobytes}\n")
    except OSError as error:
        _log.warning("readahead stays at the kernel's default: %s", error)
        return False
    _log.info("readahead of %s is %d KiB", mounted.device, kilobytes)
    return True


def _unmount(point: Path, flags: int) -> bool:
    if _libc().umount2(os.fsencode(point), flags):
        error = _last_error()
        if error.errno == errno.EBUSY:
            return False
        raise _refused(f"{point} cannot be unmounted", error)
    return True


@lru_cache(1)
def _libc() -> ctypes.CDLL:
    import ctypes  # 4 ms, and a client only reads the mount table

    libc = ctypes.CDLL(None, use_errno=True)  # a CDLL's functions let other threads run: the loop must serve meanwhile
    libc.mount.argtypes = ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p
    libc.umount2.argtypes = ctypes.c_char_p, ctypes.c_int
    return libc


def _last_error() -> OSError:
    import ctypes

    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))


def _refused(what: str, error: OSError) -> StoreError:
    kind = Denied if error.errno in _REFUSALS else StoreError
    return kind(f"{what}: {error.strerror}", errno=error.errno)
