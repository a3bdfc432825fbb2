"""Lines of files that match a pattern. A content is searched once, however many files and commits have it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice

from vcs.commitlog import content_of
from vcs.errors import BadInput
from vcs.model import Chunked, Data
from vcs.snapshot import Snapshot
from vcs.texts import is_binary

_PIECE = 1 << 20
"""Bytes that are searched at once, at least. They end with a line."""
_LINE_MAX = 16 << 20
"""Bytes after which a line is cut."""
_KEPT = 64 << 10
"""Bytes of a content's matching lines that are remembered; one with more is searched again where it occurs again."""
_OF_LINES = re.compile(rb"\\[AZ]|\(\?|[*+?}]\+")
"""What in a pattern may find less in a line that stands between others: then each line is searched by itself."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """What is searched for in lines."""

    regex: re.Pattern[bytes]
    by_line: bool
    """Whether lines must be searched one by one, which is slower."""

    @classmethod
    def of(cls, text: bytes, *, fixed: bool = False, ignore_case: bool = False, words: bool = False) -> Pattern:
        """A regular expression in Python's syntax for bytes: what is a letter, and its case, is ASCII's. BadInput.

        `fixed`: the text stands for itself. `words`: what matches is not within a longer word.
        """
        source = re.escape(text) if fixed else text
        source = rb"(?<!\w)(?:" + source + rb")(?!\w)" if words else source
        try:
            regex = re.compile(source, re.MULTILINE | (re.IGNORECASE if ignore_case else 0))
        except (re.error, OverflowError, RecursionError) as error:
            shown = text.decode("utf-8", "replace")
            raise BadInput(f"{shown!r} is no regular expression: {error}", pattern=shown) from None
        return cls(regex, not fixed and bool(_OF_LINES.search(text)))


@dataclass(frozen=True, slots=True)
class Hit:
    """A line that matches, without its end; of a binary file, that something in it does."""

    number: int | None
    """The line's, from 1 on; None for a binary file."""
    text: bytes


class Search:
    """A search for a pattern, in any number of snapshots. With `first_only`, one hit a file is enough."""

    def __init__(self, pattern: Pattern, *, first_only: bool = False) -> None:
        self._pattern = pattern
        self._most = 1 if first_only else None
        self._known: dict[bytes, tuple[Hit, ...]] = {}
        """By the digest of a content."""

    def below(self, snapshot: Snapshot, path: bytes = b"/") -> Iterator[tuple[bytes, Hit]]:
        """The hits in regular files at and below a path, with theirs, in the order of a walk. NotFound if there is
        nothing at the path; symbolic links are not followed."""
        for here, entry in snapshot.walk(path):
            if isinstance(entry.content, (Data, Chunked)):
                for hit in self._hits(snapshot, entry.content, content_of(entry) or b""):
                    yield here, hit

    def _hits(self, snapshot: Snapshot, content: Data | Chunked, name: bytes) -> Iterator[Hit]:
        if name in self._known:
            yield from self._known[name]
            return
        kept: list[Hit] = []
        size = 0
        for hit in islice(self._searched(snapshot, content), self._most):
            yield hit
            size += len(hit.text) + 64
            if size <= _KEPT:
                kept.append(hit)
        if size <= _KEPT:
            self._known[name] = tuple(kept)

    def _searched(self, snapshot: Snapshot, content: Data | Chunked) -> Iterator[Hit]:
        pieces = _whole_lines(_pieces(snapshot, content))
        first = next(pieces, b"")
        binary = is_binary(first)
        number = 1
        for data in chain([first], pieces):
            for hit in self._lines(data, number):
                if binary:
                    yield Hit(None, b"")
                    return
                yield hit
            number += data.count(b"\n")

    def _lines(self, data: bytes, number: int) -> Iterator[Hit]:
        """The hits in some lines. The lines before a match of the whole are not looked at one by one."""
        search, by_line = self._pattern.regex.search, self._pattern.by_line
        start = 0
        while start < len(data):
            if not by_line:
                match = search(data, start)
                if match is None or (match.start() == len(data) and data.endswith(b"\n")):
                    return
                begin = data.rfind(b"\n", start, match.start()) + 1 or start
                number += data.count(b"\n", start, begin)
                start = begin
            end = data.find(b"\n", start)
            end = len(data) if end < 0 else end
            line = data[start:end]
            if search(line):
                yield Hit(number, line)
            start, number = end + 1, number + 1


def _pieces(snapshot: Snapshot, content: Data | Chunked) -> Iterator[bytes]:
    """A file's bytes. Of a hole, which may be of any length, a single NUL: it has no lines."""
    for hole, data in snapshot.pieces(content):
        if hole:
            yield b"\0"
        if data:
            yield data


def _whole_lines(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes, in pieces that end where a line does."""
    parts: list[bytes] = []
    size = 0
    for data in pieces:
        parts.append(data)
        size += len(data)
        if size < _PIECE:
            continue
        whole = b"".join(parts)
        cut = whole.rfind(b"\n") + 1 or (len(whole) if size >= _LINE_MAX else 0)
        if cut:
            yield whole[:cut]
        parts = [whole[cut:]]
        size = len(whole) - cut
    if size:
        yield b"".join(parts)
