"""Patterns of paths as Go and Docker write them: in COPY and ADD, and in .dockerignore. Pure.

*  anything but /      ?  one character but /      [a-z] [^a-z]  one of, none of      \\x  x itself
**  any number of directories (in .dockerignore)
"""

from __future__ import annotations

import re

from vcs.ignore import committed

_MAGIC = re.compile(r"[*?\[\\]")


def has_magic(text: str) -> bool:
    """Whether it is more than a path."""
    return _MAGIC.search(text) is not None


def fixed_part(pattern: str) -> str:
    """The directories of a pattern before the first that is more than a name.

    >>> fixed_part("src/lib/*.py"), fixed_part("*.py")
    ('src/lib', '')
    """
    names = pattern.split("/")
    fixed = next((number for number, name in enumerate(names) if has_magic(name)), len(names))
    return "/".join(names[:fixed])


def compiled(pattern: str, *, deep: bool = False) -> re.Pattern[str]:
    """A pattern of a whole path. `deep`: ** means something. ValueError if it is none."""
    done: list[str] = []
    at = 0
    while at < len(pattern):
        character = pattern[at]
        at += 1
        if character == "*" and deep and pattern[at : at + 1] == "*":
            at += 1
            if pattern[at : at + 1] == "/":
                at += 1
            deeper = ".*" if at == len(pattern) else "(?:.*/)?"
            if done[-1:] == ["(?:.*/)?"]:  # of two in a row, one says it all
                done.pop()
            done.append(deeper)
        elif character == "*":
            done.append("[^/]*")
        elif character == "?":
            done.append("[^/]")
        elif character == "\\":
            if at == len(pattern):
                raise ValueError(f"{pattern!r} ends with a backslash")
            done.append(re.escape(pattern[at]))
            at += 1
        elif character == "[":
            text, at = _one_of(pattern, at)
            done.append(text)
        else:
            done.append(re.escape(character))
    try:
        return re.compile(committed("".join(done)), re.DOTALL)
    except re.error as error:
        raise ValueError(f"{pattern!r} is no pattern: {error}") from None


def _one_of(pattern: str, at: int) -> tuple[str, int]:
    done = ["["]
    if pattern[at : at + 1] == "^":
        done.append("^/")
        at += 1
    first = True
    while at < len(pattern) and (pattern[at] != "]" or first):
        first = False
        low, at = _character(pattern, at)
        if pattern[at : at + 1] == "-" and pattern[at + 1 : at + 2] not in ("]", ""):
            high, at = _character(pattern, at + 1)
            done.append(f"{re.escape(low)}-{re.escape(high)}")
        else:
            done.append(re.escape(low))
    if at >= len(pattern):
        raise ValueError(f"{pattern!r} has a [ without its ]")
    return "".join([*done, "]"]), at + 1


def _character(pattern: str, at: int) -> tuple[str, int]:
    """The character of a set at a place, and where the next one is."""
    if pattern[at] == "\\" and at + 1 < len(pattern):
        at += 1
    return pattern[at], at + 1
