"""What a step does to the file system of the process that does it, and what came of it.

A hand is a process of its own (tests/support/agent.py) whose root directory is the tree that is worked on: it has
entered a container, or mounted an overlay that only it sees. Files that it holds open, mapped ones too, stay so from
step to step.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import shutil
import stat
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runtime.cgroups import Cgroup
from runtime.system import mounts
from tests.posix.look import FORMATS, Tree, attributes, digest, look
from tests.posix.step import Step

_libc = ctypes.CDLL(None, use_errno=True)
_AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
_NO_BLOCK = os.O_NONBLOCK | os.O_CLOEXEC
_READ = 1 << 16

_outside: list[int] = []
_files: dict[int, int] = {}
_maps: dict[int, mmap.mmap] = {}


# -- where the hand is


def enter_container(name: str, init: int, ids: bool) -> None:
    """Go into a running container as one of its processes: its mounts, its cgroup; with `ids` as root among users and
    groups of its own. Only its root is seen, as if nothing were mounted over it."""
    _stay_reachable()
    for directory in Cgroup.of(name)._directories():
        if os.path.exists(directory):
            Path(directory, "cgroup.procs").write_text(str(os.getpid()))
    mounts.setns(os.pidfd_open(init), mounts.CLONE_NEWNS | (mounts.CLONE_NEWUSER if ids else 0))
    if ids:
        os.setgroups([])
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
    _go_into(mounts.clone(b"/"))


def enter_overlay(lower: bytes, upper: bytes, work: bytes, options: bytes) -> None:
    """Mount an overlay that ends with this process, and go into it."""
    if not _outside:
        mounts.private_mount_namespace()
    _stay_reachable()
    data = b"lowerdir=%b,upperdir=%b,workdir=%b,%b" % (lower, upper, work, options)
    merged = upper + b".merged"
    os.mkdir(merged)
    mounts.mount(b"overlay", merged, b"overlay", 0, data)
    _go_into(os.open(merged, os.O_PATH | os.O_DIRECTORY))


def enter_directory(path: bytes) -> None:
    """Go into a plain directory."""
    _stay_reachable()
    _go_into(os.open(path, os.O_PATH | os.O_DIRECTORY))


def leave() -> None:
    """Let go of all files, and come out again."""
    while _maps:
        _maps.popitem()[1].close()
    while _files:
        os.close(_files.popitem()[1])
    os.fchdir(_outside[0])
    os.chroot(".")


def _stay_reachable() -> None:
    os.umask(0)
    if not _outside:
        _outside.append(os.open("/", os.O_PATH | os.O_DIRECTORY))


def _go_into(directory: int) -> None:
    os.fchdir(directory)
    os.chroot(".")
    os.close(directory)


def look_around() -> Tree:
    """The whole tree."""
    return look(b"")


def names(without: frozenset[bytes]) -> dict[bytes, str]:
    """Paths and types, without some names of the top and what is below them."""
    found: dict[bytes, str] = {b"/": "directory"}
    for here, directories, files in os.walk(b"/"):
        if here == b"/":
            directories[:] = [name for name in directories if name not in without]
        for name in directories + files:
            path = os.path.join(here, name)
            found[path] = FORMATS[stat.S_IFMT(os.lstat(path).st_mode)]
    return found


def do(step: Step) -> Any:
    """What a step returns, or the name of its error."""
    try:
        return DEEDS[step.what](*step.paths, *step.numbers)
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    except KeyError:
        return "no such file held"


# -- what can be done

DEEDS: dict[str, Callable[..., Any]] = {}


def _deed(function: Callable[..., Any]) -> Callable[..., Any]:
    DEEDS[function.__name__.rstrip("_")] = function
    return function


def pattern(number: int, size: int) -> bytes:
    """Bytes that tell which step wrote them."""
    text = b"%d;" % number
    return (text * (size // len(text) + 1))[:size]


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def _with(path: bytes, flags: int, work: Callable[[int], Any], mode: int = 0o644) -> Any:
    fd = os.open(path, flags | _NO_BLOCK, mode)
    try:
        return work(fd)
    finally:
        os.close(fd)


@_deed
def create(path: bytes, mode: int, flags: int, number: int, size: int) -> Any:
    return _with(path, os.O_CREAT | os.O_WRONLY | flags, lambda fd: os.write(fd, pattern(number, size)), mode)


@_deed
def write(path: bytes, offset: int, number: int, size: int, flags: int) -> Any:
    return _with(path, os.O_WRONLY | flags, lambda fd: os.pwrite(fd, pattern(number, size), offset))


@_deed
def read(path: bytes, offset: int, size: int) -> Any:
    return _with(path, os.O_RDONLY, lambda fd: os.pread(fd, size, offset))


@_deed
def truncate(path: bytes, size: int) -> Any:
    return os.truncate(path, size)


@_deed
def fallocate(path: bytes, mode: int, offset: int, size: int) -> Any:
    return _with(path, os.O_WRONLY, lambda fd: _fallocate(fd, mode, offset, size))


def _fallocate(fd: int, mode: int, offset: int, size: int) -> int:
    return _checked(_libc.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(size)))


@_deed
def copy_range(source: bytes, target: bytes, start: int, to: int, size: int) -> Any:
    """copy_file_range(2), which may copy less than it is asked for."""

    def work(one: int) -> int:
        return int(_with(target, os.O_WRONLY, lambda other: os.copy_file_range(one, other, size, start, to)))

    return _with(source, os.O_RDONLY, work)


@_deed
def store(path: bytes, offset: int, number: int, size: int) -> Any:
    """Write through a mapping."""

    def work(fd: int) -> None:
        with mmap.mmap(fd, os.fstat(fd).st_size) as memory:
            data = pattern(number, size)[: max(0, len(memory) - offset)]
            memory[offset : offset + len(data)] = data

    try:
        return _with(path, os.O_RDWR, lambda fd: work(fd) if os.fstat(fd).st_size < 1 << 24 else None)
    except ValueError:
        return "empty"


@_deed
def rename(source: bytes, target: bytes, flags: int) -> Any:
    return _checked(_libc.renameat2(_AT_FDCWD, source, _AT_FDCWD, target, flags))


@_deed
def link(source: bytes, target: bytes) -> Any:
    return os.link(source, target, follow_symlinks=False)


@_deed
def symlink(target: bytes, path: bytes) -> Any:
    return os.symlink(target, path)


@_deed
def mkdir(path: bytes, mode: int) -> Any:
    return os.mkdir(path, mode)


@_deed
def rmdir(path: bytes) -> Any:
    return os.rmdir(path)


@_deed
def unlink(path: bytes) -> Any:
    return os.unlink(path)


@_deed
def remove_all(path: bytes) -> Any:
    return shutil.rmtree(path)


@_deed
def mkdir_again(path: bytes, mode: int) -> Any:
    """A directory in place of one that was there: overlayfs marks it opaque."""
    shutil.rmtree(path)
    return os.mkdir(path, mode)


@_deed
def mknod(path: bytes, mode: int, major: int, minor: int) -> Any:
    return os.mknod(path, mode, os.makedev(major, minor))


@_deed
def tmpfile(directory: bytes, target: bytes, mode: int, number: int, size: int) -> Any:
    """A file that gets its name only when it is written."""

    def work(fd: int) -> int:
        os.write(fd, pattern(number, size))
        return _checked(_libc.linkat(fd, b"", _AT_FDCWD, target, _AT_EMPTY_PATH))

    return _with(directory, os.O_TMPFILE | os.O_RDWR, work, mode)


@_deed
def chmod(path: bytes, mode: int) -> Any:
    return os.chmod(path, mode)


@_deed
def chown(path: bytes, uid: int, gid: int) -> Any:
    return os.chown(path, uid, gid, follow_symlinks=False)


@_deed
def utimens(path: bytes, time: int) -> Any:
    return os.utime(path, ns=(time, time), follow_symlinks=False)


@_deed
def setxattr(path: bytes, name: bytes, number: int, size: int, flags: int) -> Any:
    return os.setxattr(path, name, pattern(number, size), flags, follow_symlinks=False)


@_deed
def removexattr(path: bytes, name: bytes) -> Any:
    return os.removexattr(path, name, follow_symlinks=False)


@_deed
def setacl(path: bytes, name: bytes, user: int, bits: int) -> Any:
    """An access list with one user in it (linux/posix_acl_xattr.h)."""
    nobody = 0xFFFFFFFF
    lines = (1, 7, nobody), (2, bits, user), (4, 5, nobody), (16, bits | 5, nobody), (32, 0, nobody)
    value = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *line) for line in lines)
    return os.setxattr(path, name, value, follow_symlinks=False)


@_deed
def stat_(path: bytes) -> Any:
    return _said_of(os.lstat(path)), attributes(path)


@_deed
def list_(path: bytes) -> Any:
    return sorted(os.listdir(path))


@_deed
def readlink(path: bytes) -> Any:
    return os.readlink(path)


def _said_of(status: os.stat_result) -> tuple[int, ...]:
    """What two file systems must agree on; a directory's size and links are its file system's own affair."""
    plain = not stat.S_ISDIR(status.st_mode)
    size = status.st_size if stat.S_ISREG(status.st_mode) else 0
    return status.st_mode, status.st_uid, status.st_gid, size, status.st_rdev, status.st_nlink if plain else 0


# -- files that stay open


@_deed
def hold(path: bytes, slot: int, flags: int) -> Any:
    fd = os.open(path, flags | _NO_BLOCK)
    if slot in _maps:
        _maps.pop(slot).close()
    if slot in _files:
        os.close(_files[slot])
    _files[slot] = fd
    return None


@_deed
def held_read(slot: int, offset: int, size: int) -> Any:
    return os.pread(_files[slot], size, offset)


@_deed
def held_write(slot: int, offset: int, number: int, size: int) -> Any:
    return os.pwrite(_files[slot], pattern(number, size), offset)


@_deed
def held_truncate(slot: int, size: int) -> Any:
    return os.ftruncate(_files[slot], size)


@_deed
def held_fallocate(slot: int, mode: int, offset: int, size: int) -> Any:
    return _fallocate(_files[slot], mode, offset, size)


@_deed
def held_chmod(slot: int, mode: int) -> Any:
    return os.fchmod(_files[slot], mode)


@_deed
def held_chown(slot: int, uid: int, gid: int) -> Any:
    return os.fchown(_files[slot], uid, gid)


@_deed
def held_utimens(slot: int, time: int) -> Any:
    return os.utime(_files[slot], ns=(time, time))


@_deed
def held_setxattr(name: bytes, slot: int, number: int, size: int) -> Any:
    return os.setxattr(_files[slot], name, pattern(number, size))


@_deed
def held_stat(slot: int) -> Any:
    status = os.fstat(_files[slot])
    content = digest(_files[slot]) if stat.S_ISREG(status.st_mode) else None
    return _said_of(status), attributes(_files[slot]), content


@_deed
def held_link(target: bytes, slot: int) -> Any:
    return _checked(_libc.linkat(_files[slot], b"", _AT_FDCWD, target, _AT_EMPTY_PATH))


@_deed
def held_sync(slot: int) -> Any:
    return os.fsync(_files[slot])


@_deed
def held_map(slot: int) -> Any:
    size = os.fstat(_files[slot]).st_size
    if not 0 < size < 1 << 24:
        return "not of a size to be mapped"
    mapped = mmap.mmap(_files[slot], size)
    if slot in _maps:
        _maps.pop(slot).close()
    _maps[slot] = mapped
    return None


@_deed
def held_store(slot: int, offset: int, number: int, size: int) -> Any:
    """Through a mapping that may be older than the file's name, but only where the file still is."""
    memory = _maps[slot]
    end = min(len(memory), os.fstat(_files[slot]).st_size)
    data = pattern(number, size)[: max(0, end - offset)]
    memory[offset : offset + len(data)] = data
    return len(data)


@_deed
def let_go(slot: int) -> Any:
    if slot in _maps:
        _maps.pop(slot).close()
    return os.close(_files.pop(slot))
