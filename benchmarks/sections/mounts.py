"""A container's reads: an overlay over our FUSE mount against the same overlay over ext4, warm and cold."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.measure import drop_caches, in_turns, median, run, tree_resident_bytes
from benchmarks.report import Section
from benchmarks.sections.container import author
from benchmarks.setting import Setting
from fusefs.client import Service
from runtime.mounts import umount
from runtime.overlay import mount_overlay, prepare_upper
from vcs.history import BRANCHES
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
            root = import_directory(batch, setting.debian()).root
        commit = store.add_commit(root, {"config": {}}, "base\n", author())
        store.history.move(BRANCHES + "main", commit, None, "base", author())
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
    """A root in the mount of a service started for it, and the process id of its holder."""
    with Service.ensure(store) as lease:
        yield lease.mountpoint / "trees" / root.hex(), lease.pid
    Service.stop(store)


def _do(workload: Workload, merged: Path, _: int) -> float:
    return run(["sh", "-ec", workload.script], cwd=merged).seconds


def _warm(setting: Setting, store: Path, root: RootId) -> Section:
    rounds = max(5, setting.rounds)
    section = Section("Reads, warm", "workload", [f"{rounds} rounds after one that is not counted, medians."])
    with (
        _served(store, root) as (lower, _),
        _merged(setting, "ours", lower) as ours,
        _merged(setting, "plain", setting.debian()) as plain,
    ):
        for workload in WARM:
            work = {OURS: partial(_do, workload, ours), PLAIN: partial(_do, workload, plain)}
            for once in work.values():
                once(0)
            _compare(section, "warm", workload, in_turns(rounds, work))
    return section


def _cold(setting: Setting, store: Path, root: RootId) -> Section:
    section = Section("Reads, cold", "workload")
    section.note(
        f"{setting.rounds} rounds, medians; before each run the caches are dropped and the service is a new process."
    )

    def ours(workload: Workload, number: int) -> float:
        with _served(store, root) as (lower, _), _merged(setting, "ours", lower) as merged:
            drop_caches()
            return _do(workload, merged, number)

    def plain(workload: Workload, number: int) -> float:
        with _merged(setting, "plain", setting.debian()) as merged:
            drop_caches()
            return _do(workload, merged, number)

    for workload in COLD:
        times = in_turns(setting.rounds, {OURS: partial(ours, workload), PLAIN: partial(plain, workload)})
        _compare(section, "cold", workload, times)
    return section


def _compare(section: Section, caches: str, workload: Workload, times: dict[str, list[float]]) -> None:
    ours, plain = median(times[OURS]) * 1e3, median(times[PLAIN]) * 1e3
    section.put(workload.name, OURS, ours, "ms")
    section.put(workload.name, PLAIN, plain, "ms")
    section.put(workload.name, "ratio", ours / plain, "×")
    section.claim(
        "7", f"{caches} {workload.name}: overlay over our mount to overlay over ext4", ours / plain, workload.limit
    )


def _memory(setting: Setting, store: Path, root: RootId) -> Section:
    section = Section("Memory of the service", "when", ["Resident, with the processes it started."])
    with _served(store, root) as (lower, pid), _merged(setting, "ours", lower) as merged:
        section.put("when it starts", "memory", tree_resident_bytes(pid), "MB")
        for workload in COLD:
            _do(workload, merged, 0)
        after = tree_resident_bytes(pid)
    section.put("after find and reading everything", "memory", after, "MB")
    section.claim("7", "memory of the service after reading everything", after, 150e6, "MB")
    return section
