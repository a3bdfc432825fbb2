"""What the files of STORE/caches have in common.

Their first line is the digest, in hexadecimal, of what they are about; gc deletes those that are about something that
nothing needs. One that is being written has a suffix, a first line of zeros, and a flock of its writer's.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from pathlib import Path

from vcs.model import DIGEST_SIZE

FIRST = 2 * DIGEST_SIZE + 1
"""Bytes of the first line."""
NOTHING = b"0" * (FIRST - 1) + b"\n"
"""The first line of a file that is being written, or whose writer was killed: gc removes it."""


def open_cache(path: Path) -> int:
    """Open a cache for reading. Under its name there may be anything: what is no regular file is refused, and nobody
    waits for a FIFO's other end. OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return fd


def is_abandoned(path: Path) -> bool:
    """Whether a cache is one that was being written by a process that has died.

    One that was opened just now and is not locked yet may be taken for that: whoever writes it does without.
    """
    if not path.suffix:
        return False
    with contextlib.suppress(OSError), open(open_cache(path), "rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return True
    return False


def make_room(caches: Path, prefix: str, most: int, kept: Path) -> None:
    """Delete the files of a kind that were used longest ago, but one, until they have `most` bytes together."""
    found = []
    for path in caches.glob(f"{prefix}*"):
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            found.append((status.st_mtime, status.st_size, path))
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total > most and path != kept:
            total -= size
            path.unlink(missing_ok=True)
