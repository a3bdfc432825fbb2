"""The seal of the index, by which a check can tell of any byte of the file that has changed.

A file of SQLite's has bytes that nobody reads, perhaps a third of each page, and a flip in them goes unnoticed
otherwise. The seal is the digest of the file, less the bytes that the sealing itself changes; it is kept in the header,
as SQLite's application_id (https://www.sqlite.org/fileformat.html, 1.3). 0 stands for none.
"""

from __future__ import annotations

from blake3 import blake3

SEALED_MAX = 32 << 20
"""Bytes: a larger index is not sealed, since digesting it would take longer than a commit."""
_SEAL = 68
_CHANGED = (24, _SEAL, 92)
"""Where the header counts changes, where the seal is, and where changes are counted again: 4 bytes each."""


def seal_in(image: bytes | bytearray) -> int:
    """The seal that a database file has; 0 if it has none."""
    return int.from_bytes(image[_SEAL : _SEAL + 4], "big", signed=True)


def seal_of(image: bytes | bytearray, version: tuple[int, int, int] | None = None) -> int:
    """The seal of a database file: never 0, nor one flipped byte away from it.

    `version` is that of the SQLite that is about to write the seal, and leaves its number in the file.
    """
    header = bytearray(image[:100])
    for start in _CHANGED:
        header[start : start + 4] = bytes(4)
    if version is not None:
        header[96:100] = (version[0] * 1_000_000 + version[1] * 1000 + version[2]).to_bytes(4, "big")
    digest = blake3(header).update(memoryview(image)[100:]).digest(4)
    return int.from_bytes(bytes(byte | 1 for byte in digest), "big", signed=True)
