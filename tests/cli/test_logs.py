"""What containers printed, and who stands at their streams."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Cli, environment
from tests.support.containers import eventually, is_gone

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

TALK = "echo out; echo err >&2; echo more; printf unfinished"


def detached(box: Cli, name: str, script: str, *options: str) -> None:
    done = box.process("run", "-d", "--name", name, *options, "main", "sh", "-c", script)
    assert done.returncode == 0, done.stderr


def ended(box: Cli, name: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        found: dict[str, Any]
        (found,) = [row for row in box.json("ps", "-a") if row["name"] == name]
        return found if found["state"] == "exited" else None

    found: dict[str, Any] = eventually(look)
    return found


def test_streams_times_and_the_last_lines(box: Cli) -> None:
    detached(box, "web", TALK)
    ended(box, "web")
    done = box.process("logs", "web")
    assert (done.stdout, done.stderr) == (b"out\nmore\nunfinished", b"err\n")
    assert box.process("logs", "-n", "1", "web").stdout == b"unfinished"
    rows = box.json("logs", "web")
    assert [(row["stream"], row["text"]) for row in rows if row["stream"] == "stdout"] == [
        ("stdout", "out"), ("stdout", "more"), ("stdout", "unfinished"),
    ]  # fmt: skip
    stamped = box.process("logs", "-t", "web").stdout.splitlines()
    assert [line.split()[0].decode() for line in stamped] == [row["time"] for row in rows if row["stream"] == "stdout"]
    assert box.json("logs", "--since", "1h", "web") == rows
    assert box.json("logs", "--until", "1h", "web") == []
    assert box.json("logs", "--since", rows[-1]["time"][:19] + "Z", "web")
    assert "is no time" in box("logs", "--since", "soon", "web", code=2).stderr


def test_a_run_in_the_foreground_is_logged_too(box: Cli) -> None:
    done = box.process("run", "--name", "web", "main", "sh", "-c", TALK)
    assert (done.stdout, done.stderr) == (b"out\nmore\nunfinished", b"err\n")
    assert box.process("logs", "web").stdout == done.stdout


def test_logs_outlive_their_container(box: Cli) -> None:
    detached(box, "web", "echo said before; touch /new")
    ended(box, "web")
    commit = box("commit", "web", "-m", "new").stdout.strip()
    box("rm", "web")
    assert box.process("logs", "web").stdout == b"said before\n"
    (row,) = box.json("logs", "--removed")
    assert (row["name"], row["commit"], row["exit_code"]) == ("web", commit, 0)
    detached(box, "other", "echo unsaid")
    ended(box, "other")
    found = box.process("logs", "--grep", "sa[i]d").stdout
    assert found == b"web: said before\nother: unsaid\n"
    box("gc", "--expire", "now")
    assert box.json("logs", "--removed") == []
    box("logs", "web", code=125)
    box("fsck", "--full") if "--full" in box("fsck", "--help").stdout else box("fsck")


def test_a_detached_container_that_is_removed_leaves_its_log(box: Cli) -> None:
    detached(box, "once", "echo short life", "--rm")
    eventually(lambda: not box.json("ps", "-a"))
    assert box.process("logs", "once").stdout == b"short life\n"


def test_following(box: Cli) -> None:
    detached(box, "web", "echo one; read x < /go; echo two; exit 3")
    process = box.start("logs", "-f", "web", stdout=subprocess.PIPE)
    assert process.stdout
    assert process.stdout.readline() == b"one\n"
    eventually(lambda: box.process("stop", "-t", "0", "web").returncode == 0)
    assert process.wait(30) == 0
    assert process.stdout.read() in (b"", b"two\n")


def test_a_killed_supervisor_is_replaced(box: Cli) -> None:
    """The container goes on, what it prints is not lost, and its exit code is known all the same."""
    detached(box, "web", "while ! test -e /go; do echo tick; sleep 0.01; done; echo last; exit 7")
    eventually(lambda: b"tick" in box.process("logs", "web").stdout)
    directory = _directory(box, "web")
    supervisor = _supervisor(directory)
    os.kill(supervisor, signal.SIGKILL)
    eventually(lambda: is_gone(supervisor))
    (row,) = box.json("ps")
    assert row["state"] == "running"
    eventually(lambda: _supervisor(directory) != supervisor)
    before = len(box.process("logs", "web").stdout)
    eventually(lambda: len(box.process("logs", "web").stdout) > before)
    (Path(f"/proc/{row['pid']}/root") / "go").touch()
    assert ended(box, "web")["exit_code"] in (7, None)
    if _kernel() >= (6, 15):
        assert ended(box, "web")["exit_code"] == 7
    assert box.process("logs", "web").stdout.endswith(b"last\n")


def _kernel() -> tuple[int, int]:
    major, minor = os.uname().release.split(".")[:2]
    return int(major), int(minor)


def _directory(box: Cli, name: str) -> Path:
    (row,) = [row for row in box.json("ps", "-a") if row["name"] == name]
    return box.store / "containers" / str(row["id"])


def _supervisor(directory: Path) -> int:
    from runtime.state import load_run

    run = load_run(directory)
    assert run
    return run.supervisor.pid


def test_attach_to_streams(box: Cli) -> None:
    detached(box, "cat", "while read line; do echo got $line; echo err >&2; done; exit 4", "-i")
    process = box.start("attach", "cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin
    assert process.stdout
    process.stdin.write(b"one\n")
    process.stdin.flush()
    assert process.stdout.readline() == b"got one\n"
    process.kill()
    process.wait(10)
    process.stdin.close()
    process.stdout.close()
    again = box.start("attach", "cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert again.stdin
    assert again.stdout
    again.stdin.write(b"two\n")
    again.stdin.flush()
    assert again.stdout.readline() == b"got two\n"
    box("kill", "cat")
    assert again.wait(30) == 137
    assert box.process("logs", "cat").stdout == b"got one\ngot two\n"
    told = box("attach", "cat", code=125).stderr
    assert "container 'cat' is not running\nhint: start it first: treering start cat" in told


class Screen:
    """A command at a terminal."""

    def __init__(self, box: Cli, *arguments: str) -> None:
        import sys

        self.pid, self.fd = pty.fork()
        if not self.pid:
            os.execve(
                sys.executable,
                [sys.executable, "-P", "-m", "runtime.cli", *arguments],
                environment(box.store, {"TERM": "xterm"}),
            )
        self.seen = b""

    def expect(self, text: bytes) -> None:
        deadline = time.monotonic() + 30
        while text not in self.seen:
            assert select.select([self.fd], [], [], max(0.0, deadline - time.monotonic()))[0], (text, self.seen)
            try:
                self.seen += os.read(self.fd, 4096)
            except OSError:
                pytest.fail(f"the terminal closed; wanted {text!r}, saw {self.seen!r}")

    def type(self, text: bytes) -> None:
        os.write(self.fd, text)

    def wait(self) -> int:
        """The exit code, once it has ended."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._read_rest()
                os.close(self.fd)
                return os.waitstatus_to_exitcode(status)
            if select.select([self.fd], [], [], 0.02)[0]:
                try:
                    self.seen += os.read(self.fd, 4096)
                except OSError:
                    time.sleep(0.01)
        os.kill(self.pid, signal.SIGKILL)
        raise AssertionError(f"it does not end: {self.seen!r}")

    def _read_rest(self) -> None:
        """What it has written just before its end."""
        with suppress(OSError):
            while select.select([self.fd], [], [], 0)[0] and (data := os.read(self.fd, 4096)):
                self.seen += data


