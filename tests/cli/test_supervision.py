"""What a supervisor does beside waiting: health, memory that ran out, what was used."""

from __future__ import annotations

import os
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runtime.state import Exited, Process, Restarting, Run, load_run, save_run, state_of
from runtime.supervision.healthchecks import health_of
from tests.cli.conftest import Cli
from tests.support.containers import eventually

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def directory_of(box: Cli, name: str) -> Path:
    (row,) = [row for row in box.json("ps", "-a") if row["name"] == name]
    return box.store / "containers" / str(row["id"])


def health(directory: Path, status: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        found = health_of(directory)
        return found if found and found["status"] == status else None

    found: dict[str, Any] = eventually(look)
    return found


def root_of(directory: Path) -> Path:
    run = load_run(directory)
    assert run
    assert run.init
    return Path(f"/proc/{run.init.pid}/root")


def test_health_comes_and_goes(box: Cli) -> None:
    options = ("--health-cmd", "echo looked; test -e /well", "--health-interval", "50ms", "--health-retries", "2")
    assert box.process("run", "-d", "--name", "web", *options, "main", "sleep", "1000").returncode == 0
    directory = directory_of(box, "web")
    ill = health(directory, "unhealthy")
    assert ill["failing"] >= 2
    assert (ill["checks"][-1]["code"], ill["checks"][-1]["output"]) == (1, "looked\n")
    (root_of(directory) / "well").touch()
    assert health(directory, "healthy")["failing"] == 0
    (root_of(directory) / "well").unlink()
    health(directory, "unhealthy")
    box("stop", "-t", "0", "web")


def test_a_check_that_takes_too_long_is_ended(box: Cli) -> None:
    options = ("--health-cmd", "sleep 1000", "--health-interval", "50ms", "--health-timeout", "100ms")
    box.process("run", "-d", "--name", "web", *options, "--health-retries", "1", "main", "sleep", "999")
    directory = directory_of(box, "web")
    found = health(directory, "unhealthy")
    assert found["checks"][-1]["code"] == -1
    assert "took longer than 0.1 s" in found["checks"][-1]["output"]
    box("kill", "web")
    eventually(lambda: isinstance(state_of(directory), Exited))


def test_memory_that_ran_out_is_told(box: Cli) -> None:
    script = "x=a; while :; do x=$x$x; done"
    done = box.process("run", "--name", "hog", "--memory", "20m", "main", "sh", "-c", script)
    assert done.returncode == 137
    state = state_of(directory_of(box, "hog"))
    assert isinstance(state, Exited)
    assert state.oom
    box.process("run", "--name", "fine", "main", "true")
    state = state_of(directory_of(box, "fine"))
    assert isinstance(state, Exited)
    assert not state.oom


def test_after_the_machine_went_down(box: Cli) -> None:
    """What the policy wants runs again, and nothing else does."""
    for name, policy in (
        ("no", "no"),
        ("always", "always"),
        ("unless", "unless-stopped"),
        ("stopped", "unless-stopped"),
    ):
        box.process("run", "-d", "--name", name, "--restart", policy, "main", "sleep", "1000")
    box("stop", "-t", "0", "stopped")
    runs = {name: directory_of(box, name) for name in ("no", "always", "unless", "stopped")}
    for name in ("no", "always", "unless"):
        box("kill", name)
        eventually(lambda name=name: isinstance(state_of(runs[name]), Exited))
        (runs[name] / "stopped").unlink(missing_ok=True)
    for directory in runs.values():
        run = load_run(directory)
        assert run
        save_run(directory, replace(run, boot="another boot"))
    assert box.process("start", "--policy").stdout.decode().split() == ["always", "unless"]
    assert sorted(row["name"] for row in box.json("ps")) == ["always", "unless"]
    assert box.process("start", "--policy").stdout == b""
    box("kill", "always", "unless")
    assert "chooses the containers itself" in box("start", "--policy", "no", code=2).stderr
    assert "give a NAME" in box("start", code=2).stderr


def test_a_restart_that_its_supervisor_was_killed_before(box: Cli) -> None:
    """Nobody does it unasked, and `start --policy` does."""
    box.process("run", "-d", "--name", "web", "--restart", "always", "main", "sh", "-c", "exit 3")
    directory = directory_of(box, "web")

    def waits() -> bool:
        state = state_of(directory)
        return isinstance(state, Restarting) and state.at - time.time() > 1

    eventually(waits)
    run = load_run(directory)
    assert run
    os.kill(run.supervisor.pid, signal.SIGKILL)
    eventually(lambda: isinstance(state_of(directory), Exited))
    state = state_of(directory)
    assert isinstance(state, Exited)
    assert (state.code, state.is_due) == (3, True)
    assert box.process("start", "--policy").stdout.decode().split() == ["web"]
    box("kill", "web")
    eventually(lambda: isinstance(state_of(directory), Exited))
    assert box.process("start", "--policy").stdout == b""


def test_what_a_power_cut_leaves_of_a_container_that_was_to_go_at_its_end(box: Cli) -> None:
    """Of such a container, the record alone is flushed to the disk before it starts."""
    box("create", "--rm", "--name", "gone", "main", "true")
    directory = directory_of(box, "gone")
    history = box.store / "history.git"
    for place in (directory / "gen", history / f"refs/containers/{directory.name}"):
        shutil.rmtree(place)
    nobody = Process(1, 2)
    save_run(directory, Run("run", directory.name, "another boot", "/usr/bin/crun", nobody, nobody))
    assert box.json("ps", "-a") == []
    assert not directory.exists()
    box("fsck")
    assert box.process("run", "--rm", "--name", "gone", "main", "true").returncode == 0
