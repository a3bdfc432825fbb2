"""Commits of containers that run, against what a full look at them finds while they stand still."""

from __future__ import annotations

import ctypes
import os
import random
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

import pytest

from runtime import autocommit, running
from runtime.capturing import capture as capturing
from runtime.capturing.standstill import Standstill
from runtime.containers import Container
from runtime.imagechange import image_change
from runtime.stubs import read_stubs
from runtime.upper import look, prefix_of, scan_upper
from tests.runtime.live.conftest import ANA, Place
from tests.runtime.overlay_cases import described, needs_root
from tests.runtime.test_upper_random import OPERATIONS, Hand
from tests.support.containers import eventually
from tests.support.fire import counting, counting_in_memory, inside, mapping
from vcs.scratch import Scratch
from vcs.snapshot import Snapshot

pytestmark = needs_root

ROUNDS = int(os.environ.get("TREERING_LIVE_ROUNDS", "25"))


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
    thaw = Standstill.thaw

    def look_first(still: Standstill) -> float:
        seen.append(looked(place, place.made[0]))
        return thaw(still)

    monkeypatch.setattr(Standstill, "thaw", look_first)
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


def _counting_without_its_first_thread(path: Path) -> Callable[[], None]:
    """Counts through a mapping in a thread that outlives the first one of its process."""

    def work() -> None:
        begun = threading.Event()

        def go_on() -> None:
            begun.wait()
            counting_in_memory(path, path.with_name("other"))()

        threading.Thread(target=go_on).start()
        begun.set()
        ctypes.CDLL(None).pthread_exit(None)

    return work


@pytest.mark.parametrize("way", ["told", "looking"])
def test_a_process_goes_on_without_its_first_thread(
    place: Place, frozen: list[Snapshot], monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """/proc/PID says that it has nothing mapped, and its stores change no time stamp."""
    WAYS[way](monkeypatch)
    container = place.start("sh", "-c", "mkdir /d; exec sleep 1000")
    init = place.init(container)
    root = Path(f"/proc/{init}/root")
    eventually(lambda: (root / "d").is_dir())
    before = 0
    with inside(container.id, init, _counting_without_its_first_thread(Path("/d/a"))):
        for number in range(5):
            eventually(partial(_is_past, root / "d/other", before))
            result = place.states.commit(container, f"commit {number}", ANA)
            found = place.root_of(result.commit)
            assert found.id == frozen[-1].id
            before = _count(found.read(found.lookup(b"/d/other").content))  # type: ignore[arg-type]


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
