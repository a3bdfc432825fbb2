"""What is there, told only by those who could look.

`Path.exists()` and its like answer False where the look itself fails: on some errors up to Python 3.13, on all from
3.14 on, as `os.path.exists` always did. A container whose directory could not be looked at for want of memory is then
taken for one that is gone, and what is gone is cleaned up. Likewise `Path.glob()` and its like find nothing in a
directory that they may not list, and from Python 3.13 on in one that cannot be listed for any reason.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypeAlias

Unread: TypeAlias = Callable[[Path, OSError], None]
"""Called with what could not be looked at, and why."""


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


def files_below(top: Path, unread: Unread | None = None) -> list[Path]:
    """The files in a directory, at any depth, sorted; none if there is no such directory. What goes meanwhile is passed
    over. Symbolic links to directories are not followed.

    `unread` is told of what could not be looked at; without it, OSError.
    """
    tell = unread or _refuse
    found: list[Path] = []
    left = [top]
    while left:
        directory = left.pop()
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    _sort_in(entry, left, found, tell)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            tell(directory, error)
    return sorted(found)


def _sort_in(entry: os.DirEntry[str], left: list[Path], found: list[Path], unread: Unread) -> None:
    try:
        if entry.is_dir(follow_symlinks=False):
            left.append(Path(entry.path))
        elif entry.is_file():
            found.append(Path(entry.path))
    except OSError as error:  # nothing that is gone: for these the answer is no
        unread(Path(entry.path), error)


def _refuse(_: Path, error: OSError) -> NoReturn:
    raise error


def _mode(path: str | Path) -> int | None:
    try:
        return os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
