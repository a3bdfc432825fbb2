"""What a listing is answered: READDIR and READDIRPLUS.

Names come with their nodes: whoever lists a directory mostly wants to know more of what is in it. `find` does not, and
the kernel would make an inode of each file for nothing. An overlay asks of each file that it looks up (datalayer.py).
So once some directories of lowers were listed and no file was asked for, files come without nodes, until one is.

Position 0 is `.`, 1 is `..`, then come the names; an offset is the position to go on with (above the roots, where
positions move, what View.names() says). A listing is at its end when an answer is empty.
"""

from __future__ import annotations

import errno
import stat
from collections.abc import Callable
from typing import TypeAlias

from fusefs.filesystem import BLOCK_SIZE, FileSystem, listed
from fusefs.inodes import Folder, Node
from fusefs.listing import Run, fitting
from fusefs.trace import Reply
from fusefs.view import Changing
from fusefs.walks import Answer, Walks
from fusefs.wire import replies
from fusefs.wire.protocol import UNKNOWN_INO

_Encode: TypeAlias = Callable[[int, int, int, bytes], bytes]
_SizeOf: TypeAlias = Callable[[bytes], int]
_Form: TypeAlias = tuple[_Encode, _SizeOf]
"""How a name without its node is encoded, and how many bytes it takes."""

_UNASKED_MOST = 16
"""Directories that may be listed without a question for a file: one or two say nothing of who lists them."""
_NAMES: _Form = replies.dirent, replies.dirent_size
_BARE: _Form = replies.dirent_plus_bare, replies.dirent_plus_size


class Dirents:
    """The listings of one connection."""

    def __init__(self, filesystem: FileSystem, tell: Callable[[bytes], None]) -> None:
        """`tell` tells the kernel something unasked."""
        self._fs = filesystem
        self._tell = tell
        self._unasked = 0
        """How many directories overlays have listed since one of them asked for a file."""
        self.walks = Walks(filesystem, lambda folder, size: self._with_nodes(folder, 0, size))

    def file_was_asked_for(self) -> None:
        """An overlay has looked up a file."""
        self._unasked = 0

    def plus(self, node: Node, offset: int, size: int) -> Reply:
        """READDIRPLUS: names from an offset on with their attributes, as many as fit into `size` bytes."""
        if not isinstance(node, Folder):
            return self._changing(node, offset, size, _BARE)
        if offset == node.end:
            return b""  # every listing ends with this: a third of what a cold `find` asks
        if not offset:
            self._unasked += 1
            return self.walks.begin(node, size)
        reply, told = self._with_nodes(node, offset, size)
        for names in told:
            self._fs.told(node, *names)
        return reply

    def names(self, node: Node, offset: int, size: int) -> Reply:
        """READDIR: the same without attributes."""
        if not isinstance(node, Folder):
            return self._changing(node, offset, size, _NAMES)
        parts = _dots(node, offset, size, replies.dirent)
        return b"".join(parts + self._without_nodes(node, parts, offset, size, _NAMES))

    def _with_nodes(self, folder: Folder, offset: int, size: int) -> Answer:
        """Names of a root's directory, with their nodes unless there are too many."""
        listing = self._fs.listing(folder)
        folder.end = len(listing) + 2
        parts = _dots(folder, offset, size, replies.dirent_plus_bare) if offset < 2 else []
        if not self._fs.lists_nodes(listing):
            return b"".join(parts + self._without_nodes(folder, parts, offset, size, _BARE)), []
        told = []
        room = size - sum(map(len, parts))
        names_only = self._unasked > _UNASKED_MOST and self._fs.numbers.is_lower(folder.number)
        for run, start, stop in fitting(listing, max(offset - 2, 0), room, replies.dirent_plus_size):
            numbers = self._fs.numbered(folder, listing, run, start, stop)
            following = run.first + start + 3
            if names_only:
                parts += _folders_with_nodes(run, start, numbers, following)
            else:
                parts += replies.dirents_plus(listed(numbers, run.entries[start:stop]), BLOCK_SIZE, following)
            told.append((run, start, numbers, names_only))
        return b"".join(parts), told

    def _without_nodes(self, folder: Folder, parts: list[bytes], offset: int, size: int, form: _Form) -> list[bytes]:
        """Names of a root's directory that fit after the parts that are there."""
        encode, size_of = form
        room = size - sum(map(len, parts))
        names = []
        for run, start, stop in fitting(self._fs.listing(folder), max(offset - 2, 0), room, size_of):
            following = run.first + 3
            for place in range(start, stop):
                entry = run.entries[place]
                number = folder.number + run.starts[place]
                names.append(encode(number, following + place, entry.mode >> 12, entry.name))
        return names

    def _changing(self, node: Node, offset: int, size: int, form: _Form) -> Reply:
        """Names of a directory above the roots."""
        if not isinstance(node, Changing):
            return errno.ENOTDIR
        encode, size_of = form
        names = self._fs.names(node, offset)
        if offset > 1 and not names and not node.missing_endless:
            # With this answer the kernel believes that it has the whole listing, and would never ask again. What it
            # has collected so far is dropped before the answer, so nobody is ever shown it.
            self._tell(replies.drop_pages(node.number))
        parts = _dots(node, offset, size, encode)
        room = size - sum(map(len, parts))
        for following, name, kind in names:
            room -= size_of(name)
            if room < 0:
                break
            parts.append(encode(UNKNOWN_INO, following, kind >> 12, name))
        return b"".join(parts)


def _folders_with_nodes(run: Run, start: int, numbers: list[int], following: int) -> list[bytes]:
    """Names from a place on, of which only directories come with their nodes; `following` is the first one's offset."""
    parts = [
        replies.dirent_plus_bare(number, following + place, entry.mode >> 12, entry.name)
        for place, (number, entry) in enumerate(zip(numbers, run.entries[start:], strict=False))
    ]
    for place in run.directories:
        if start <= place < start + len(numbers):
            rows = listed((numbers[place - start],), (run.entries[place],))
            parts[place - start : place - start + 1] = replies.dirents_plus(rows, BLOCK_SIZE, following + place - start)
    return parts


def _dots(node: Folder | Changing, offset: int, size: int, encode: _Encode) -> list[bytes]:
    """The entries of `.` and `..`, as far as they are asked for and there is room; no name takes less."""
    both = [encode(node.number, 1, stat.S_IFDIR >> 12, b"."), encode(node.parent, 2, stat.S_IFDIR >> 12, b"..")]
    wanted = both[offset:]
    return wanted[: size // len(both[0])]
