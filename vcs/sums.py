"""Sums: by them a part of something is verified without the rest.

A digest takes all of what it is of. A sum is to notice what a disk did to a part: that it is of the right bytes is said
by whatever holds the sums, which has a digest.
"""

from __future__ import annotations

from vcs.encoding import digest

SUM = 8
"""Bytes of a sum: the first ones of the part's BLAKE3."""


def sum_of(part: bytes | memoryview) -> bytes:
    """A part's."""
    return digest(part)[:SUM]


def sums_of(data: bytes | memoryview, size: int) -> bytes:
    """Those of all parts of so many bytes each, one after another; the last part may be shorter."""
    view = memoryview(data)
    return b"".join([sum_of(view[at : at + size]) for at in range(0, len(view), size)])
