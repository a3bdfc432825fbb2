"""A million names: files that are empty or tiny, and one directory that is very long."""

from __future__ import annotations

import os
from pathlib import Path

ENTRIES = 1_000_000
LONG = b"long"
"""The directory that holds a tenth of all names."""
_SHORT = 100
"""Names in each of the other directories."""
_TIME = 1_700_000_000 * 10**9


def million(place: Path, entries: int = ENTRIES) -> None:
    """Make a tree of so many entries, its top not counted. Nothing in it is drawn by chance."""
    top = os.fsencode(place)
    os.mkdir(top, 0o755)
    long = max(1, entries // 10)
    _fill(top + b"/" + LONG, long - 1)
    left = entries - long
    number = 0
    while left > 0:
        group = b"%s/group%d" % (top, number // 100)
        if number % 100 == 0:
            os.mkdir(group, 0o755)
            left -= 1
        names = min(_SHORT, left - 1)
        if names >= 0:
            _fill(b"%s/dir%d" % (group, number), names)
        left -= names + 1
        number += 1
    for directory in (*(group.path for group in os.scandir(top)), top):  # after everything in them
        os.utime(directory, ns=(_TIME, _TIME))


def _fill(directory: bytes, names: int) -> None:
    """A directory of so many files; every fourth has a few bytes in it, of its own."""
    os.mkdir(directory, 0o755)
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        for number in range(names):
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
            file = os.open(b"entry-%06d" % number, flags, 0o644, dir_fd=descriptor)
            if number % 4 == 0:
                os.write(file, b"%s/%d\n" % (directory[-12:], number))
            os.utime(file, ns=(_TIME, _TIME))
            os.close(file)
        os.utime(descriptor, ns=(_TIME, _TIME))
    finally:
        os.close(descriptor)
