"""All that can be asked of the files of a tree, as values that two trees can be compared by.

Of regular files the bytes count, not the runs of data and holes: FUSE tells holes to the byte and ext4 to the block,
which tests/system/test_round_trip.py and tests/runtime/test_upper_random.py have as their subject.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import defaultdict
from typing import Any

from blake3 import blake3

from tests.support.compare import data_runs

_BLOCK = 4096
_ZEROS = bytes(_BLOCK)
_RUN = 256 * _BLOCK
FORMATS = {
    stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link", stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device", stat.S_IFIFO: "fifo", stat.S_IFSOCK: "socket",
}  # fmt: skip

Look = dict[str, Any]
"""What one name has."""
Tree = dict[bytes, Look]


def look(top: bytes) -> Tree:
    """Every path below `top`, which is b"" itself. Without the count of links, which says something else in an overlay
    than in the tree that was made of it; names of one file are told by their inode."""
    found: Tree = {}
    groups: dict[tuple[int, int], list[bytes]] = defaultdict(list)
    waiting = [b""]
    while waiting:
        path = waiting.pop()
        full = top + b"/" + path
        status = os.lstat(full)
        found[path] = _look(full, status)
        if stat.S_ISDIR(status.st_mode):
            waiting += [path + b"/" + name if path else name for name in os.listdir(full)]
        else:
            groups[status.st_dev, status.st_ino].append(path)
    for names in groups.values():
        for path in names:
            found[path]["names"] = sorted(names)
    return found


def _look(path: bytes, status: os.stat_result) -> Look:
    kind = stat.S_IFMT(status.st_mode)
    said: Look = {
        "type": FORMATS[kind],
        "mode": oct(stat.S_IMODE(status.st_mode)),
        "owner": (status.st_uid, status.st_gid),
        "mtime": status.st_mtime_ns,
        "xattrs": attributes(path),
    }
    if kind == stat.S_IFLNK:
        said["target"] = os.readlink(path)
    elif kind in (stat.S_IFCHR, stat.S_IFBLK):
        said["device"] = os.major(status.st_rdev), os.minor(status.st_rdev)
    elif kind == stat.S_IFREG:
        said["size"] = status.st_size
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            said["bytes"] = digest(fd)
        finally:
            os.close(fd)
    return said


def attributes(path: bytes | int) -> dict[str, bytes]:
    """Extended attributes, of a link those of itself."""
    follow = isinstance(path, int)
    try:
        names = os.listxattr(path, follow_symlinks=follow)
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return {}
        raise
    return {name: os.getxattr(path, name, follow_symlinks=follow) for name in sorted(names)}


def digest(fd: int) -> str:
    """Of a file's blocks that are not zeros, each with its place: the same however its holes lie."""
    hasher = blake3()
    position = 0
    for start, end in data_runs(fd):
        position = max(position, start // _BLOCK * _BLOCK)
        while position < end:
            data = os.pread(fd, _RUN, position)
            for place in range(0, len(data), _BLOCK):
                block = data[place : place + _BLOCK]
                if block != _ZEROS[: len(block)]:
                    hasher.update(b"%d " % (position + place) + block)
            position += _RUN
    return hasher.hexdigest()


def now_told_as_now(tree: Tree, since: int, until: int) -> Tree:
    """The same with one word for all times between two: what was changed at the same step on two file systems."""
    return {path: {**said, "mtime": "now"} if since <= said["mtime"] <= until else said for path, said in tree.items()}


def without_trusted(tree: Tree) -> Tree:
    """The same without attributes that a user namespace does not show."""
    return {
        path: {
            **said,
            "xattrs": {name: value for name, value in said["xattrs"].items() if not name.startswith("trusted.")},
        }
        for path, said in tree.items()
    }


def differences(left: Tree, right: Tree, ignore: frozenset[str] = frozenset()) -> list[str]:
    """A line for each thing that is not the same; without any, they are."""
    found = []
    for path in sorted(left.keys() | right.keys()):
        ours, theirs = left.get(path), right.get(path)
        if ours is None or theirs is None:
            found.append(f"{path!r}: only in the {'second' if ours is None else 'first'}")
            continue
        found += [
            f"{path!r}: {aspect}: {ours.get(aspect)!r} != {theirs.get(aspect)!r}"
            for aspect in sorted((ours.keys() | theirs.keys()) - ignore)
            if ours.get(aspect) != theirs.get(aspect)
        ]
    return found
