"""What the Python API adds to an OCI runtime: a container made, run and removed, next to the runtime alone over an
overlay that is ready."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from benchmarks.apart import in_namespace
from benchmarks.measure import FailedError, in_turns, median
from benchmarks.peers.treering import treering
from benchmarks.report import Section
from benchmarks.setting import Setting
from fusefs.client import Service
from runtime.containers import Container, Containers
from runtime.engine import find_engine, spawn, wait
from runtime.lowers import lower_of, with_data
from runtime.overlay import mount_overlay, prepare_upper
from runtime.removal import remove, remove_ended
from runtime.running import start
from runtime.settings import Log, Settings
from runtime.supervision.hastening import hasten
from runtime.system.mounts import umount
from vcs.history import Author
from vcs.store import Store

_ROUNDS, _QUICK_ROUNDS = 20, 3
_LIMIT = 15.0
"""Milliseconds."""
_API, _BARE = "create, start, wait, remove", "the runtime alone"
_ME = Author("Benchmark", "benchmark@localhost", 0)


def ownpart(setting: Setting) -> list[Section]:
    """One table."""
    section = Section("The API's own part", "what")
    store = setting.place("ownpart")
    rounds = _QUICK_ROUNDS if setting.quick else _ROUNDS
    treering(store, "init")
    treering(store, "import", setting.debian(), "--branch", "main", "-m", "base")
    try:
        medians = in_namespace(lambda: _measure(store, setting.place("ownpart-bare"), rounds))
    finally:
        treering(store, "service", "stop", "--force")
    for what, milliseconds in medians.items():
        section.put(what, "time", milliseconds, "ms")
    own = medians[_API] - medians[_BARE]
    section.put("difference", "time", own, "ms")
    section.note(
        f"{rounds} runs each, in turns; medians. `true`, no network, the default seccomp profile, one process."
    )
    section.claim("13", "the API's own part of a run", own, _LIMIT, "ms")
    return [section]


def _measure(path: Path, place: Path, rounds: int) -> dict[str, float]:
    with Store.open(path) as store:
        user = _User(store)
        container = user.ended()
        bare = _Bare(store, container, place)
        try:
            found = in_turns(rounds, {_API: lambda _: user.run(), _BARE: bare.run})
        finally:
            bare.close()
            remove(user.containers, container, _ME, discard=True)
    return {what: median(seconds) * 1e3 for what, seconds in found.items()}


class _User:
    """A program that runs containers through the API."""

    def __init__(self, store: Store) -> None:
        self.containers = Containers(store)
        self._commit = store.branches()["main"]

    def ended(self) -> Container:
        """A container that has run."""
        settings = Settings(args=("true",), network="none", log=Log(keep=False))
        container = self.containers.create("main", self._commit, settings, _ME)
        _ended_well(start(self.containers, container, _ME))
        return container

    def run(self) -> float:
        """One from its making to its removal; seconds."""
        settings = Settings(args=("true",), network="none", remove=True)
        started = time.perf_counter()
        hasten()
        container = self.containers.create("main", self._commit, settings, _ME)
        code = start(self.containers, container, _ME)
        remove_ended(self.containers.store, container.id, _ME)
        seconds = time.perf_counter() - started
        _ended_well(code)
        return seconds


class _Bare:
    """The runtime itself, with the same configuration, over an overlay like a container's."""

    def __init__(self, store: Store, container: Container, place: Path) -> None:
        self._place = place
        self._root = place / "root"
        self._config = json.loads((container.paths.directory / "bundle/config.json").read_bytes())
        self._engine = find_engine(place / "state").path
        for name in ("root", "state", "bundle", "upper", "work"):
            (place / name).mkdir(parents=True)
        with Service.ensure(store.path) as lease:
            lower = lower_of(lease.mountpoint, store.commit(container.base).root)
            upper, work = place / "upper", place / "work"
            prepare_upper(lower, upper, work)
            os.close(mount_overlay(lower, upper, work, self._root, data=with_data(lower)[1], volatile=True).root)

    def run(self, number: int) -> float:
        """Seconds of one run."""
        name = f"treering-bare-{number}"
        self._config["root"]["path"] = str(self._root)
        self._config["linux"]["cgroupsPath"] = f"/{name}"
        (self._place / "bundle/config.json").write_text(json.dumps(self._config))
        words = ["--root", str(self._place / "state"), "run", "--bundle", str(self._place / "bundle"), name]
        started = time.perf_counter()
        code = wait(spawn([str(self._engine), *words], (None, None, None)))
        seconds = time.perf_counter() - started
        _ended_well(code)
        return seconds

    def close(self) -> None:
        """Unmount the overlay."""
        umount(bytes(self._root), 0)


def _ended_well(code: int) -> None:
    if code:
        raise FailedError(f"the container ended with {code}")
