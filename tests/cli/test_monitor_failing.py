"""What fails in the process that looks after quiet containers, with real ones."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path

import pytest

from runtime import state
from runtime.state import Exited, Running, load_run, state_of
from runtime.supervision import monitor
from runtime.supervision.supervisor import supervise
from runtime.supervision.watching import Supervise
from tests.cli.conftest import Cli
from tests.cli.test_monitor import crash_when_woken, detached, directories, let_go, name_of, supervisor_of, watched
from tests.support.containers import eventually, is_gone
from tests.support.faults import Fault

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

UNTIL_LET_GO = "while ! test -e /go; do sleep 0.02; done; rm /go; exit 7"
OWN_NAME = Path("/proc/self/comm")


def in_the_monitor(*_: object, **__: object) -> bool:
    """The monitor is forked from the test, and so has the fault."""
    return OWN_NAME.read_text() == "treering-watch\n"


@pytest.fixture
def failing_fork(monkeypatch: pytest.MonkeyPatch) -> Fault:
    return Fault(monkeypatch, os, "fork", errno.EAGAIN, wanted=in_the_monitor)


@pytest.fixture
def failing_write(monkeypatch: pytest.MonkeyPatch) -> Fault:
    """Of run.json and exit.json."""
    return Fault(monkeypatch, state, "replace_file", errno.ENOSPC, wanted=in_the_monitor)


def begin(box: Cli, supervision: Supervise = supervise) -> None:
    (box.store / "run").mkdir(mode=0o700, exist_ok=True)
    monitor.start(box.store / "run", supervision)


def code_of(directory: Path) -> int | None:
    """The exit code, once the container has ended."""
    found: Exited = eventually(lambda: isinstance(now := state_of(directory), Exited) and now)
    return found.code


def ends(*directories: Path) -> None:
    """Have containers end, and see that they do as they were to."""
    for directory in directories:
        let_go(directory)
    assert [code_of(directory) for directory in directories] == [7] * len(directories)


def test_a_process_that_cannot_be_made_as_a_container_ends(box: Cli, failing_fork: Fault) -> None:
    begin(box)
    for name, options in (("one", ("--restart", "always")), ("two", ()), ("three", ())):
        detached(box, name, "sh", "-c", UNTIL_LET_GO, options=options)
    found = directories(box)
    (pid,) = {watched(directory) for directory in found.values()}
    failing_fork.arm(2)
    let_go(found["one"])
    let_go(found["two"])
    eventually(lambda: (run := load_run(found["one"])) and run.restarts == 1)
    assert code_of(found["two"]) == 7
    assert failing_fork.is_over
    assert watched(found["one"]) == watched(found["three"]) == pid
    ends(found["three"])
    box("rm", "-f", "one")
    eventually(lambda: is_gone(pid))


def test_a_process_that_cannot_be_made_as_somebody_attaches(box: Cli, failing_fork: Fault) -> None:
    begin(box)
    detached(box, "web", "sh", "-c", UNTIL_LET_GO)
    directory = directories(box)["web"]
    pid = watched(directory)
    failing_fork.arm(1)
    done = box.process("attach", "--no-stdin", "web")
    assert done.returncode == 125
    assert b"temporarily" in done.stderr
    assert failing_fork.is_over
    assert watched(directory) == pid
    attached = box.start("attach", "--no-stdin", "web")
    eventually(lambda: name_of(supervisor_of(directory)) == "treering-run")
    let_go(directory)
    assert attached.wait(60) == 7


def test_a_process_that_cannot_be_made_for_a_command(box: Cli, failing_fork: Fault) -> None:
    begin(box)
    detached(box, "one", "sh", "-c", UNTIL_LET_GO)
    pid = watched(directories(box)["one"])
    failing_fork.arm(1)
    detached(box, "two", "sh", "-c", UNTIL_LET_GO)
    assert failing_fork.is_over
    detached(box, "three", "sh", "-c", UNTIL_LET_GO)
    found = directories(box)
    assert name_of(supervisor_of(found["two"])) == "treering-run"
    assert watched(found["one"]) == watched(found["three"]) == pid
    ends(*found.values())


def test_a_disk_that_is_full_as_a_container_is_left_to_it(box: Cli, failing_write: Fault) -> None:
    begin(box)
    detached(box, "one", "sh", "-c", UNTIL_LET_GO)
    pid = watched(directories(box)["one"])
    failing_write.arm(1)
    detached(box, "two", "sh", "-c", UNTIL_LET_GO)
    eventually(lambda: failing_write.is_over)
    found = directories(box)
    assert watched(found["one"]) == pid
    assert name_of(supervisor_of(found["two"])) == "treering-run"
    ends(*found.values())


def test_a_disk_that_is_full_as_an_end_is_written(box: Cli, failing_write: Fault) -> None:
    """Whose supervisor was killed, or could write nothing either."""
    begin(box, crash_when_woken)
    detached(box, "web", "sh", "-c", UNTIL_LET_GO)
    directory = directories(box)["web"]
    watched(directory)
    failing_write.arm(3)
    let_go(directory)
    assert code_of(directory) == 7
    assert failing_write.is_over
    box("rm", "web")


def test_a_disk_that_is_full_as_a_supervisor_is_killed(box: Cli, failing_write: Fault) -> None:
    begin(box, crash_when_woken)
    detached(box, "web", "sleep", "1000")
    directory = directories(box)["web"]
    watched(directory)
    failing_write.arm(2)
    box.process("attach", "--no-stdin", "web")
    eventually(lambda: isinstance(found := state_of(directory), Running) and not found.supervised)
    assert failing_write.is_over
    assert [row["state"] for row in box.json("ps")] == ["running"]
    eventually(lambda: isinstance(found := state_of(directory), Running) and found.supervised)
    box("kill", "web")
    code_of(directory)


def test_more_containers_than_descriptors(box: Cli) -> None:
    """Those that there is no room for keep their supervisors."""
    begin(box)
    names = [f"c{number}" for number in range(9)]
    detached(box, names[0], "sh", "-c", UNTIL_LET_GO)
    pid = watched(directories(box)[names[0]])
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (64, hard))
    for name in names[1:]:
        detached(box, name, "sh", "-c", UNTIL_LET_GO)
    found = [directories(box)[name] for name in names]
    assert watched(found[1]) == pid
    assert name_of(supervisor_of(found[-1])) == "treering-run"
    for name, directory in zip(names, found, strict=True):
        run = load_run(directory)
        assert run, name
        assert run.supervisor.alive(), name
    ends(*found)
    eventually(lambda: is_gone(pid))
