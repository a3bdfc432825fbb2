"""What containers read in their first seconds: noted, and the next time had in memory before it is asked for.

Whoever starts a container says so (`starting`), names the profile that there may be (vcs.profiles), and later asks what
was read (`Start.finish`). In between, objects that the profile holds come from it: a thread reads it from end to end,
which takes a few milliseconds, while the container's first steps wait for one file after the other.

A container whose files the kernel has in its caches asks for none of them, and must not pay for the reading. So
if its root was started a short while ago, the profile is only read once something in it is asked for.

The loop's thread asks for objects; others may call everything else.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from vcs.model import CommitId, RootId
from vcs.snapshot import CommitInfo, Profile, Source, load_profile

SECONDS = 10.0
"""How long a start takes, for us."""
_KEPT_SECONDS = 30.0
"""How long what was read from a profile waits to be asked for."""
_AGAIN_SECONDS = 600.0
"""A root that was started within so long is not read ahead unasked."""
_BYTES_MAX = 64 << 20
"""What a start notes, and what waits to be asked for, each."""
_STARTS_MAX = 16
"""So many starts are noted at once; further ones come to their profile another time."""


@dataclass(frozen=True, slots=True)
class Reads:
    """What was read in a start: the digests of the objects in the order in which they were asked for, their bytes, and
    how many of these the profile did not have."""

    objects: tuple[bytes, ...] = ()
    size: int = 0
    new: int = 0


class Start:
    """One container's start, being noted until `until`."""

    def __init__(self, profile: Profile | None, until: float, end: Callable[[Start], None]) -> None:
        self.until = until
        self.noted: dict[bytes, int] = {}
        """The objects that were asked for, and their lengths, in the order in which they were."""
        self._room = _BYTES_MAX
        self._known = {item.digest for item in profile.items} if profile else set()
        self._end = end

    def note(self, digest: bytes, length: int) -> None:
        """An object was asked for."""
        if digest not in self.noted and length <= self._room:
            self._room -= length
            self.noted[digest] = length

    def finish(self) -> Reads:
        """End it: what was read."""
        self._end(self)
        new = sum(size for digest, size in self.noted.items() if digest not in self._known)
        return Reads(tuple(self.noted), sum(self.noted.values()), new)


class StartSource:
    """A store, seen through what starts have to do with it. Satisfies `Source`."""

    def __init__(self, source: Source, clock: Callable[[], float] = time.monotonic) -> None:
        self._source = source
        self._clock = clock
        self._starts: tuple[Start, ...] = ()
        self._ready: dict[bytes, memoryview] = {}
        self._armed: dict[bytes, Profile] = {}
        """Objects of profiles that are read once one of these is asked for."""
        self._started: dict[RootId, float] = {}
        self._closed = threading.Event()
        self.profiled = 0
        """How many times an object came from a profile."""

    def get(self, digest: bytes) -> bytes:
        if not (self._starts or self._ready or self._armed):
            return self._source.get(digest)
        data: bytes | memoryview | None = self._ready.get(digest)
        if data is None:
            if digest in self._armed:
                self._read_ahead(self._armed[digest])
            data = self._source.get(digest)
        else:
            self.profiled += 1
        now = self._clock()
        for start in self._starts:
            if now < start.until:
                start.note(digest, len(data))
        return cast(bytes, data)  # a part of what was read at once does as well, and copying it is dear

    def expect(self, digests: Iterable[bytes]) -> None:
        self._source.expect([digest for digest in digests if digest not in self._ready])

    def branches(self) -> dict[str, CommitId]:
        return self._source.branches()

    def tags(self) -> dict[str, CommitId]:
        return self._source.tags()

    def commit(self, commit: str) -> CommitInfo:
        return self._source.commit(commit)

    def commit_ids(self) -> list[CommitId]:
        return self._source.commit_ids()

    def starting(self, root: RootId, path: Path | None) -> Start | None:
        """A container is about to start on a root, for which there may be a profile. None if it is not noted."""
        now = self._clock()
        profile = load_profile(path) if path else None
        if profile is not None:
            if now - self._started.get(root, -_AGAIN_SECONDS) < _AGAIN_SECONDS:
                self._armed = dict.fromkeys((item.digest for item in profile.items), profile)
            else:
                self._read_ahead(profile)
        self._started[root] = now
        if len(self._starts) >= _STARTS_MAX:
            return None
        start = Start(profile, now + SECONDS, self._end)
        self._starts = (*self._starts, start)
        return start

    def close(self) -> None:
        """Forget what was read from profiles."""
        self._closed.set()

    def _end(self, ended: Start) -> None:
        self._starts = tuple(start for start in self._starts if start is not ended)

    def _read_ahead(self, profile: Profile) -> None:
        self._armed = {}
        threading.Thread(target=self._read, args=(profile,), name="start", daemon=True).start()

    def _read(self, profile: Profile) -> None:
        """The thread: have a profile's objects ready, for a while."""
        for digest, data in profile.objects():
            if self._closed.is_set() or sum(map(len, self._ready.values())) > _BYTES_MAX:
                break
            self._ready[digest] = data
        self._closed.wait(_KEPT_SECONDS)
        for item in profile.items:
            self._ready.pop(item.digest, None)
