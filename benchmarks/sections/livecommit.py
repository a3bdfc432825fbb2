"""Commits of a running container: how long it stands still, and when the commit is on the disk; podman's next to it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import FailedError, in_turns, median, run
from benchmarks.peers.images import Podman
from benchmarks.peers.treering import treering
from benchmarks.report import Section
from benchmarks.sections.container import author
from benchmarks.setting import Setting
from runtime.containers import Containers
from runtime.states import States
from vcs.store import Store

_ROUNDS = 5
_NAME = "live"


@dataclass(frozen=True, slots=True)
class _Case:
    """An upper of so many files, of which some are written anew."""

    title: str
    files: int
    changed: int
    size: int
    """Bytes of a changed file."""
    pause: float
    """What we hold ourselves to, in ms."""

    def fill(self) -> str:
        """A program that makes the files, a hundred in a directory."""
        return (
            "import os\n"
            f"for number in range({self.files}):\n"
            "    place = f'/live/{number // 10000}/{number // 100}'\n"
            "    number % 100 or os.makedirs(place, exist_ok=True)\n"
            "    open(f'{place}/{number}', 'w').write(str(number) * 20)\n"
        )

    def change(self) -> str:
        """A program that writes some anew, spread over all directories."""
        step = self.files // self.changed
        return (
            "import os\n"
            f"for number in range(0, {self.changed * step}, {step}):\n"
            "    place = f'/live/{number // 10000}/{number // 100}/{number}'\n"
            f"    open(place, 'wb').write(os.urandom({self.size}))\n"
        )


_CASES = (
    _Case("100 of 100,000 files, 10 MB", 100_000, 100, 100_000, 100),
    _Case("10 of 100 files", 100, 10, 1_000, 20),
)
_DURABLE_MS = 300


def live_commit(setting: Setting) -> list[Section]:
    """One table: ours through the Python API, and podman's command."""
    section = Section("A running container's commit", "what changed since the last one")
    section.note(
        f"{_ROUNDS} commits of each, medians. `durable` is from the call of the Python API, or the start of podman's "
        "command, until the commit is on the disk. Podman's container is paused for all of its command."
    )
    for case in _CASES:
        if setting.quick:
            case = _Case(case.title, case.files // 50 + 100, case.changed, case.size, case.pause)
        _ours(setting, section, case)
        _podmans(setting, section, case)
    return [section]


def _ours(setting: Setting, section: Section, case: _Case) -> None:
    place = setting.place(f"live-{case.files}")
    treering(place, "init")
    treering(place, "import", setting.debian(), "--branch", "main", "-m", "base")
    treering(place, "run", "-d", "--name", _NAME, "--network", "none", "main", "sleep", "inf")
    try:
        treering(place, "exec", _NAME, "python3", "-c", case.fill())
        _commit(place)
        pauses: list[float] = []

        def commit(_: int) -> float:
            treering(place, "exec", _NAME, "python3", "-c", case.change())
            seconds, pause = _commit(place)
            pauses.append(pause)
            return seconds

        durable = median(in_turns(_ROUNDS, {_NAME: commit})[_NAME]) * 1e3
        pause = median(pauses) * 1e3
        section.put(case.title, "treering: pause", pause, "ms")
        section.put(case.title, "treering: durable", durable, "ms")
        section.claim("3", f"live commit, {case.title}: pause", pause, case.pause, "ms")
        section.claim("3", f"live commit, {case.title}: durable", durable, _DURABLE_MS, "ms")
    finally:
        treering(place, "rm", "-f", "--discard", _NAME)
        treering(place, "service", "stop")


def _commit(place: Path) -> tuple[float, float]:
    with Store.open(place) as store:
        containers = Containers(store)
        container = containers.find(_NAME)
        started = time.perf_counter()
        result = States(containers).commit(container, "round", author())
        seconds = time.perf_counter() - started
    assert result.made
    assert result.paused is not None
    return seconds, result.paused


def _podmans(setting: Setting, section: Section, case: _Case) -> None:
    if not setting.there(section, [peer := Podman()]):
        return
    place = setting.repository(peer, f"live-{case.files}")
    try:
        peer.save(place, setting.debian(), "base")
        with _podman_running(peer, place):
            peer.command(place, "exec", _NAME, "python3", "-c", case.fill())

            def commit(number: int) -> float:
                peer.command(place, "exec", _NAME, "python3", "-c", case.change())
                run(["sync", "-f", place])
                return peer.durable(
                    place, peer.command(place, "commit", "--quiet", "--pause=true", _NAME, f"live:{number}")
                ).seconds

            work: dict[str, Callable[[int], float]] = {_NAME: commit}
            section.put(case.title, "podman: durable", median(in_turns(_ROUNDS, work)[_NAME]) * 1e3, "ms")
    except FailedError as error:
        section.note(f"podman is left out: {' '.join(str(error).split())[:300]}")
    finally:
        setting.tidy()


@contextmanager
def _podman_running(peer: Podman, place: Path) -> Iterator[None]:
    limits = "--ulimit=nofile=1024:1024", "--ulimit=nproc=4096:4096"  # podman's own may be more than we may have
    engine = ["--runtime", "runc"] if shutil.which("runc") else []  # crun refuses hybrid cgroups
    peer.command(
        place, *engine, "run", "-d", "--name", _NAME, "--network", "none", *limits, "tree:base", "sleep", "inf"
    )
    try:
        yield
    finally:
        peer.command(place, "rm", "--force", "--time", "0", _NAME)
