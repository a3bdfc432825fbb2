"""What the contract of the drivers looks at: functions for an agent, which import little."""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
import random
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

_TYPES = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "link",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}


def survey(top: Path) -> list[str]:
    """A tree as text, a line an entry, in byte order: all that lstat(2) says but times other than mtime, extended
    attributes, and the digest of the content or the target. What may not be read says so."""
    return list(_lines(os.fsencode(top), b"."))


def _lines(top: bytes, path: bytes) -> Iterator[str]:
    full = os.path.join(top, path)
    status = os.lstat(full)
    kind = stat.S_IFMT(status.st_mode)
    words = [
        f"{path!r} {_TYPES[kind]} {status.st_mode & 0o7777:04o} {status.st_uid}:{status.st_gid} {status.st_mtime_ns}",
        f"{_said(_attributes, full)}",
    ]
    if kind == stat.S_IFDIR:
        names = _said(os.listdir, full)
        yield " ".join([*words, f"{len(names)} names" if isinstance(names, list) else f"{names}"])
        for name in sorted(names) if isinstance(names, list) else ():
            yield from _lines(top, path + b"/" + name)
        return
    words += [f"links={status.st_nlink} size={status.st_size} device={status.st_rdev}"]
    if kind == stat.S_IFREG:
        words.append(f"{_said(_digest, full)}")
    elif kind == stat.S_IFLNK:
        words.append(f"{_said(os.readlink, full)!r}")
    yield " ".join(words)


def _said(function: Callable[[bytes], object], path: bytes) -> object:
    try:
        return function(path)
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def _attributes(path: bytes) -> dict[str, bytes]:
    """Those that this user may read: local file systems do not even list the others."""
    found = {}
    for name in sorted(os.listxattr(path, follow_symlinks=False)):
        value = _said(lambda path, name=name: os.getxattr(path, name, follow_symlinks=False), path)
        if isinstance(value, bytes):
            found[name] = value
    return found


def _digest(path: bytes) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def numbers(top: Path) -> dict[str, int]:
    """st_ino of everything, counted from the top's. What a listing says must be what lstat(2) says."""
    first = os.lstat(top).st_ino
    found = {".": 0}
    todo = [top]
    while todo:
        directory = todo.pop()
        for item in sorted(os.scandir(directory), key=lambda item: item.name):
            status = os.lstat(item.path)
            assert item.inode() == status.st_ino, item.path
            found[os.path.relpath(item.path, top)] = status.st_ino - first
            if stat.S_ISDIR(status.st_mode):
                todo.append(Path(item.path))
    return found


def reads(path: Path, seed: int) -> list[tuple[int, int, str]]:
    """Digests of ranges of a file, by pread(2) in no order and then through a mapping."""
    chance = random.Random(seed)
    found = []
    with open(path, "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        ranges = [(chance.randrange(size + 10), chance.choice((1, 4096, 70_000, 1 << 20))) for _ in range(60)]
        for offset, length in ranges:
            found.append((offset, length, hashlib.sha256(os.pread(file.fileno(), length, offset)).hexdigest()))
        with mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ) as mapped:
            found += [(o, n, hashlib.sha256(mapped[o : o + n]).hexdigest()) for o, n in ranges]
    return found


def runs(path: Path) -> list[tuple[int, int]]:
    """The runs of data in a file, by SEEK_DATA and SEEK_HOLE."""
    found: list[tuple[int, int]] = []
    with open(path, "rb") as file:
        end = 0
        while True:
            try:
                start = os.lseek(file.fileno(), end, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                return found
            end = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            found.append((start, end))


def errors(top: Path) -> dict[str, str]:
    """What goes wrong when something is wrong, by name."""
    attempts: dict[str, Callable[[], object]] = {
        "stat of nothing": lambda: os.stat(top / "absent"),
        "stat of nothing in nothing": lambda: os.stat(top / "absent/below"),
        "stat below a file": lambda: os.stat(top / "small/below"),
        "list a file": lambda: os.listdir(top / "small"),
        "read a directory": lambda: _read_from(top / "sticky"),
        "a long name": lambda: os.stat(top / ("x" * 256)),
        "target of a file": lambda: os.readlink(top / "small"),
        "an attribute that is not there": lambda: os.getxattr(top / "small", "user.absent"),
        "open a dangling link": lambda: os.open(top / "dangling", os.O_RDONLY),
        "no root": lambda: os.stat(top.parents[1] / "trees" / ("0" * 64)),
        "no commit": lambda: os.stat(top.parents[1] / "commits/none"),
    }
    return _tried(attempts)


def _read_from(path: Path) -> bytes:
    opened = os.open(path, os.O_RDONLY)
    try:
        return os.read(opened, 1)
    finally:
        os.close(opened)


def writes(top: Path) -> dict[str, str]:
    """The same for all that would change something."""
    file = top / "small"
    attempts: dict[str, Callable[[], object]] = {
        "open for writing": lambda: os.open(file, os.O_WRONLY),
        "open to truncate": lambda: os.open(file, os.O_RDWR | os.O_TRUNC),
        "create": lambda: os.open(top / "new", os.O_CREAT | os.O_WRONLY),
        "truncate": lambda: os.truncate(file, 1),
        "unlink": lambda: os.unlink(file),
        "rename": lambda: os.rename(file, top / "new"),
        "link": lambda: os.link(file, top / "new"),
        "symlink": lambda: os.symlink("x", top / "new"),
        "mkdir": lambda: os.mkdir(top / "new"),
        "rmdir": lambda: os.rmdir(top / "sticky"),
        "mkfifo": lambda: os.mkfifo(top / "new"),
        "chmod": lambda: os.chmod(file, 0o600),
        "chown": lambda: os.chown(file, os.getuid(), -1),
        "utime": lambda: os.utime(file, (1, 1)),
        "setxattr": lambda: os.setxattr(file, "user.x", b"x"),
        "removexattr": lambda: os.removexattr(top / "xattrs", "user.empty"),
        "mkdir above the roots": lambda: os.mkdir(top.parent / "new"),
        "unlink above the roots": lambda: os.unlink(top),
    }
    return _tried(attempts)


def _tried(attempts: dict[str, Callable[[], object]]) -> dict[str, str]:
    found = {}
    for name, attempt in attempts.items():
        try:
            found[name] = f"nothing: {attempt()!r}"
        except OSError as error:
            found[name] = errno.errorcode[error.errno or 0]
    return found


def file_system(path: Path) -> tuple[int, int, int]:
    """Flags, longest name and block size, as statvfs(3) tells."""
    found = os.statvfs(path)
    return found.f_flag & (os.ST_RDONLY | os.ST_NOSUID | os.ST_NODEV), found.f_namemax, found.f_bsize


def first_names(path: Path, count: int) -> list[str]:
    """The first names of a directory, without the rest."""
    with os.scandir(path) as items:
        return [item.name for item, _ in zip(items, range(count), strict=False)]


def readable(path: Path) -> bytes | str:
    """A file's content, or the name of the error."""
    found = _said(lambda path: Path(os.fsdecode(path)).read_bytes(), os.fsencode(path))
    assert isinstance(found, (bytes, str))
    return found
