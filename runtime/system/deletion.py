"""Directories deleted with all that is below, however deep: what a container wrote may be deeper than any path is long,
than a process may have descriptors, and than Python lets functions call themselves, as shutil.rmtree does."""

from __future__ import annotations

import os
from contextlib import suppress
from itertools import count
from pathlib import Path

_DEPTH = 64
"""Levels that are gone down at once. What is deeper is first moved up."""
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def delete_tree(path: Path | str) -> None:
    """Delete a directory. What cannot be deleted stays, and is no error; neither is it that there is none."""
    with suppress(OSError):
        top = os.open(path, _DIRECTORY)
        try:
            deleting = _Deleting(top)
            while deleting.is_moving:
                deleting.is_moving = False
                deleting.empty(top, 0)
        finally:
            os.close(top)
        os.rmdir(path)


class _Deleting:
    """One directory that is being emptied."""

    def __init__(self, top: int) -> None:
        self._top = top
        self._numbers = count()
        self.is_moving = True
        """Whether a directory was moved up, and so is still to be emptied."""

    def empty(self, directory: int, depth: int) -> None:
        """Delete what is in a directory that is so many levels below the top."""
        with os.scandir(directory) as found:
            entries = list(found)
        for entry in entries:
            with suppress(OSError):
                if not entry.is_dir(follow_symlinks=False):
                    os.unlink(entry.name, dir_fd=directory)
                elif depth == _DEPTH:
                    self._move_up(entry.name, directory)
                else:
                    self._delete(entry.name, directory, depth)

    def _delete(self, name: str, parent: int, depth: int) -> None:
        directory = os.open(name, _DIRECTORY, dir_fd=parent)
        try:
            self.empty(directory, depth + 1)
        finally:
            os.close(directory)
        os.rmdir(name, dir_fd=parent)

    def _move_up(self, name: str, parent: int) -> None:
        """The name is nobody else's: a rename does not replace a directory that has something in it, and one that is
        empty was to go as well."""
        os.rename(name, f".deep-{os.getpid()}-{next(self._numbers)}", src_dir_fd=parent, dst_dir_fd=self._top)
        self.is_moving = True
