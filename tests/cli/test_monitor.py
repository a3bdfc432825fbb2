"""The process that looks after quiet containers."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import pytest

from runtime.state import RUN_LOCK, Exited, Running, load_run, state_of
from runtime.supervision import monitor, sleeping, supervisor
from runtime.supervision.job import Job
from runtime.supervision.sleeping import Channel, Sleeper
from runtime.supervision.supervisor import supervise
from runtime.supervision.watching import Supervise
from tests.cli.conftest import Cli, environment
from tests.support import cgroups
from tests.support.containers import eventually, is_gone
from tests.support.processes import children_of

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def directories(box: Cli) -> dict[str, Path]:
    return {row["name"]: box.store / "containers" / str(row["id"]) for row in box.json("ps", "-a")}


def supervisor_of(directory: Path) -> int:
    run = load_run(directory)
    assert run
    return run.supervisor.pid


def name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def runs(pid: int, arguments: bytes) -> bool:
    """Whether a process or one below it was given these arguments."""
    with suppress(FileNotFoundError, ProcessLookupError):
        found = Path(f"/proc/{pid}/cmdline").read_bytes()
        return arguments in found or any(runs(child, arguments) for child in children_of(pid))
    return False


def let_go(directory: Path) -> None:
    """Make the file that a container waits for before it ends."""
    run = load_run(directory)
    assert run
    assert run.init
    (Path(f"/proc/{run.init.pid}/root") / "go").touch()


def detached(box: Cli, name: str, *command: str, options: tuple[str, ...] = ()) -> None:
    done = box.process("run", "-d", "--name", name, "--network", "none", *options, "main", *command)
    assert done.returncode == 0, done.stderr


def watched(directory: Path) -> int:
    """The monitor's pid, once it has the container."""
    return int(eventually(lambda: name_of(pid := supervisor_of(directory)) == "treering-watch" and pid))


def test_one_monitor_for_all_and_it_leaves(box: Cli) -> None:
    for number in range(6):
        detached(box, f"c{number}", "sh", "-c", f"echo {number}; sleep 1000")
    found = directories(box)
    monitors = {watched(directory) for directory in found.values()}
    assert len(monitors) == 1
    (pid,) = monitors
    for number in range(6):
        eventually(lambda number=number: box.process("logs", f"c{number}").stdout == b"%d\n" % number)
    box("stop", "-t", "0", *found)
    assert {row["exit_code"] for row in box.json("ps", "-a")} <= {137, 143}
    eventually(lambda: is_gone(pid))


def test_exit_codes_and_usage_of_what_it_watched(box: Cli) -> None:
    detached(box, "web", "sh", "-c", "while ! test -e /go; do :; done; exit 7")
    directory = directories(box)["web"]
    watched(directory)
    let_go(directory)
    state: Any = eventually(lambda: isinstance(found := state_of(directory), Exited) and found)
    assert state.code == 7
    usage = box.json("ps", "-a", "--usage")[0]["usage"]
    assert usage["cpu_seconds"] > 0


def test_what_needs_more_keeps_its_supervisor(box: Cli) -> None:
    detached(box, "web", "sleep", "1000", options=("--health-cmd", "true", "--health-interval", "1h"))
    assert name_of(supervisor_of(directories(box)["web"])) == "treering-run"
    box("kill", "web")


