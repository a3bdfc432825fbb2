"""The next listing, made while the kernel is at work on the last one.

Whoever walks through a tree (find, du, cp -r, git status) lists a directory, and then the next one below or beside it.
The kernel makes files of every answer before it asks again, and meanwhile the driver would wait. It prepares for the
question that comes next instead: the processor's time is the same, but the two work side by side.

It is prepared in steps, one after each message: a walk sends two for each directory, or three through an overlay, and
none of them is to wait for long. What is missing when the question comes is done then.

One listing is no walk: only who has gone on to the directory that was expected is prepared for. What was prepared is
used once, and only if no root was dropped since (numbers.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import TypeAlias

from fusefs.filesystem import FileSystem
from fusefs.inodes import Folder

_WALKS = 4
"""How many walks are followed at once."""
_ENTRIES_MOST = 1024
"""Directories of more names below them are not prepared while nobody has asked: a step must not take long."""

Steps: TypeAlias = Callable[[Folder, int], Iterator[Iterable[bytes]]]
"""Makes the beginning of a directory's listing for a buffer of so many bytes, in steps: each yields parts of it."""


class _Prepared:
    """A listing's beginning, as far as it is made."""

    def __init__(self, number: int, steps: Iterator[Iterable[bytes]], size: int, generation: int) -> None:
        self.number = number
        self.steps = steps
        self.size = size
        self.generation = generation
        self.parts: list[bytes] = []


class Walks:
    """Those of one connection."""

    def __init__(self, filesystem: FileSystem, steps: Steps) -> None:
        self._fs = filesystem
        self._nodes = filesystem.table.nodes
        self._steps = steps
        self._expected: dict[int, _Prepared | None] = {}
        """What may be listed next, in the order in which it was thought of."""
        self._begun: tuple[Folder, int, bool] | None = None
        """The directory of which a listing was begun last, the room for it, and whether it was expected."""
        self._unfinished: _Prepared | None = None
        self.has_work = False
        """Whether there is something to prepare."""

    def begin(self, folder: Folder, size: int) -> bytes:
        """The beginning of a directory's listing, prepared or not."""
        number = folder.number
        self._begun = folder, size, number in self._expected
        self.has_work = True
        found = self._expected.pop(number, None)
        if found is None or found.size != size or found.generation != self._fs.numbers.generation:
            return b"".join(chain.from_iterable(self._steps(folder, size)))
        return b"".join(chain(found.parts, chain.from_iterable(found.steps)))

    def work(self) -> None:
        """Do the next step. A message was answered."""
        self.has_work = False
        prepared = self._unfinished
        try:
            if self._begun is not None:
                begun, self._begun = self._begun, None
                prepared = self._unfinished = self._next(*begun)
            parts = None if prepared is None else next(prepared.steps, None)
        except Exception:  # whoever asks for it is told
            if prepared is not None:
                self._expected.pop(prepared.number, None)
            return
        if prepared is not None and parts is not None:
            prepared.parts += parts
            self.has_work = True

    def _next(self, folder: Folder, size: int, was_expected: bool) -> _Prepared | None:
        """What to prepare, now that a directory was listed."""
        following = self._after(folder)
        if following is None or following.number in self._expected:
            return None
        prepared = None
        if was_expected and following.entry.content.entries <= _ENTRIES_MOST:  # type: ignore[union-attr]
            prepared = _Prepared(following.number, self._steps(following, size), size, self._fs.numbers.generation)
        self._expected[following.number] = prepared
        if len(self._expected) > _WALKS:
            del self._expected[next(iter(self._expected))]
        return prepared

    def _after(self, folder: Folder) -> Folder | None:
        """The directory that a walk comes to after this one, as far as it is known."""
        number = folder.inner
        while not number:
            number = folder.following
            if not number:
                parent = self._nodes.get(folder.parent)
                if not isinstance(parent, Folder):
                    return None
                folder = parent
        found = self._nodes.get(number)
        return found if isinstance(found, Folder) else None
