"""What an earlier run left on the machine, when something fails while it is looked for or removed."""

from __future__ import annotations

import errno
import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from runtime import engine, state
from runtime.cgroups import Cgroup
from runtime.state import Running, RunPaths, state_of
from tests.support.containers import Bench, bench
from tests.support.faults import Fault
from vcs.errors import EngineError

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

FOREVER = ("sh", "-c", "echo ready; while :; do sleep 0.02; done")


@pytest.fixture(scope="module")
def place() -> Iterator[Bench]:
    with bench("crun") as made:
        yield made


def forget(paths: RunPaths) -> None:
    run = state.load_run(paths.directory)
    assert run is not None
    engine.find_engine(paths.engine_state, run.engine).forget(run.container, paths.engine_log)


@pytest.fixture
def left(place: Bench) -> Iterator[RunPaths]:
    """A container that runs, whose supervisor was killed."""
    paths = place.container()
    with place.start(paths, *FOREVER) as caller:
        assert caller.stdout is not None
        assert caller.stdout.readline() == b"ready\n"
        run = state.load_run(paths.directory)
        assert run is not None
        os.kill(run.supervisor.pid, signal.SIGKILL)
        caller.wait()
    yield paths
    forget(paths)
    assert not Cgroup.of(run.container).exists


def test_a_container_that_runs_is_not_taken_for_one_that_ended(left: RunPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its supervisor was killed before it could note the first process, and the engine's note cannot be read."""
    run = state.load_run(left.directory)
    assert run is not None
    assert run.init is not None
    left.pid_file.write_text(str(run.init.pid))
    state.save_run(left.directory, replace(run, init=None))
    for name in ("init.pid", "cgroup", "status"):
        with monkeypatch.context() as patched:
            fault = Fault(patched, Path, "read_text", errno.EMFILE, wanted=lambda path, name=name: path.name == name)
            fault.arm()
            if name == "status":  # looked at only where there are no cgroups
                patched.setattr(state, "CGROUP_PREFIX", "another-")
            with pytest.raises(OSError, match="Too many open files"):
                state_of(left.directory)
    assert state_of(left.directory) == Running(run.init.pid, supervised=False)
    left.pid_file.unlink()
    state.save_run(left.directory, run)


def test_what_cannot_be_removed_is_an_error_and_is_removed_later(
    left: RunPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = state.load_run(left.directory)
    assert run is not None
    with monkeypatch.context() as patched:
        patched.setattr(engine, "_end_all", lambda _: None)  # as one that waits for a disk does not end
        shutil.rmtree(left.engine_state / run.container)
        (left.engine_state / run.container).mkdir()
        with pytest.raises(EngineError, match="does not end"):
            forget(left)
    assert Cgroup.of(run.container).exists
    forget(left)
    assert not Cgroup.of(run.container).exists
