"""A container's programs: in an overlay over our FUSE mount against the same overlay over ext4, warm and cold."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from benchmarks.corpora.workplace import PACKAGE, PROGRAM, TREE
from benchmarks.inside import Root, connection_of
from benchmarks.measure import FailedError, drop_caches, settle
from benchmarks.pairs import pairs, put_pairs
from benchmarks.peers.treering import service_bytes, wait_for_copies
from benchmarks.report import Section
from benchmarks.sections.container import author
from benchmarks.setting import DEBIAN, Setting
from fusefs.client import Service
from runtime.lowers import lower_of, with_data
from runtime.overlay import mount_overlay, prepare_upper
from runtime.profiles import Recording
from runtime.system.mounts import umount
from vcs.history import BRANCHES
from vcs.importer import import_directory
from vcs.model import CommitId, RootId
from vcs.plain import copied_digest, remove
from vcs.store import Store

WORKPLACE = "workplace"
SIDES = ("over treering", "over ext4")
_MODULES = (
    "argparse, asyncio, csv, ctypes, datetime, decimal, email.message, hashlib, http.client, json, logging, pathlib, "
    "random, re, sqlite3, ssl, subprocess, tempfile, typing, unittest, urllib.request, xml.etree.ElementTree, zipfile"
)
"""What programs of some size import of the standard library."""


@dataclass(frozen=True, slots=True)
class Workload:
    """A program, run in a container's root. `limit` is the most that ours may take, as a multiple of the other."""

    name: str
    words: tuple[str, ...]
    limit: float
    corpus: str = DEBIAN
    pairs: int = 20
    new_upper: bool = False
    """Whether each run begins with an empty upper: for what can be done but once."""
    first: bool = False
    """Whether the first container that runs it is measured too, which has no programs as plain files."""


def shell(script: str) -> tuple[str, ...]:
    return "/bin/sh", "-ec", script


FIND = ("/usr/bin/find", "/", "-xdev")
READ_ALL = shell("tar -C / --one-file-system -cf - . | cat")  # to /dev/null itself, tar would read nothing
PYTHON = ("/usr/bin/python3", "-c", f"import {_MODULES}")
WARM = (
    Workload("find", FIND, 1.05, pairs=40),
    Workload("find, with every inode", (*FIND, "-printf", "%s %T@\\n"), 1.05, pairs=40),
    Workload("read every file", READ_ALL, 1.05),
    Workload("gcc", shell(f"cd {PROGRAM} && gcc -O2 -Wall -o /tmp/count count.c table.c"), 1.05, WORKPLACE, first=True),
    Workload(
        "python3, 5 starts",
        shell(f"for n in 1 2 3 4 5; do python3 -c 'import {_MODULES}'; done"),
        1.05,
        first=True,
    ),
    Workload(
        "500 starts of true",
        shell("n=0; while [ $n -lt 500 ]; do /bin/true; n=$((n + 1)); done"),
        1.05,
    ),
    Workload("git status", shell(f"cd {TREE} && git status --porcelain"), 1.05, WORKPLACE, pairs=40),
    Workload(
        "apt-get install",
        shell(f"apt-get -q --yes install {PACKAGE}"),
        1.05,
        WORKPLACE,
        pairs=12,
        new_upper=True,
    ),
)
COLD = (
    Workload("find", FIND, 1.2, pairs=9),
    Workload("find, with every inode", (*FIND, "-printf", "%s %T@\\n"), 1.2, pairs=9),
    Workload("read every file", READ_ALL, 1.0, pairs=5),
    Workload("python3", PYTHON, 1.3, pairs=12),
)
_KEPT_SECONDS = 30.0
_PROFILED = Workload("python3, with a start profile", PYTHON, 1.0, pairs=9)


@dataclass(frozen=True, slots=True)
class _Scene:
    setting: Setting
    store: Path
    roots: dict[str, RootId]
    sources: dict[str, Path]


def overlays(setting: Setting) -> list[Section]:
    """Warm programs, cold programs, and the service's memory after them."""
    scene = _scene(setting)
    try:
        return [_warm(scene), _cold(scene), _memory(scene)]
    finally:
        Service.stop(scene.store, force=True)  # whatever happened


