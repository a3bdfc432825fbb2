"""A container's log: what it printed, with times, in files that are rotated.

The format is that of Kubernetes' CRI: one line for each line printed, `TIME STREAM TAG TEXT`. TIME is RFC 3339 in UTC
with nanoseconds, STREAM `stdout` or `stderr`, TAG `F` if the line was ended by a newline and `P` if it goes on in the
next one of its stream. TEXT is what was printed, byte for byte. A terminal has one stream, `stdout`, and its lines end
with a carriage return.

    log          being written
    log.1 ...    before that; the highest number is the oldest
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from runtime.settings import Log
from vcs.existing import is_there

NAME = "log"
LINE_MAX = 16384
"""Bytes of text in a line of the log; a longer one is cut into partial ones, as Docker does."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a log."""

    time: str
    """RFC 3339, UTC, nine digits after the point: they sort as text."""
    stream: str
    text: bytes
    partial: bool = False
    """Whether the line that was printed goes on in the next one of this stream."""


def stamp(time_ns: int) -> str:
    """A time as it stands in a log."""
    seconds, rest = divmod(time_ns, 1_000_000_000)
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{rest:09}Z"


class LogWriter:
    """Appends to a container's log. A disk that is full costs lines, never the container; how much and why is noted
    when there is room again."""

    def __init__(self, directory: Path, settings: Log) -> None:
        self._path = directory / NAME
        self._settings = settings
        self._file = -1
        self._size = 0
        self._lost = 0
        self._why = ""

    def write(self, stream: str, data: bytes) -> None:
        """Append what was just read from a stream of the container."""
        prefix = f"{stamp(time.time_ns())} {stream} ".encode()
        self._append(_lines(prefix, data))

    @property
    def fd(self) -> int | None:
        """The file's descriptor, if it is open."""
        return self._file if self._file >= 0 else None

    def close(self) -> None:
        """Close the file; the next write opens it again."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _append(self, lines: bytes) -> None:
        try:
            if self._file < 0:
                self._open()
            elif self._size >= self._settings.size:
                self._rotate()
            self._write(self._note() + lines)
            self._lost = 0
        except OSError as error:
            self._lost += len(lines)
            self._why = error.strerror or str(error)

    def _note(self) -> bytes:
        """A line about what was lost before; empty if nothing was."""
        if not self._lost:
            return b""
        return f"{stamp(time.time_ns())} stderr F ({self._lost} bytes of this log were lost: {self._why})\n".encode()

    def _write(self, lines: bytes) -> None:
        """Append all of it, or nothing. OSError."""
        done = 0
        try:
            while done < len(lines):
                done += os.write(self._file, lines[done:] if done else lines)
        except OSError:
            try:
                os.ftruncate(self._file, self._size)
            except OSError:
                self.close()  # whoever opens it again ends the line that was cut off
            raise
        self._size += done

    def _open(self) -> None:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._file = os.open(self._path, flags, 0o600)
        try:
            self._size = os.fstat(self._file).st_size
            if self._size and os.pread(self._file, 1, self._size - 1) != b"\n":  # a power cut's
                self._size += os.write(self._file, b"\n")
        except OSError:
            self.close()  # the next write tries to end that line again
            raise

    def _rotate(self) -> None:
        """Begin the next file. Where that cannot be, this one goes on, and the next write tries again: a log that is
        too long is better than one with holes."""
        try:
            self._shift()
        except OSError:
            return
        self.close()
        self._open()

    def _shift(self) -> None:
        """Give each file the next number, up to the first that is free: so when this is done again after an error, what
        was moved before is not moved on. OSError."""
        names = [self._path, *(self._path.with_name(f"{NAME}.{number}") for number in range(1, self._settings.files))]
        if len(names) < 2:
            self._path.unlink(missing_ok=True)
            return
        free = next((number for number, name in enumerate(names) if not is_there(name)), len(names) - 1)
        for number in range(free, 0, -1):
            names[number - 1].rename(names[number])


def _lines(prefix: bytes, data: bytes) -> bytes:
    full, partial = prefix + b"F ", prefix + b"P "
    *complete, rest = data.split(b"\n")
    if not any(len(line) > LINE_MAX for line in (*complete, rest)):
        text = full + (b"\n" + full).join(complete) + b"\n" if complete else b""
        return text + (partial + rest + b"\n" if rest else b"")
    parts = []
    for line in complete:
        *pieces, last = _cut(line) or [b""]
        parts += [partial + piece + b"\n" for piece in pieces]
        parts.append(full + last + b"\n")
    parts += [partial + piece + b"\n" for piece in _cut(rest)]
    return b"".join(parts)


def _cut(line: bytes) -> list[bytes]:
    return [line[start : start + LINE_MAX] for start in range(0, len(line), LINE_MAX)]


_LINE = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z) (stdout|stderr) ([FP]) (.*)", re.DOTALL)


def parse(line: bytes) -> Line | None:
    """A line of a log, without its newline; None if it is none, as one cut short by a power cut is not."""
    found = _LINE.fullmatch(line)
    if not found:
        return None
    return Line(found[1].decode(), found[2].decode(), found[4], found[3] == b"P")


def files(directory: Path) -> list[Path]:
    """The files of a container's log, oldest first."""
    found = {int(path.suffix[1:]): path for path in directory.glob(f"{NAME}.*") if path.suffix[1:].isdigit()}
    older = [found[number] for number in sorted(found, reverse=True)]
    current = directory / NAME
    return [*older, current] if is_there(current) else older


def read(directory: Path) -> Iterator[Line]:
    """All lines that are kept, oldest first."""
    for path in files(directory):
        with suppress(FileNotFoundError), path.open("rb") as file:  # rotated away meanwhile
            for line in file:
                if found := parse(line.rstrip(b"\n")):
                    yield found
