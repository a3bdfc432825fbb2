"""What containers read in their first seconds: noted, and taken from a start profile the next time.

Whoever starts a container says so, names the profile that there may be (vcs.profiles), and later asks what was read;
the holder passes that on to each worker (startings.py). In between, objects that the profile holds come from it. A
thread reads it from end to end, which takes a few milliseconds, while the container is set up, or waits for one file
after the other.

What overlays have as plain files is not asked for here (datalayer.py): of it the kernel is told to read those ranges
that were read in an earlier start.

A container whose files are in the page cache asks for none of them, and must not pay for the reading. So if its root
was started a short while ago, the profile is only read once something in it is asked for.

The loop's thread asks for objects; others may call everything else.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from fusefs.sweep import Part, sweep
from vcs.model import CommitId, Data, RootId
from vcs.plain import Plain, digest_of_copy
from vcs.snapshot import CommitInfo, Names, Profile, Source, open_profile
from vcs.stillborn import UNSTARTED

SECONDS = 10.0
"""How long a start takes, for us."""
_AGAIN_SECONDS = 600.0
"""A root that was started within so long is not read ahead unasked."""
_BYTES_MAX = 32 << 20
"""What a start notes."""
_READY_MAX = 32 << 20
"""What is read ahead. What of it is the profile's is held in memory until the start is over."""
_LIST_SHIFT = 11
"""A chunk list takes at least so many bits less than its file."""
_STARTS_MAX = 16
"""So many starts are followed at once; further ones do without."""


@dataclass(frozen=True, slots=True)
class Reads:
    """What was read in a start: the digests of the objects in the order in which they were asked for, their bytes, and
    how many of these the profile did not have."""

    objects: tuple[bytes, ...] = ()
    size: int = 0
    new: int = 0


Parts: TypeAlias = Callable[[Profile], Mapping[bytes, Part]]
"""Which objects of a profile overlays read from plain copies, by digest."""


class Start:
    """One container's start. Its objects come from its profile, and are noted until `until`."""

    def __init__(self, profile: Profile | None, until: float, is_cold: bool, parts: Parts = lambda _: {}) -> None:
        self._profile = profile
        self._parts = parts
        self._noted: dict[bytes, int] = {}
        self._room = _BYTES_MAX
        self._until = until
        self._ready: dict[bytes, bytes] = {}
        self._is_over = False
        self._lock = threading.Lock()
        """The profile must not be closed while it is read."""
        self._is_begun = False
        self._reader: threading.Thread | None = None
        if is_cold:
            self._begin()

    def __contains__(self, digest: bytes) -> bool:
        profile = self._profile
        return profile is not None and digest in profile

    def get(self, digest: bytes) -> bytes | None:
        """An object out of the profile, if it is there."""
        if digest not in self:
            return None
        found = self._ready.get(digest)
        if found is not None:
            return found
        with self._lock:
            if self._profile is None:
                return None
            self._begin()
            return self._profile.get(digest)

    def _begin(self) -> None:
        """Have the profile read from end to end, if it is not yet."""
        if self._profile is not None and not self._is_begun:
            self._is_begun = True
            reader = threading.Thread(target=self._read, args=(self._profile,), name="start", daemon=True)
            try:
                reader.start()
                self._reader = reader
            except UNSTARTED:
                self._profile.warm(self._profile.items)  # and objects come from it one by one

    def _read(self, profile: Profile) -> None:
        """The thread: have everything at hand, in the order in which it was read the last time."""
        for item in sweep(profile, self._parts(profile), _READY_MAX):
            if self._is_over:
                return
            if item.digest not in self._noted:  # else it was faster than we
                data = profile.get(item.digest)
                if data is not None:
                    self._ready[item.digest] = data

    def note(self, digest: bytes, length: int, now: float) -> None:
        """An object was asked for."""
        if now < self._until and length <= self._room and digest not in self._noted:
            self._room -= length
            self._noted[digest] = length

    def finish(self) -> Reads:
        """End it: what was read."""
        noted = dict(self._noted)
        known = self._profile
        new = sum(size for digest, size in noted.items() if known is None or digest not in known)
        self._is_over = True
        with self._lock:
            self._profile = None
        if self._reader is not None:
            self._reader.join()
        self._ready.clear()
        if known is not None:
            known.cool()
            known.close()
        return Reads(tuple(noted), sum(noted.values()), new)


