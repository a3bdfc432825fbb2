"""The verdicts of a bisection, in a file of the store: docs/format.md, "Bisection".

`STORE/bisect` is two lines: `treering bisect 1`, and a JSON object that ends with a seal as a line of the operation log
does. It is replaced as a whole, durably, so whoever is killed leaves the verdicts from before or from after.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from vcs.durable import replace_file, sync_directory
from vcs.errors import Corrupt, UnknownFormat
from vcs.model import CommitId
from vcs.reflogs import seal

VERSION = 1
FILE = "bisect"
_HEADER = re.compile(rb"treering bisect (\d{1,9})")
_SEAL_SIZE = 10

Verdict = Literal["good", "bad", "skip"]


class Mark(msgspec.Struct, frozen=True):
    """A verdict on a commit."""

    verdict: Verdict
    commit: str
    time: int
    """When it was given, in seconds since 1970."""
    exit_code: int | None = None
    """Of the command that was run on it; None if a person gave the verdict."""


class Words(msgspec.Struct, frozen=True):
    """What verdicts are called: who looks for a change that is no fault says old and new."""

    good: str = "good"
    bad: str = "bad"


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Which verdict holds on which commit: the last one that was given on it."""

    bad: CommitId | None
    good: tuple[CommitId, ...]
    skipped: frozenset[CommitId]


class Notebook(msgspec.Struct, frozen=True):
    """All that is known of a bisection."""

    marks: tuple[Mark, ...] = ()
    """In the order in which they were given."""
    current: str | None = None
    """The commit that is to be tested now."""
    words: Words = Words()

    def verdicts(self) -> Verdicts:
        """What holds. Of several bad commits, the one that was found bad last."""
        last = {mark.commit: mark for mark in self.marks}
        valid = [mark for mark in self.marks if last[mark.commit] is mark]
        named = {
            word: [CommitId(mark.commit) for mark in valid if mark.verdict == word] for word in ("good", "bad", "skip")
        }
        return Verdicts(next(reversed(named["bad"]), None), tuple(named["good"]), frozenset(named["skip"]))


def load(store: Path) -> Notebook | None:
    """A store's bisection; None if there is none. Corrupt, UnknownFormat."""
    path = store / FILE
    try:
        header, *rest = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return None
    version = _HEADER.fullmatch(header)
    if version and int(version[1]) != VERSION:
        message = f"{path} has version {int(version[1])}, this program knows {VERSION}"
        raise UnknownFormat(message, path=str(path), found=int(version[1]))
    line = rest[0] if version and len(rest) == 2 and not rest[1] else b""
    try:
        if line[-_SEAL_SIZE:] == seal(line[:-_SEAL_SIZE]):
            return msgspec.json.decode(line[:-_SEAL_SIZE], type=Notebook)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    raise Corrupt(f"{path} is damaged: it is not as it was written", bisect=str(path))


def save(store: Path, notebook: Notebook) -> None:
    """Write it, durably. OSError."""
    line = msgspec.json.encode(notebook)
    replace_file(store / FILE, b"treering bisect %d\n%s%s\n" % (VERSION, line, seal(line)))


def remove(store: Path) -> bool:
    """Remove it, durably; whether there was one. OSError."""
    try:
        (store / FILE).unlink()
    except FileNotFoundError:
        return False
    sync_directory(store)
    return True
