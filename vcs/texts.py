"""What counts as a text, what are its lines, and which of them another text has too."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from itertools import takewhile

TEXT_MAX = 1 << 20
"""Bytes of the largest text whose lines are compared: that may take a time that is the square of their number."""
_PROBED = 8000


def is_binary(data: bytes | memoryview) -> bool:
    """Git's rule: a file with a NUL in its first 8,000 bytes is binary. These must be among what is given."""
    return b"\0" in bytes(data[:_PROBED])


def split_lines(data: bytes) -> list[bytes]:
    r"""The lines of a text, with their ends.

    >>> split_lines(b"a\r\n\nb")
    [b'a\r\n', b'\n', b'b']
    """
    *lines, rest = data.split(b"\n")
    return [line + b"\n" for line in lines] + ([rest] if rest else [])


def paired_lines(old: Sequence[bytes], new: Sequence[bytes]) -> dict[int, int]:
    """Which line of a new text each line of the old one is still, if it is; by their places, in order.

    >>> paired_lines([b"a", b"b", b"c"], [b"b", b"x", b"c"])
    {1: 0, 2: 2}
    """
    # What both begin and end with needs no search, and that is most of a text in which little has changed.
    first = common_lines(old, new)
    last = common_lines(reversed(old[first:]), reversed(new[first:]))
    ends = len(old) - last, len(new) - last
    paired = {line: line for line in range(first)}
    # With its "autojunk", the search does not become quadratic in lines that occur very often.
    for block in SequenceMatcher(None, old[first : ends[0]], new[first : ends[1]]).get_matching_blocks():
        paired.update((first + block.a + offset, first + block.b + offset) for offset in range(block.size))
    paired.update((ends[0] + offset, ends[1] + offset) for offset in range(last))
    return paired


def common_lines(left: Iterable[bytes], right: Iterable[bytes]) -> int:
    """How many lines both begin with."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(left, right, strict=False)))
