"""Reads here and there in large files, answered from plain copies (vcs.plain), which are asked for where they pay.

A page out of a layer costs as much as its chunk, some thirty pages: so a copy is worth while for whoever reads as many
pages here and there as it would take reads of whole mebibytes to see all of the file. Whoever reads in order, a larger
piece each time, is not slower without one.
"""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from vcs import plain
from vcs.model import Chunked
from vcs.plain import PlainCopy, open_plain, plain_path

if TYPE_CHECKING:
    from subprocess import Popen

_log = logging.getLogger(__name__)

SCATTERED_MOST = 32 << 10
"""Bytes. Whoever reads more at once is followed by the kernel's own readahead."""
FILE_LEAST, FILE_MOST = 16 << 20, 4 << 30
"""Bytes. Of a smaller file all chunks are soon there; in a larger one it is unlikely that somebody comes by again."""
_READS_FOR_A_BYTE = 1 / (1 << 20)
_OPEN_MOST = 16
"""Copies that are open at once; the sums of one take up to 8 MB."""


class PlainCopies:
    """Those of one store. Its methods are for one thread."""

    def __init__(self, store: Path, begin: Callable[[Path, bytes, int], Popen[bytes]] = plain.begin) -> None:
        self._store = store
        self._begin = begin
        self._open: OrderedDict[bytes, PlainCopy] = OrderedDict()
        self._reads: Counter[bytes] = Counter()
        """How many reads of each file were scattered, and had no copy."""
        self._asked: set[bytes] = set()
        """The files of which a copy was asked for: once is enough."""
        self._damaged: set[bytes] = set()
        """The files whose copy was damaged: where it cannot be removed, it must not be opened again."""
        self._process: Popen[bytes] | None = None

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._open

    def read(self, content: Chunked, offset: int, size: int) -> memoryview | None:
        """A small range of a large file; None if there is no copy to read it from."""
        if size > SCATTERED_MOST or not FILE_LEAST <= content.size <= FILE_MOST:
            return None
        copy = self._open.get(content.list) or self._opened(content)
        if copy is None:
            return None
        data = copy.read(offset, size)
        if data is None:
            self._drop(content.list)
        return data

    def was_scattered(self, content: Chunked) -> None:
        """A small range somewhere in a file was read from its chunks: have a copy made, if there were enough."""
        digest, size = content.list, content.size
        if not FILE_LEAST <= size <= FILE_MOST or digest in self._asked:
            return
        self._reads[digest] += 1
        if self._reads[digest] < size * _READS_FOR_A_BYTE or (self._process and self._process.poll() is None):
            return
        self._asked.add(digest)
        del self._reads[digest]
        with suppress(OSError):
            self._process = self._begin(self._store, digest, size)

    def _opened(self, content: Chunked) -> PlainCopy | None:
        if content.list in self._damaged:
            return None
        path = plain_path(self._store / "caches", content.list)
        copy = open_plain(path, content.size)
        if copy is None:
            return None
        self._open[content.list] = copy
        if len(self._open) > _OPEN_MOST:
            self._open.popitem(last=False)[1].close()
        return copy

    def _drop(self, digest: bytes) -> None:
        """A copy is damaged: away with it."""
        path = plain_path(self._store / "caches", digest)
        _log.warning("%s is damaged: it is removed, and nothing is lost", path)
        self._open.pop(digest).close()
        self._damaged.add(digest)
        plain.remove(path)
