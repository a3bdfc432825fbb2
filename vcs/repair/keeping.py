"""Damaged files of git's are kept, in history.git/damaged/.

Whatever replaces one is written first and takes its place at once: who is stopped in between, by a full disk say,
leaves what he found. A branch that had no file at that moment would be one that somebody deleted.
"""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from vcs.durable import sync_all, sync_directory

_WITHOUT_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
"""What a file system says that has no hard links, or the kernel of a file that is another user's."""


def keep(repository: Path, path: Path) -> None:
    """Keep a damaged file that stays where it is until it is replaced. Durable. OSError.

    A second name for it costs no room and no reading: the disk may have none, and may not give the file back.
    """
    target = _place(repository, path)
    try:
        os.link(path, target)
    except OSError as error:
        if error.errno not in _WITHOUT_LINKS:
            raise
        shutil.copyfile(path, target)
        sync_all([target])
    _sync(repository, target)


def put_aside(repository: Path, path: Path) -> None:
    """Move a file away that git can do without. Durable. OSError."""
    target = _place(repository, path)
    path.replace(target)
    _sync(repository, target)
    sync_directory(path.parent)


def _place(repository: Path, path: Path) -> Path:
    """Where a file is kept. If it is there already, by a repair that was stopped, it goes: to rename one name of a file
    to another does nothing."""
    target = repository / "damaged" / path.relative_to(repository)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    return target


def _sync(repository: Path, target: Path) -> None:
    sync_all([directory for directory in target.parents if repository in (directory, *directory.parents)])
