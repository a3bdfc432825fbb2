"""A container that was made to stand still goes on, whoever is killed and whatever fails."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

from runtime import pausing
from runtime.capturing import capture as capturing
from runtime.capturing import standstill
from runtime.cgroups import Cgroup, freezing
from runtime.containers import Container, Containers
from runtime.reconciling import reconcile
from runtime.states import States
from tests.cli.conftest import PROJECT
from tests.runtime.live.conftest import ANA, Place
from tests.runtime.overlay_cases import needs_root
from tests.support.containers import eventually
from tests.support.faults import Fault
from vcs.errors import BadInput, Conflict, EngineError
from vcs.store import Store

pytestmark = needs_root


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
        freeze = standstill.Standstill.freeze

        def die(still: standstill.Standstill) -> None:
            freeze(still)
            os.kill(still._keeper, signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)

        standstill.Standstill.freeze = die  # type: ignore[assignment, method-assign]
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


def unwilling(patched: pytest.MonkeyPatch, times: int) -> Fault:
    """A freezer that cannot be used just then."""
    error = EngineError("the container's freezer cannot be used: Too many open files")
    fault = Fault(patched, Cgroup, "thaw", error)
    fault.arm(times)
    return fault


@pytest.mark.parametrize("times", [1, 3])
def test_thawing_fails_for_a_moment(place: Place, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    container = place.start("sleep", "1000")
    with monkeypatch.context() as patched:
        unwilling(patched, times)
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
        fault = unwilling(patched, 255)
        if otherwise == "unreadable":
            patched.setattr(capturing.Capture, "_standing", unreadable)
        with pytest.raises(EngineError, match="stands still"):
            place.states.commit(container, "never", ANA)
        assert (group.frozen, place.states.head(container)) == (True, head)
        reconcile(place.containers, container, ANA)
        assert group.frozen
        fault.disarm()
        reconcile(place.containers, container, ANA)
        assert not group.frozen
        assert not standstill.is_noted(container.paths.directory)


@pytest.mark.parametrize("verb", ["commit", "pause"])
def test_freezing_fails_when_some_stand_already(place: Place, monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
    """And they cannot be let go on just then either."""
    container = place.start("sleep", "1000")

    def freeze_it() -> None:
        if verb == "pause":
            pausing.pause(container)
        else:
            place.states.commit(container, "never", ANA)

    group = Cgroup.of(container.id)
    freeze = Cgroup.freeze

    def fail(group: Cgroup, seconds: float = 10) -> None:
        freeze(group, seconds)
        raise EngineError("the container's freezer cannot be used: No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Cgroup, "freeze", fail)
        fault = unwilling(patched, 255)
        with pytest.raises(EngineError, match="stands still"):
            freeze_it()
        assert standstill.is_noted(container.paths.directory)
        fault.disarm()
        reconcile(place.containers, container, ANA)
        assert not group.frozen
        with pytest.raises(EngineError, match="No space left"):
            freeze_it()
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
