"""What a supervisor lacks for a moment ends no container, loses no exit code, and keeps no restart from happening."""

from __future__ import annotations

import errno
import os
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from runtime import engine, running
from runtime.cgroups import Cgroup
from runtime.reconciling import reconcile
from runtime.settings import Health, Restart
from runtime.state import Exited, Running, State, load_run, save_exit, state_of
from runtime.supervision import ending, healthchecks, supervisor
from runtime.supervision.attachments import knock
from runtime.supervision.healthchecks import health_of
from tests.runtime.live.conftest import ANA, Place
from tests.runtime.overlay_cases import needs_root
from tests.support.containers import eventually
from tests.support.faults import Fault
from vcs.errors import EngineError

pytestmark = needs_root

TICKS = ("sh", "-c", "while :; do echo . >> /ticks; sleep 0.01; done")


def orphaned(directory: Path) -> None:
    """Kill who looks after a container: its supervisor, and the monitor if the container was just handed to that."""
    while (state := state_of(directory)) and isinstance(state, Running) and state.supervised:
        run = load_run(directory)
        assert run
        with suppress(ProcessLookupError):
            os.kill(run.supervisor.pid, signal.SIGKILL)
        eventually(lambda process=run.supervisor: not process.alive())
    assert isinstance(state, Running)


def goes_on(place: Place, init: int) -> None:
    ticks = Path(f"/proc/{init}/root/ticks")
    before = eventually(ticks.exists) and ticks.stat().st_size
    eventually(lambda: ticks.stat().st_size > before)


@pytest.mark.parametrize(
    ("owner", "name", "error"),
    [(os, "pidfd_open", errno.EMFILE), (supervisor, "save_run", errno.ENOSPC),
     (supervisor, "find_pipes", errno.EMFILE)],
)  # fmt: skip
def test_taking_over_fails(place: Place, monkeypatch: pytest.MonkeyPatch, owner: object, name: str, error: int) -> None:
    fault = Fault(monkeypatch, owner, name, error)
    container = place.start(*TICKS, restart=Restart("always"))
    init, directory = place.init(container), container.paths.directory
    fault.arm()
    orphaned(directory)

    def looked_at() -> State:
        reconcile(place.containers, container, ANA)  # does nothing while the dead one's lock is held
        return state_of(directory)

    def is_struck() -> bool:
        """Who was killed may have been handing it over: then somebody has it who had not to take it over."""
        if looked_at() == Running(init, supervised=True) and not fault.struck:
            orphaned(directory)
        return fault.struck

    eventually(is_struck)
    goes_on(place, init)
    fault.disarm()
    eventually(lambda: looked_at() == Running(init, supervised=True) or name == "save_run")
    goes_on(place, init)
    running.stop(place.containers.reload(container), 0)
    end = state_of(directory)
    assert isinstance(end, Exited)
    assert end.error is None


def test_a_health_check_cannot_be_begun(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    fault = Fault(monkeypatch, healthchecks, "aside", errno.EAGAIN)
    fault.arm()
    container = place.start(*TICKS, health=Health(("CMD", "true"), interval=0.05))
    eventually(lambda: fault.struck)
    eventually(lambda: (health_of(container.paths.directory) or {}).get("status") == "healthy")
    goes_on(place, place.init(container))


def test_who_attaches_and_cannot_be_served_is_told(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    fault = Fault(monkeypatch, socket, "socketpair", errno.EMFILE)
    container = place.start(*TICKS, tty=True, interactive=True, health=Health(("CMD", "true")))
    fault.arm()
    for said in ("error", "terminal"):
        peer = knock(container.paths.directory)
        peer.send({"attach": "out"})
        told = [peer.receive(), peer.receive()]
        assert [next(iter(message.fields)) for message in told if message] == ["started", said]
        for message in told:
            for fd in message.fds if message else ():
                os.close(fd)
        peer.close()
    goes_on(place, place.init(container))


@pytest.mark.parametrize(
    ("owner", "name"),
    [(Cgroup, "of"), (engine.Engine, "knows"), (engine, "remove_cgroups")],
)
def test_a_container_ends_and_something_fails(
    place: Place, monkeypatch: pytest.MonkeyPatch, owner: object, name: str
) -> None:
    """Its exit code is kept, and it is started again as was promised."""
    fault = Fault(monkeypatch, owner, name, errno.ENFILE)
    again = Restart("on-failure", 1)
    container = place.start(
        "sh", "-c", "echo . >> /runs; while ! test -e /go; do sleep 0.01; done; exit 7", restart=again
    )
    init, directory = place.init(container), container.paths.directory
    fault.arm()
    Path(f"/proc/{init}/root/go").touch()
    eventually(lambda: isinstance(state_of(directory), Exited))
    assert fault.struck
    run = load_run(directory)
    assert run
    assert (run.restarts, state_of(directory)) == (1, Exited(7, None, state_of(directory).ended))  # type: ignore[union-attr]
    eventually(lambda: not Cgroup.of(container.id).exists)


def test_a_start_that_is_told_to_have_failed_is_over(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it takes to write that down: who is told may look at the container, and remove it."""

    def slowly(*args: Any, **options: Any) -> None:
        time.sleep(0.3)
        save_exit(*args, **options)

    monkeypatch.setattr(ending, "save_exit", slowly)
    with pytest.raises(EngineError, match="no-such-program"):
        place.start("/no-such-program")
    (container,) = place.made
    assert isinstance(state_of(container.paths.directory), Exited)
