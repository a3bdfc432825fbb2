"""Many containers on one service: what they share in the page cache, and what it takes for a thousand of them."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from benchmarks.inside import DEADLINE, Root, connection_of
from benchmarks.measure import FailedError, drop_caches
from benchmarks.peers.treering import service_bytes
from benchmarks.report import Section
from benchmarks.residency import MemoryGroup, memory_group, resident
from benchmarks.sections.container import author
from benchmarks.sections.overlays import merged
from benchmarks.setting import Setting
from fusefs.client import Lease, Service
from runtime.lowers import lower_of, with_data
from runtime.overlay import mount_overlay, prepare_upper
from runtime.system import mounts
from runtime.system.spreading import spread
from vcs.blobs import put_data
from vcs.history import BRANCHES
from vcs.importer import import_directory
from vcs.model import CommitId, Entry, RootId
from vcs.store import Store
from vcs.trees import write_root, write_tree

_COMMITS = 50
_OVERLAYS = 1_000
_MOUNTINGS = 5
"""Rounds."""
_ONCE = 1.05
"""Of the file's size: what may be added to the page cache. The kernel counts in batches."""
_MEMORY_LIMIT, _SECONDS_LIMIT = 200e6, 0.5


def sharing(setting: Setting) -> list[Section]:
    """Two tables: one file through fifty overlays; a thousand overlays."""
    store = setting.place("sharing")
    library = _library(setting.debian())
    roots = _commits(setting, store)
    overlays = _OVERLAYS // 50 if setting.quick else _OVERLAYS
    try:
        with Service.ensure(store) as lease:
            return [
                _library_read(setting, store, lease, roots, library),
                _many(setting, store, lease, roots, library, overlays),
            ]
    finally:
        Service.stop(store, force=True)


def _library(source: Path) -> str:
    """The C library's path in the root, or that of its largest file."""
    found = [*source.glob("usr/lib/*/libc.so.6"), *source.glob("lib/*/libc.so.6")]
    files = found or sorted(
        (file for file in source.rglob("*") if file.is_file()), key=lambda file: file.stat().st_size
    )
    return os.fspath(files[-1].relative_to(source))


def _commits(setting: Setting, place: Path) -> list[RootId]:
    """The roots of fifty commits of one history; each has a file that no other has."""
    roots: list[RootId] = []
    with Store.create(place) as store:
        with store.batch() as batch:
            base = import_directory(batch, setting.debian()).root
        snapshot = store.snapshot(base)
        entries = list(snapshot.directory(snapshot.root))
        parents: tuple[CommitId, ...] = ()
        for number in range(_COMMITS):
            with store.batch() as batch:
                content = put_data(batch, b"commit %d\n" % number)
                new = Entry(b"~number", 0o100644, 0, 0, number * 10**9, content, (), None)
                tree = write_tree(batch, [*entries, new])
                roots.append(write_root(batch, replace(snapshot.root, content=tree)))
            commit = store.add_commit(roots[-1], {"config": {}}, f"commit {number}\n", author(), parents)
            store.history.move(BRANCHES + "main", commit, parents[0] if parents else None, "commit", author())
            parents = (commit,)
    return roots


