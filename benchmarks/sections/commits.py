"""What a change costs, on a root and on one ten times larger: commit, diff, branch, tag, rollback; and the command."""

from __future__ import annotations

import os
from collections.abc import Callable

from msgspec.structs import replace

from benchmarks.measure import in_turns, median, run
from benchmarks.peers.treering import COMMAND
from benchmarks.report import Section
from benchmarks.sections.container import ContainerBench
from benchmarks.setting import Setting
from fusefs.client import Service
from vcs.blobs import put_data
from vcs.importer import import_directory
from vcs.model import Entry, RootId, Tree
from vcs.snapshot import Snapshot
from vcs.store import Store
from vcs.trees import Sink, write_root, write_tree

_CHANGES = 10
_COMMITS = 30
_TIMES_LARGER = 10


def commits(setting: Setting) -> list[Section]:
    """Both tables: through the Python API, and of the command as a whole."""
    path = setting.place("commits")
    with Store.create(path) as store:
        with store.batch() as batch:
            small = import_directory(batch, setting.debian()).root
        with store.batch() as batch:
            large = _larger(batch, store.snapshot(small))
        files = _chosen(store.snapshot(small))
        with Service.ensure(path) as lease:
            # The same ten files; in the large root, those of one of the copies.
            benches = {
                name: ContainerBench(
                    store, lease, root, setting.place(f"merged-{name}"), name, [top + f for f in files]
                )
                for name, root, top in (("small", small, ""), ("large", large, "copy5/"))
            }
            sections = [_through_the_api(benches), _commands(benches["small"])]
        Service.stop(path, force=True)
    return sections


def _chosen(snapshot: Snapshot) -> list[str]:
    paths = [path for path, entry in snapshot.walk(b"/usr/lib") if entry.is_file]
    return [os.fsdecode(path[1:]) for path in paths[:: len(paths) // _CHANGES][:_CHANGES]]


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


def _through_the_api(benches: dict[str, ContainerBench]) -> Section:
    section = Section("Through the Python API, synced to the disk", "step")
    section.note(f"A commit of {_CHANGES} changed files; {_COMMITS} of each, medians, in turns on both roots.")
    entries = {name: bench.store.snapshot(bench.root).root.content for name, bench in benches.items()}
    counts = {name: content.entries for name, content in entries.items() if isinstance(content, Tree)}
    steps = (
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
            section.put(title, f"{counts[name]:,} entries", value, "ms")
            section.claim("6", f"{title}, {counts[name]:,} entries", value, limit, "ms")
        if method == "commit":
            section.claim("6", f"{title}: ten times the entries", found["large"] / found["small"], 1.2)
    return section


def _commands(bench: ContainerBench) -> Section:
    rounds = _COMMITS // 3
    section = Section("The command, with Python's start", "command")
    section.note(f"{rounds} runs each, medians; without a fork server.")
    options = ["--store", str(bench.store.path)]
    alone = {"TREERING_FORK_SERVER": "0"}

    def commit(number: int) -> float:
        bench.change(f"command {number}")
        return run([COMMAND, "commit", *options, bench.container.name, "-m", f"command {number}"], alone).seconds

    work: dict[str, Callable[[int], float]] = {
        "treering --version": lambda _: run([COMMAND, "--version"], alone).seconds,
        "treering commit, ten files": commit,
        "treering log -n 5": lambda _: run([COMMAND, "log", *options, "-n", "5", bench.name], alone).seconds,
        "treering ps -a": lambda _: run([COMMAND, "ps", *options, "-a"], alone).seconds,
    }
    limits = {"treering --version": 60.0, "treering commit, ten files": 200.0}
    for title, values in in_turns(rounds, work).items():
        value = median(values) * 1e3
        section.put(title, "time", value, "ms")
        if title in limits:
            section.claim("6", title, value, limits[title], "ms")
    return section