def _scene(setting: Setting) -> _Scene:
    store_path = setting.place("overlays")
    sources = {DEBIAN: setting.debian(), WORKPLACE: setting.workplace()}
    roots = {}
    with Store.create(store_path) as store:
        for name, source in sources.items():
            with store.batch() as batch:
                roots[name] = import_directory(batch, source).root
            commit = store.add_commit(roots[name], {"config": {}}, f"{name}\n", author())
            store.history.move(BRANCHES + _branch(name), commit, None, "import", author())
    return _Scene(setting, store_path, roots, sources)


def no_copies(store: Path) -> None:
    """Remove the plain copies that there are."""
    for path in (store / "caches").iterdir():
        if (digest := copied_digest(path)) is not None:
            remove(store / "caches", digest)


@contextlib.contextmanager
def served(store: Path, root: RootId) -> Iterator[tuple[Path, int]]:
    """A root in the mount of a service started for it, and its FUSE connection."""
    try:
        with Service.ensure(store) as lease:
            yield lower_of(lease.mountpoint, root), connection_of(lease.mountpoint)
    finally:
        Service.stop(store, force=True)


@contextlib.contextmanager
def merged(setting: Setting, name: str, lower: Path, connection: int = 0) -> Iterator[Root]:
    """A container's root over `lower`, as runtime.overlay mounts it, with a new upper."""
    place = setting.place(f"overlay-{name}-{time.monotonic_ns()}")
    target = place / "merged"
    target.mkdir(parents=True)
    prepare_upper(lower, place / "upper", place / "work")
    overlay = mount_overlay(lower, place / "upper", place / "work", target, data=with_data(lower)[1])
    try:
        yield Root(target, connection)
    finally:
        os.close(overlay.root)
        umount(os.fsencode(target))


def _warm(scene: _Scene) -> Section:
    section = Section("Containers, warm", "program")
    section.note(
        "Each program once without being counted, then by turns; what counts is the quieter half of the pairs. "
        f"`apt-get install {PACKAGE}` takes its packages from a directory in the root, and has a new upper each time. "
        "Another container has run the program before, so that its programs are plain files; the rows that say so are "
        "of that first container."
    )
    for workload in WARM:
        with served(scene.store, scene.roots[workload.corpus]) as (lower, connection):
            if workload.first:
                no_copies(scene.store)
                first = replace(workload, name=f"{workload.name}, the first container")
                _compare_warm(scene, section, first, lower, connection)
            _copied(scene, workload, lower, connection)
            _compare_warm(scene, section, workload, lower, connection)
    return section


def _compare_warm(scene: _Scene, section: Section, workload: Workload, lower: Path, connection: int) -> None:
    with (
        _ready(scene, workload, "ours", lower, connection) as ours,
        _ready(scene, workload, "plain", scene.sources[workload.corpus]) as plain,
    ):
        ours(), plain()
        _compare(section, "warm", workload, _rounds(scene, workload), ours, plain)


def _copied(scene: _Scene, workload: Workload, lower: Path, connection: int) -> None:
    """Run the program once in a container of its own, and wait until its programs are plain files for the next."""
    with merged(scene.setting, "before", lower, connection) as inside:
        inside.run(workload.words)
        wait_for_copies(scene.store)


@contextlib.contextmanager
def _ready(
    scene: _Scene, workload: Workload, name: str, lower: Path, connection: int = 0
) -> Iterator[Callable[[], float]]:
    """A call that runs the program once, on one overlay or on a new one each time; its seconds."""

    def fresh() -> float:
        with merged(scene.setting, name, lower, connection) as root:
            settle()
            return root.run(workload.words)

    if workload.new_upper:
        yield fresh
    else:
        with merged(scene.setting, name, lower, connection) as root:
            yield lambda: root.run(workload.words)


def _cold(scene: _Scene) -> Section:
    section = Section("Containers, cold", "program")
    section.note(
        "Before each run the machine's caches are dropped (`sync; echo 3 > /proc/sys/vm/drop_caches`). The service has "
        "served the same program once before, or, in the rows that say so, is a new process that has read nothing yet."
    )
    for workload in COLD:
        _compare_cold_kept(scene, section, workload)
        _compare_cold_new(scene, section, replace(workload, name=f"{workload.name}, new service"))
    section.note(
        "With a start profile: the same program was started once before, with the service told so, as `treering run` "
        "does. The time has the telling in it."
    )
    _record(scene)
    _compare_cold_new(scene, section, _PROFILED, is_told=True)
    return section


