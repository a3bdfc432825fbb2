"""What containers use: stats, ps --usage, metrics, update; with real containers, against what their processes say."""

from __future__ import annotations

import http.client
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from runtime import metering
from runtime.cgroups import Cgroup
from runtime.state import load_run
from tests.cli.conftest import Cli, environment
from tests.support.burner import compile_burner
from vcs.errors import EngineError

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

LINE = "while :; do :; done"


@pytest.fixture
def burner(box: Cli, tmp_path: Path) -> str:
    """A commit that has the program `/burn`."""
    (tmp_path / "root").mkdir()
    box("export", "main", str(tmp_path / "root"))
    compile_burner(tmp_path / "root/burn")
    box("import", str(tmp_path / "root"), "-b", "burner", "-m", "with /burn")
    return "burner"


def directory(box: Cli, name: str) -> Path:
    row = next(row for row in box.json("ps", "-a") if row["name"] == name)
    return box.store / "containers" / row["id"]


def usage(box: Cli, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(row["usage"] for row in box.json("ps", "-a", "--usage") if row["name"] == name)
    return found


def stats(box: Cli, *names: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = box.json("stats", "--no-stream", *names)
    return found


def said(fifo: str) -> bool:
    """Let who reads a FIFO go on; False as long as nobody does."""
    try:
        fd = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return False
    os.write(fd, b"go\n")
    os.close(fd)
    return True


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


# -- stats


def test_stats(box: Cli) -> None:
    assert box.lines("stats", "--no-stream") == [
        "NAME   CPU %   MEM USAGE / LIMIT   MEM %   NET I/O   BLOCK I/O   PIDS"
    ]
    box("run", "-d", "--name", "web", "main", "sh", "-c", f"sleep inf & {LINE}")
    box("run", "-d", "--name", "db", "--network", "none", "main", "sleep", "inf")
    box.process("run", "--name", "ended", "main", "true")
    web, db = stats(box)
    assert (web["name"], db["name"]) == ("web", "db")
    assert web["cpu_percent"] > 5
    assert db["cpu_percent"] < 5
    assert (web["pids"], db["pids"]) == (2, 1)
    assert web["source"] == db["source"] == "cgroup"
    assert 50_000 < db["memory_bytes"] < 20 << 20
    assert db["memory_peak"] >= db["memory_bytes"]
    assert db["memory_limit"] is None
    assert (web["received_bytes"], db["received_bytes"], db["sent_bytes"]) == (None, 0, 0)
    assert [row["name"] for row in stats(box, "db", "ended")] == ["db", "ended"]
    assert [row["pids"] for row in box.json("stats", "--no-stream", "-a")] == [2, 1, None]
    lines = box.lines("stats", "--no-stream", "-a")
    assert re.fullmatch(r"db +0\.\d\d% +\d+ kB / \d+ GB +0\.\d\d% +0 B / 0 B +0 B / 0 B +1", lines[2])
    assert lines[3].split() == ["ended", *"------"]
    assert box.error("stats", "--no-stream", "nope")["kind"] == "NotFound"


def test_loopback_is_no_network(box: Cli, until: Callable[..., Any]) -> None:
    box("run", "-d", "--name", "db", "--network", "none", "main", "sh", "-c",
        "ping -c 3 -i 0.01 127.0.0.1; echo > /done; sleep inf")  # fmt: skip
    until(lambda: "A  /done" in box.lines("status", "db"))
    run = load_run(directory(box, "db"))
    assert run
    assert run.init
    loopback = Path(f"/proc/{run.init.pid}/net/dev").read_text().split("lo:")[1].split()
    assert int(loopback[0]) > 0
    assert stats(box, "db")[0]["received_bytes"] == 0


def test_what_went_over_a_network_is_known_when_it_is_gone(box: Cli) -> None:
    """Nobody looked while it ran: it is read when the container has ended, and before its network is taken down."""
    script = "ping -q -c 3 -i 0.05 -s 1000 -W 5 $(ip route | sed -n 's/default via \\([0-9.]*\\).*/\\1/p')"
    done = box.process("run", "--name", "web", "--network", "bridge", "main", "sh", "-c", script)
    assert done.returncode == 0, done.stderr
    used = usage(box, "web")
    assert 3 * 1028 <= used["sent_bytes"] < 30_000
    assert 3 * 1028 <= used["received_bytes"] < 30_000


@contextmanager
def started(box: Cli, *arguments: str, **settings: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A command as a process of its own, which is ended in any case."""
    process = box.start(*arguments, stdin=subprocess.DEVNULL, **settings)
    try:
        yield process
    finally:
        process.kill()
        process.wait(30)


def lines_of(process: subprocess.Popen[bytes], count: int) -> list[bytes]:
    """So many lines of its output, within a minute."""
    assert process.stdout
    found = b""
    deadline = time.monotonic() + 60
    while found.count(b"\n") < count:
        ready, _, _ = select.select([process.stdout], [], [], max(0, deadline - time.monotonic()))
        assert ready, found
        more = os.read(process.stdout.fileno(), 1 << 16)
        assert more, found
        found += more
    return found.splitlines()


@pytest.mark.parametrize("form", ["table", "jsonl", "json"])
def test_a_stream_goes_on_until_it_is_interrupted(box: Cli, form: str) -> None:
    box("run", "-d", "--name", "web", "main", "sleep", "inf")
    with started(box, "stats", "--format", form, "--interval", "0.1",
                 stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:  # fmt: skip
        lines = lines_of(process, 70 if form == "json" else 8)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert process.stderr
        assert process.stderr.read() == b""
    if form == "jsonl":
        assert {json.loads(line)["name"] for line in lines[:8]} == {"web"}
        times = [json.loads(line)["time"] for line in lines[:8]]
        assert times == sorted(set(times))
    elif form == "table":
        assert [line.split()[0] for line in lines[:6] if line] == [b"NAME", b"web"] * 2
    else:
        found, end = json.JSONDecoder().raw_decode(b"\n".join(lines).decode())
        assert found[0]["name"] == "web"
        assert b"\n".join(lines).decode()[end:].startswith("\n[")


def test_a_stream_ends_with_the_containers_that_were_named(box: Cli) -> None:
    box("run", "-d", "--name", "web", "main", "sleep", "inf")
    with started(box, "stats", "--format", "jsonl", "--interval", "0.1", "web", stdout=subprocess.PIPE,
                 stderr=subprocess.DEVNULL) as process:  # fmt: skip
        lines_of(process, 1)
        box("rm", "-f", "--discard", "web")
        assert process.wait(30) == 0


def test_on_a_terminal_the_table_stays_in_its_place(box: Cli) -> None:
    for name in ("one", "two", "three", "four"):
        box("run", "-d", "--name", name, "main", "sleep", "inf")
    master, slave = pty.openpty()
    os.set_blocking(master, False)
    import termios

    termios.tcsetwinsize(slave, (5, 60))
    process = subprocess.Popen(
        [*box.command, "stats", "--interval", "0.1"], stdin=slave, stdout=slave, stderr=slave,
        env=environment(box.store), start_new_session=True, preexec_fn=_own_terminal,
    )  # fmt: skip
    os.close(slave)
    try:
        seen = b""
        deadline = time.monotonic() + 60
        while seen.count(b"\x1b[H") < 3:
            ready, _, _ = select.select([master], [], [], max(0, deadline - time.monotonic()))
            assert ready, seen
            seen += os.read(master, 4096)
        os.write(master, b"\x03")
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait(30)
        os.close(master)
    assert seen.count(b"\x1b[2J") == 1, "cleared once"
    screen = seen.split(b"\x1b[H")[2].split(b"\x1b[J")[0]
    lines = [line.removesuffix(b"\r\n") for line in screen.split(b"\x1b[K")]
    assert [line.split()[0] for line in lines if line.strip()] == [b"NAME", b"one", b"two", b"and"]
    assert all(len(line.strip()) < 60 for line in lines)


def _own_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


# -- update


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


# -- metrics


def samples(text: str) -> dict[tuple[str, str], float]:
    """By metric and container."""
    return {
        (sample.name, sample.labels.get("name", sample.labels.get("state", ""))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def fetch(url: str, method: str = "GET") -> tuple[bytes, http.client.HTTPMessage]:
    with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=60) as answer:
        return answer.read(), answer.headers


@contextmanager
def listening(box: Cli, address: str = "127.0.0.1:0") -> Iterator[str]:
    """A server of metrics; yields its URL. Ctrl-C ends it, quietly."""
    with started(box, "metrics", "--listen", address, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        assert process.stderr
        ready, _, _ = select.select([process.stderr], [], [], 60)
        assert ready
        line = process.stderr.readline().decode()
        assert line.startswith("Listening at http://"), line
        yield line.split()[-1]
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert process.stderr.read() == b""


def test_metrics_over_http(box: Cli, burner: str, until: Callable[..., Any]) -> None:
    box("run", "-d", "--name", "web", "--network", "none", burner, "/burn", "0.3", "2", "wait")
    box.process("run", "--name", "ended", "main", "sh", "-c", "exit 7")
    box("run", "-d", "--name", "still", "main", "sleep", "inf")
    box("pause", "still")
    box("branch", 'odd"name', "main")
    box.process("run", "--name", "odd", 'odd"name', "true")
    with listening(box) as url:
        until(lambda: samples(fetch(url)[0].decode())["treering_container_cpu_seconds_total", "web"] >= 0.9)
        body, headers = fetch(url)
        assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert fetch(url, "HEAD")[0] == b""
        with pytest.raises(urllib.error.HTTPError, match="404"):
            fetch(url.removesuffix("metrics"))
        with pytest.raises(urllib.error.HTTPError, match="501"):
            fetch(url, "POST")
    text = body.decode()
    found = samples(text)
    assert 0.9 <= found["treering_container_cpu_seconds_total", "web"] <= 1.2
    assert found["treering_container_pids", "web"] == 1
    assert found["treering_container_memory_bytes", "web"] > 0
    assert found["treering_container_network_received_bytes_total", "web"] == 0
    assert ("treering_container_network_received_bytes_total", "ended") not in found
    assert ("treering_container_pids", "ended") not in found
    assert ("treering_container_memory_limit_bytes", "web") not in found
    assert found["treering_container_exit_code", "ended"] == 7
    assert found["treering_container_restarts_total", "ended"] == 0
    counts = {state: found["treering_containers", state] for state in ("running", "paused", "exited", "restarting")}
    assert counts == {"running": 1, "paused": 1, "exited": 2, "restarting": 0}
    assert found["treering_store_commits", ""] == 4
    assert found["treering_store_layer_bytes", ""] == sum(
        path.stat().st_size for path in (box.store / "layers").iterdir()
    )
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert all(family.documentation for family in families.values())
    assert {family.type for name, family in families.items() if name.endswith("_seconds")} == {"counter"}
    states = {sample.labels["state"]: sample.value for sample in families["treering_container_state"].samples
              if sample.labels["name"] == "web"}  # fmt: skip
    assert {state for state, value in states.items() if value} == {"running"}
    images = {sample.labels["name"]: sample.labels["image"] for sample in families["treering_container_info"].samples}
    assert images["odd"] == 'odd"name'
    assert all(len(sample.labels["id"]) == 12 for sample in families["treering_container_info"].samples)


def test_counters_go_on_through_restarts(box: Cli, burner: str) -> None:
    box.process("run", "--name", "web", burner, "/burn", "0.2", "0")
    first = samples(box("metrics").stdout)
    box.process("start", "web")
    second = samples(box("metrics").stdout)
    name = "treering_container_cpu_seconds_total", "web"
    assert second[name] >= first[name] + 0.2
    assert second["treering_container_restarts_total", "web"] == 1


def test_a_client_that_says_nothing_keeps_nobody_waiting(box: Cli) -> None:
    with listening(box, "[::1]:0") as url:
        found = re.fullmatch(r"http://\[::1\]:(\d+)/metrics", url)
        assert found
        with socket.create_connection(("::1", int(found[1])), timeout=60):
            assert b"treering_store_layers" in fetch(url)[0]


def test_addresses(cli: Cli, tmp_path: Path) -> None:
    for address in ("9469", ":9469", "localhost:x", "127.0.0.1:70000"):
        assert "is no ADDRESS:PORT" in cli("metrics", "--listen", address, code=2).stderr
    with socket.create_server(("127.0.0.1", 0)) as taken:
        error = cli.error("metrics", "--listen", f"127.0.0.1:{taken.getsockname()[1]}")
        assert "in use" in error["message"]
    done = Cli(tmp_path / "none").process("metrics", "--listen", "127.0.0.1:0")
    assert done.returncode == 125
    assert b"there is no store" in done.stderr.lower() or b"not a store" in done.stderr.lower(), done.stderr


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
