"""What interrupted pulls left: `caches/pull-*`, directories that are flocked while a process pulls into one."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path


def remove_left(caches: Path) -> int:
    """Remove those that nobody uses. Returns the bytes on the disk that they had."""
    freed = 0
    for path in caches.glob("pull-*"):
        with _unused(path) as is_unused:
            if is_unused:
                freed += size_of(path)
                shutil.rmtree(path, ignore_errors=True)
    return freed


def size_left(caches: Path) -> int:
    """The bytes on the disk that `remove_left` would free."""
    freed = 0
    for path in caches.glob("pull-*"):
        with _unused(path) as is_unused:
            freed += size_of(path) if is_unused else 0
    return freed


def size_of(directory: Path) -> int:
    """The bytes on the disk of the files below a directory."""
    size = 0
    for top, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                size += os.lstat(os.path.join(top, name)).st_blocks * 512
    return size


@contextlib.contextmanager
def _unused(path: Path) -> Iterator[bool]:
    try:
        file = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        yield False
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(file)
