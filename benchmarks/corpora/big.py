"""One file of 1 GiB that looks like a database's: pages of records, of index keys, of pictures, and empty ones."""

from __future__ import annotations

import os
import random
import struct
from pathlib import Path

from benchmarks.corpora.content import Content

SIZE = 1 << 30
PAGE = 8 << 10
NAME = "data.db"
_SEED = 19_960_708
_HEADER = struct.Struct("<QHHHHII")
_TUPLE = struct.Struct("<IIHHIqd")
_KEY = struct.Struct("<QIH2x")
_CITIES = 400


def big(place: Path, size: int = SIZE) -> None:
    """Make a directory with the one file in it."""
    place.mkdir(0o755)
    pages = Pages(_SEED)
    with open(place / NAME, "wb") as file:
        for _ in range(size // PAGE):
            file.write(pages.next())
    os.utime(place / NAME, ns=(1_700_000_000 * 10**9,) * 2)
    os.utime(place, ns=(1_700_000_000 * 10**9,) * 2)


class Pages:
    """Pages one after the other, by seed."""

    def __init__(self, seed: int) -> None:
        content = Content(seed)
        # Texts are slices at any place of 24 MB: what two pages have in common by that is further apart than
        # compressors look, so it is no gift to those that look far.
        self._text = content.prose(24 << 20)
        self._random = random.Random(seed)
        self._cities = [content.prose(self._random.randint(5, 14)) for _ in range(_CITIES)]
        self._number = 0
        self._row = 0

    def next(self) -> bytes:
        self._number += 1
        chance = self._random.random()
        if chance < 0.62:
            return self._page(1, self._records())
        if chance < 0.80:
            return self._page(2, self._keys())
        if chance < 0.93:
            return self._page(3, self._random.randbytes(PAGE - _HEADER.size))
        return self._page(4, b"") if chance < 0.97 else bytes(PAGE)

    def _page(self, kind: int, body: bytes) -> bytes:
        """A header with a log position that grows and a checksum, and the body filled up with zeros."""
        bits = self._random.getrandbits
        header = _HEADER.pack(self._number * 7_321 + bits(12), kind, bits(16), len(body), 4, self._number, bits(32))
        return (header + body).ljust(PAGE, b"\0")[:PAGE]

    def _records(self) -> bytes:
        room = PAGE - _HEADER.size
        parts: list[bytes] = []
        draw = self._random.random
        bits = self._random.getrandbits
        while room > 40:
            self._row += 1
            length = int(draw() * draw() * 260) + 8
            at = int(draw() * (len(self._text) - 300))
            city = self._cities[int(draw() * draw() * _CITIES)]
            stamp = 1_700_000_000_000 + self._row * 40 + bits(10)
            fixed = _TUPLE.pack(self._row, bits(24), length, len(city), bits(4), stamp, round(draw() * 1e4) / 100)
            parts += (fixed, city, self._text[at : at + length])
            room -= len(fixed) + len(city) + length
        return b"".join(parts)[: PAGE - _HEADER.size]

    def _keys(self) -> bytes:
        """A page of an index: keys that ascend by small steps, each with the place of its row."""
        bits = self._random.getrandbits
        key = bits(40)
        parts = []
        for _ in range((PAGE - _HEADER.size) // _KEY.size * 9 // 10):  # a B-tree's pages are not full
            key += bits(14)
            parts.append(_KEY.pack(key, bits(24), bits(6)))
        return b"".join(parts)
