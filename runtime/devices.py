"""The machine's devices, for a privileged container."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from runtime.bundle.spec import Device

_OURS = frozenset({"pts", "shm", "mqueue", "fd", "console", "stdin", "stdout", "stderr", "ptmx"})
"""What a container has of its own (docker's list)."""

_NOT_TO_BE_HAD = (FileNotFoundError, NotADirectoryError, PermissionError)
"""What is said of a directory that has vanished, or is not for us."""


def devices(top: Path = Path("/dev")) -> list[Device]:
    """Every character and block device at and below `top`, by path. Links are not followed, and no other file system
    that is mounted there is looked into; a node that vanishes meanwhile is left out. OSError if some cannot be told."""
    return sorted(_below(os.fspath(top), top.lstat().st_dev))


def _below(directory: str, file_system: int) -> Iterator[Device]:
    with suppress(*_NOT_TO_BE_HAD), os.scandir(directory) as entries:
        for entry in entries:
            if entry.name in _OURS:
                continue
            with suppress(FileNotFoundError):
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    if status.st_dev == file_system:
                        yield from _below(entry.path, file_system)
                elif kind := "c" * stat.S_ISCHR(status.st_mode) or "b" * stat.S_ISBLK(status.st_mode):
                    number = status.st_rdev
                    yield Device(
                        entry.path,
                        kind,
                        os.major(number),
                        os.minor(number),
                        stat.S_IMODE(status.st_mode),
                        status.st_uid,
                        status.st_gid,
                    )
