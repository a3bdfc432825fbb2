"""The reflogs of a git repository, as files: which commits they keep, and the removal of old lines.

A line is `OLD NEW NAME <EMAIL> SECONDS ZONE<TAB>MESSAGE` (gitrepository-layout(5)). libgit2 can append to a reflog and
read it, but not shorten it. Whoever shortens holds the lock on refs.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from pathlib import Path

from vcs.durable import replace_file

_LINE = re.compile(rb"([0-9a-f]{40}) ([0-9a-f]{40}) .*> (\d+) [-+]\d{4}(?:\t|$)")
_ZERO = b"0" * 40


def young_ids(repository: Path, since: float) -> set[str]:
    """The ids in lines that are not older than `since` (seconds since 1970): where refs came from, and went."""
    return set().union(*young_ids_by_ref(repository, since).values())


def young_ids_by_ref(repository: Path, since: float) -> dict[str, set[str]]:
    """The same for each ref (full name) and for HEAD."""
    by_ref = {}
    for path in _logs(repository):
        found: set[bytes] = set()
        for line in _lines(path):
            match = _LINE.match(line)
            if match and int(match[3]) >= since:
                found.update(match.group(1, 2))
        by_ref[str(path.relative_to(repository / "logs"))] = {name.decode() for name in found - {_ZERO}}
    return by_ref


def count_old(repository: Path, since: float, tips: Container[str]) -> int:
    """How many lines expire() would remove."""
    return sum(len(lines) - len(_kept(lines, since, tips)) for lines in map(_lines, _logs(repository)))


def expire(repository: Path, since: float, tips: Container[str]) -> int:
    """Remove the lines that are older than `since`, durably; returns how many. `tips` are the ids that refs have now.

    A ref's newest line stays, since it tells when the ref became what it is; if it is old, then without the id that
    the ref had before, as `git reflog expire --rewrite` writes it.
    """
    removed = 0
    for path in list(_logs(repository)):
        lines = _lines(path)
        kept = _kept(lines, since, tips)
        if kept != lines:
            replace_file(path, b"".join(line + b"\n" for line in kept))
            removed += len(lines) - len(kept)
    return removed


def _kept(lines: list[bytes], since: float, tips: Container[str]) -> list[bytes]:
    kept = []
    for number, line in enumerate(lines):
        match = _LINE.match(line)
        if match is None or int(match[3]) >= since:
            kept.append(line)  # who knows what a line says that is none of git's
        elif number == len(lines) - 1 and match[2].decode() in tips:
            kept.append(_ZERO + line[len(_ZERO) :])
    return kept


def _logs(repository: Path) -> Iterator[Path]:
    for path in sorted((repository / "logs").rglob("*")):
        if path.is_file() and not path.name.startswith(".") and path.suffix != ".lock":
            yield path


def _lines(path: Path) -> list[bytes]:
    try:
        return path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return []  # its ref was deleted just now
