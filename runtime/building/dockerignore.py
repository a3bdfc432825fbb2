"""Which names of a context are left out: .dockerignore, and what no instruction copies.

A pattern matches a path if it matches the path itself or a directory above it; the last that matches decides, and one
that begins with `!` takes a path in again, also in a directory that is left out. So such a directory is left out only
if nothing in it is taken in.
"""

from __future__ import annotations

import contextlib
import errno
import os
import posixpath
import re
import stat
from collections.abc import Collection, Generator, Iterable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from runtime.building.patterns import compiled
from vcs.errors import BadInput, suppress_errno
from vcs.ignore import Ignore, as_text
from vcs.livedir import Identity, list_directories, list_names, open_directory, open_parent, open_top

NAME = ".dockerignore"
_SIZE_MAX = 4 << 20
_KEPT = 256
"""Directories; their paths may be long."""
_PASSED_OVER = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES, errno.EPERM)
"""What is said of a directory that is none any more, or may not be opened. Otherwise there may be something in it."""


class Rules:
    """The patterns of a .dockerignore."""

    def __init__(self, lines: Iterable[str], origin: str = NAME) -> None:
        """BadInput, with the line, if one is no pattern."""
        self._rules: list[tuple[re.Pattern[str], bool]] = []
        for number, line in enumerate(lines, 1):
            text = line.strip()
            if not text or line.startswith("#"):
                continue
            leaves_out = not text.startswith("!")
            text = posixpath.normpath(text.removeprefix("!").strip() or ".").lstrip("/")
            if text in (".", ""):
                continue
            try:
                self._rules.append((compiled(text, deep=True), leaves_out))
            except ValueError as error:
                raise BadInput(f"{origin}, line {number}: {error}", line=number) from None
        self.takes_in = any(not leaves_out for _, leaves_out in self._rules)
        self._known: dict[str, int] = {}
        """Of the directories that were asked about last: which rules match them or one above, as bits."""

    def __bool__(self) -> bool:
        return bool(self._rules)

    def leaves_out(self, path: str) -> bool:
        """Whether a path, from the context's top and without a slash in front, is left out."""
        matched = self._matched(path, self._above(path))
        out = False
        for number, (_, leaves_out) in enumerate(self._rules):
            if matched >> number & 1:
                out = leaves_out
        return out

    def _matched(self, path: str, above: int) -> int:
        """The rules that match a path, or what is above it."""
        for number, (pattern, _) in enumerate(self._rules):
            if not above >> number & 1 and pattern.fullmatch(path):
                above |= 1 << number
        return above

    def _above(self, path: str) -> int:
        """The rules that match a directory above a path. Who walks asks about one directory after the other: of each
        only its own name is new, and a thousand levels are no trouble."""
        new = []
        while (path := path.rpartition("/")[0]) and path not in self._known:
            new.append(path)
        found = self._known.get(path, 0)
        for directory in reversed(new):
            found = self._known[directory] = self._matched(directory, found)
            if len(self._known) > _KEPT:
                del self._known[next(iter(self._known))]
        return found


NO_RULES = Rules(())


def read_rules(context: Path, dockerfile: Path) -> Rules:
    """The patterns of FILE.dockerignore beside a Dockerfile, else of the context's .dockerignore. BadInput."""
    for path in (dockerfile.with_name(dockerfile.name + NAME), context / NAME):
        size = _size(path)
        if size is not None:
            if size > _SIZE_MAX:
                raise BadInput(f"{path} is larger than {_SIZE_MAX} bytes", path=str(path))
            text = path.read_bytes().removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
            return Rules(text.splitlines(), path.name)
    return NO_RULES


def _size(path: Path) -> int | None:
    """The bytes of a regular file; None if there is none. OSError if that cannot be told."""
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


@dataclass(frozen=True, slots=True)
class ContextIgnore(Ignore):
    """What an import of a context leaves out. `wanted` are the paths that instructions name: whatever is not at, below
    or above one of them is of no use."""

    files: bool = False
    rules: Rules = NO_RULES
    wanted: tuple[str, ...] = ()
    top: bytes = b""
    """Where the context lies on the machine."""
    _taken_in: list[bytes] = field(default_factory=list, compare=False)
    """The last path that was found to be taken in again: what is above it need not be searched too."""

    def is_empty(self) -> bool:
        return not self.rules and "" in self.wanted

    def leaves_out(self, path: bytes, is_dir: bool) -> bool:
        text = as_text(path)[1:]
        if not is_wanted(text, self.wanted):
            return True
        if not self.rules.leaves_out(text):
            return False
        return not (is_dir and self.rules.takes_in and self._has_something(path))

    def _has_something(self, directory: bytes) -> bool:
        """Whether anything in a directory that is left out is taken in again. OSError if that cannot be told."""
        if any(path.startswith(directory + b"/") for path in self._taken_in):
            return True
        self._taken_in.clear()
        with suppress_errno(_PASSED_OVER), contextlib.closing(_paths_below(self.top, directory)) as paths:
            found = (path for path in paths if not self.rules.leaves_out(as_text(path)[1:]))
            self._taken_in.extend(islice(found, 1))
        return bool(self._taken_in)


def _paths_below(top: bytes, directory: bytes) -> Generator[bytes]:
    """All paths below a directory of the context at `top`. By descriptors, one at a time: they may be longer than the
    kernel takes, and deeper than functions may call themselves. What cannot be opened is passed over."""
    here = open_top(top)
    try:
        for name in directory.strip(b"/").split(b"/"):
            here = _moved(here, open_directory(name, here))
        path, above = directory, [_opened(here)]
        yield from (path + b"/" + name for name in list_names(here))
        while above:
            if not above[-1][1]:
                above.pop()
                if above:
                    here, path = _moved(here, open_parent(here, above[-1][0])), path.rpartition(b"/")[0]
                continue
            name = above[-1][1].pop()
            try:
                below = open_directory(name, here)
            except OSError as error:
                if error.errno not in _PASSED_OVER:
                    raise
                continue
            here, path = _moved(here, below), path + b"/" + name
            above.append(_opened(here))
            yield from (path + b"/" + name for name in list_names(here))
    finally:
        os.close(here)


def _opened(directory: int) -> tuple[Identity, set[bytes]]:
    """Which directory it is, and the names of the directories in it."""
    status = os.fstat(directory)
    return (status.st_dev, status.st_ino), list_directories(directory)


def _moved(before: int, now: int) -> int:
    os.close(before)
    return now


def is_wanted(path: str, wanted: Collection[str]) -> bool:
    """Whether a path is one of those, below one, or above one.

    >>> is_wanted("src", ("src/lib",)), is_wanted("src/lib/a", ("src/lib",)), is_wanted("doc", ("src",))
    (True, True, False)
    """
    return any(not one or path == one or path.startswith(one + "/") or one.startswith(path + "/") for one in wanted)
