"""Where a sparse file has data."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Extent:
    """A run of data in a file, with the hole before it."""

    gap: int
    start: int
    length: int


def data_extents(fd: int, size: int) -> Iterator[Extent]:
    """The data of a sparse file, by SEEK_DATA and SEEK_HOLE (lseek(2)); the last may be an empty one after a hole.

    A file that is cut short meanwhile seems to end with a hole: whoever reads it sees that it has changed.
    """
    position = 0
    while position < size:
        start = min(size, _seek(fd, position, os.SEEK_DATA, size))
        end = _seek(fd, start, os.SEEK_HOLE, size) if start < size else size
        yield Extent(start - position, start, min(end, size) - start)
        position = end


def _seek(fd: int, position: int, whence: int, size: int) -> int:
    """Where data or a hole begins; `size` if there is none, or `position` is beyond the end by now."""
    try:
        return os.lseek(fd, position, whence)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return size
