"""Locks that a killed process cannot leave behind: flock(2), which the kernel drops with the last descriptor."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def flocked(path: Path, mode: int) -> Iterator[None]:
    """Hold a flock on a file, which is made if need be. `mode` is LOCK_EX or LOCK_SH. OSError as it comes."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, mode)
        yield
    finally:
        os.close(fd)
