"""What a scan of an upper comes to."""

from __future__ import annotations

from dataclasses import dataclass

from runtime.upper.seen import Seen
from vcs.model import Entry, RootId


@dataclass(frozen=True, slots=True)
class UpperResult:
    """A scanned upper."""

    root: RootId
    entry: Entry
    """The root's entry; its digest is `root`."""
    names: int
    """Names looked at in the upper."""
    deleted: int
    """Whiteouts among them."""
    files: int
    """Regular files whose content was read; not those that are empty, metacopies, or in the cache."""
    size: int
    """Bytes in these, holes included."""
    unsteady: tuple[bytes, ...]
    """Paths of files that were written to each time they were read: their content may never have been so at once."""
    seen: Seen
    """For the next scan."""
    left_out: tuple[bytes, ...] = ()
    """Paths that were not looked at, since they were to be left out; nothing is told of what is below them."""


class NotPlain(Exception):
    """There are hard links among the changes, or in what they hide: what was seen is not enough to count them."""
