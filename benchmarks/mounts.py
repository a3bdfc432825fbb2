"""A container's reads: an overlay over our FUSE mount against the same overlay over ext4, warm and cold."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.corpus import Setting
from benchmarks.measure import drop_caches, in_turns, median, run, tree_resident_bytes
from benchmarks.report import Section
from fusefs.client import Service
from runtime.mounts import umount
from runtime.overlay import mount_overlay, prepare_upper
from vcs.history import BRANCHES, Author
from vcs.importer import import_directory
from vcs.model import RootId
from vcs.store import Store

OURS = "overlay over treering"
PLAIN = "overlay over ext4"


@dataclass(frozen=True, slots=True)
class Workload:
    """A command, run in a merged root. `limit` is the most that ours may take, as a multiple of the plain one."""

    name: str
    script: str
    limit: float


_READ = "tar --sort=name -C . -cf - . | cat >/dev/null"
_COMPILE = "int main(void) { return 0; }"
WARM = (
    Workload("find", "find . >/dev/null", 1.15),
    Workload("find, with every inode", "find . -printf '%s %T@\\n' >/dev/null", 1.15),
    Workload("read every file", _READ, 1.15),
    Workload(
        "gcc, 10 starts",
        f"chroot . sh -c 'for n in 0 1 2 3 4 5 6 7 8 9; do echo \"{_COMPILE}\" | gcc -x c -o /tmp/a.out -; done'",
        1.15,
    ),
    Workload(
        "python3, 20 starts",
        "chroot . sh -c 'for n in $(seq 20); do python3 -B -c \"import json, http.client, sqlite3\"; done'",
        1.15,
    ),
)
COLD = (
    Workload("find", "find . >/dev/null", 1.6),
    Workload("find, with every inode", "find . -printf '%s %T@\\n' >/dev/null", 1.6),
    Workload("read every file", _READ, 1.3),
)


def mounts(setting: Setting) -> list[Section]:
    """Warm reads, cold reads, and the service's memory after them."""
    store_path = setting.place("mounts")
    with Store.create(store_path) as store:
        with store.batch() as batch:
            root = import_directory(batch, setting.root).root
        author = Author("Benchmark", "benchmark@localhost", int(time.time()))
        commit = store.add_commit(root, {"config": {}}, "base\n", author)
        store.history.move(BRANCHES + "main", commit, None, "base", author)
    return [_warm(setting, store_path, root), _cold(setting, store_path, root), _memory(setting, store_path, root)]


@contextlib.contextmanager
def _merged(setting: Setting, name: str, lower: Path) -> Iterator[Path]:
    """A container's root over `lower`, as runtime.overlay mounts it, with a new upper."""
    place = setting.place(f"overlay-{name}-{time.monotonic_ns()}")
    merged = place / "merged"
    merged.mkdir(parents=True)
    prepare_upper(lower, place / "upper", place / "work")
    overlay = mount_overlay(lower, place / "upper", place / "work", merged)
    try:
        yield merged
    finally:
        os.close(overlay.root)
        umount(os.fsencode(merged))


@contextlib.contextmanager
def _served(store: Path, root: RootId) -> Iterator[tuple[Path, int]]:
    """A root in the mount of a service started for it, and the service's process id."""
    with Service.ensure(store) as lease:
        yield lease.mountpoint / "trees" / root.hex(), lease.pid
    Service.stop(store)


def _do(workload: Workload, merged: Path, _: int) -> float:
    return run(["sh", "-ec", workload.script], cwd=merged).seconds


def _warm(setting: Setting, store: Path, root: RootId) -> Section:
    rounds = max(5, setting.rounds)
    section = Section("Reads, warm", [f"{rounds} rounds after one that is not counted, medians."])
    with (
        _served(store, root) as (lower, _),
        _merged(setting, "ours", lower) as ours,
        _merged(setting, "plain", setting.root) as plain,
    ):
        for workload in WARM:
            work = {OURS: partial(_do, workload, ours), PLAIN: partial(_do, workload, plain)}
            for once in work.values():
                once(0)
            times = in_turns(rounds, work)
            section.compare(workload.name, _medians(times), "ms", OURS, {PLAIN: workload.limit})
    return section


def _cold(setting: Setting, store: Path, root: RootId) -> Section:
    section = Section(
        "Reads, cold",
        [f"{setting.rounds} rounds, medians; before each run the caches are dropped and the service is a new process."],
    )

    def ours(workload: Workload, number: int) -> float:
        with _served(store, root) as (lower, _), _merged(setting, "ours", lower) as merged:
            drop_caches()
            return _do(workload, merged, number)

    def plain(workload: Workload, number: int) -> float:
        with _merged(setting, "plain", setting.root) as merged:
            drop_caches()
            return _do(workload, merged, number)

    for workload in COLD:
        times = in_turns(setting.rounds, {OURS: partial(ours, workload), PLAIN: partial(plain, workload)})
        section.compare(workload.name, _medians(times), "ms", OURS, {PLAIN: workload.limit})
    return section


def _memory(setting: Setting, store: Path, root: RootId) -> Section:
    section = Section("Memory of the service", ["Resident, with the processes it started."])
    with _served(store, root) as (lower, pid), _merged(setting, "ours", lower) as merged:
        section.add("when it starts", "treering", tree_resident_bytes(pid), "MB")
        for workload in COLD:
            _do(workload, merged, 0)
        section.add("after find and reading everything", "treering", tree_resident_bytes(pid), "MB", 120e6)
    return section


def _medians(times: dict[str, list[float]]) -> dict[str, float]:
    return {name: median(values) * 1e3 for name, values in times.items()}
