"""Containers started, stopped, paused, waited for, one and several at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from datetime import datetime
from functools import partial
from pathlib import Path

import pytest

from runtime.cgroups import Cgroup
from tests.cli.conftest import Cli
from tests.support.containers import eventually

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

OBEY = "trap 'exit 0' TERM"
LOOP = "while true; do sleep 0.05; done"


def begin(box: Cli, *names: str, before: str = OBEY, loop: str = LOOP, options: tuple[str, ...] = ()) -> None:
    """Start containers, each of which has set its traps when this returns."""
    for name in names:
        script = f"{before}; echo > /ready; {loop}"
        done = box.process("run", "-d", "--name", name, *options, "main", "sh", "-c", script)
        assert done.returncode == 0, done.stderr
    for name in names:
        eventually(partial(_has, box, name, "A  /ready"))


def _has(box: Cli, name: str, line: str) -> bool:
    return line in box.lines("status", name)


def states(box: Cli) -> dict[str, str]:
    return {row["name"]: row["state"] for row in box.json("ps", "-a")}


def codes(box: Cli) -> dict[str, int]:
    return {row["name"]: row["exit_code"] for row in box.json("ps", "-a")}


def test_several_at_once(box: Cli) -> None:
    """Each is tried, every error is told, and the last one is the command's."""
    begin(box, "one", "two")
    result = box("stop", "one", "nope", "two", "neither", code=125)
    assert result.stderr.count("treering: no container") == 2
    assert states(box) == {"one": "exited", "two": "exited"}
    assert "is not running" in box("stop", "one").stderr
    assert box.lines("start", "-d", "one", "two") == ["one", "two"]
    assert box.error("start", "one", "two", code=2)["kind"] == "UsageError"
    assert box.error("start", "-d", "-a", "one", code=2)["kind"] == "UsageError"
    result = box("kill", "one", "nope", code=125)
    assert codes(box)["one"] == 137
    assert states(box)["two"] == "running"
    assert box.error("start", "-d", "two")["kind"] == "Conflict"


def test_stopping_several_takes_no_longer_than_one(box: Cli) -> None:
    """All are asked before any is waited for: each is killed in the end, and none has waited for another's patience."""
    names = [f"c{number}" for number in range(4)]
    begin(box, *names, before="trap 'echo asked > /asked' TERM")
    process = box.start("stop", "-t", "600", *names, stderr=subprocess.DEVNULL)
    try:
        for name in names:
            eventually(partial(_has, box, name, "A  /asked"))
        assert process.poll() is None
        for name in names:
            box("kill", name)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait(60)
    assert set(codes(box).values()) == {137}


def test_signals_that_ask_to_end(box: Cli) -> None:
    before = "trap 'exit 3' INT; trap 'exit 4' USR1; trap 'exit 5' TERM"
    begin(box, "own", before=before, options=("--stop-signal", "INT"))
    begin(box, "usual", "told", before=before)
    box("stop", "own", "usual")
    box("stop", "-s", "SIGUSR1", "told")
    assert codes(box) == {"own": 3, "usual": 5, "told": 4}
    assert box.error("stop", "-s", "NOPE", "told", code=2)["kind"] == "UsageError"


def test_the_container_s_own_patience(box: Cli) -> None:
    begin(box, "web", before="trap '' TERM", options=("--stop-timeout", "0.1"))
    box("stop", "web")
    assert codes(box) == {"web": 137}


def test_restart(box: Cli) -> None:
    begin(box, "web", before="echo again >> /starts; trap 'exit 0' TERM")
    before = box.json("ps")[0]["pid"]
    assert box.lines("restart", "web") == ["web"]
    assert box.json("ps")[0]["pid"] != before
    eventually(lambda: box.process("exec", "web", "cat", "/starts").stdout == b"again\nagain\n")
    box("stop", "web")
    assert box.lines("restart", "-t", "1", "web") == ["web"]
    assert states(box) == {"web": "running"}
    assert box.error("restart", "nope")["kind"] == "NotFound"


def test_input_for_a_container_that_was_made_without(box: Cli) -> None:
    box("create", "--name", "web", "main", "cat")
    assert box.process("start", "web", input=b"no").stdout == b""
    assert box.process("start", "-a", "-i", "web", input=b"yes").stdout == b"yes"


COUNT = "i=0; while true; do i=$((i+1)); echo $i > /count; done"


