"""The next small files, given to the kernel before it asks.

The kernel reads ahead inside a file, never from one file to the next: whoever reads a tree of small files (tar, grep,
cp, a build) waits for a message each. Numbers are counted in the order of a walk (inodes.py), so a walk is easy to see:
it reads the next number that is a file. The files after that one mostly lie in the same block of a layer, which is
decompressed already. NOTIFY_STORE puts their content into the page cache.

A walk that has hit twice gets a window, which doubles up to a limit; one file in the middle of it, the mark, is left
out, and when the kernel asks for that one, the next window is given. A window ends where a directory has not been
listed yet: one message then tells whether the walk goes into it or past it. What was given and is not wanted is clean
page cache, and goes first.

Reads of a few kilobytes here and there in a large file are the other case: each brings a whole block, of which the
kernel would keep a page or two, and come again for the others. The block is there, so it is given too, as far as it is
the file's; for pages from a plain copy, scattered.py says when.

The kernel locks a page for which it has asked us, and NOTIFY_STORE waits for that lock: from the loop's own thread it
could wait for the very answer that the loop gives next. So a thread of its own writes them, while the loop reads their
contents, since the store is the loop's alone.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from typing import NamedTuple

from fusefs.filesystem import FileSystem
from fusefs.inodes import Folder, Node
from fusefs.recent import Recent
from fusefs.scattered import FILE_MOST, SCATTERED_MOST
from fusefs.wire import replies
from vcs.errors import TreeringError
from vcs.model import Tree

_log = logging.getLogger(__name__)

_FILE_MOST = 128 << 10
"""Larger files get the kernel's own readahead."""
_WINDOW_FIRST = 64 << 10
_WINDOW_MOST = 1 << 20
_FILES_MOST = 128
_WAITING_MOST = 4 << 20
"""Bytes that the thread may be behind; no window is given then."""
_PAGE = 4096
_EDGES_MOST = 12 << 20
"""Bytes of parts of pages that are kept. Reading all of 1 GiB here and there takes so many."""
_EDGE_BYTES = 200
"""What one takes besides."""
_WALKS = 4
"""How many walks are followed at once."""
_STEPS_MOST = 256
"""Names that are no files, between two that are."""


class _Piece(NamedTuple):
    """Bytes of a file, by its number, from an offset on."""

    number: int
    offset: int
    parts: Sequence[bytes | memoryview]

    @property
    def size(self) -> int:
        return sum(map(len, self.parts))


class _Edges:
    """Parts of pages. What is at hand of a file begins and ends within a page, mostly, and the page's rest is in what
    lies next to it: a part is kept until that comes by, for of a page that is given in part the kernel asks for all."""

    def __init__(self) -> None:
        self._parts: Recent[tuple[int, int, bool], bytes] = Recent(_EDGES_MOST)
        """By the file's number, the page's offset, and whether it is the page's end."""

    def whole_pages(self, node: Node, start: int, parts: Sequence[bytes | memoryview]) -> list[_Piece]:
        """The whole pages of a file's bytes from `start` on, and those next to them that are whole now."""
        end = start + sum(map(len, parts))
        head = -start % _PAGE
        tail = end % _PAGE if end < node.entry.size else 0
        if not parts or len(parts[0]) < head or len(parts[-1]) < tail or end - start <= head + tail:
            return []  # next to a hole chunks may be as small
        number = node.number
        views = [memoryview(part) for part in parts]
        pieces = []
        if head:
            pieces += self._joined(number, start + head - _PAGE, views[0][:head], is_end=True)
            views[0] = views[0][head:]
        if tail:
            pieces += self._joined(number, end - tail, views[-1][-tail:], is_end=False)
            views[-1] = views[-1][:-tail]
        return [*pieces, _Piece(number, start + head, views)]

    def _joined(self, number: int, page: int, part: memoryview, is_end: bool) -> list[_Piece]:
        """The page that a part is of, if the other part was there before."""
        other = self._parts.pop((number, page, not is_end))
        if other is None or len(other) + len(part) != _PAGE:
            self._parts.put((number, page, is_end), bytes(part), len(part) + _EDGE_BYTES)
            return []
        return [_Piece(number, page, [other, part] if is_end else [part, other])]


