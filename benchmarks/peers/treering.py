"""Treering, as its users run it: the command of the environment that the benchmarks run in."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import FailedError, Run, run
from benchmarks.peers.peer import Peer
from benchmarks.residency import proportional_bytes
from fusefs.client import Service
from fusefs.datalayer import DELAY_SECONDS
from runtime.containers import Containers
from runtime.lowers import lower_of, with_data
from runtime.overlay import mount_overlay, prepare_upper
from runtime.settings import Settings
from runtime.system.mounts import umount
from vcs.history import Author
from vcs.store import Store

COMMAND = Path(sys.executable).parent / "treering"
_CONTAINER = "container"


def treering(place: Path, verb: str, *words: str | Path) -> Run:
    """Run one verb on the store at `place`. Without a fork server: what its children take would not be measured."""
    variables = {
        "TREERING_AUTHOR_NAME": "Benchmark",
        "TREERING_AUTHOR_EMAIL": "benchmark@localhost",
        "TREERING_FORK_SERVER": "0",
    }
    return run([COMMAND, verb, "--store", place, *words], variables)


def service_bytes(place: Path) -> int:
    """Memory of all processes of the service; what they have in common counts once (Pss)."""
    holder, workers = service_processes(place)
    return sum(map(proportional_bytes, [holder, *workers] if holder else workers))


def service_processes(place: Path) -> tuple[int | None, list[int]]:
    """The process that holds the service's mount, if it is another than those that serve, and these."""
    status = json.loads(treering(place, "service", "status", "--format", "json").output)
    if "workers" in status:
        return status["holder"], list(status["workers"])
    return None, [status["pid"]]


def wait_for_copies(place: Path) -> None:
    """Until no plain copies are made, or about to be made, of what was read."""
    quiet = time.monotonic()
    while time.monotonic() < quiet + DELAY_SECONDS + 1:
        if _makes_copies(place):
            quiet = time.monotonic()
        time.sleep(0.1)


def _makes_copies(place: Path) -> bool:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().split(b"\0")
            if os.fsencode(place) in words and any(b"vcs.plainwriter" in word for word in words):
                return True
    return False


class Treering(Peer):
    """Imports of a directory, one after the other."""

    name = "treering"
    program = os.fspath(COMMAND)
    syncs = True

    def prepare(self, place: Path) -> None:
        treering(place, "init")

    def save(self, place: Path, source: Path, label: str) -> Run:
        done = treering(place, "import", source, "--branch", "main", "--allow-empty", "-m", label)
        treering(place, "tag", label, "main")
        return done

    def diff(self, place: Path, old: str, new: str) -> Run:
        return treering(place, "diff", old, new)

    def branch(self, place: Path, label: str, name: str) -> Run:
        return treering(place, "branch", name, label)

    def rollback(self, place: Path, label: str, target: Path) -> Run:
        return treering(place, "export", label, target) + run(["sync", "-f", target])

    def repack(self, place: Path) -> Run | None:
        try:
            return treering(place, "gc", "--repack")
        except FailedError as error:
            if "no such command" in str(error).lower() or "no such option" in str(error).lower():
                return None
            raise

    def finish(self, place: Path) -> None:
        if (place / "format").exists():
            Service.stop(place, force=True)


class TreeringContainer(Treering):
    """An import first; then commits of a container on it, in whose overlay the changes were made."""

    name = "treering, container"
    in_a_container = True

    def save(self, place: Path, source: Path, label: str) -> Run:
        if not any((place / "containers").iterdir()):
            return super().save(place, source, label)
        done = treering(place, "commit", _CONTAINER, "--branch", "main", "-m", label)
        treering(place, "tag", label, "main")
        return done

    def reads(self, place: Path, source: Path) -> Path:
        with Store.open(place) as store:
            known = Containers(store).all()
            return known[0].upper if known else source

    @contextlib.contextmanager
    def opened(self, place: Path, source: Path, label: str) -> Iterator[Path]:
        """The container's merged root. Not timed, so it is made without starting a process in it: a corpus has none."""
        merged = place.with_name(f"{place.name}-merged")
        merged.mkdir(exist_ok=True)
        with Store.open(place) as store, Service.ensure(place) as lease:
            containers = Containers(store)
            known = containers.all()
            if known:
                container = known[0]
            else:
                author = Author("Benchmark", "benchmark@localhost", int(time.time()))
                container = containers.create(label, store.tags()[label], Settings(), author, _CONTAINER)
            lower = lower_of(lease.mountpoint, store.commit(container.base).root)
            prepare_upper(lower, container.upper, container.work)
            overlay = mount_overlay(lower, container.upper, container.work, merged, data=with_data(lower)[1])
            try:
                yield merged
            finally:
                os.close(overlay.root)
                umount(os.fsencode(merged))
        os.sync()

    def rollback(self, place: Path, label: str, target: Path) -> Run:
        """In place: the container goes on from the older state."""
        return treering(place, "rollback", _CONTAINER, label)
