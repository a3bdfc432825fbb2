"""A tree of a million entries: import, a change of one file, a listing through the mount."""

from __future__ import annotations

import os
import time

from benchmarks.corpora.million import LONG
from benchmarks.measure import drop_caches, median, settle
from benchmarks.peers.backup import Borg, Restic
from benchmarks.peers.peer import Peer
from benchmarks.peers.treering import Treering
from benchmarks.report import Section
from benchmarks.sections.container import ContainerBench
from benchmarks.setting import OURS, Setting
from fusefs.client import Lease, Service
from vcs.store import Store

_CHANGES = 20


def million(setting: Setting) -> list[Section]:
    """Two tables: the import next to others', once each; and what can be done with it."""
    source = setting.million()
    entries = sum(len(names) + len(files) for _, names, files in os.walk(source))
    imports = Section(f"Import: {entries:,} entries")
    imports.note("Files are empty or tiny, and a tenth of them is in one directory. One round.")
    peers = setting.there(imports, [Treering(), Restic(), Borg()])

    def keep(peer: Peer, _: int) -> bool:
        place = setting.repository(peer, "million")
        for label in ("first", "again"):
            settle(source)
            done = peer.save(place, source, label)
            imports.put(peer.name, "seconds" if label == "first" else label, done.seconds, "s")
            imports.put(peer.name, "CPU" if label == "first" else "again, CPU", done.cpu_seconds, "s")
            imports.put(peer.name, "memory" if label == "first" else "again, memory", done.peak_bytes, "MB")
            if label == "first":
                imports.put(peer.name, "on disk", peer.size(place).allocated, "MB")
        return True

    setting.trials(imports, peers, 1, keep)
    sections = [imports]
    if any(peer.name == OURS for peer in peers):
        imports.claim(
            "4", f"import of {entries:,} entries: peak memory", imports.rows[OURS]["memory"].value, 250e6, "MB"
        )
        place = setting.place("treering-million")
        with Store.open(place) as store, Service.ensure(place) as lease:
            sections.append(_used(setting, store, lease))
        Service.stop(place, force=True)
    setting.tidy()
    return sections


def _used(setting: Setting, store: Store, lease: Lease) -> Section:
    section = Section("What can be done with it", "step")
    section.note(
        f"One file is written in the directory that holds a tenth of all names; {_CHANGES} rounds through the Python "
        "API, medians, a commit synced to the disk. Listings are from cold caches, through the mount, once."
    )
    root = store.commit(store.branches()["main"]).root
    file = os.fsdecode(LONG) + "/entry-000777"
    bench = ContainerBench(store, lease, root, setting.place("merged-million"), "trial", [file])
    for title, work, limit in (("commit of one file", bench.commit, 60), ("diff", bench.diff, 20)):
        milliseconds = median(work(number) for number in range(_CHANGES)) * 1e3
        section.put(title, "time", milliseconds, "ms")
        section.claim("4", f"{title} in the large tree (API)", milliseconds, limit, "ms")
    top = lease.mountpoint / "trees" / root.hex()
    drop_caches()
    first, whole, names = _listed(os.path.join(os.fsencode(top), LONG))
    section.put(f"first name of a directory of {names:,}", "time", first, "ms")
    section.put(f"all {names:,}", "time", whole, "ms")
    section.claim("4", f"first name of a directory of {names:,}, through the mount", first, 100, "ms")
    return section


def _listed(directory: bytes) -> tuple[float, float, int]:
    """Milliseconds to a directory's first name and to its last, and how many there are."""
    started = time.perf_counter()
    with os.scandir(directory) as found:
        next(found)
        first = time.perf_counter() - started
        names = 1 + sum(1 for _ in found)
    return first * 1e3, (time.perf_counter() - started) * 1e3, names