def test_pause(box: Cli) -> None:
    """Nothing moves in it, until it goes on."""
    begin(box, "web", loop=COUNT)
    upper = next(box.store.glob("containers/*/gen/0/upper"))
    eventually((upper / "count").exists)

    def count() -> bytes:
        return (upper / "count").read_bytes()

    box("pause", "web")
    assert states(box) == {"web": "paused"}
    identity = box.json("ps")[0]["id"]
    ticks = [Path(f"/proc/{pid}/stat").read_text().split()[13:15] for pid in Cgroup.of(identity).processes()]
    seen = count()
    error = box.error("exec", "web", "true")
    assert (error["kind"], error["advice"]) == ("Conflict", "unpause it first: treering unpause web")
    assert box.error("pause", "web")["kind"] == "Conflict"
    again = [Path(f"/proc/{pid}/stat").read_text().split()[13:15] for pid in Cgroup.of(identity).processes()]
    assert (again, count()) == (ticks, seen)
    box("unpause", "web")
    assert states(box) == {"web": "running"}
    eventually(lambda: count() != seen)
    error = box.error("unpause", "web")
    assert (error["kind"], error["advice"]) == ("Conflict", None)
    box("kill", "web")
    error = box.error("pause", "web")
    assert (error["kind"], error["advice"]) == ("Conflict", "start it first: treering start web")


@pytest.mark.parametrize(
    ("verb", "code"), [(("stop",), 0), (("stop", "-t", "0"), 137), (("kill",), 137), (("restart",), None)]
)
def test_what_is_paused_can_be_ended(box: Cli, verb: tuple[str, ...], code: int | None) -> None:
    begin(box, "web")
    box("pause", "web")
    box(*verb, "web")
    if code is None:
        assert states(box) == {"web": "running"}
    elif verb != ("stop", "-t", "0"):
        assert codes(box) == {"web": code}
    else:
        assert states(box) == {"web": "exited"}


def test_what_is_paused_can_be_removed(box: Cli) -> None:
    begin(box, "web")
    box("pause", "web")
    box("rm", "-f", "web")
    assert states(box) == {}


def test_wait(box: Cli) -> None:
    """For one that runs, one that has ended, and one that was never started."""
    begin(box, "one", before="trap 'exit 7' TERM")
    box.process("run", "--name", "two", "main", "sh", "-c", "exit 3")
    box("create", "--name", "three", "main", "true")
    process = box.start("wait", "one", "two", "three", stdout=subprocess.PIPE)
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        box("stop", "one")
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait(60)
    assert (process.returncode, output) == (0, b"7\n3\n0\n")
    assert box.json("wait", "two") == [{"name": "two", "exit_code": 3}]
    assert box.error("wait", "nope")["kind"] == "NotFound"


def test_wait_for_what_is_removed_with_its_end(box: Cli) -> None:
    begin(box, "web", before="trap 'exit 7' TERM", options=("--rm",))
    process = box.start("wait", "web", stdout=subprocess.PIPE)
    try:
        pid = box.json("ps")[0]["pid"]
        eventually(lambda: _holds_pidfd(process.pid))
        os.kill(pid, signal.SIGTERM)
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait(60)
    assert output in (b"7\n", b"unknown\n"), "older kernels do not tell"
    if _release() >= (6, 15):
        assert output == b"7\n"
    eventually(lambda: states(box) == {})


def _holds_pidfd(pid: int) -> bool:
    try:
        return any("pidfd" in os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False


def _release() -> tuple[int, ...]:
    return tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2])


def test_wait_ends_with_ctrl_c(box: Cli) -> None:
    begin(box, "web")
    process = box.start("wait", "web", stdout=subprocess.DEVNULL)
    try:
        eventually(lambda: _holds_pidfd(process.pid))
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    finally:
        process.kill()
        process.wait(60)


# -- names


def test_names_before_ids(box: Cli) -> None:
    box("create", "--name", "web", "main", "true")
    identity = box.json("ps", "-a")[0]["id"]
    box("create", "--name", identity[:4], "main", "true")
    assert box.json("inspect", identity[:4])[0]["name"] == identity[:4], "a name, though an id begins so"
    assert box.json("inspect", identity)[0]["name"] == "web"
    assert box.json("inspect", identity[:5])[0]["name"] == "web"


def test_an_ambiguous_start_names_the_candidates(box: Cli) -> None:
    seen: dict[str, str] = {}
    for number in range(17):  # two of so many begin with the same of 16 digits
        box("create", "--name", f"c{number}", "main", "true")
    for row in box.json("ps", "-a"):
        first = seen.setdefault(row["id"][0], row["name"])
        if first != row["name"]:
            digit, names = row["id"][0], (first, row["name"])
            break
    error = box.error("kill", digit)
    assert error["kind"] == "NotFound"
    assert all(name in error["message"] for name in names)


# -- ps, inspect, top


