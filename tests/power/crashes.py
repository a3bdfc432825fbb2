"""Which states a disk may be in after a power cut, and the disk in such a state, as a file."""

from __future__ import annotations

import ctypes
import os
import random
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.power.log import Entry, Kind, Log

_libc = ctypes.CDLL(None, use_errno=True)
_PIECE = 4096
_TORN = 0.25
"""How often a write of several pieces that is not all there is there in part."""
_PUNCH = 3
"""FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE (fallocate(2))."""

Pieces = tuple[tuple[int, tuple[int, ...]], ...]
"""Of the entries after the last flush, those that are there, and which pieces of each; no pieces: all of it."""


@dataclass(frozen=True, slots=True)
class Crash:
    """All entries before `flush`, and `pieces` of those between it and the cut. `is_acknowledged`: the command had
    ended by then."""

    flush: int
    pieces: Pieces
    is_acknowledged: bool

    @property
    def name(self) -> str:
        there = ",".join(str(at) for at, _ in self.pieces)
        return f"flush {self.flush}, then {there or 'nothing'}{', acknowledged' if self.is_acknowledged else ''}"


def chosen(log: Log, first: int, ended: int, count: int, chance: random.Random) -> list[Crash]:
    """Different states, in the order of their flushes: up to `count`, fewer if there are no more.

    A third of the cuts are just after the end of the command, at the entry `ended`; a third before, from the entry
    `first` on; and a third after it.
    """
    found: set[Crash] = set()
    flushes = [at for at, entry in enumerate(log.entries) if entry.kind is Kind.FLUSH]
    first = max(first, flushes[0] + 1)
    last = len(log.entries)
    for _ in range(count * 3):
        where = chance.randrange(3)
        cut = (ended + 1, chance.randrange(first, ended + 1), chance.randrange(ended + 1, last + 1))[where]
        flush = max(at for at in flushes if at < cut)
        found.add(Crash(flush, tuple(_half(log, flush, cut, chance)), cut > ended))
        if len(found) == count:
            break
    return sorted(found, key=lambda crash: (crash.flush, crash.is_acknowledged, crash.pieces))


def _half(log: Log, flush: int, cut: int, chance: random.Random) -> Iterator[tuple[int, tuple[int, ...]]]:
    for at in range(flush + 1, cut):
        entry = log.entries[at]
        if entry.kind not in (Kind.WRITE, Kind.DISCARD):
            continue
        pieces = range(-(-entry.length // _PIECE))
        if entry.kind is Kind.WRITE and len(pieces) > 1 and chance.random() < _TORN:
            some = tuple(piece for piece in pieces if chance.random() < 0.5)
            if some:
                yield at, some
        elif chance.random() < 0.5:
            yield at, ()


class Replay:
    """The disk as it was at one flush after another, in a file, and copies of it in states after power cuts."""

    def __init__(self, log: Log, base: Path, size: int) -> None:
        self._log = log
        self._base = base
        self._done = 0
        base.unlink(missing_ok=True)
        base.touch(mode=0o600)
        os.truncate(base, size)

    def make(self, crash: Crash, image: Path) -> None:
        """Make the disk in that state. States are made in the order of their flushes."""
        fd = os.open(self._base, os.O_WRONLY | os.O_CLOEXEC)
        for entry in self._log.entries[self._done : crash.flush]:
            self._write(fd, entry, ())
        os.close(fd)
        self._done = crash.flush
        image.unlink(missing_ok=True)
        subprocess.run(["cp", "--sparse=always", str(self._base), str(image)], check=True)
        fd = os.open(image, os.O_WRONLY | os.O_CLOEXEC)
        for at, pieces in crash.pieces:
            self._write(fd, self._log.entries[at], pieces)
        os.close(fd)

    def _write(self, fd: int, entry: Entry, pieces: tuple[int, ...]) -> None:
        if entry.kind is Kind.DISCARD:
            _punch(fd, entry.offset, entry.length)
        elif entry.kind is Kind.WRITE:
            data = self._log.data(entry)
            if not pieces and not any(data):
                _punch(fd, entry.offset, entry.length)
            elif not pieces:
                os.pwrite(fd, data, entry.offset)
            for piece in pieces:
                begin = piece * _PIECE
                os.pwrite(fd, data[begin : begin + _PIECE], entry.offset + begin)


def _punch(fd: int, offset: int, length: int) -> None:
    """Zeros that take no room."""
    if _libc.fallocate(fd, _PUNCH, ctypes.c_int64(offset), ctypes.c_int64(length)):
        raise OSError(ctypes.get_errno(), "fallocate")
