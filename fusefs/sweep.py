"""What a start is likely to read, read before it asks: a profile's objects, and parts of plain copies, in one sweep.

The disk is asked for a little more than what is wanted next. It serves whoever came first: with all asked for at once,
the program that starts had to wait for all of it, and so had the driver on its behalf, once for 8 of 110 ms.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from vcs.snapshot import Item, Profile

AHEAD = 2 << 20
"""Bytes that the disk is asked for before they are wanted."""
_PIECE = 256 << 10


@dataclass(frozen=True, slots=True)
class Part:
    """A range of a file."""

    path: Path
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class _Step:
    """An object of a profile, or what is to be read instead of it."""

    item: Item
    part: Part | None

    @property
    def size(self) -> int:
        return self.item.length if self.part is None else self.part.length


def sweep(profile: Profile, parts: Mapping[bytes, Part], most: int) -> Iterator[Item]:
    """Read a profile in its order, up to so many bytes. What `parts` has by its digest is read from there; the others
    are yielded, each when the kernel has it or soon will. What cannot be read is left to who asks for it."""
    steps = [_Step(item, parts.get(item.digest)) for item in profile.items]
    with ExitStack() as stack:
        files = _Files(stack)
        asked = wanted = before = 0
        for step in steps:
            if before < AHEAD // 2:
                while wanted < len(steps) and before < AHEAD:
                    before += steps[wanted].size
                    wanted += 1
                _ask(profile, files, steps[asked:wanted])
                asked = wanted
            most -= step.size
            if most < 0:
                return
            if step.part is None:
                yield step.item
            else:
                files.read(step.part)
            before -= step.size


def _ask(profile: Profile, files: _Files, steps: list[_Step]) -> None:
    """Have the kernel read all of these."""
    for is_object, run in groupby(steps, lambda step: step.part is None):
        if is_object:
            profile.warm(step.item for step in run)
        else:
            for step in run:
                assert step.part is not None
                files.want(step.part)


class _Files:
    """Those of which parts are read, which stay open until the stack ends."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._open: dict[Path, int] = {}
        self._room = memoryview(bytearray(_PIECE))
        """What is read goes here: it is wanted in the page cache."""

    def want(self, part: Part) -> None:
        """Have it read; does not wait for that."""
        with suppress(OSError):
            fd = self._open.get(part.path)
            if fd is None:
                fd = self._stack.enter_context(part.path.open("rb", buffering=0)).fileno()
                self._open[part.path] = fd
            os.posix_fadvise(fd, part.offset, part.length, os.POSIX_FADV_WILLNEED)

    def read(self, part: Part) -> None:
        """Wait until it is read."""
        fd = self._open.get(part.path)
        if fd is None:
            return
        end = part.offset + part.length
        with suppress(OSError):
            for start in range(part.offset, end, _PIECE):
                os.preadv(fd, [self._room[: end - start]], start)
