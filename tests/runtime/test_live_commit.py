"""Commits of containers that run, against what a full look at them finds while they stand still."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from runtime import capture as capturing
from runtime import running
from runtime.cgroups import Cgroup
from runtime.containers import Container, Containers
from runtime.settings import Settings
from runtime.state import Running, state_of
from runtime.states import States
from runtime.stubs import read_stubs
from runtime.upper import look, prefix_of, scan_upper
from tests.cli.conftest import stop_service
from tests.runtime.overlay_cases import described, needs_root
from tests.runtime.test_upper_random import OPERATIONS, Hand
from tests.support.busybox_root import make_busybox_root
from tests.support.containers import eventually
from tests.support.fire import inside, mapping
from vcs.history import Author
from vcs.importer import import_directory
from vcs.scratch import Scratch
from vcs.snapshot import Snapshot
from vcs.store import Store

pytestmark = needs_root

ROUNDS = int(os.environ.get("TREERING_LIVE_ROUNDS", "25"))
ANA = Author("Ana", "ana@example.org", 1_700_000_000)


class Place:
    """A store with a running container."""

    def __init__(self, path: Path) -> None:
        self.store = Store.create(path / "store")
        root = make_busybox_root(path / "root")
        with self.store.batch() as batch:
            found = import_directory(batch, root)
        self.base = self.store.add_commit(found.root, {"config": {"Cmd": ["sleep", "1000"]}}, "base", ANA)
        self.store.history.move("refs/heads/main", self.base, None, "base", ANA)
        self.containers = Containers(self.store)
        self.states = States(self.containers)
        self.made: list[Container] = []

    def start(self, *args: str, name: str = "box") -> Container:
        settings = Settings(args=args, network="none", profile=False)
        container = self.containers.create("main", self.base, settings, ANA, name)
        self.made.append(container)
        running.start(self.containers, container, detach=True)
        return container

    def init(self, container: Container) -> int:
        state = state_of(container.paths.directory)
        assert isinstance(state, Running)
        return state.pid

    def root_of(self, commit: str) -> Snapshot:
        return self.store.snapshot_of(commit)

    def close(self) -> None:
        for container in self.made:
            with suppress(Exception):
                Cgroup.of(container.id).thaw()
            with suppress(Exception):
                running.stop(self.containers.reload(container), 0)
        self.store.close()
        stop_service(self.store.path)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.close()


def looked(place: Place, container: Container) -> Snapshot:
    """What a scan finds that goes by nothing that was seen."""
    generation = container.paths.generation(container.record.current)
    scratch = Scratch(place.store)
    base = place.store.snapshot_of(container.base)
    upper = container.paths.upper(container.record.current)
    found = scan_upper(upper, base, scratch, stubs=read_stubs(generation), prefix=prefix_of(generation))
    return Snapshot(scratch, found.root)


@pytest.fixture
def frozen(place: Place, monkeypatch: pytest.MonkeyPatch) -> list[Snapshot]:
    """What the container held while it stood still, at each commit."""
    seen: list[Snapshot] = []
    thaw = capturing.Standstill.thaw

    def look_first(still: capturing.Standstill) -> float:
        seen.append(looked(place, place.made[0]))
        return thaw(still)

    monkeypatch.setattr(capturing.Standstill, "thaw", look_first)
    return seen


def without_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capturing, "watched", lambda _: None)


def in_two_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    without_watch(monkeypatch)
    monkeypatch.setattr(look, "_LARGE", 1)


WAYS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "told": lambda _: None,
    "looking": without_watch,
    "two processes": in_two_processes,
}


def at_random(top: Path, seed: int, links: bool) -> Callable[[], None]:
    """All that can be done to files, with hard links or without."""
    operations = [operation for operation in OPERATIONS if links or operation.__name__ != "link"]

    def work() -> None:
        chance = random.Random(seed)
        hand = Hand(top)
        while True:
            operation = chance.choice(operations)
            if operation.__name__ == "remove" and chance.random() < 0.7:
                continue  # or there would soon be nothing left
            with suppress(OSError, RecursionError, MemoryError):
                operation(hand, chance.randrange(60), chance.randrange(60), chance.randrange(40))

    return work


@pytest.mark.parametrize("links", [False, True], ids=["plain", "with links"])
@pytest.mark.parametrize("way", WAYS)
def test_a_commit_is_what_the_container_held_while_it_stood_still(
    place: Place, frozen: list[Snapshot], monkeypatch: pytest.MonkeyPatch, way: str, links: bool
) -> None:
    WAYS[way](monkeypatch)
    container = place.start("sh", "-c", "mkdir -p /work/sub /maps /still; cp -r /etc /bin /still; exec sleep 1000")
    init = place.init(container)
    eventually(lambda: Path(f"/proc/{init}/root/still/bin/busybox").exists())
    with ExitStack() as stack:
        for seed in range(2):
            stack.enter_context(inside(container.id, init, at_random(Path("/work"), seed, links)))
        stack.enter_context(inside(container.id, init, mapping(Path("/maps"), 7)))
        for number in range(ROUNDS):
            result = place.states.commit(container, f"commit {number}", ANA)
            assert result.paused is not None
            found = place.root_of(result.commit)
            if found.id != frozen[-1].id:
                assert described(found) == described(frozen[-1])
            assert found.id == frozen[-1].id
    assert len(frozen) == ROUNDS
