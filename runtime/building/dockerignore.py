"""Which names of a context are left out: .dockerignore, and what no instruction copies.

A pattern matches a path if it matches the path itself or a directory above it; the last that matches decides, and one
that begins with `!` takes a path in again, also in a directory that is left out. So such a directory is left out only
if nothing in it is taken in.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from runtime.building.patterns import compiled
from vcs.errors import BadInput
from vcs.ignore import Ignore, as_text

NAME = ".dockerignore"
_SIZE_MAX = 4 << 20


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

    def __bool__(self) -> bool:
        return bool(self._rules)

    def leaves_out(self, path: str) -> bool:
        """Whether a path, from the context's top and without a slash in front, is left out."""
        names = path.split("/")
        above = ["/".join(names[: end + 1]) for end in range(len(names))]
        out = False
        for pattern, leaves_out in self._rules:
            if leaves_out != out and any(pattern.fullmatch(one) for one in above):
                out = leaves_out
        return out


NO_RULES = Rules(())


def read_rules(context: Path, dockerfile: Path) -> Rules:
    """The patterns of FILE.dockerignore beside a Dockerfile, else of the context's .dockerignore. BadInput."""
    for path in (dockerfile.with_name(dockerfile.name + NAME), context / NAME):
        if path.is_file():
            if path.stat().st_size > _SIZE_MAX:
                raise BadInput(f"{path} is larger than {_SIZE_MAX} bytes", path=str(path))
            text = path.read_bytes().removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
            return Rules(text.splitlines(), path.name)
    return NO_RULES


@dataclass(frozen=True, slots=True)
class ContextIgnore(Ignore):
    """What an import of a context leaves out. `wanted` are the paths that instructions name: whatever is not at, below
    or above one of them is of no use."""

    files: bool = False
    rules: Rules = NO_RULES
    wanted: tuple[str, ...] = ()
    top: bytes = b""
    """Where the context lies on the machine."""

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
        """Whether anything in a directory that is left out is taken in again."""
        for here, directories, names in os.walk(self.top + directory):
            prefix = here[len(self.top) + 1 :] + b"/"
            if any(not self.rules.leaves_out(as_text(prefix + name)) for name in (*names, *directories)):
                return True
        return False


def is_wanted(path: str, wanted: Collection[str]) -> bool:
    """Whether a path is one of those, below one, or above one.

    >>> is_wanted("src", ("src/lib",)), is_wanted("src/lib/a", ("src/lib",)), is_wanted("doc", ("src",))
    (True, True, False)
    """
    return any(not one or path == one or path.startswith(one + "/") or one.startswith(path + "/") for one in wanted)
