"""Whether two directory trees are the same in everything that a file system keeps, atime and ctime aside.

Compared, the two tops included: names, type, mode, owner, mtime to the nanosecond, size, content, runs of data and
holes, extended attributes (so ACLs and capabilities too), device numbers, targets of symbolic links, and which names
are hard links of one another.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import defaultdict
from pathlib import Path

from blake3 import blake3

_READ = 1 << 20
_TYPES = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}


def differences(left: Path, right: Path, *, ignore: frozenset[str] = frozenset()) -> list[str]:
    """One readable line for each difference; empty if there is none. `ignore` names aspects ("owner", "extents")."""
    ours, theirs = describe(left), describe(right)
    found = []
    for path in sorted(ours.keys() | theirs.keys()):
        shown = os.fsdecode(path).encode("utf-8", "backslashreplace").decode() or "."
        if path not in theirs:
            found.append(f"{shown}: only in {left}")
        elif path not in ours:
            found.append(f"{shown}: only in {right}")
        else:
            a, b = ours[path], theirs[path]
            found += [
                f"{shown}: {aspect}: {a.get(aspect)!r} != {b.get(aspect)!r}"
                for aspect in sorted(a.keys() | b.keys())
                if aspect not in ignore and a.get(aspect) != b.get(aspect)
            ]
    return found


Aspects = dict[str, object]


def describe(top: Path) -> dict[bytes, Aspects]:
    """Every path below `top` (itself: b"") and what there is to say of it."""
    tree = _Tree(os.fsencode(top))
    tree.run()
    return tree.found


class _Tree:
    def __init__(self, top: bytes) -> None:
        self._top = top
        self._groups: dict[tuple[int, int], list[bytes]] = defaultdict(list)
        self.found: dict[bytes, Aspects] = {}

    def run(self) -> None:
        stack = [b""]
        while stack:
            path = stack.pop()
            full = os.path.join(self._top, path) if path else self._top
            status = os.lstat(full)
            self.found[path] = _aspects(full, status)
            if stat.S_ISDIR(status.st_mode):
                stack += [os.path.join(path, name) for name in os.listdir(full)]
            elif status.st_nlink > 1:
                self._groups[status.st_dev, status.st_ino].append(path)
        for group in self._groups.values():
            for path in group:
                self.found[path]["hard links"] = sorted(group) if len(group) > 1 else None


def _aspects(path: bytes, status: os.stat_result) -> Aspects:
    kind = stat.S_IFMT(status.st_mode)
    said: Aspects = {
        "type": _TYPES[kind],
        "mode": f"{stat.S_IMODE(status.st_mode):04o}",
        "owner": (status.st_uid, status.st_gid),
        "mtime": status.st_mtime_ns,
        "xattrs": {name: os.getxattr(path, name, follow_symlinks=False) for name in _xattr_names(path)},
    }
    if kind == stat.S_IFLNK:
        said["target"] = os.readlink(path)
    elif kind in (stat.S_IFCHR, stat.S_IFBLK):
        said["device"] = os.major(status.st_rdev), os.minor(status.st_rdev)
    elif kind == stat.S_IFREG:
        said["size"] = status.st_size
        said["extents"], said["content"] = _content(path)
    return said


def _xattr_names(path: bytes) -> list[str]:
    try:
        return sorted(os.listxattr(path, follow_symlinks=False))
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return []
        raise


def _content(path: bytes) -> tuple[list[tuple[int, int]], str]:
    """The runs of data, and the digest of what is in them."""
    hasher = blake3()
    with open(path, "rb") as file:
        runs = data_runs(file.fileno())
        for position, end in runs:
            while position < end:
                data = os.pread(file.fileno(), min(_READ, end - position), position)
                hasher.update(data)
                position += len(data)
    return runs, hasher.hexdigest()


def data_runs(fd: int) -> list[tuple[int, int]]:
    """Where a file has data, as (start, end)."""
    runs: list[tuple[int, int]] = []
    end, size = 0, os.fstat(fd).st_size
    while end < size:
        try:
            start = os.lseek(fd, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            break
        end = os.lseek(fd, start, os.SEEK_HOLE)
        runs.append((start, end))
    return runs


def has_same_bytes(left: Path, right: Path) -> bool:
    """Whether all regular files have the same bytes, holes being zeros like others."""
    for directory, _, names in os.walk(left):
        for path in (Path(directory, name) for name in names):
            if stat.S_ISREG(path.lstat().st_mode) and not _has_same_bytes(path, right / path.relative_to(left)):
                return False
    return True


def _has_same_bytes(left: Path, right: Path) -> bool:
    with left.open("rb") as ours, right.open("rb") as theirs:
        while data := ours.read(_READ):
            if data != theirs.read(_READ):
                return False
        return not theirs.read(1)
