"""What is there, told only by those who could look.

`Path.exists()` and its like answer False where the look itself fails: on some errors up to Python 3.13, on all from
3.14 on, as `os.path.exists` always did. A container whose directory could not be looked at for want of memory is then
taken for one that is gone, and what is gone is cleaned up. Likewise `Path.glob()` and its like find nothing in a
directory that they may not list, and from Python 3.13 on in one that cannot be listed for any reason.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path


def is_there(path: str | Path) -> bool:
    """Whether a name leads to something. OSError if that cannot be told."""
    return _mode(path) is not None


def is_file(path: str | Path) -> bool:
    """Whether a name leads to a regular file. OSError if that cannot be told."""
    mode = _mode(path)
    return mode is not None and stat.S_ISREG(mode)


def is_directory(path: str | Path) -> bool:
    """Whether a name leads to a directory. OSError if that cannot be told."""
    mode = _mode(path)
    return mode is not None and stat.S_ISDIR(mode)


def names_in(directory: str | Path) -> list[str]:
    """The names in a directory, in no order; none if there is no such directory. OSError if they cannot be listed."""
    try:
        return os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []


def files_below(top: Path) -> list[Path]:
    """The files in a directory, at any depth, sorted; none if there is no such directory. OSError if it cannot be told.

    A directory that goes meanwhile has none. Symbolic links to directories are not followed.
    """
    found, left = [], [os.fspath(top)]
    while left:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(left.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    left.append(entry.path)
                elif entry.is_file():
                    found.append(entry.path)
    return sorted(map(Path, found))


def _mode(path: str | Path) -> int | None:
    try:
        return os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
