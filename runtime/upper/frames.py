"""A directory of an upper while it is being read, and what the runtime made there itself."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass, field

from runtime.upper.pinned import Identity
from runtime.upper.seen import Sighting
from vcs.links import PendingTree
from vcs.model import Entry
from vcs.trees import Directory


@dataclass(slots=True)
class Stubs:
    """The mount targets that the runtime made at and below a path; nested, so that a walk needs no whole paths."""

    is_stub: bool = False
    below: dict[bytes, Stubs] = field(default_factory=dict)

    def holds(self, name: bytes) -> bool:
        """Whether the runtime made this name in the directory."""
        child = self.below.get(name)
        return child is not None and child.is_stub

    def holds_any(self) -> bool:
        """Whether the runtime made any name in the directory, and so changed its mtime."""
        return any(child.is_stub for child in self.below.values())


NO_STUBS = Stubs()


def nested_stubs(paths: Collection[bytes]) -> Stubs:
    """The stubs at these absolute paths."""
    top = Stubs()
    for path in paths:
        here = top
        for name in filter(None, path.split(b"/")):
            here = here.below.setdefault(name, Stubs())
        here.is_stub = True
    return top


@dataclass(slots=True)
class Frame:
    """A directory of the upper that is being read."""

    name: bytes
    path: bytes
    """As in Seen."""
    fd: int
    """-1 while it is given up."""
    identity: Identity
    tree: PendingTree
    stubs: Stubs
    seen: Sighting
    """What a later scan goes by."""
    base: Directory | None = None
    """The entries of the base's directory that shows through, if one does."""
    hidden: set[bytes] = field(default_factory=set)
    """Names that the upper has, of whatever sort: the base's are not seen."""
    merged: set[bytes] = field(default_factory=set)
    """Those of them whose directory in the base shows through at its own place."""
    directories: list[bytes] = field(default_factory=list)
    """Subdirectories still to be read, last first."""
    earlier: Directory | None = None
    """The earlier root's directory, if this one is gone by it."""
    read: set[bytes] = field(default_factory=set)
    """Then: the names that were to be read again, whether they are still there or not."""
    known: set[bytes] = field(default_factory=set)
    """Then: the subdirectories still to be read that are the ones that were seen."""
    place: bytes | None = None
    """Where the earlier scan saw it."""
    has_left_out: bool = False
    """Whether names in it were not looked at, since they are to be as in the base."""

    def below(self, name: bytes) -> Entry | None:
        """The entry of the base with this name."""
        return self.base.lookup(name) if self.base is not None else None

    def is_stub(self, name: bytes) -> bool:
        """Whether the runtime made this name, and the base has none such."""
        return self.stubs.holds(name) and self.below(name) is None

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
