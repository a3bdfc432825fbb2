"""What was removed and is still on the disk: a rename takes it away at once, its files are deleted after that."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from runtime.system.deletion import delete_tree
from vcs.errors import EngineError

_PREFIX = ".trash-"
_LARGE = 256 << 20
"""Bytes of one file that a command does not wait for when it is deleted."""


class Trash:
    """What was removed from a directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def take(self, path: Path, name: str) -> None:
        """Take a directory away; nobody finds it any more. FileNotFoundError if it is not there."""
        path.rename(self._directory / f"{_PREFIX}{name}")

    def empty(self) -> None:
        """Delete the files. Safe at any time; nobody waits for it but the disk."""
        for path in self._paths():
            delete_tree(path)

    def leave(self) -> None:
        """The same, for one who is about to end: if there is much of it, a process of its own does it, for which nobody
        waits. Giving 1 GiB back takes a disk 0.2 to 0.5 s. If it is killed, the next command goes on."""
        paths = self._paths()
        if any(map(_is_large, paths)):
            from runtime.engine import spawn  # only here: every verb that looks at containers ends this way

            with contextlib.suppress(EngineError):
                spawn(["/bin/rm", "-rf", "--", *paths], (None, None, None))
                return
        self.empty()

    def _paths(self) -> list[str]:
        # The store has been deleted meanwhile, or there is no descriptor left: the next command goes on.
        with contextlib.suppress(OSError):
            return [entry.path for entry in os.scandir(self._directory) if entry.name.startswith(_PREFIX)]
        return []


def _is_large(directory: str) -> bool:
    """Whether a directory holds a file that takes so much room that to give it back takes long. What is deeper than a
    path can say does not count."""
    waiting = [directory]
    while waiting:
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                elif entry.stat(follow_symlinks=False).st_blocks * 512 >= _LARGE:
                    return True
    return False
