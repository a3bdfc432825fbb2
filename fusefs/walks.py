"""The next listing, made while the kernel is at work on the last one.

Whoever walks through a tree (find, du, cp -r, git status) lists a directory, and then the next one below or beside it.
The kernel makes files of every answer before it asks again, and meanwhile the driver would wait. It makes the next
answer instead: the processor's time is the same, but the two work side by side.

One listing is no walk: only for who has gone on to the directory that was expected, an answer is made in advance. It is
used once, and only if no root was dropped since (numbers.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from fusefs.filesystem import FileSystem
from fusefs.inodes import Folder
from fusefs.listing import Run
from vcs.model import Tree

_WALKS = 4
"""How many walks are followed at once."""
_ENTRIES_MOST = 1024
"""Nothing is made in advance of directories with more names below them: who asks for something else must not wait for
long."""

Told: TypeAlias = list[tuple[Run, int, list[int], bool]]
"""Of which entries the kernel is told: of each run, the place of the first, their numbers, and whether it is told of
the directories among them only. Nodes are made after
that: until then it does not know the files, and must not be given them (readahead.py)."""
Answer: TypeAlias = tuple[bytes, Told]


class _Ready(NamedTuple):
    """An answer made in advance."""

    size: int
    """The size of the buffer that it was made for, in bytes."""
    generation: int
    """That of the numbers, before it was made."""
    answer: Answer


class Walks:
    """Those of one connection."""

    def __init__(self, filesystem: FileSystem, answer: Callable[[Folder, int], Answer]) -> None:
        """`answer` makes the beginning of a directory's listing, for a buffer of so many bytes."""
        self._fs = filesystem
        self._nodes = filesystem.table.nodes
        self._answer = answer
        self._expected: dict[int, _Ready | None] = {}
        """What may be listed next, in the order in which it was thought of."""
        self._begun: tuple[Folder, int, Told, bool] | None = None
        """The directory whose listing was begun last, the room for it, what is told of it, and whether it was
        expected."""

    def begin(self, folder: Folder, size: int) -> bytes:
        """The beginning of a directory's listing, made now or in advance. Once it was answered, go_on() is due."""
        was_expected = folder.number in self._expected
        ready = self._expected.pop(folder.number, None)
        if ready is None or ready.size != size or ready.generation != self._fs.numbers.generation:
            reply, told = self._answer(folder, size)
        else:
            reply, told = ready.answer
        self._begun = folder, size, told, was_expected
        return reply

    def go_on(self) -> None:
        """Keep the nodes of which the kernel was told, and make the next answer of a walk."""
        if self._begun is None:
            return
        folder, size, told, was_expected = self._begun
        self._begun = None
        for names in told:
            self._fs.told(folder, *names)
        following = self._after(folder)
        if following is None or following.number in self._expected:
            return
        self._expected[following.number] = self._made(following, size) if was_expected else None
        if len(self._expected) > _WALKS:
            del self._expected[next(iter(self._expected))]

    def _made(self, folder: Folder, size: int) -> _Ready | None:
        content = folder.entry.content
        if not isinstance(content, Tree) or content.entries > _ENTRIES_MOST:
            return None
        generation = self._fs.numbers.generation
        try:
            return _Ready(size, generation, self._answer(folder, size))
        except Exception:
            return None  # whoever asks for it is told

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