class Starts:
    """A store, seen through the starts of containers. Satisfies `Source`."""

    def __init__(self, source: Source, clock: Callable[[], float] = time.monotonic) -> None:
        self._source = source
        self._clock = clock
        self._starts: tuple[Start, ...] = ()
        self._numbered: dict[int, Start] = {}
        self._last: dict[RootId, float] = {}
        self.parts: Parts = lambda _: {}
        self.profiled = 0
        """How many times an object came from a profile."""

    def get(self, digest: bytes) -> bytes:
        starts = self._starts
        if not starts:
            return self._source.get(digest)
        data = next((data for start in starts if (data := start.get(digest)) is not None), None)
        if data is None:
            data = self._source.get(digest)
        else:
            self.profiled += 1
        now = self._clock()
        for start in starts:
            start.note(digest, len(data), now)
        return data

    def note_copy(self, content: Plain) -> None:
        """An overlay was told that a file has a plain copy: so it is not heard what is read of it."""
        now = self._clock()
        for start in self._starts:
            length = content.size if isinstance(content, Data) else content.size >> _LIST_SHIFT
            start.note(digest_of_copy(content), length, now)

    def part(self, digest: bytes, start: int, end: int) -> bytes | None:
        """Not while a container starts: what is noted is whole objects."""
        return None if self._starts else self._source.part(digest, start, end)

    def are_together(self, one: bytes, other: bytes) -> bool:
        """Not while a container starts: what it did not ask for is not to be noted."""
        return not self._starts and self._source.are_together(one, other)

    def expect(self, digests: Iterable[bytes]) -> None:
        starts = self._starts
        self._source.expect(digest for digest in digests if not any(digest in start for start in starts))

    @property
    def names(self) -> Mapping[str, Names]:
        return self._source.names

    def branch_at(self, name: bytes, time: int) -> CommitId | None:
        return self._source.branch_at(name, time)

    def commit(self, commit: str) -> CommitInfo:
        return self._source.commit(commit)

    def reachable(self) -> Collection[CommitId]:
        return self._source.reachable()

    def about(self) -> Mapping[str, str]:
        return self._source.about()

    def told(self, message: dict[str, Any]) -> dict[str, Any] | None:
        """A message of the holder (startings.py), and what it is answered."""
        if "starting" in message:
            path = Path(message["profile"]) if message["profile"] else None
            self.begin(message["starting"], RootId(bytes.fromhex(message["root"])), path)
            return None
        reads = self.finish(message["started"])
        objects = [digest.hex() for digest in reads.objects]
        return {"reads": message["started"], "objects": objects, "size": reads.size, "new": reads.new}

    def begin(self, number: int, root: RootId, path: Path | None) -> None:
        """A container is about to start on a root, for which there may be a profile."""
        if len(self._starts) >= _STARTS_MAX:
            return
        now = self._clock()
        profile = open_profile(path) if path else None
        is_cold = now - self._last.get(root, -math.inf) >= _AGAIN_SECONDS
        self._last[root] = now
        start = self._numbered[number] = Start(profile, now + SECONDS, is_cold, self.parts)
        self._starts = (*self._starts, start)

    def finish(self, number: int) -> Reads:
        """End a start: what was read."""
        start = self._numbered.pop(number, None)
        if start is None:
            return Reads()
        self._starts = tuple(each for each in self._starts if each is not start)
        return start.finish()
