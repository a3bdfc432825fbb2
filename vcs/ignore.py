"""Which names an import leaves out: patterns in the syntax of gitignore(5), which pathspec translates.

As in git, patterns come from several places, and the first of these that says something about a name decides:

    1. what the caller gave (the command line)
    2. the .treeringignore of the name's own directory, then of the one above, and so on up to the top

Within one of them, the last pattern that matches decides; one that begins with `!` takes a name in again. A directory
that is left out is not entered, so nothing in it can be taken in again. Names need not be UTF-8: the bytes that are not
stand for themselves.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vcs.errors import BadInput
from vcs.livedir import GONE, open_file

if TYPE_CHECKING:
    from pathspec.pattern import Pattern

FILE_NAME = b".treeringignore"
_FILE_MAX = 4 << 20
_BOM = b"\xef\xbb\xbf"


class Patterns:
    """The patterns of one place, in their order."""

    def __init__(self, lines: Iterable[str], origin: str) -> None:
        """BadInput, with `origin` and the line's number, at a line that is no pattern."""
        parsed = (_parsed(line, origin, number) for number, line in enumerate(lines, 1))
        self._patterns = [pattern for pattern in parsed if pattern is not None]

    def __len__(self) -> int:
        return len(self._patterns)

    def decide(self, path: str, is_dir: bool) -> bool | None:
        """Whether to leave a path out: True, False, or None if no pattern matches. Relative to where they apply."""
        for pattern, only_dirs in reversed(self._patterns):
            if only_dirs and not is_dir:
                continue
            if pattern.match_file(path + "/" if only_dirs else path) is not None:
                return pattern.include
        return None


@dataclass(frozen=True, slots=True)
class Ignore:
    """What applies in one directory. Paths begin at the top, with a slash."""

    given: Patterns | None = None
    files: bool = True
    """Whether .treeringignore files count."""
    _read: tuple[tuple[int, Patterns], ...] = ()
    """Of the files from the top down to here: how much of a path is not theirs, and their patterns."""

    def is_empty(self) -> bool:
        """Whether nothing can be left out here."""
        return not (self.given or self._read)

    def leaves_out(self, path: bytes, is_dir: bool) -> bool:
        """Whether to leave out a path in this directory."""
        text = as_text(path)
        said = self.given.decide(text[1:], is_dir) if self.given else None
        for length, patterns in reversed(self._read):
            if said is None:
                said = patterns.decide(text[length:], is_dir)
        return bool(said)

    def with_file(self, directory: int, path: bytes) -> Ignore:
        """The same with the .treeringignore of a directory, held open, at a path; it must be a regular file."""
        data = _read_file(directory)
        if data is None:
            return self
        prefix = as_text(path) + "/"
        patterns = Patterns(lines_of(data), prefix + as_text(FILE_NAME))
        return Ignore(self.given, self.files, (*self._read, (len(prefix), patterns)))


NO_PATTERNS = Ignore(files=False)


def lines_of(data: bytes) -> list[str]:
    """The lines of a file of patterns."""
    return as_text(data.removeprefix(_BOM)).replace("\r\n", "\n").split("\n")


def as_text(name: bytes) -> str:
    """A name or path as patterns see it."""
    return name.decode("utf-8", "surrogateescape")


def _parsed(line: str, origin: str, number: int) -> tuple[Pattern, bool] | None:
    """A line's pattern, and whether it is for directories only; None for a blank line and a comment."""
    from pathspec import GitIgnoreSpec  # 60 ms, and most imports have no patterns

    text = line.rstrip()
    if not text or text.startswith("#"):
        return None
    try:
        (pattern,) = GitIgnoreSpec.from_lines([line]).patterns
    except ValueError:
        pattern = None
    if pattern is None or pattern.include is None:
        raise BadInput(f"{origin}, line {number}: {text!r} is not a pattern", origin=origin, line=number, pattern=text)
    return pattern, text.endswith("/")


def _read_file(directory: int) -> bytes | None:
    try:
        fd = open_file(FILE_NAME, directory)
    except OSError as error:
        if error.errno in GONE:
            return None
        raise
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            return None
        if status.st_size > _FILE_MAX:
            raise BadInput(f"{os.fsdecode(FILE_NAME)} is larger than {_FILE_MAX} bytes", size=status.st_size)
        return os.read(fd, _FILE_MAX)
    finally:
        os.close(fd)
