"""`treering stats`: once, as a stream, and on a terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runtime.state import load_run
from tests.cli.conftest import Cli, environment
from tests.cli.meters import LINE, directory, lines_of, started, stats, usage

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


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