def test_leave_a_terminal_and_come_back(box: Cli) -> None:
    first = Screen(box, "run", "-it", "--name", "shell", "main", "sh")
    first.expect(b"# ")
    first.type(b"echo a$((1+1))\n")
    first.expect(b"a2")
    first.type(b"\x10\x11")
    assert first.wait() == 0
    assert b"treering attach shell" in first.seen
    assert [row["state"] for row in box.json("ps")] == ["running"]
    second = Screen(box, "attach", "shell")
    second.type(b"echo b$((1+1))\n")
    second.expect(b"b2")
    second.type(b"exit 9\n")
    assert second.wait() == 9
    log = box.process("logs", "shell").stdout
    assert b"a2\r\n" in log
    assert b"b2\r\n" in log


def restarts(box: Cli, name: str) -> int:
    from runtime.state import load_run

    run = load_run(_directory(box, name))
    return run.restarts if run else 0


def test_on_failure_it_is_started_again_so_many_times(box: Cli) -> None:
    detached(box, "web", "echo try; exit 5", "--restart", "on-failure:2")
    row = ended(box, "web")
    assert row["exit_code"] == 5
    assert restarts(box, "web") == 2
    assert box.process("logs", "web").stdout == b"try\n" * 3
    detached(box, "fine", "exit 0", "--restart", "on-failure")
    assert ended(box, "fine")["exit_code"] == 0
    assert restarts(box, "fine") == 0


@pytest.mark.parametrize("policy", ["always", "unless-stopped"])
def test_always_until_it_is_stopped(box: Cli, policy: str, until: Callable[..., Any]) -> None:
    detached(box, "web", "echo hello", "--restart", policy)
    eventually(lambda: restarts(box, "web") >= 2)
    box("stop", "web")
    ended(box, "web")
    count = restarts(box, "web")
    assert box.json("ps") == []
    assert restarts(box, "web") == count
    assert box.process("logs", "web").stdout == b"hello\n" * (count + 1)
