"""Commits of containers that run, against what a full look at them finds while they stand still."""

from __future__ import annotations

import errno
import mmap
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import NoReturn

import pytest

from runtime import autocommit, pausing, running
from runtime.capturing import capture as capturing
from runtime.capturing import standstill
from runtime.cgroups import Cgroup, freezing
from runtime.containers import Container, Containers
from runtime.imagechange import image_change
from runtime.reconciling import reconcile
from runtime.settings import Settings
from runtime.state import Running, state_of
from runtime.states import States
from runtime.stubs import read_stubs
from runtime.upper import look, prefix_of, scan_upper
from tests.cli.conftest import PROJECT, stop_service
from tests.runtime.overlay_cases import described, needs_root
from tests.runtime.test_upper_random import OPERATIONS, Hand
from tests.support.busybox_root import make_busybox_root
from tests.support.containers import eventually
from tests.support.fire import counting, counting_in_memory, inside, mapping
from vcs.errors import BadInput, Conflict, EngineError
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
        running.start(self.containers, container, ANA, detach=True)
        return container

    def start_again(self, container: Container) -> None:
        """A container's end is known a moment before its supervisor lets go of it."""

        def started() -> bool:
            with suppress(Conflict):
                running.start(self.containers, container, ANA, detach=True)
                return True
            return False

        eventually(started)

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


@pytest.mark.parametrize("way", ["told", "looking"])
@pytest.mark.parametrize("counts", [counting, counting_in_memory])
def test_two_files_are_as_they_were_at_one_moment(
    place: Place, monkeypatch: pytest.MonkeyPatch, counts: Callable[[Path, Path], Callable[[], None]], way: str
) -> None:
    """Each count is written to `a`, then to `z`; what is between takes time to be read. Stores through a mapping change
    no time stamp while the page is dirty, and are in the next commit all the same."""
    WAYS[way](monkeypatch)
    script = "mkdir /d; for i in $(seq 400); do echo $i > /d/m$i; done; touch /ready; exec sleep 1000"
    container = place.start("sh", "-c", script)
    init = place.init(container)
    eventually(lambda: Path(f"/proc/{init}/root/ready").exists())
    before = 0
    with inside(container.id, init, counts(Path("/d/a"), Path("/d/z"))):
        for number in range(50):
            eventually(partial(_is_past, Path(f"/proc/{init}/root/d/z"), before))
            result = place.states.commit(container, f"commit {number}", ANA)
            found = place.root_of(result.commit)
            one, other = (_count(found.read(found.lookup(path).content)) for path in (b"/d/a", b"/d/z"))  # type: ignore[arg-type]
            assert one - other in (0, 1)
            assert other > before
            before = other


def _is_past(path: Path, number: int) -> bool:
    return path.exists() and _count(path.read_bytes()) > number


def _count(data: bytes) -> int:
    digits = data.strip(b"\0")
    return int(digits) if digits else 0


# What goes wrong


KILLED_WHILE_IT_STANDS = """
import os, sys
from pathlib import Path
from runtime import states
from runtime.capturing import capture
from runtime.containers import Containers
from vcs.errors import BadInput, Conflict
from vcs.history import Author
from vcs.store import Store

def stand(*_):
    os.write(1, b"standing")
    os.read(0, 1)

capture.Capture._standing = stand
with Store.open(Path(sys.argv[1])) as store:
    containers = Containers(store)
    states.States(containers).commit(containers.find("box"), "never", Author("A", "a@example.org", 0))
"""


@pytest.mark.parametrize("way", ["killed", "asked to end"])
def test_a_container_goes_on_when_its_commit_is_killed(place: Place, way: str) -> None:
    container = place.start("sh", "-c", "while :; do echo . >> /ticks; done")
    init = place.init(container)
    ticks = Path(f"/proc/{init}/root/ticks")
    group = Cgroup.of(container.id)
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", KILLED_WHILE_IT_STANDS, str(place.store.path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        env={"PYTHONPATH": str(PROJECT), "PATH": os.environ["PATH"]},
    )  # fmt: skip
    try:
        assert process.stdout
        assert process.stdout.read(8) == b"standing"
        assert group.frozen
        process.send_signal(signal.SIGKILL if way == "killed" else signal.SIGTERM)
        process.wait(30)
        eventually(lambda: not group.frozen)
        before = ticks.stat().st_size
        eventually(lambda: ticks.stat().st_size > before)
    finally:
        process.kill()
        process.communicate(timeout=30)
    result = place.states.commit(container, "and again", ANA)
    assert result.made
    assert not group.frozen


