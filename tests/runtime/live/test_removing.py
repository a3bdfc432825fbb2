"""Containers whose supervisor was killed are removed with all that they left on the machine, or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import signal

import pytest

from runtime import engine
from runtime.cgroups import Cgroup
from runtime.containers import Container
from runtime.removal import remove
from runtime.settings import Health
from runtime.state import Exited, load_run, save_exit, state_of
from tests.runtime.live.conftest import ANA, Place
from tests.runtime.overlay_cases import needs_root
from tests.support.containers import eventually
from tests.support.faults import Fault
from vcs.errors import EngineError

pytestmark = needs_root


def removed(place: Place, container: Container) -> None:
    remove(place.containers, container, ANA, discard=True)
    place.made.remove(container)


def crashed(place: Place) -> Container:
    """One of which all processes were killed, and nobody has cleaned up. With health checks it keeps its supervisor."""
    container = place.start("sleep", "1000", health=Health(("CMD", "true")))
    run = load_run(container.paths.directory)
    assert run
    assert run.init
    os.kill(run.supervisor.pid, signal.SIGSTOP)  # or it sees the end
    for process in (run.init, run.supervisor):
        os.kill(process.pid, signal.SIGKILL)
        eventually(lambda process=process: not process.alive())
    assert state_of(container.paths.directory) == Exited(None)
    return container


def test_an_engine_that_cannot_be_started_just_then(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    container = crashed(place)
    left = container.paths.engine_state / container.id
    assert left.exists()
    Fault(monkeypatch, os, "posix_spawn", errno.ENOMEM).arm()
    with pytest.raises(EngineError, match="Cannot allocate memory"):
        removed(place, container)
    assert left.exists()
    assert place.containers.find(container.id).base == place.base
    removed(place, container)
    assert not left.exists()
    assert not Cgroup.of(container.id).exists


def test_an_engine_that_is_installed_no_more(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    container = crashed(place)
    monkeypatch.setattr(engine, "SEARCH_PATH", "/nowhere")
    monkeypatch.setattr(os, "access", lambda *_: False)
    removed(place, container)
    assert not (container.paths.engine_state / container.id).exists()
    assert not Cgroup.of(container.id).exists


def test_cgroups_of_one_whose_end_is_known(place: Place) -> None:
    """Its supervisor could not remove them just then."""
    container = crashed(place)
    run = load_run(container.paths.directory)
    assert run
    save_exit(container.paths.directory, run, Exited(0))
    shutil.rmtree(container.paths.engine_state / container.id)
    assert Cgroup.of(container.id).exists
    removed(place, container)
    assert not Cgroup.of(container.id).exists
