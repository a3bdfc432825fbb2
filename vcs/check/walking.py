"""Files below a directory, for who tells of what he could not look at.

A walk that takes a directory for empty because it may not be listed, as `Path.rglob` does, finds nothing wrong in it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

Unread = Callable[[Path, OSError], None]
"""Called with what could not be looked at, and why."""


def files_below(top: Path, unread: Unread) -> list[Path]:
    """The files in a directory, at any depth, sorted; none if there is no such directory. What goes meanwhile is passed
    over. Symbolic links to directories are not followed."""
    found: list[Path] = []
    left = [top]
    while left:
        directory = left.pop()
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    _sort_in(entry, left, found, unread)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            unread(directory, error)
    return sorted(found)


def _sort_in(entry: os.DirEntry[str], left: list[Path], found: list[Path], unread: Unread) -> None:
    try:
        if entry.is_dir(follow_symlinks=False):
            left.append(Path(entry.path))
        elif entry.is_file():
            found.append(Path(entry.path))
    except OSError as error:  # nothing that is gone: for these the answer is no
        unread(Path(entry.path), error)
