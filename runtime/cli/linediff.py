"""How many lines differ between two texts, and which: for `diff --stat` and `diff --patch`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vcs.errors import Missing
from vcs.model import Chunked, Data, Entry
from vcs.scratch import Scratch
from vcs.snapshot import Snapshot
from vcs.texts import TEXT_MAX, is_binary

_EDITS_MAX = 2000
"""Differences beyond which lines are no longer counted exactly: the exact search is quadratic in them."""


@dataclass(frozen=True, slots=True)
class Lines:
    """How a text changed."""

    inserted: int
    deleted: int


def read_text(snapshot: Snapshot, entry: Entry | None) -> bytes | None:
    """A regular file's content; empty where there is no file; None if it is large or binary."""
    if entry is None or not isinstance(entry.content, (Data, Chunked)):
        return b""
    if entry.content.size > TEXT_MAX:
        return None
    try:
        data = snapshot.read(entry.content)
    except Missing:
        if isinstance(snapshot.objects, Scratch):
            return None  # more was written to the container than is kept for a comparison
        raise
    return None if is_binary(data) else data


def count_lines(old: bytes, new: bytes) -> Lines:
    """The smallest number of lines to delete and insert; an upper bound of it for texts that differ wildly.

    >>> count_lines(b"a\\nb\\n", b"a\\nc\\nd\\n")
    Lines(inserted=2, deleted=1)
    """
    before, after = old.splitlines(keepends=True), new.splitlines(keepends=True)
    first, last = _common_ends(before, after)
    before, after = before[first : len(before) - last], after[first : len(after) - last]
    # A line that only one side has is in no common subsequence: what is left to search is small.
    shared = set(before) & set(after)
    left, right = ([line for line in lines if line in shared] for lines in (before, after))
    edits = _edit_distance(left, right)
    common = (len(left) + len(right) - edits) // 2
    return Lines(len(after) - common, len(before) - common)


def _common_ends(before: Sequence[bytes], after: Sequence[bytes]) -> tuple[int, int]:
    shortest = min(len(before), len(after))
    first = 0
    while first < shortest and before[first] == after[first]:
        first += 1
    last = 0
    while last < shortest - first and before[-1 - last] == after[-1 - last]:
        last += 1
    return first, last


def _edit_distance(left: Sequence[bytes], right: Sequence[bytes]) -> int:
    """Insertions and deletions from one sequence to another: the greedy algorithm of E. Myers, "An O(ND) Difference
    Algorithm and Its Variations" (1986). Gives up at _EDITS_MAX with everything deleted and inserted."""
    furthest = {1: 0}
    for edits in range(min(len(left) + len(right), _EDITS_MAX) + 1):
        for diagonal in range(-edits, edits + 1, 2):
            down = diagonal == -edits or (diagonal != edits and furthest[diagonal - 1] < furthest[diagonal + 1])
            x = furthest[diagonal + 1] if down else furthest[diagonal - 1] + 1
            y = x - diagonal
            while x < len(left) and y < len(right) and left[x] == right[y]:
                x += 1
                y += 1
            furthest[diagonal] = x
            if x >= len(left) and y >= len(right):
                return edits
    return len(left) + len(right)


def patch(old: bytes, new: bytes, old_name: str, new_name: str) -> Iterator[str]:
    """A unified diff, line by line, as patch(1) reads it."""
    import difflib  # 7 ms, and most commands never need it

    before, after = (data.decode("utf-8", "surrogateescape").splitlines(keepends=True) for data in (old, new))
    for line in difflib.unified_diff(before, after, old_name, new_name):
        yield line.rstrip("\n")
        if not line.endswith("\n"):
            yield "\\ No newline at end of file"
