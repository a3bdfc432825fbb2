"""Variants of the program with a fault each: something that is not synced. A harness that says nothing of them says
nothing at all. What that does depends on the file system: ext4 and xfs keep the order of names, btrfs does not."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from typing import Any

import pygit2

from runtime.system import mounts

_fsync = os.fsync


def _without_files() -> None:
    """No file is synced that we write ourselves: layers, records, logs."""
    _syncing(lambda status: stat.S_ISDIR(status.st_mode))


def _without_directories() -> None:
    """No directory is synced by us: names of layers, of containers and of refs."""
    _syncing(lambda status: not stat.S_ISDIR(status.st_mode))


def _syncing(wanted: Callable[[os.stat_result], bool]) -> None:
    def fsync(fd: Any) -> None:
        if wanted(os.fstat(fd)):
            _fsync(fd)

    os.fsync = fsync


def _without_layers() -> None:
    """A layer gets its name before its bytes are on the disk."""

    def fsync(fd: Any) -> None:
        if "/layers/" not in os.readlink(f"/proc/self/fd/{fd if isinstance(fd, int) else fd.fileno()}"):
            _fsync(fd)

    os.fsync = fsync


def _without_history() -> None:
    """Libgit2 syncs nothing, which is its default."""
    pygit2.settings.enable_fsync_gitdir(False)


def _without_copies() -> None:
    """Files that are copied into a container get their names before their bytes are on the disk."""
    mounts.sync_file_system = lambda fd: None


VARIANTS: dict[str, Callable[[], None]] = {
    "": lambda: None,
    "files-unsynced": _without_files,
    "directories-unsynced": _without_directories,
    "layers-unsynced": _without_layers,
    "history-unsynced": _without_history,
    "copies-unsynced": _without_copies,
}
