"""A container that is changed and committed again and again, through the Python API."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.measure import timed
from fusefs.client import Lease
from runtime.containers import Container, Containers
from runtime.lowers import lower_of, with_data
from runtime.overlay import mount_overlay, prepare_upper
from runtime.settings import Settings
from runtime.states import States
from runtime.system.mounts import umount
from vcs.diff import diff
from vcs.history import BRANCHES, Author
from vcs.model import CommitId, RootId
from vcs.store import Store


@dataclass(slots=True)
class ContainerBench:
    """Its root, the files that change in it (relative to its top), and the commits so far. Calls return seconds."""

    store: Store
    lease: Lease
    root: RootId
    merged: Path
    name: str
    files: list[str]
    container: Container = field(init=False)
    tips: list[CommitId] = field(init=False)

    def __post_init__(self) -> None:
        first = self.store.add_commit(self.root, {"config": {}}, "base\n", author())
        self.store.history.move(BRANCHES + self.name, first, None, "base", author())
        self.container = Containers(self.store).create(self.name, first, Settings(), author(), self.name)
        self.merged.mkdir()
        self.tips = [first]

    def change(self, text: str) -> None:
        """Write the files in the container's overlay, as a process in it would."""
        self.container = Containers(self.store).reload(self.container)
        lower = lower_of(self.lease.mountpoint, self.store.commit(self.container.base).root)
        prepare_upper(lower, self.container.upper, self.container.work)
        overlay = mount_overlay(lower, self.container.upper, self.container.work, self.merged, data=with_data(lower)[1])
        for file in self.files:
            (self.merged / file).write_text(f"{text} {file}\n" * 20)
        os.close(overlay.root)
        umount(os.fsencode(self.merged))
        os.sync()

    def commit(self, number: int) -> float:
        self.change(f"round {number}")
        states = States(Containers(self.store))
        started = time.perf_counter()
        result = states.commit(self.container, f"round {number}", author(), branch=self.name)
        seconds = time.perf_counter() - started
        assert result.made
        assert len(result.changes) == len(self.files)
        self.tips.append(result.commit)
        return seconds

    def diff(self, number: int) -> float:
        old, new = self.tips[number], self.tips[number + 1]
        return timed(lambda: diff(self.store.snapshot_of(old), self.store.snapshot_of(new)))

    def branch(self, number: int) -> float:
        ref = f"{BRANCHES}{self.name}-{number}"
        return timed(lambda: self.store.history.move(ref, self.tips[number], None, "branch", author()))

    def tag(self, number: int) -> float:
        return timed(lambda: self.store.history.tag(f"{self.name}-{number}", self.tips[number], None, author()))

    def rollback(self, number: int) -> float:
        states = States(Containers(self.store))
        target = self.tips[-1 - number % 2]
        found: list[Container] = []
        seconds = timed(lambda: found.append(states.rollback(self.container, target, author())))
        self.container = found[0]
        return seconds


def author() -> Author:
    return Author("Benchmark", "benchmark@localhost", int(time.time()))