def test_filters(box: Cli) -> None:
    for name, options in (("web-1", ("--label", "tier=web", "--label", "old")), ("web-2", ("--label", "tier=web"))):
        box("create", "--name", name, *options, "main", "true")
    box.process("run", "--name", "db", "main~1", "sh", "-c", "exit 3")

    def names(*options: str) -> list[str]:
        return box.lines("ps", "-q", *options)

    assert names() == []
    assert names("-a") == ["web-1", "web-2", "db"]
    assert names("-a", "-f", "name=web") == ["web-1", "web-2"]
    assert names("-a", "-f", "name=web-2", "-f", "name=db") == ["web-2", "db"]
    assert names("-f", "status=exited") == ["db"]
    assert names("-f", "status=created", "-f", "label=old") == ["web-1"]
    assert names("-a", "-f", "label=tier=web", "-f", "label=old") == ["web-1"]
    assert names("-f", "exited=3") == ["db"]
    assert names("-f", "exited=4") == []
    assert names("-a", "-f", "image=main~1") == ["db"]
    assert names("-a", "-f", f"id={box.json('inspect', 'web-2')[0]['id'][:12]}") == ["web-2"]
    assert names("-l") == ["db"]
    assert names("-n", "2") == ["web-2", "db"]
    assert names("-n", "0") == []
    for wrong in ("name", "colour=red", "status=happy", "exited=soon"):
        assert box.error("ps", "-f", wrong, code=2)["kind"] == "UsageError"
    assert box.json("inspect", "db")[0]["id"] in "\n".join(box.lines("ps", "-a", "--no-trunc"))


def test_inspect(box: Cli, tmp_path: Path) -> None:
    began = time.time()
    begin(box, "web", options=("--label", "tier=web", "-v", f"{tmp_path}:/data:ro", "-e", "A=1"))
    found = box.json("inspect", "web")[0]
    assert found["state"]["status"] == "running"
    assert Path(f"/proc/{found['state']['pid']}").exists()
    assert (found["state"]["exit_code"], found["state"]["restarts"]) == (None, 0)
    assert found["labels"] == {"tier": "web"}
    assert found["settings"]["env"] == ["A=1"]
    assert found["commit"] == box.json("show", "main")["commit"]
    assert found["mounts"][0]["target"] == "/data"
    assert found["mounts"][0]["read_only"] is True
    assert Path(found["paths"]["upper"], "ready").exists()
    assert found["network"] == {"mode": "host", "address": None, "ports": []}

    def field(path: str, *names: str) -> list[str]:
        return box.lines("inspect", "-f", path, *(names or ("web",)))

    assert field(".state.pid") == [str(found["state"]["pid"])]
    assert field("state.status") == ["running"]
    assert field(".settings.args[0]") == ["sh"]
    assert field(".labels") == ['{"tier": "web"}']
    assert field('.labels["tier"]') == ["web"]
    assert field(".name", "web", "web") == ["web", "web"]
    assert box.error("inspect", "-f", ".nope", "web")["kind"] == "NotFound"
    assert box.error("inspect", "-f", "..", "web", code=2)["kind"] == "UsageError"

    box("stop", "web")
    state = box.json("inspect", "web")[0]["state"]
    assert (state["status"], state["exit_code"], state["pid"]) == ("exited", 0, None)
    started, finished = (_seconds(state[name]) for name in ("started", "finished"))
    assert began - 1 <= started <= finished <= time.time() + 1

    commit = box.json("inspect", "main~1")[0]
    assert commit["commit"] == box.json("show", "main~1")["commit"]
    result = box("inspect", "nope", "web", code=125)
    assert '"name": "web"' in result.stdout
    assert result.stderr.startswith("treering: there is no container and no commit 'nope'")


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def test_top(box: Cli) -> None:
    begin(box, "web", options=("--userns", "auto"), before="trap 'exit 0' TERM")
    process = box.start("exec", "-u", "ana", "web", "sh", "-c", "echo; exec sleep 300", stdout=subprocess.PIPE)
    try:
        assert process.stdout
        process.stdout.readline()
        rows = eventually(lambda: [row for row in box.json("top", "web") if row["command"] == ["sleep", "300"]])
        assert (rows[0]["user"], rows[0]["uid"]) == ("ana", 1000)
        assert Path(f"/proc/{rows[0]['pid']}/cmdline").read_bytes() == b"sleep\x00300\x00"
        pids = {row["pid"] for row in box.json("top", "web")}
        assert box.json("ps")[0]["pid"] in pids
        assert os.getpid() not in pids
        lines = box.lines("top", "web")
        assert lines[0].split() == ["USER", "PID", "PPID", "%CPU", "STIME", "TTY", "TIME", "CMD"]
        assert any(line.startswith("ana ") and line.endswith(" sleep 300") for line in lines)
    finally:
        process.terminate()
        process.wait(30)
    box("stop", "web")
    assert box.error("top", "web")["kind"] == "Conflict"


def test_top_knows_terminals(box: Cli) -> None:
    begin(box, "web")
    assert box.process("exec", "-dt", "web", "sleep", "300").returncode == 0
    rows = eventually(lambda: [row for row in box.json("top", "web") if row["command"] == ["sleep", "300"]])
    assert rows[0]["tty"].startswith("pts/")