def _library_read(setting: Setting, store: Path, lease: Lease, roots: list[RootId], library: str) -> Section:
    section = Section(f"{Path(library).name} through {len(roots)} overlays on {len(roots)} commits", "what")
    connection = connection_of(lease.mountpoint)
    with contextlib.ExitStack() as stack:
        containers = [
            stack.enter_context(merged(setting, f"shared-{number}", lower_of(lease.mountpoint, root), connection))
            for number, root in enumerate(roots)
        ]
        group = stack.enter_context(memory_group(f"treering-benchmark-{os.getpid()}"))
        drop_caches()
        messages = _messages(store)
        found = _forked(Root(lease.mountpoint, connection), lambda: _read_through(containers, library, group, store))
    size, there = found["size"], found["there"]
    section.note(
        "Before each overlay but the first reads the file, mincore(2) is asked how much of it is in the page cache "
        "there. What is added to the page cache is counted by a memory cgroup with the reader alone in it."
    )
    section.put("the file", "", size, "B")
    section.put("messages to find it in all overlays", "", found["looked up"] - messages, "")
    section.put("messages to read it through the first", "", found["read once"] - found["looked up"], "")
    section.put("messages to read it through all others", "", found["read by all"] - found["read once"], "")
    section.put("least that was there before a later overlay read", "", min(there), "B")
    rounded = -(-size // 4096) * 4096
    section.claim(
        "10", "the file is there for every other overlay, of its pages", min(there) / rounded, 1.0, at_least=True
    )
    if group is not None:
        section.put("added to the page cache by the first", "", found["first added"], "B")
        section.put("added by all", "", found["added"], "B")
        section.claim(
            "10", f"page cache added by {len(roots)} readers, to the file's size", found["added"] / size, _ONCE
        )
    else:
        section.note("This machine has no memory cgroup to count by.")
    return section


def _read_through(containers: list[Root], library: str, group: MemoryGroup | None, store: Path) -> dict[str, Any]:
    """In a process of its own: read the file through each overlay."""
    for container in containers:
        os.stat(container.path / library)  # what looking it up in the uppers reads of their disk is not to be counted
    found: dict[str, Any] = {"there": [], "looked up": _messages(store)}
    if group is not None:
        group.enter()
    for number, container in enumerate(containers):
        file = container.path / library
        if number:
            found["there"].append(resident(file))
        with open(file, "rb", buffering=0) as opened:
            buffer = bytearray(1 << 20)
            while opened.readinto(buffer):
                pass
        if not number:
            found["first added"] = group.cached() if group else 0
            found["read once"] = _messages(store)
            found["size"] = file.stat().st_size
    found["read by all"] = _messages(store)
    found["added"] = group.cached() if group else 0
    return found


def _messages(store: Path) -> int:
    status = Service.status(store)
    return int(status["messages"]) if status else 0


def _many(setting: Setting, store: Path, lease: Lease, roots: list[RootId], library: str, overlays: int) -> Section:
    section = Section(f"{overlays:,} overlays over one service", "what")
    section.note(
        f"In a mount namespace of their own, on {len(roots)} commits by turns, each over a directory in the "
        f"service's mount and with an upper of its own; then {Path(library).name} is read through each. {_MOUNTINGS} "
        "rounds, medians. Memory, after the last, is the proportional share (Pss) of all processes of the service."
    )
    above = setting.place("many")
    above.mkdir()
    spread(above)  # as the directory of a store's containers
    places = [above / str(number) for number in range(overlays)]
    lowers = [lower_of(lease.mountpoint, roots[number % len(roots)]) for number in range(overlays)]
    for place, lower in zip(places, lowers, strict=True):
        (place / "merged").mkdir(parents=True)
        prepare_upper(lower, place / "upper", place / "work")

    def work() -> dict[str, Any]:
        mounts.private_mount_namespace()
        found: dict[str, Any] = {"before": service_bytes(store)}
        started, worked = time.perf_counter(), time.process_time()
        for place, lower in zip(places, lowers, strict=True):
            merged = place / "merged"
            os.close(mount_overlay(lower, place / "upper", place / "work", merged, data=with_data(lower)[1]).root)
        found["mounting"] = time.perf_counter() - started
        found["mounting, CPU"] = time.process_time() - worked
        started = time.perf_counter()
        for place in places:
            (place / "merged" / library).read_bytes()
        found["reading"] = time.perf_counter() - started
        found["after"] = service_bytes(store)
        started = time.perf_counter()
        for place in places:  # left to the namespace's end, it would be done beside the next round
            mounts.umount(os.fsencode(place / "merged"))
        return found | {"unmounting": time.perf_counter() - started}

    root = Root(lease.mountpoint, connection_of(lease.mountpoint))
    rounds = [_forked(root, work) for _ in range(_MOUNTINGS)]
    mounting = statistics.median(one["mounting"] for one in rounds)
    section.put("mounting all", "", mounting, "s")
    section.put("of that on a processor", "", statistics.median(one["mounting, CPU"] for one in rounds), "s")
    found = rounds[-1] | {"before": rounds[0]["before"]}
    section.put("reading through all", "", statistics.median(one["reading"] for one in rounds), "s")
    section.put("unmounting all", "", statistics.median(one["unmounting"] for one in rounds), "s")
    section.put("service's memory before", "", found["before"], "MB")
    section.put("service's memory after", "", found["after"], "MB")
    section.claim("10", f"mounting {overlays:,} overlays", mounting, _SECONDS_LIMIT, "s")
    section.claim("10", f"memory of the service with {overlays:,} overlays", found["after"], _MEMORY_LIMIT, "MB")
    return section


def _forked(root: Root, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a call returns in a process of its own, which ends with it; killed at the deadline. FailedError."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.close(reading)
            os.setsid()
            result = json.dumps(work()).encode()
        except BaseException as error:  # what a child must not do is to go on as its parent
            result = json.dumps({"failed": f"{type(error).__name__}: {error}"}).encode()
        os.write(writing, result)
        os._exit(0)
    os.close(writing)
    try:
        with root.deadline() as watched:
            watched(pid)
            text = b""
            if select.select([reading], [], [], DEADLINE + 10)[0]:
                text = os.read(reading, 1 << 16)
            else:
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    finally:
        os.close(reading)
    found: dict[str, Any] = json.loads(text) if text else {"failed": "no answer"}
    if "failed" in found:
        raise FailedError(found["failed"])
    return found
