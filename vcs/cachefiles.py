"""What the files of STORE/caches have in common.

Their first line is the digest, in hexadecimal, of what they are about; gc deletes those that are about something that
nothing needs. One that is being written has a suffix, a first line of zeros, and a flock of its writer's.
"""

from __future__ import annotations

import contextlib
import fcntl
from pathlib import Path

from vcs.model import DIGEST_SIZE

FIRST = 2 * DIGEST_SIZE + 1
"""Bytes of the first line."""
NOTHING = b"0" * (FIRST - 1) + b"\n"
"""The first line of a file that is being written, or whose writer was killed: gc removes it."""


def is_abandoned(path: Path) -> bool:
    """Whether a cache is one that was being written by a process that has died.

    One that was opened just now and is not locked yet may be taken for that: whoever writes it does without.
    """
    if not path.suffix:
        return False
    with contextlib.suppress(FileNotFoundError, BlockingIOError), path.open("rb") as file:
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