def test_a_container_goes_on_when_reading_fails_or_takes_too_long(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    container = place.start("sleep", "1000")
    group = Cgroup.of(container.id)
    head = place.states.head(container)

    def fail(*_: object) -> None:
        assert group.frozen
        raise BadInput("cannot be read")

    with monkeypatch.context() as patched:
        patched.setattr(capturing.Capture, "_standing", fail)
        with pytest.raises(BadInput):
            place.states.commit(container, "never", ANA)
    assert not group.frozen

    def wait(*_: object) -> None:
        eventually(lambda: not group.frozen)

    with monkeypatch.context() as patched:
        patched.setattr(capturing.Capture, "_standing", wait)
        patched.setattr(capturing, "Standstill", lambda group: standstill.Standstill(group, longest=0.1))
        with pytest.raises(Conflict, match="went on"):
            place.states.commit(container, "never", ANA)
    assert place.states.head(container) == head


def test_the_keeper_is_killed(place: Place) -> None:
    container = place.start("sleep", "1000")
    group = Cgroup.of(container.id)
    with standstill.Standstill(group) as still:
        still.freeze()
        assert group.frozen
        os.kill(still._keeper, signal.SIGKILL)
        still.thaw()
        assert not group.frozen


def killed_with_its_keeper(place: Place, container: Container) -> None:
    """A commit that is killed while the container stands still, and its keeper with it."""
    child = os.fork()
    if not child:
        freeze = capturing.Standstill.freeze

        def die(still: capturing.Standstill) -> None:
            freeze(still)
            os.kill(still._keeper, signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)

        capturing.Standstill.freeze = die  # type: ignore[method-assign]
        try:
            with Store.open(place.store.path) as store:
                States(Containers(store)).commit(container, "never", ANA)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert Cgroup.of(container.id).frozen


def test_a_commit_and_its_keeper_are_killed(place: Place) -> None:
    """The next look at containers lets it go on, and so does the next commit."""
    container = place.start("sleep", "1000")
    group = Cgroup.of(container.id)
    killed_with_its_keeper(place, container)
    reconcile(place.containers, container, ANA)
    assert not group.frozen
    killed_with_its_keeper(place, container)
    result = place.states.commit(container, "next", ANA, allow_empty=True)
    assert (result.made, group.frozen) == (True, False)
    assert result.paused is not None


class Unwilling:
    """A freezer that cannot be used just then: thawing fails so many times, in whatever process."""

    def __init__(self, patched: pytest.MonkeyPatch, times: int) -> None:
        self._left = mmap.mmap(-1, 1)
        self._left[0] = times
        thaw = Cgroup.thaw

        def fail(group: Cgroup, *seconds: float) -> None:
            if self._left[0]:
                self._left[0] -= 1
                raise EngineError("the container's freezer cannot be used: Too many open files")
            thaw(group, *seconds)

        patched.setattr(Cgroup, "thaw", fail)

    def relent(self) -> None:
        self._left[0] = 0


@pytest.mark.parametrize("times", [1, 3])
def test_thawing_fails_for_a_moment(place: Place, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    container = place.start("sleep", "1000")
    with monkeypatch.context() as patched:
        Unwilling(patched, times)
        assert place.states.commit(container, "held", ANA, allow_empty=True).made
    assert not Cgroup.of(container.id).frozen
    assert not standstill.is_noted(container.paths.directory)


@pytest.mark.parametrize("otherwise", ["read", "unreadable"])
def test_thawing_fails_and_fails(place: Place, monkeypatch: pytest.MonkeyPatch, otherwise: str) -> None:
    """One error that says so; the next look at containers tries again, and so does the next commit."""
    container = place.start("sleep", "1000")
    group = Cgroup.of(container.id)
    head = place.states.head(container)
    with monkeypatch.context() as patched:
        unwilling = Unwilling(patched, 255)
        if otherwise == "unreadable":
            patched.setattr(capturing.Capture, "_standing", unreadable)
        with pytest.raises(EngineError, match="stands still"):
            place.states.commit(container, "never", ANA)
        assert (group.frozen, place.states.head(container)) == (True, head)
        reconcile(place.containers, container, ANA)
        assert group.frozen
        unwilling.relent()
        reconcile(place.containers, container, ANA)
        assert not group.frozen
        assert not standstill.is_noted(container.paths.directory)


def unreadable(*_: object) -> None:
    raise BadInput("cannot be read")


def test_a_container_of_which_nobody_can_tell_whether_it_stands(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is paused must not go on because its freezer could not be read just then."""
    container = place.start("sleep", "1000")
    pausing.pause(container)

    def fail(_: Path) -> NoReturn:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patched:
        for look in ("is_frozen_v1", "is_frozen_v2"):
            patched.setattr(freezing, look, fail)
        with pytest.raises(OSError, match="Too many open files"):
            place.states.commit(container, "never", ANA)
    assert Cgroup.of(container.id).frozen
    pausing.unpause(container)


def test_what_the_user_has_paused_since_stays_paused(place: Place) -> None:
    container = place.start("sleep", "1000")
    group = Cgroup.of(container.id)
    killed_with_its_keeper(place, container)
    group.thaw()
    pausing.pause(container)
    reconcile(place.containers, container, ANA)
    assert group.frozen
    pausing.unpause(container)


def test_a_paused_container_is_committed_and_stays_paused(place: Place) -> None:
    container = place.start("sh", "-c", "echo 1 > /one; exec sleep 1000")
    eventually(lambda: Path(f"/proc/{place.init(container)}/root/one").exists())
    group = Cgroup.of(container.id)
    group.freeze()
    result = place.states.commit(container, "paused", ANA)
    assert (result.made, result.paused) == (True, None)
    assert group.frozen
    group.thaw()


# From one commit to the next


def test_a_container_starts_again_on_its_last_commit(place: Place) -> None:
    container = place.start("sh", "-c", "test -e /one || echo 1 > /one; exec sleep 1000")
    eventually(lambda: Path(f"/proc/{place.init(container)}/root/one").exists())
    result = place.states.commit(container, "one", ANA)
    running.stop(container, 0)
    place.start_again(container)
    now = place.containers.reload(container)
    assert (now.base, now.record.current) == (result.commit, 1)
    assert place.states.changes(now) == []
    changes = place.store.history.reflog(now.ref)
    assert [(change.old, change.new) for change in changes] == [
        (result.commit, result.commit), (place.base, result.commit), (None, place.base),
    ]  # fmt: skip


def test_what_was_written_after_the_last_commit_stays(place: Place) -> None:
    script = "test -e /two && exec sleep 1000; echo 1 > /one; while ! test -e /go; do sleep 0.01; done; echo 2 > /two"
    container = place.start("sh", "-c", script)
    init = place.init(container)
    eventually(lambda: Path(f"/proc/{init}/root/one").exists())
    result = place.states.commit(container, "one", ANA)
    Path(f"/proc/{init}/root/go").touch()
    assert running.wait(container, 30)
    place.start_again(container)
    now = place.containers.reload(container)
    assert (now.base, place.states.head(now)) == (place.base, result.commit)
    root = Path(f"/proc/{place.init(now)}/root")
    assert (root / "two").read_text() == "2\n"
    assert (root / "one").read_text() == "1\n"


def test_squash(place: Place) -> None:
    container = place.start("sh", "-c", "echo 1 > /one; exec sleep 1000")
    init = place.init(container)
    eventually(lambda: Path(f"/proc/{init}/root/one").exists())
    place.states.commit(container, "one", ANA)
    (Path(f"/proc/{init}/root/two")).write_text("2")
    place.states.commit(container, "two", ANA)
    (Path(f"/proc/{init}/root/three")).write_text("3")
    change = image_change(['CMD ["cat", "/three"]', "ENV A=1"])
    result = place.states.commit(container, "all", ANA, squash=True, changes=[change], branch="all")
    info = place.store.commit(result.commit)
    assert info.parents == (place.base,)
    assert {os.fsdecode(one.path) for one in result.changes} >= {"/one", "/two", "/three"}
    assert place.store.history.config(result.commit)["config"] == {"Cmd": ["cat", "/three"], "Env": ["A=1"]}
    assert place.states.head(container) == result.commit
    assert not place.states.commit(container, "nothing", ANA).made


# Commits that nobody asks for each time


def test_automatic_commits(place: Place) -> None:
    container = place.start("sh", "-c", "while ! test -e /go; do sleep 0.01; done; echo end > /end; exit 3")
    root = Path(f"/proc/{place.init(container)}/root")
    (root / "one").write_text("1")
    first = autocommit.after_exec(place.containers, container, ("sh", "-c", "echo 1 > one"), 0, 1.234, ANA)
    assert first.made
    assert place.store.commit(first.commit).message.splitlines() == [
        "sh -c 'echo 1 > one'", "", "Container: box", "Command: sh -c 'echo 1 > one'", "Exit-Code: 0",
        "Duration: 1.23s", "Changes: A1",
    ]  # fmt: skip
    assert not autocommit.after_exec(place.containers, container, ("true",), 0, 0.1, ANA).made
    again = autocommit.tick(place.containers, container, ANA)
    assert again is not None
    assert not again.made
    (root / "go").touch()
    assert running.wait(container, 30)
    assert autocommit.tick(place.containers, container, ANA) is None
    last = autocommit.after_exit(place.containers, container, 3, 5.0, ANA)
    assert "Exit-Code: 3" in place.store.commit(last.commit).message
    now = place.containers.reload(container)
    assert now.base == last.commit
    assert place.store.history.resolve(f"{now.ref}@{{1}}") == first.commit
