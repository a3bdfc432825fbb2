"""What the service of a store opens: the store, and the names of its containers.

fusefs knows no containers, only names that lead to commits; a container's leads to its base. Nothing is written or
locked here, and a record that cannot be read is left out, as `treering ps` does.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from runtime.records import ContainerPaths, load
from vcs.errors import TreeringError
from vcs.model import CommitId
from vcs.snapshot import Names
from vcs.store import Store

OPENER = "runtime.source:StoreWithContainers.open"
"""For fusefs.client.Service.ensure()."""


class StoreWithContainers(Store):
    """A store that knows its containers by name, for reading. Satisfies `vcs.snapshot.Source`."""

    @property
    def names(self) -> dict[str, Names]:
        return {**super().names, "containers": self._containers}

    def about(self) -> dict[str, str]:
        return {**super().about(), "containers": str(len(self._containers.below(b"")))}

    @cached_property
    def _containers(self) -> ContainerNames:
        return ContainerNames(self.path / "containers")


@dataclass(frozen=True, slots=True)
class _Seen:
    """A record, as it was when it was looked at."""

    stamp: tuple[int, ...]
    name: bytes
    base: CommitId


class ContainerNames:
    """The containers of a store by name, each with its base. Satisfies `vcs.snapshot.Names`.

    A record that is replaced is another file, so one that is the same to stat(2) is not read again: a name takes one
    stat, and a listing one for each container.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._seen: dict[str, _Seen] = {}
        """By id."""
        self._ids: dict[bytes, str] = {}

    def find(self, name: bytes) -> CommitId | None:
        identity = self._ids.get(name)
        seen = None if identity is None else self._look(identity)
        if seen is None or seen.name != name:
            seen = self._look_at_all().get(name)
        return None if seen is None else seen.base

    def below(self, directory: bytes) -> dict[bytes, bool]:
        return {} if directory else dict.fromkeys(self._look_at_all(), False)

    def is_directory(self, directory: bytes) -> bool:
        return not directory

    def _look_at_all(self) -> dict[bytes, _Seen]:
        ids = [name for name in os.listdir(self._directory) if not name.startswith(".")]
        self._seen = {identity: seen for identity in ids if (seen := self._look(identity))}
        self._ids = {seen.name: identity for identity, seen in self._seen.items()}
        return {seen.name: seen for seen in self._seen.values()}

    def _look(self, identity: str) -> _Seen | None:
        """What a container's record says now; None if there is none that can be read."""
        paths = ContainerPaths(self._directory / identity)
        try:
            about = paths.record.stat()
            stamp = about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns
            seen = self._seen.get(identity)
            if seen is None or seen.stamp != stamp:
                record = load(paths)
                seen = self._seen[identity] = _Seen(stamp, record.name.encode(), record.generation.base)
        except (TreeringError, OSError, StopIteration):  # the last: it has not the generation that is current
            return None
        return seen