def _record(scene: _Scene) -> None:
    """Start the program once, as nobody has before; wait until its profile is kept, and its programs are plain files.
    FailedError."""
    root = scene.roots[_PROFILED.corpus]
    no_copies(scene.store)
    with Store.open(scene.store) as store, Service.ensure(scene.store) as lease:
        lower, connection = lower_of(lease.mountpoint, root), connection_of(lease.mountpoint)
        with merged(scene.setting, "recorded", lower, connection) as inside:
            noted = Recording(store, _commit(store, _PROFILED.corpus), lease)
            inside.run(_PROFILED.words)
        # After the unmounting: until a process that was spawned has closed them, it holds our descriptors too.
        noted.finish()
        deadline = time.monotonic() + _KEPT_SECONDS
        while not any(store.caches.glob("start-*")):
            if time.monotonic() > deadline:
                raise FailedError("no start profile was kept")
            time.sleep(0.05)
        wait_for_copies(scene.store)
    Service.stop(scene.store, force=True)


def _commit(store: Store, corpus: str) -> CommitId:
    return store.branches()[_branch(corpus)]


def _branch(corpus: str) -> str:
    return corpus.replace(" ", "-")


def _compare_cold_kept(scene: _Scene, section: Section, workload: Workload) -> None:
    """One service, which goes on."""
    with served(scene.store, scene.roots[workload.corpus]) as (lower, connection):

        def ours() -> float:
            with merged(scene.setting, "ours", lower, connection) as inside:
                drop_caches()
                return inside.run(workload.words)

        _copied(scene, workload, lower, connection)
        plain = partial(_plain_cold, scene, workload)
        _compare(section, "cold", workload, _rounds(scene, workload), ours, plain)


def _compare_cold_new(scene: _Scene, section: Section, workload: Workload, is_told: bool = False) -> None:
    """A service for each round. It may be told of a start, as it is of a container's."""
    root = scene.roots[workload.corpus]

    def ours() -> float:
        with Store.open(scene.store) as store, Service.ensure(scene.store) as lease:
            lower, connection = lower_of(lease.mountpoint, root), connection_of(lease.mountpoint)
            commit = _commit(store, workload.corpus)
            with merged(scene.setting, "ours", lower, connection) as inside:
                drop_caches()
                started = time.perf_counter()
                if is_told:
                    Recording(store, commit, lease)
                telling = time.perf_counter() - started
                seconds = inside.run(workload.words)
        Service.stop(scene.store, force=True)
        return telling + seconds

    plain = partial(_plain_cold, scene, workload)
    _compare(section, "cold", workload, _rounds(scene, workload), ours, plain)


def _plain_cold(scene: _Scene, workload: Workload) -> float:
    with merged(scene.setting, "plain", scene.sources[workload.corpus]) as inside:
        drop_caches()
        return inside.run(workload.words)


def _compare(
    section: Section,
    caches: str,
    workload: Workload,
    rounds: int,
    ours: Callable[[], float],
    plain: Callable[[], float],
) -> None:
    found = pairs(rounds, ours, plain, warm=caches == "warm")
    put_pairs(section, workload.name, found, SIDES)
    section.claim(
        "7", f"{caches} {workload.name}: overlay over treering to overlay over ext4", found.ratio, workload.limit
    )


def _rounds(scene: _Scene, workload: Workload) -> int:
    return scene.setting.rounds if scene.setting.quick else max(workload.pairs, scene.setting.rounds)


def _memory(scene: _Scene) -> Section:
    section = Section(
        "Memory of the service", "when", ["Of all its processes; what they have in common counts once (Pss)."]
    )
    with (
        served(scene.store, scene.roots[DEBIAN]) as (lower, connection),
        merged(scene.setting, "ours", lower, connection) as root,
    ):
        section.put("when it starts", "memory", service_bytes(scene.store), "MB")
        for workload in COLD:
            root.run(workload.words)
        after = service_bytes(scene.store)
    section.put("after the programs above", "memory", after, "MB")
    section.claim("7", "memory of the service after the programs above", after, 120e6, "MB")
    return section
