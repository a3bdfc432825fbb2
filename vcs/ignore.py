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
import re
import stat
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from vcs.durable import read_all
from vcs.errors import BadInput
from vcs.livedir import GONE, open_in
from vcs.snapshot import split_path

FILE_NAME = b".treeringignore"
_FILE_MAX = 4 << 20
_BOM = b"\xef\xbb\xbf"
_STAR = "[^/]*"
"""What becomes of a star."""
_ONE_NAME = re.compile(r"(?:[^/()\[\]\\|*+?{}^$.]|\\[^/bBdDsSwWAZ0-9]|\[(?:[^\]\\]|\\.)*\])*", re.DOTALL)
"""What is between two stars and within a name: characters and sets of them, each of which is one character."""


class Patterns:
    """The patterns of one place, in their order."""

    def __init__(self, lines: Iterable[tuple[str, str]]) -> None:
        """Pairs of where a pattern stands, for people, and the pattern. BadInput, saying where, if it is none."""
        self._patterns = [_parsed(text, where) for where, text in lines]

    def __len__(self) -> int:
        return len(self._patterns)

    def decide(self, path: str, is_dir: bool) -> bool | None:
        """Whether to leave a path out: True, False, or None if no pattern matches. Relative to where they apply."""
        for pattern, only_dirs, leaves_out in reversed(self._patterns):
            if only_dirs and not is_dir:
                continue
            if pattern.search(path + "/" if only_dirs else path):
                return leaves_out
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
        patterns = Patterns(patterns_in(data, prefix + as_text(FILE_NAME)))
        return Ignore(self.given, self.files, (*self._read, (len(prefix), patterns)))


NO_PATTERNS = Ignore(files=False)


class Selection:
    """Which paths of an archive patterns leave, in whatever order they come."""

    def __init__(self, patterns: Patterns) -> None:
        self._patterns = patterns
        self._directories: dict[bytes, bool] = {b"": True}
        self.left_out: set[bytes] = set()
        """The paths that were left out; of what is below one of them nothing is told."""

    def has(self, path: bytes, is_dir: bool) -> bool:
        """Whether a path and all directories above it are taken. BadInput if `..` is in it."""
        names = split_path(path)
        here = b""
        for name in names[:-1] if not is_dir else names:
            above, here = here, here + b"/" + name
            if here not in self._directories:
                self._directories[here] = self._directories[above] and self._decide(here, is_dir=True)
        if is_dir or not names:
            return self._directories[here]
        return self._directories[here] and self._decide(here + b"/" + names[-1], is_dir=False)

    def _decide(self, path: bytes, is_dir: bool) -> bool:
        if self._patterns.decide(as_text(path)[1:], is_dir):
            self.left_out.add(path)
            return False
        return True


def patterns_in(data: bytes, origin: str) -> Iterator[tuple[str, str]]:
    """The lines of a file that are patterns, and where they stand; blank lines and comments are none."""
    for number, line in enumerate(as_text(data.removeprefix(_BOM)).split("\n"), 1):
        if line.strip() and not line.startswith("#"):
            yield f"{origin}, line {number}", line.removesuffix("\r")


def as_text(name: bytes) -> str:
    """A name or path as patterns see it."""
    return name.decode("utf-8", "surrogateescape")


def committed(regex: str) -> str:
    """A regular expression of a path in which each star but the last between two slashes takes what it can first, and
    is not tried again. The same paths match, and none takes for ever: a*a*a*a*a*b would on a name of many a's.

    >>> committed("[^/]*a[^/]*b/[^/]*c")
    '(?>[^/]*?a)[^/]*b/[^/]*c'
    """
    first, *parts = regex.split(_STAR)
    done = [first]
    for number, part in enumerate(parts):
        if number == len(parts) - 1 or not _ONE_NAME.fullmatch(part):
            done.append(_STAR + part)
        elif part:  # of two stars in a row, one says it all
            done.append(f"(?>{_STAR}?{part})")
    return "".join(done)


def _parsed(text: str, where: str) -> tuple[re.Pattern[str], bool, bool]:
    """A pattern, whether it is for directories only, and whether it leaves out or takes in again."""
    from pathspec import GitIgnoreSpec, RegexPattern  # 60 ms, and most imports have no patterns

    try:
        with warnings.catch_warnings():  # of a bracket in brackets, which Python may read otherwise one day
            warnings.simplefilter("ignore", FutureWarning)
            (pattern,) = GitIgnoreSpec.from_lines([text]).patterns
            if isinstance(pattern, RegexPattern) and pattern.include is not None and (regex := pattern.regex):
                found = re.compile(committed(regex.pattern), regex.flags)
                return found, text.rstrip().endswith("/"), pattern.include
    except (ValueError, re.error):
        pass
    raise BadInput(f"{where}: {text!r} is not a pattern", where=where, pattern=text)


def _read_file(directory: int) -> bytes | None:
    try:
        fd = open_in(FILE_NAME, directory)
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
        return read_all(fd, status.st_size)
    finally:
        os.close(fd)
