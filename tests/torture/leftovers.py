"""What runs of containers have on a machine outside the store, found, and taken away."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from fusefs import mounting
from tests.support.cgroups import of_container
from tests.support.containers import engine_states
from tests.torture.processes import Process, descendants
from vcs.errors import EngineError

_ID = re.compile(rb"\b[0-9a-f]{64}\b")
_RESIDENTS = ("fusefs.", "treering-watch")
"""The service and the monitor: they stay a while after the last container."""
_SECONDS = 20.0
"""An end may take so long on a busy machine."""


def identities(store: Path) -> set[str]:
    """The ids of the containers that a store has, and of those that it has written down: not those of `run --rm`."""
    found = {one.name for one in store.glob("containers/*") if re.fullmatch(r"[0-9a-f]{64}", one.name)}
    with suppress(FileNotFoundError):
        found |= {one.decode() for one in _ID.findall((store / "operations.log").read_bytes())}
    return found


def cgroups(containers: Iterable[str]) -> list[Path]:
    """The cgroups that containers have, by their ids."""
    return [found for one in containers for found in of_container(one)]


def take_cgroups_away(containers: Collection[str]) -> None:
    """Have nothing frozen, so that it can be killed; and remove those that nothing is in."""
    for directory in cgroups(containers):
        with suppress(OSError, EngineError):
            if (directory / "freezer.state").exists():
                (directory / "freezer.state").write_text("THAWED")
            elif (directory / "cgroup.freeze").exists():
                (directory / "cgroup.freeze").write_text("0")
        for path, _, _ in os.walk(directory, topdown=False):
            with suppress(OSError):
                Path(path).rmdir()


def take_dead_cgroups_away(containers: Collection[str]) -> None:
    """The same when all that was in them is dead: it may take the kernel a moment to see that."""
    deadline = time.monotonic() + _SECONDS
    while cgroups(containers) and time.monotonic() < deadline:
        take_cgroups_away(containers)


def left(store: Path, containers: Collection[str], spared: frozenset[int]) -> Iterator[str]:
    """What is left of a store's containers when all were removed. What is just ending is waited for."""
    deadline = time.monotonic() + _SECONDS
    while found := list(_left(store, containers, spared)):
        if time.monotonic() > deadline:
            yield from found
            return
        time.sleep(0.01)


def _left(store: Path, containers: Collection[str], spared: frozenset[int]) -> Iterator[str]:
    for process in descendants():
        if process.pid not in spared and not _is_resident(process):
            yield f"a process is left: {process}"
    for path in (*cgroups(containers), *engine_states(store)):
        yield f"{path} is left"
    for mount in mounting.mounts():
        point = os.fsdecode(mount.point)
        if point.startswith(f"{store}/") and point != f"{store}/run/mnt":
            yield f"a mount is left at {point}"
    for one in store.glob("containers/*"):
        if one.is_dir() and not one.name.startswith("."):
            yield f"a container's directory is left: {sorted(path.name for path in one.iterdir())}"


def _is_resident(process: Process) -> bool:
    return any(one in process.command or one == process.name for one in _RESIDENTS)
