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
    """The data of a sparse file, by SEEK_DATA and SEEK_HOLE (lseek(2)); the last may be an empty one after a hole."""
    position = 0
    while position < size:
        try:
            start = os.lseek(fd, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            start = size
        end = os.lseek(fd, start, os.SEEK_HOLE) if start < size else size
        yield Extent(start - position, start, min(end, size) - start)
        position = end
