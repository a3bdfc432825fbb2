"""Sums of pages: by them a part of something is verified without the rest.

A digest takes all of what it is of. A sum is to notice what a disk did to a page: that it is of the right bytes is said
by whatever holds the sums, which has a digest.
"""

from __future__ import annotations

from vcs.encoding import digest

PAGE = 4096
"""Bytes that have a sum; the last page of something may be shorter."""
SUM = 8
"""Bytes of a sum: the first ones of the page's BLAKE3."""


def sum_of(page: bytes | memoryview) -> bytes:
    """A page's."""
    return digest(page)[:SUM]


def sums_of(data: bytes | memoryview) -> bytes:
    """Those of all pages, one after another."""
    view = memoryview(data)
    return b"".join([digest(view[at : at + PAGE])[:SUM] for at in range(0, len(view), PAGE)])


def pages_of(size: int) -> int:
    """How many pages so many bytes have."""
    return -(-size // PAGE)
