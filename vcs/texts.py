"""What counts as a text, and what are its lines."""

from __future__ import annotations

TEXT_MAX = 1 << 20
"""Bytes of the largest text whose lines are compared."""
_PROBED = 8000


def is_binary(data: bytes) -> bool:
    """Git's rule: a file with a NUL in its first 8,000 bytes is binary. These must be among what is given."""
    return b"\0" in data[:_PROBED]


def split_lines(data: bytes) -> list[bytes]:
    r"""The lines of a text, with their ends.

    >>> split_lines(b"a\r\n\nb")
    [b'a\r\n', b'\n', b'b']
    """
    *lines, rest = data.split(b"\n")
    return [line + b"\n" for line in lines] + ([rest] if rest else [])
