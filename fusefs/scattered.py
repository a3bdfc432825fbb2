"""Reads here and there in large files, answered from plain copies (vcs.plain), which are asked for where they pay.

A page out of a layer costs as much as its chunk, some thirty pages: so a copy is worth while for whoever reads as many
pages here and there as it would take reads of whole mebibytes to see all of the file. Where it came alone, by its sums,
that costs little more than a page out of a copy, and it takes sixteen times as many. Whoever reads in order, a
larger piece each time, is not slower without one.

A page out of a copy comes alone, for with what is around it an answer takes four times as long. Whoever has read a
sixteenth of a file's pages is likely to want the others too, and gets them. If he still asks when he was given as much
as the whole file, there is no memory that keeps it: then it takes twice as many pages until that is tried again. A page
that is asked for again, since nothing keeps it, says nothing of the others, and does not count.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from fusefs.recent import Recent
from vcs import plain, plainwriter
from vcs.model import Chunked
from vcs.plain import PAGE, Plain, PlainCopy, bytes_path, open_plain

if TYPE_CHECKING:
    from subprocess import Popen

_log = logging.getLogger(__name__)

SCATTERED_MOST = 32 << 10
"""Bytes. Whoever reads more at once is followed by the kernel's own readahead."""
FILE_LEAST, FILE_MOST = 16 << 20, 4 << 30
"""Bytes. Of a smaller file all chunks are soon there; in a larger one it is unlikely that somebody comes by again."""
AROUND = 128 << 10
"""Bytes that are given of a copy, from a multiple of that on, with a page somewhere in them."""
_CHUNKS_FOR_A_BYTE = 1 / (1 << 20)
_ALONE = 1 / 16
"""How much of that a copy would spare who got a page alone."""
_DENSE = 1 / 16
"""The share of a copy's pages that were read by who is likely to want the others."""
_LOOK_EACH = 16
"""Reads that come alone, from one look for a copy to the next: a look takes some 10 us."""
_USES_MOST = 4096
"""Files of which it is remembered how much of them was read."""
_OPEN_MOST = 16
"""Copies that are open at once; the sums of one take up to 8 MB."""


class _Use:
    """How a file is read here and there."""

    def __init__(self) -> None:
        self.was_alone = False
        """Whether the last page came alone."""
        self.unlooked = 0
        """So many reads need not look for a copy."""
        self.cost = 0.0
        """In chunks, of what did not come from a copy."""


class _Opened:
    """A copy that is open, and which of its pages were read."""

    def __init__(self, copy: PlainCopy, size: int) -> None:
        """`size`: the file's, in bytes."""
        self.copy = copy
        self._size = size
        self._read = bytearray(size // PAGE // 8 + 1)
        """A bit for each page."""
        self._count = 0
        """Of those that are set."""
        self._enough = size / PAGE * _DENSE
        """Pages from which on what is around them is given."""
        self._given = 0
        """Bytes, since those."""

    def is_dense(self, offset: int) -> bool:
        """A small range was read: whether what is around it is worth while; it is given then."""
        if self._count < self._enough:
            byte, bit = divmod(offset // PAGE, 8)
            if not self._read[byte] & 1 << bit:
                self._read[byte] |= 1 << bit
                self._count += 1
            if self._count < self._enough:
                return False
        self._given += AROUND
        if self._given >= self._size:
            self._enough *= 2
            self._read = bytearray(len(self._read))
            self._count = self._given = 0
        return True


class PlainCopies:
    """Those of one store. Its methods are for one thread."""

    def __init__(self, store: Path, begin: Callable[[Path, Iterable[Plain]], Popen[bytes]] = plainwriter.begin) -> None:
        self._store = store
        self._caches = store / "caches"
        self._begin = begin
        self._open: OrderedDict[bytes, _Opened] = OrderedDict()
        self._uses: Recent[bytes, _Use] = Recent(_USES_MOST)
        self._asked: set[bytes] = set()
        """The files of which a copy was asked for: once is enough."""
        self._damaged: set[bytes] = set()
        """The files whose copy was damaged: not opened again."""
        self._process: Popen[bytes] | None = None

    def read(self, content: Chunked, offset: int, size: int) -> memoryview | None:
        """A small range of a large file; None if there is no copy to read it from."""
        if size > SCATTERED_MOST or not FILE_LEAST <= content.size <= FILE_MOST:
            return None
        opened = self._open.get(content.list) or self._looked_for(content)
        return None if opened is None else self._range(opened.copy, content, offset, size)

    def was_scattered(self, content: Chunked, offset: int, was_alone: bool = False) -> bool:
        """A small range somewhere in a file was read, for which its chunk was read unless it came alone: whether what
        is around it should be given. Has a copy made, if it did not come from one and there were enough of these."""
        digest, size = content.list, content.size
        if not FILE_LEAST <= size <= FILE_MOST:
            return not was_alone
        use = self._use(content)
        use.was_alone = was_alone
        if (opened := self._open.get(digest)) is not None:
            return opened.is_dense(offset)
        use.cost += _ALONE if was_alone else 1
        if digest not in self._asked and use.cost >= size * _CHUNKS_FOR_A_BYTE:
            self._ask(content)
        return not was_alone

    def around(self, content: Chunked, offset: int) -> tuple[int, memoryview] | None:
        """What a copy has around an offset, and where in the file it begins; None if there is no copy of it open."""
        opened = self._open.get(content.list)
        if opened is None:
            return None
        start = offset - offset % AROUND
        data = self._range(opened.copy, content, start, AROUND)
        return None if data is None else (start, data)

    def _ask(self, content: Chunked) -> None:
        """Have a copy made, unless another one is being made."""
        if self._process is None or self._process.poll() is not None:
            self._asked.add(content.list)
            with suppress(OSError):
                self._process = self._begin(self._store, [content])

    def _range(self, copy: PlainCopy, content: Chunked, offset: int, size: int) -> memoryview | None:
        data = copy.read(offset, size)
        if data is None:
            self._drop(content)
        return data

    def _use(self, content: Chunked) -> _Use:
        use = self._uses.get(content.list)
        if use is None:
            use = _Use()
            self._uses.put(content.list, use, 1)
        return use

    def _looked_for(self, content: Chunked) -> _Opened | None:
        """A copy that was not open, if it is there now."""
        use = self._use(content)
        if use.unlooked:
            use.unlooked -= 1
            return None
        opened = self._opened(content)
        if opened is None and use.was_alone:
            use.unlooked = _LOOK_EACH - 1
        return opened

    def _opened(self, content: Chunked) -> _Opened | None:
        if content.list in self._damaged:
            return None
        copy = open_plain(self._caches, content.list, content.size)
        if copy is None:
            return None
        opened = self._open[content.list] = _Opened(copy, content.size)
        if len(self._open) > _OPEN_MOST:
            self._open.popitem(last=False)[1].copy.close()
        return opened

    def _drop(self, content: Chunked) -> None:
        """A copy is damaged: have it mended. Overlays may be reading it, so that it does not just go."""
        digest = content.list
        _log.warning("%s is damaged: it is mended, and nothing is lost", bytes_path(self._caches, digest))
        self._open.pop(digest).copy.close()
        self._damaged.add(digest)
        try:
            self._begin(self._store, [content])
        except OSError:
            plain.remove(self._caches, digest)
