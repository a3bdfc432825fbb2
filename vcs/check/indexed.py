"""All objects that the index has, in 13 bytes each: a check asks for each of them, and must not hold their names."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable


class Indexed:
    """Lengths of objects by digest, and which of them were seen.

    An object is known here by the first 8 bytes of its digest. Two of one store with the same 8 are possible in
    theory: one such pair in 10 million objects has a chance of 3 in a million, and could hide that one is missing.
    """

    def __init__(self, objects: Iterable[tuple[bytes, int]]) -> None:
        """Objects and their lengths (bytes), sorted by digest."""
        self._names = array("Q")
        self._lengths = array("I")
        for digest, length in objects:
            self._names.append(int.from_bytes(digest[:8], "big"))
            self._lengths.append(length)
        self._seen = bytearray(len(self._names))
        self.seen = 0
        """How many were seen."""

    def __len__(self) -> int:
        return len(self._names)

    def see(self, digest: bytes) -> int:
        """The length of an object, which counts as seen from now on; -1 if there is none."""
        name = int.from_bytes(digest[:8], "big")
        position = bisect_left(self._names, name)
        if position == len(self._names) or self._names[position] != name:
            return -1
        if not self._seen[position]:
            self._seen[position] = 1
            self.seen += 1
        return self._lengths[position]