def test_a_container_has_the_limits_of_who_started_it(box: Cli) -> None:
    detached(box, "first", "sleep", "1000")
    watched(directories(box)["first"])
    script = "ulimit -n; cat /proc/$$/stat"
    arguments = ["run", "-d", "--name", "second", "--network", "none", "main", "sh", "-c", script]
    command = [sys.executable, "-P", "-m", "runtime.cli", *arguments]
    done = subprocess.run(
        ["sh", "-c", 'ulimit -n 345; exec nice -n 3 "$@"', "sh", *command],
        env=environment(box.store), capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    limit, *stat = eventually(lambda: box.process("logs", "second").stdout.split())
    assert (limit, stat[18]) == (b"345", b"3")
    box("kill", "first")


def test_from_another_mount_namespace_it_is_done_without(box: Cli) -> None:
    detached(box, "first", "sleep", "1000")
    pid = watched(directories(box)["first"])
    arguments = ["run", "-d", "--name", "second", "--network", "none", "main", "sleep", "1000"]
    command = [sys.executable, "-P", "-m", "runtime.cli", *arguments]
    done = subprocess.run(
        ["unshare", "-m", *command], env=environment(box.store), capture_output=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    other = supervisor_of(directories(box)["second"])
    assert other != pid
    assert name_of(other) == "treering-run"
    box("kill", "first", "second")


def test_a_killed_monitor_is_replaced_for_all(box: Cli) -> None:
    for number in range(3):
        detached(box, f"c{number}", "sh", "-c", "while ! test -e /go; do sleep 0.02; done; echo end; exit 5")
    found = directories(box)
    (pid,) = {watched(directory) for directory in found.values()}  # or one is being handed over still
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: is_gone(pid))
    assert [row["state"] for row in box.json("ps")] == ["running"] * 3
    for directory in found.values():
        eventually(lambda directory=directory: watched(directory) != pid)
        let_go(directory)
    for name, directory in found.items():
        eventually(lambda directory=directory: isinstance(state_of(directory), Exited))
        assert box.process("logs", name).stdout == b"end\n"


def test_a_killed_monitor_is_replaced_while_a_start_is_being_noted(box: Cli) -> None:
    """By a process of its own, which waits for the service, and must not hold what says that a supervisor lives."""
    detached(box, "web", "sh", "-c", "while ! test -e /go; do sleep 0.02; done")
    directory = directories(box)["web"]
    pid = watched(directory)
    holder = box.json("service", "status")["holder"]
    os.kill(holder, signal.SIGSTOP)
    try:
        noting = eventually(lambda: [child for child in children_of(pid) if name_of(child) == "treering-watch"])
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: is_gone(pid))
        with open(directory / RUN_LOCK, "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert not any(map(is_gone, noting)), "it waits still"
    finally:
        os.kill(holder, signal.SIGCONT)
    box.json("ps")
    eventually(lambda: watched(directory) != pid)
    let_go(directory)
    eventually(lambda: isinstance(state_of(directory), Exited))


def test_a_killed_supervisor_is_replaced_during_a_health_check(box: Cli) -> None:
    """The check is a process of its own, which may take long."""
    options = ("--health-cmd", "sleep 1234", "--health-interval", "1s", "--health-timeout", "1000s")
    detached(box, "web", "sleep", "1000", options=options)
    directory = directories(box)["web"]
    pid = supervisor_of(directory)
    checks = eventually(lambda: [child for child in children_of(pid) if runs(child, b"sleep\0001234")])
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: is_gone(pid))
    with open(directory / RUN_LOCK, "rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert not any(map(is_gone, checks)), "it goes on still"
    box.json("ps")
    eventually(lambda: supervisor_of(directory) != pid)
    box("kill", "web")


def test_a_commit_at_the_end_says_how_long_it_ran(box: Cli) -> None:
    detached(box, "web", "sh", "-c", "echo > /new; sleep 0.2", options=("--autocommit", "exit"))
    eventually(lambda: "Duration" in box.json("show", "web").get("trailers", {}))
    duration = box.json("show", "web")["trailers"]["Duration"]
    assert 0 < float(duration.removesuffix("s")) < 300


def removed_without_a_trace(box: Cli, name: str) -> None:
    """Nobody has cleaned up after its run but who removes it."""
    identity = directories(box)[name].name
    assert cgroups.of_container(identity)
    box("rm", name)
    assert not cgroups.of_container(identity)
    assert not (box.store / "run/engine" / identity).exists()


def crash_when_woken(job: Job, channel: Channel | None = None, sleeper: Sleeper | None = None) -> NoReturn:
    """A supervisor that is killed at once if it is to go on with what another has left."""
    if sleeper:
        os._exit(1)
    supervise(job, channel, None)


def stays_a_parent(job: Job, channel: Channel | None = None, sleeper: Sleeper | None = None) -> NoReturn:
    """The same; and the first one does not end before the other was killed, so that nobody else knows yet how the
    container has ended."""
    if sleeper:
        os._exit(1)
    real = sleeping.go_to_sleep

    def go_to_sleep(*arguments: Any) -> bool:
        gone = real(*arguments)
        if gone:
            eventually(lambda: not supervisor_of(job.paths.directory))
        return gone

    supervisor.go_to_sleep = go_to_sleep  # type: ignore[attr-defined, assignment]
    supervise(job, channel, None)


@pytest.mark.parametrize("supervision", [crash_when_woken, stays_a_parent])
def test_a_supervisor_that_is_killed_at_the_end(box: Cli, supervision: Supervise) -> None:
    """Then the monitor writes down how the container has ended."""
    (box.store / "run").mkdir(mode=0o700, exist_ok=True)
    monitor.start(box.store / "run", supervision)
    detached(box, "web", "sh", "-c", "while ! test -e /go; do sleep 0.02; done; exit 7")
    directory = directories(box)["web"]
    watched(directory)
    let_go(directory)
    # Until the monitor has done so, the container has ended, and nobody knows how.
    eventually(lambda: isinstance(found := state_of(directory), Exited) and found.code == 7)
    removed_without_a_trace(box, "web")


def test_a_supervisor_that_is_killed_as_somebody_attaches(box: Cli) -> None:
    """Then the container has none, and gets another as after any such death."""
    (box.store / "run").mkdir(mode=0o700, exist_ok=True)
    monitor.start(box.store / "run", crash_when_woken)
    detached(box, "web", "sleep", "1000")
    directory = directories(box)["web"]
    watched(directory)
    box.process("attach", "--no-stdin", "web")
    eventually(lambda: isinstance(found := state_of(directory), Running) and not found.supervised)
    assert [row["state"] for row in box.json("ps")] == ["running"]
    eventually(lambda: isinstance(found := state_of(directory), Running) and found.supervised)
    box("kill", "web")
    eventually(lambda: isinstance(state_of(directory), Exited))
    removed_without_a_trace(box, "web")
