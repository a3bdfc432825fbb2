"""The next small files, given to the kernel before it asks.

The kernel reads ahead inside a file, never from one file to the next: whoever reads a tree of small files (tar, grep,
cp, a build) waits for a message each. Numbers are counted in the order of a walk (inodes.py), so a walk is easy to see:
it reads the next number that is a file. The files after that one mostly lie in the same block of a layer, which is
decompressed already. NOTIFY_STORE puts their content into the page cache.

A walk that has hit twice gets a window, which doubles up to a limit; one file in the middle of it, the mark, is left
out, and when the kernel asks for that one, the next window is given. A window ends where a directory has not been
listed yet: one message then tells whether the walk goes into it or past it. What was given and is not wanted is clean
page cache, and goes first.

Reads of a few kilobytes here and there in a large file are the other case: each brings a whole chunk, of which the
kernel would keep a page or two, and come again for the others. The chunk is there, so it is given too; unless the page
came from a plain copy (scattered.py).

The kernel locks a page for which it has asked us, and NOTIFY_STORE waits for that lock: from the loop's own thread it
could wait for the very answer that the loop gives next. So a thread of its own writes them, while the loop reads their
contents, since the store is the loop's alone.
"""

from __future__ import annotations

import logging
import os
import threading
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TypeAlias

from fusefs.filesystem import FileSystem
from fusefs.inodes import Folder, Node
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
_WALKS = 4
"""How many walks are followed at once."""
_STEPS_MOST = 256
"""Names that are no files, between two that are."""


_Piece: TypeAlias = tuple[int, int, bytes | memoryview]
"""A file's number, and where in it which bytes are."""


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

    def was_read(self, node: Node) -> None:
        """The beginning of a file was read, and has been answered."""
        number = node.number
        for walk in self._walks:
            if walk.begun < number <= walk.covered:
                self._asked.add(number)
                if number == walk.mark:
                    self._continue(walk, number)
                return
            if number == self._next(walk.covered, past=True):
                walk.covered = number
                self._continue(walk, number)
                return
        self._walks.insert(0, _Walk(number, number))
        del self._walks[_WALKS:]

    def was_read_within(self, node: Node, offset: int, size: int) -> None:
        """A range somewhere in a file was read, and has been answered."""
        if size > SCATTERED_MOST or node.entry.size > FILE_MOST:
            return
        if not self._fs.was_scattered(node) or self._behind > _WAITING_MOST:
            return
        try:
            start, chunk = self._fs.around(node, offset)
        except (TreeringError, OSError):
            return
        if not chunk:
            return
        # Whole pages: of one that is given in part, the kernel asks for all once more.
        first, last = -start % _PAGE, len(chunk)
        if start + last < node.entry.size:
            last -= (start + last) % _PAGE
        before, after = offset - start, offset - start + size
        ranges = [(first, before), (after, last)]
        self._put([(node.number, start + begin, chunk[begin:end]) for begin, end in ranges if begin < end])

    @property
    def _behind(self) -> int:
        """Bytes that the thread has not written yet."""
        return self._queued - self._done

    def _put(self, batch: list[_Piece]) -> None:
        self._queued += sum(len(data) for _, _, data in batch)
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
                batch.append((number, 0, self._fs.read(self._nodes[number], 0, size)))
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
            for number, offset, data in batch:
                self._done += len(data)
                if not offset and number in self._asked:
                    self._asked.discard(number)
                    continue
                # ENOENT: the kernel has forgotten the file. What else may go wrong, it will ask instead.
                with suppress(OSError):
                    os.writev(self._device, (replies.store(number, len(data), offset), data))
                    self.given += 1
