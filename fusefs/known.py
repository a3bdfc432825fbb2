"""Which roots the kernel may still read from: what gc must leave alone.

References cannot be counted over several workers that die, but the kernel can be asked: a notification about a node
that it does not know is refused. It keeps the directories above a file that it knows, so it knows a root's directory
for as long as it knows any file of that root. A file may have its number from another root (numbers.py), and is found
again through that one, so such roots are needed too.

What is not needed is dropped in the journal: from then on no worker gives another root's file a number of that one.
When the root is looked up again, it gets new numbers.
"""

from __future__ import annotations

import errno
import os

from fusefs.journal import Journal, Kind, Ranges, record
from fusefs.wire import replies


class Known:
    """The journal's roots, for the holder."""

    def __init__(self, device: int, journal: Journal) -> None:
        self._device = device
        self._journal = journal.reader()
        self._ranges = Ranges()

    def roots(self) -> list[bytes]:
        """Those that are needed; all others are dropped."""
        self._catch_up()
        ranges = self._ranges
        needed = self._needed()
        gone = [start for start in ranges.starts if start not in needed and start not in ranges.dropped]
        self._journal.append(b"".join(record(Kind.DROP, start) for start in gone))
        # What was looked up, or shared, just before that stays as it is. Who comes after it reads that it is dropped.
        self._catch_up()
        needed |= self._needed()
        places = {start: place for place, start in enumerate(ranges.starts)}
        return [ranges.roots[places[start]] for start in sorted(needed)]

    def _needed(self) -> set[int]:
        known = set(filter(self.knows, self._ranges.starts))
        return known | {to for start, to in self._ranges.leans if start in known}

    def _catch_up(self) -> None:
        for _, found in self._journal.news():
            self._ranges.take(found)

    def knows(self, number: int) -> bool:
        """Whether the kernel knows a node."""
        try:
            os.write(self._device, replies.still_known(number))
        except OSError as error:
            return error.errno != errno.ENOENT
        return True
