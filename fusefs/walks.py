"""The next listing, made while the kernel is at work on the last one.

Whoever walks through a tree (find, du, cp -r, git status) lists a directory, and then the next one below or beside it.
The kernel makes files of every answer before it asks again, and meanwhile the driver would wait. It makes the answer to
the question that comes next instead: the processor's time is the same, but the two work side by side.

One listing is no walk: an answer is made in advance for who has gone on to the directory that was expected. It is used
once, for the same question, and only if no root was dropped since (numbers.py).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from fusefs.filesystem import FileSystem
from fusefs.inodes import Folder
from fusefs.listing import Listing
from vcs.errors import TreeringError

_WALKS = 4
"""How many walks are followed at once."""
_NAMES_MOST = 1024
"""Of larger directories nothing is made in advance: who asks for something else must not wait for long."""


class _Ready(NamedTuple):
    """An answer made in advance."""

    size: int
    """The size of the buffer that it was made for, in bytes."""
    generation: int
    reply: bytes


class Walks:
    """Those of one connection. `answer` makes the reply of a listing's beginning, for a buffer of some size."""

    def __init__(self, filesystem: FileSystem, answer: Callable[[Folder, int], bytes]) -> None:
        self._fs = filesystem
        self._nodes = filesystem.table.nodes
        self._answer = answer
        self._expected: dict[int, _Ready | None] = {}
        """The directories that may be listed next, in the order in which they were thought of."""
        self._is_walk = False
        """Whether the directory that is being listed was expected."""

    def take(self, folder: Folder, size: int) -> bytes | None:
        """What a directory's listing begins with, if that was made in advance."""
        self._is_walk = folder.number in self._expected
        ready = self._expected.pop(folder.number, None)
        if ready is None or ready.size != size or ready.generation != self._fs.numbers.generation:
            return None
        return ready.reply

    def go_on(self, folder: Folder, size: int) -> None:
        """A directory's listing was begun, and that has been answered: prepare for the next one."""
        with suppress(TreeringError, OSError):  # whoever asks for it is told
            following = self._after(folder)
            if following is None or following.number in self._expected:
                return
            self._expected[following.number] = self._made(following, size) if self._is_walk else None
            if len(self._expected) > _WALKS:
                del self._expected[next(iter(self._expected))]

    def _made(self, folder: Folder, size: int) -> _Ready | None:
        if len(self._fs.listing(folder)) > _NAMES_MOST:
            return None
        reply = self._answer(folder, size)
        return _Ready(size, self._fs.numbers.generation, reply)

    def _after(self, folder: Folder) -> Folder | None:
        """The directory that a walk comes to after this one, as far as it is known."""
        count = 0
        while isinstance(listing := self._fs.listing(folder), Listing):
            run = listing.run_at(0)
            place = bisect_right(run.directories, count, key=run.starts.__getitem__)
            if place < len(run.directories):
                found = self._nodes.get(folder.number + run.starts[run.directories[place]])
                return found if isinstance(found, Folder) else None
            parent = self._nodes.get(folder.parent)
            if not isinstance(parent, Folder):
                return None
            count = folder.number - parent.number
            folder = parent
        return None