@dataclass(slots=True)
class _Walk:
    """Somebody who reads one file after the other."""

    covered: int
    """The number up to which files were read or given."""
    begun: int
    """The file whose reading gave the last window."""
    window: int = 0
    """Bytes of the last window; 0 before the second hit."""
    mark: int = 0
    """The file of the last window that was left out."""


class ReadAhead:
    """Follows what is read through one connection. Its methods are for the loop's thread."""

    def __init__(self, device: int, filesystem: FileSystem) -> None:
        self._device = device
        self._fs = filesystem
        self._nodes = filesystem.table.nodes
        self._walks: list[_Walk] = []
        self._queue: SimpleQueue[list[_Piece] | None] = SimpleQueue()
        self._edges = _Edges()
        self._asked: set[int] = set()
        """Files that the kernel asked for while the thread had them; they need not be given."""
        self._queued = 0
        self._done = 0
        """Bytes; the one is written by the loop's thread alone, the other by ours."""
        self.given = 0
        """How many files were given."""
        self._thread = threading.Thread(target=self._give, name="read-ahead", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Give nothing more; waits for the thread."""
        self._queue.put(None)
        self._thread.join()

    def was_read(self, node: Node) -> bool:
        """The beginning of a file was read, and has been answered. Whether it was on somebody's walk."""
        number = node.number
        for walk in self._walks:
            if walk.begun < number <= walk.covered:
                self._asked.add(number)
                if number == walk.mark:
                    self._continue(walk, number)
                return True
            if number == self._next(walk.covered, past=True):
                walk.covered = number
                self._continue(walk, number)
                return True
        self._walks.insert(0, _Walk(number, number))
        del self._walks[_WALKS:]
        return False

    def was_read_within(self, node: Node, offset: int, size: int) -> None:
        """A range somewhere in a file was read, and has been answered."""
        if size > SCATTERED_MOST or node.entry.size > FILE_MOST:
            return
        if not self._fs.was_scattered(node, offset) or self._behind > _WAITING_MOST:
            return
        with suppress(TreeringError, OSError):  # whoever reads the others is told
            self._put(self._edges.whole_pages(node, *self._fs.around(node, offset)))

    @property
    def _behind(self) -> int:
        """Bytes that the thread has not written yet."""
        return self._queued - self._done

    def _put(self, batch: list[_Piece]) -> None:
        self._queued += sum(piece.size for piece in batch)
        self._queue.put(batch)

    def _continue(self, walk: _Walk, number: int) -> None:
        """Give the window after what is covered, since the walk has come to `number`."""
        walk.begun = number
        walk.mark = 0
        walk.window = min(2 * walk.window, _WINDOW_MOST) or _WINDOW_FIRST
        waiting = self._behind
        if not waiting:
            self._asked.clear()
        if waiting > _WAITING_MOST:
            return
        batch: list[_Piece] = []
        room = walk.window
        while room > 0 and len(batch) < _FILES_MOST:
            number = self._next(walk.covered, past=False)
            size = self._nodes[number].entry.size if number else 0
            if not number or size > _FILE_MOST:
                break
            room -= size
            walk.covered = number
            if not walk.mark and 2 * room < walk.window:
                walk.mark = number
                continue
            try:
                batch.append(_Piece(number, 0, [self._fs.read(self._nodes[number], 0, size)]))
            except (TreeringError, OSError):
                break  # whoever reads it is told
        if batch:
            self._put(batch)

    def _next(self, number: int, past: bool) -> int:
        """The number of the next file with content that the kernel knows, 0 if there is none near. A directory that
        was not listed yet is gone past, or ends the search."""
        nodes = self._nodes
        for _ in range(_STEPS_MOST):
            number += 1
            node = nodes.get(number)
            if node is None:
                return 0
            content = node.entry.content
            if type(content) is Tree:
                if isinstance(node, Folder) and content.entries and number + 1 not in nodes:
                    if not past:
                        return 0
                    number += content.entries
            elif node.entry.size and node.entry.is_file:
                return number
        return 0

    # -- the thread

    def _give(self) -> None:
        while (batch := self._queue.get()) is not None:
            for piece in batch:
                self._done += piece.size
                if not piece.offset and piece.number in self._asked:
                    self._asked.discard(piece.number)
                    continue
                # ENOENT: the kernel has forgotten the file. What else may go wrong, it will ask instead.
                with suppress(OSError):
                    os.writev(self._device, (replies.store(piece.number, piece.size, piece.offset), *piece.parts))
                    self.given += 1
