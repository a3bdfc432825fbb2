"""What containers use: measured against what their processes say, and kept through whatever ends."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from runtime import metering
from runtime.cgroups import Cgroup
from runtime.state import load_run
from tests.cli.conftest import Cli
from tests.cli.meters import directory, stats, usage

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

# -- accuracy


def test_cpu_seconds_are_what_its_processes_say(box: Cli, burner: str) -> None:
    """All that they used is in it; and little more, which is what the OCI runtime uses in the cgroup before."""
    for name, children in (("one", "0"), ("four", "3")):
        done = box.process("run", "--name", name, burner, "/burn", "0.3", children)
        assert done.returncode == 0, done.stderr
        said = float(done.stdout)
        used = usage(box, name)
        assert said - 0.001 <= used["cpu_seconds"] <= said + 0.25
        assert abs(used["user_seconds"] + used["system_seconds"] - used["cpu_seconds"]) < 0.05
        assert used["starts"] == 1


def test_every_start_is_added_up(box: Cli, burner: str) -> None:
    said = float(box.process("run", "--name", "web", burner, "/burn", "0.2", "1").stdout)
    first = usage(box, "web")
    said += float(box.process("start", "web").stdout)
    both = usage(box, "web")
    assert said <= both["cpu_seconds"] + 0.001
    assert both["cpu_seconds"] > first["cpu_seconds"] + 0.39
    assert (first["starts"], both["starts"]) == (1, 2)
    assert both["seconds_up"] > first["seconds_up"] > 0.4
    assert both["memory_peak"] >= first["memory_peak"] > 100_000
    assert usage(box, "web") == both, "a look changes nothing"


def test_the_table(box: Cli) -> None:
    box.process("run", "--name", "web", "main", "true")
    title, row = box.lines("ps", "-a", "--usage")
    assert re.split(r"   +", title) == ["NAME", "STATE", "CPU SECONDS", "PEAK MEMORY", "I/O", "TIME UP"]
    assert re.fullmatch(r"web +exited \(0\) +0\.\d\d +[\d.]+ [kM]B +0 B / \S+ k?B +\d s", row)


def test_what_it_wrote_is_counted(box: Cli, until: Callable[..., Any]) -> None:
    box.process("run", "--name", "web", "main", "dd", "if=/dev/zero", "of=/x", "bs=1M", "count=20")
    assert usage(box, "web")["written_bytes"] >= 20 << 20
    box(
        "run", "-d", "--name", "db", "main", "sh", "-c", "dd if=/dev/zero of=/x bs=1M count=20; echo > /done; sleep inf"
    )
    until(lambda: "A  /done" in box.lines("status", "db"))
    assert stats(box, "db")[0]["written_bytes"] >= 20 << 20


# -- what survives


def test_a_killed_supervisor_loses_nothing(box: Cli, burner: str, until: Callable[..., Any]) -> None:
    """The cgroup remembers, until the next start has added it up."""
    box("run", "-d", "--name", "web", burner, "/burn", "0.3", "0", "wait")
    until(lambda: stats(box, "web")[0]["cpu_seconds"] >= 0.3)
    run = load_run(directory(box, "web"))
    assert run
    assert run.init
    os.kill(run.supervisor.pid, signal.SIGKILL)
    until(lambda: not run.supervisor.alive())
    os.kill(run.init.pid, signal.SIGKILL)
    until(lambda: not run.init or not run.init.alive())
    used = usage(box, "web")
    assert used["cpu_seconds"] >= 0.3
    assert used["starts"] == 1
    box("start", "-d", "web")
    until(lambda: stats(box, "web")[0]["cpu_seconds"] >= 0.3)
    both = usage(box, "web")
    assert both["cpu_seconds"] >= used["cpu_seconds"] + 0.3
    assert both["starts"] == 2


def test_after_a_power_cut_the_last_look_remains(box: Cli, burner: str, until: Callable[..., Any]) -> None:
    box("run", "-d", "--name", "web", burner, "/burn", "0.3", "0", "wait")
    until(lambda: usage(box, "web")["cpu_seconds"] >= 0.3)
    place = directory(box, "web")
    seen = json.loads((place / metering.SAMPLE).read_text())["used"]
    latest = load_run(place)
    assert latest
    box("kill", "web")
    until(lambda: not latest.supervisor.alive())
    # As the files are after a boot: nobody recorded the end, and the start is of another boot.
    (place / metering.USAGE).unlink()
    (place / "exit.json").unlink()
    run = json.loads((place / "run.json").read_text())
    (place / "run.json").write_text(json.dumps({**run, "boot": "another"}))
    (place / metering.SAMPLE).write_text(json.dumps({"start": _start(run), "used": seen}))
    used = usage(box, "web")
    assert used["cpu_seconds"] == pytest.approx(seen["cpu_seconds"], abs=1e-5)
    assert used["starts"] == 1
    box("start", "-d", "web")
    until(lambda: usage(box, "web")["cpu_seconds"] >= seen["cpu_seconds"] + 0.3)
    box("kill", "web")
    assert usage(box, "web")["starts"] == 2
    (place / metering.SAMPLE).write_bytes(b"")  # what xfs may leave of a file that was not synced
    assert usage(box, "web")["starts"] == 2


def _start(run: dict[str, Any]) -> str:
    return " ".join(map(str, (run["run"], *run["init"])))


def test_a_start_is_counted_once(box: Cli) -> None:
    """Whoever was interrupted where, and however often its end is recorded."""
    box.process("run", "--name", "web", "main", "true")
    place = directory(box, "web")
    before = usage(box, "web")
    recorded = json.loads((place / metering.USAGE).read_text())
    metering.record(place, Cgroup.of(place.name).usage())
    metering.settle(place)
    assert usage(box, "web") == before
    # Cut short between the two files: the sample is still there.
    (place / metering.SAMPLE).write_text(json.dumps({"start": recorded["last"], "used": recorded["total"]}))
    assert usage(box, "web") == before
    box.process("start", "web")
    after = usage(box, "web")
    assert after["starts"] == 2
    assert after["cpu_seconds"] < before["cpu_seconds"] + 1


def test_a_lock_that_somebody_holds_is_waited_for_a_moment_only(box: Cli) -> None:
    box("run", "-d", "--name", "web", "main", "sleep", "inf")
    place = directory(box, "web")
    holder = subprocess.Popen(
        ["flock", str(place / metering.LOCK), "sleep", "inf"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        box("ps", "--usage")
        box("kill", "web")
        assert usage(box, "web")["starts"] == 1
    finally:
        os.killpg(holder.pid, signal.SIGKILL)
        holder.wait(30)
