"""`treering update`: limits of containers that run and that rest; and freezing under them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from runtime.cgroups import Cgroup
from runtime.state import load_run
from tests.cli.conftest import Cli
from tests.cli.meters import LINE, directory, said, stats, usage
from vcs.errors import EngineError

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def test_update_of_a_running_container(box: Cli, until: Callable[..., Any]) -> None:
    box("run", "-d", "--name", "web", "main", "sh", "-c", f"dd if=/dev/zero of=/dev/shm/x bs=1M count=40; {LINE}")
    until(lambda: (stats(box, "web")[0]["memory_bytes"] or 0) > 40 << 20)
    done = box("update", "--memory", "100m", "--cpus", "0.2", "--pids-limit", "5", "web")
    assert done.stderr == (
        "web: memory 105 MB (was no limit), cpus 0.2 (was no limit), pids 5 (was no limit), from now on\n"
    )
    found = stats(box, "web")[0]
    assert (found["memory_limit"], found["pids_limit"]) == (100 << 20, 5)
    assert found["memory_percent"] > 40
    error = box.error("update", "--memory", "10m", "--cpus", "1", "web")
    assert error["kind"] == "Conflict"
    assert "are in use and cannot be taken away" in error["message"]
    assert "free memory" in error["advice"]
    group = Cgroup.of(directory(box, "web").name)
    assert (group.limits().memory, group.limits().cpus) == (100 << 20, 0.2), "nothing was changed"
    assert "as you want it already" in box("update", "--cpus", "0.2", "web").stderr
    row = box.json("update", "--memory", "0", "--pids-limit", "-1", "web")[0]
    assert (row["memory"], row["cpus"], row["pids_limit"], row["running"]) == (None, 0.2, None, True)
    assert group.limits().memory is None
    assert group.limits().pids is None
    first = group.usage().cpu_seconds
    began = time.monotonic()
    until(lambda: time.monotonic() > began + 0.5)
    used = (group.usage().cpu_seconds or 0) - (first or 0)
    assert used <= 0.2 * (time.monotonic() - began) + 0.05, "a fifth of a processor"


def test_update_of_a_stopped_container(box: Cli) -> None:
    box.process("run", "--name", "web", "main", "true")
    done = box("update", "--memory", "1g", "--restart", "on-failure:3", "web")
    assert done.stderr == "web: memory 1.1 GB (was no limit), restart on-failure:3 (was no), from its next start on\n"
    row = box.json("update", "--restart", "no", "web")[0]
    assert row == {
        "name": "web", "id": directory(box, "web").name, "running": False, "memory": 1 << 30, "cpus": None,
        "pids_limit": None, "restart": "no", "restart_attempts": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["web"], "say what to change"),
        (["--memory", "1x", "web"], "is no size"),
        (["--memory", "1m", "web"], "too little"),
        (["--restart", "sometimes", "web"], "sometimes"),
        (["--restart", "always:3", "web"], "always:3"),
        (["--cpus", "0.001", "web"], "no number of processors"),
        (["--pids-limit", "many", "web"], "no number of processes"),
    ],
)
def test_updates_that_make_no_sense(cli: Cli, arguments: list[str], words: str) -> None:
    assert words in cli("update", *arguments, code=2).stderr


def test_an_oom_kill_is_counted(box: Cli, until: Callable[..., Any]) -> None:
    script = "read x < /go; dd if=/dev/zero of=/dev/shm/x bs=1M count=60; sleep inf"
    box("run", "-d", "--name", "web", "main", "sh", "-c", f"mkfifo /go; {script}")
    until(lambda: "A  /go" in box.lines("status", "web"))
    box("update", "--memory", "20m", "web")
    run = load_run(directory(box, "web"))
    assert run
    assert run.init
    init = run.init.pid
    until(lambda: said(f"/proc/{init}/root/go"))
    until(lambda: usage(box, "web")["oom_kills"])
    box("rm", "-f", "--discard", "web")


# -- freezing


def test_a_process_that_waits_for_the_service_does_not_freeze_and_all_goes_on(
    box: Cli, tmp_path: Path, until: Callable[..., Any]
) -> None:
    """Who waits for an answer of a file system cannot be stopped. It is given up in time, and all goes on."""
    root = tmp_path / "root"
    root.mkdir()
    box("export", "main", str(root))
    (root / "large").write_bytes(os.urandom(3 << 20))
    box("import", str(root), "-b", "large", "-m", "with a file that nobody has read")
    script = f"cat /go; cat /large > /dev/null & {LINE}"  # whose attributes, and then whose content, is asked for
    box("run", "-d", "--name", "web", "--no-profile", "large", "sh", "-c", f"mkfifo /go; {script}")
    until(lambda: "A  /go" in box.lines("status", "web"))
    group = Cgroup.of(directory(box, "web").name)
    run = load_run(directory(box, "web"))
    assert run
    assert run.init
    init = run.init.pid
    status = box.json("service")
    stopped = [status["holder"], *status["workers"]]
    try:
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        until(lambda: said(f"/proc/{init}/root/go"))
        until(lambda: any(_waits(pid) for pid in group.processes() if pid != init))
        with pytest.raises(EngineError, match="does not stop"):
            group.freeze(seconds=0.3)
        assert not group.frozen
        used = group.usage().cpu_seconds or 0
        until(lambda: (group.usage().cpu_seconds or 0) > used)
    finally:
        for pid in stopped:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
    until(lambda: not any(_waits(pid) for pid in group.processes() if pid != init))
    group.freeze()
    assert group.frozen
    group.thaw()


def _waits(pid: int) -> bool:
    """Whether it does not run, and is not the one that waits for us."""
    with suppress(OSError):
        name = Path(f"/proc/{pid}/cmdline").read_bytes()
        return name != b"cat\0/go\0" and Path(f"/proc/{pid}/stat").read_bytes().split()[2] in (b"S", b"D")
    return False
