"""What a change costs, on a root and on one ten times larger: commit, diff, branch, tag, rollback; and the command."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from msgspec.structs import replace

from benchmarks.corpus import Setting
from benchmarks.measure import environment, in_turns, median, run, timed
from benchmarks.report import Section
from fusefs.client import Lease, Service
from runtime.containers import Container, Containers
from runtime.mounts import umount
from runtime.overlay import mount_overlay, prepare_upper
from runtime.records import Settings
from runtime.states import States
from vcs.blobs import put_data
from vcs.diff import diff
from vcs.history import BRANCHES, Author
from vcs.importer import import_directory
from vcs.model import CommitId, Entry, RootId, Tree
from vcs.snapshot import Snapshot
from vcs.store import Store
from vcs.trees import Sink, write_root, write_tree

_CHANGES = 10
_COMMITS = 30
_TIMES_LARGER = 10
_COMMAND = [sys.executable, "-m", "runtime.cli"]


def commits(setting: Setting) -> list[Section]:
    """Both sections: through the Python API, and of the command as a whole."""
    with Store.create(setting.place("commits")) as store:
        with store.batch() as batch:
            small = import_directory(batch, setting.root).root
        with store.batch() as batch:
            large = _larger(batch, store.snapshot(small))
        with Service.ensure(store.path) as lease:
            benches = {
                name: _Bench(store, lease, root, setting.place(f"merged-{name}"), name)
                for name, root in (("small", small), ("large", large))
            }
            sections = [_through_the_api(benches), _commands(benches["small"])]
        Service.stop(store.path, force=True)
    return sections


def _larger(sink: Sink, base: Snapshot) -> RootId:
    """A root that holds the base's names ten times, every file with a small content of its own."""
    copies = [
        replace(_copied(sink, base, base.root, b"%d" % number), name=b"copy%d" % number)
        for number in range(_TIMES_LARGER)
    ]
    return write_root(sink, replace(base.root, content=write_tree(sink, copies)))


def _copied(sink: Sink, base: Snapshot, entry: Entry, mark: bytes) -> Entry:
    if isinstance(entry.content, Tree):
        below = [_copied(sink, base, child, mark + b"/" + child.name) for child in base.directory(entry)]
        return replace(entry, content=write_tree(sink, below), link=None)
    if entry.is_file and entry.size:
        return replace(entry, content=put_data(sink, mark * 4), link=None)
    return replace(entry, link=None)


@dataclass(slots=True)
class _Bench:
    """One container that is changed and committed again and again, and what that took in seconds."""

    store: Store
    lease: Lease
    root: RootId
    merged: Path
    name: str
    container: Container = field(init=False)
    files: list[str] = field(init=False)
    tips: list[CommitId] = field(init=False)

    def __post_init__(self) -> None:
        first = self.store.add_commit(self.root, {"config": {}}, "base\n", _author())
        self.store.history.move(BRANCHES + self.name, first, None, "base", _author())
        self.container = Containers(self.store).create(self.name, first, Settings(), _author(), self.name)
        top = b"/copy5" if self.name == "large" else b""  # the same ten files, in one of the copies
        walk = self.store.snapshot(self.root).walk(top + b"/usr/lib")
        paths = [path for path, entry in walk if entry.is_file]
        self.files = [os.fsdecode(path[1:]) for path in paths[:: len(paths) // _CHANGES][:_CHANGES]]
        self.merged.mkdir()
        self.tips = [first]

    def change(self, text: str) -> None:
        """Write ten files in the container's overlay, as a process in it would."""
        self.container = Containers(self.store).reload(self.container)
        lower = self.lease.mountpoint / "trees" / self.store.commit(self.container.base).root.hex()
        prepare_upper(lower, self.container.upper, self.container.work)
        overlay = mount_overlay(lower, self.container.upper, self.container.work, self.merged)
        for file in self.files:
            (self.merged / file).write_text(f"{text} {file}\n" * 20)
        os.close(overlay.root)
        umount(os.fsencode(self.merged))
        os.sync()

    def commit(self, number: int) -> float:
        self.change(f"round {number}")
        states = States(Containers(self.store))
        started = time.perf_counter()
        result = states.commit(self.container, f"round {number}", _author(), branch=self.name)
        seconds = time.perf_counter() - started
        assert result.made
        assert len(result.changes) == _CHANGES
        self.tips.append(result.commit)
        return seconds

    def diff(self, number: int) -> float:
        old, new = self.tips[number], self.tips[number + 1]
        return timed(lambda: diff(self.store.snapshot_of(old), self.store.snapshot_of(new)))

    def branch(self, number: int) -> float:
        ref = f"{BRANCHES}{self.name}-{number}"
        return timed(lambda: self.store.history.move(ref, self.tips[number], None, "branch", _author()))

    def tag(self, number: int) -> float:
        return timed(lambda: self.store.history.tag(f"{self.name}-{number}", self.tips[number], None, _author()))

    def rollback(self, number: int) -> float:
        states = States(Containers(self.store))
        target = self.tips[-1 - number % 2]
        found: list[Container] = []
        seconds = timed(lambda: found.append(states.rollback(self.container, target, _author())))
        self.container = found[0]
        return seconds


def _through_the_api(benches: dict[str, _Bench]) -> Section:
    entries = {name: bench.store.snapshot(bench.root).root.content for name, bench in benches.items()}
    counts = {name: content.entries for name, content in entries.items() if isinstance(content, Tree)}
    section = Section(
        "Commit, diff, branch, tag, rollback through the Python API",
        [f"A commit of {_CHANGES} changed files, durable; {_COMMITS} each, medians, in turns on both roots."],
    )
    steps: Sequence[tuple[str, str, float]] = (
        ("commit of ten files", "commit", 15),
        ("diff of ten files", "diff", 5),
        ("branch", "branch", 5),
        ("tag", "tag", 5),
        ("rollback", "rollback", 20),
    )
    for title, method, limit in steps:
        work: dict[str, Callable[[int], float]] = {name: getattr(bench, method) for name, bench in benches.items()}
        found = {name: median(values) * 1e3 for name, values in in_turns(_COMMITS, work).items()}
        for name, value in found.items():
            section.add(title, f"{counts[name]:,} entries", value, "ms", limit)
        if method == "commit":
            section.add_ratio(f"{title}: large to small", found["large"] / found["small"], 1.2)
    return section


def _commands(bench: _Bench) -> Section:
    section = Section("The command, with Python's start", [f"{_COMMITS // 3} runs each, medians."])
    options = ["--store", str(bench.store.path)]

    def commit(number: int) -> float:
        bench.change(f"command {number}")
        command = [*_COMMAND, "commit", *options, bench.container.name, "-m", f"command {number}"]
        return run(command, environment()).seconds

    rounds = _COMMITS // 3
    work: dict[str, Callable[[int], float]] = {
        "treering --version": lambda _: run([*_COMMAND, "--version"], environment()).seconds,
        "treering commit, ten files": commit,
        "treering log -n 5": lambda _: run([*_COMMAND, "log", *options, "-n", "5", bench.name], environment()).seconds,
        "treering ps -a": lambda _: run([*_COMMAND, "ps", *options, "-a"], environment()).seconds,
    }
    limits = {"treering --version": 60.0, "treering commit, ten files": 200.0}
    for title, values in in_turns(rounds, work).items():
        section.add(title, "treering", median(values) * 1e3, "ms", limits.get(title))
    return section


def _author() -> Author:
    return Author("Benchmark", "benchmark@localhost", int(time.time()))
