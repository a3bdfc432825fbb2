"""Further commands in real containers, with both engines."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import random
import re
import select
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from runtime.inheriting import waited_for
from tests.cli.conftest import Cli, environment
from tests.support import cgroups
from tests.support.containers import eventually

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture(params=["crun", "runc"])
def web(request: pytest.FixtureRequest, box: Cli) -> Cli:
    """A container called web that waits, with a variable and a user of its own choice."""
    started = box.process(
        "run", "-d", "--name", "web", "--runtime", request.param, "-e", "SET=run", "-w", "/home", "main",
        "sh", "-c", "trap 'exit 0' TERM; while true; do sleep 0.05; done",
    )  # fmt: skip
    assert started.returncode == 0, started.stderr
    return box


def execute(box: Cli, *arguments: str, **settings: Any) -> tuple[int, str]:
    done = box.process("exec", *arguments, **settings)
    return done.returncode, done.stdout.decode()


@pytest.mark.parametrize(
    ("arguments", "code", "output"),
    [
        (["web", "sh", "-c", "echo out; echo err >&2; exit 7"], 7, "out\n"),
        (["web", "--", "echo", "--", "-x"], 0, "-- -x\n"),
        (["web", "echo", "x", "-e"], 0, "x -e\n"),
        (["web", "sh", "-c", "echo $SET; pwd; hostname; id -u; echo $HOME"], 0, "run\n/home\nweb\n0\n/root\n"),
        (["-e", "SET=exec", "-e", "PASSED", "-e", "NONE", "web", "sh", "-c", "echo $SET $PASSED ${NONE-unset}"], 0,
         "exec on unset\n"),
        (["-w", "/etc", "web", "pwd"], 0, "/etc\n"),
        (["-u", "ana", "web", "sh", "-c", "id -u; id -g; id -G; echo $HOME"], 0,
         "1000\n1000\n1000 10 44\n/home/ana\n"),
        (["-u", "ana", "-e", "HOME=/mine", "web", "sh", "-c", "echo $HOME"], 0, "/mine\n"),
        (["-u", "1:44", "web", "sh", "-c", "id -u; id -g; id -G"], 0, "1\n44\n44\n"),
        (["-u", "77", "web", "sh", "-c", "id -u; id -g"], 0, "77\n0\n"),
        (["web", "cat"], 0, ""),
        (["web", "sh", "-c", "kill -9 $$"], 137, ""),
        (["web", "nosuch"], 127, ""),
        (["web", "/etc/passwd"], 126, ""),
        (["web", "/etc"], 126, ""),
        (["-w", "/nowhere", "web", "true"], 127, ""),
        (["-w", "/etc/passwd", "web", "true"], 127, ""),
        (["-u", "nobody-there", "web", "true"], 125, ""),
        (["nope", "true"], 125, ""),
        (["web"], 2, ""),
        (["web", "--"], 2, ""),
        (["--bogus", "web", "true"], 2, ""),
    ],
)  # fmt: skip
def test_exec(web: Cli, arguments: list[str], code: int, output: str) -> None:
    done = web.process("exec", *arguments, env={"PASSED": "on"})
    assert (done.returncode, done.stdout.decode()) == (code, output), done.stderr
    if code >= 125 and code != 137:
        assert done.stderr.count(b"treering:") == 1
    assert not list(web.store.glob("containers/*/exec-*")), "nothing of it stays"


def test_env_files(web: Cli, tmp_path: Path) -> None:
    (tmp_path / "env").write_text("# comment\nA=1 2\nSET=file\n")
    lines = execute(web, "--env-file", str(tmp_path / "env"), "-e", "SET=option", "web", "env")[1].splitlines()
    assert {"A=1 2", "SET=option"} <= set(lines)


def test_what_holds_for_the_container_holds_for_the_command(web: Cli) -> None:
    show = "grep -E '^(Cap|Seccomp:|NoNewPrivs|CapAmb)' /proc/{}/status; cat /proc/{}/cgroup; ulimit -n"
    own = execute(web, "web", "sh", "-c", show.replace("{}", "1"))[1]
    assert "Seccomp:\t2" in own
    assert execute(web, "web", "sh", "-c", show.replace("{}", "self"))[1] == own
    ana = execute(web, "-u", "ana", "web", "grep", "CapEff", "/proc/self/status")[1]
    assert ana.split()[1] == "0" * 16
    open_files = execute(web, "web", "sh", "-c", "ls /proc/self/fd; ls -l /proc/self/fd/0")[1]
    assert open_files.split()[:4] == ["0", "1", "2", "3"], "3 is the directory that ls reads"
    assert "/dev/null" in open_files


def test_privileged(web: Cli) -> None:
    """All capabilities that we have, for root and others; the filter stays."""
    mine = re.search(r"CapBnd:\t(.*)", Path("/proc/self/status").read_text())
    assert mine
    for user in ("root", "ana"):
        status = execute(web, "--privileged", "-u", user, "web", "cat", "/proc/self/status")[1]
        found = dict(line.split(":\t") for line in status.splitlines() if ":\t" in line)
        assert found["CapBnd"] == mine[1]
        assert found["Seccomp"] == "2"
    assert execute(web, "--privileged", "web", "grep", "CapEff", "/proc/self/status")[1].split()[1] == mine[1]


def test_containers_with_ids_of_their_own(box: Cli) -> None:
    """Users are the container's, and end where its ids do."""
    box("run", "-d", "--name", "web", "--userns", "auto", "main", "sleep", "300")
    assert execute(box, "-u", "ana", "web", "id", "-u") == (0, "1000\n")
    done = box.process("exec", "-u", "70000", "web", "true")
    assert done.returncode == 125
    assert b"hint: take another --user" in done.stderr


def programs_in(cgroup: Path) -> set[bytes]:
    """What its processes run, less those that have ended."""
    found = set()
    for pid in (cgroup / "cgroup.procs").read_text().split():
        with suppress(FileNotFoundError, ProcessLookupError):
            found.add(Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0])
    return found


def test_it_is_in_the_container_s_cgroups(web: Cli) -> None:
    process = web.start("exec", "web", "sh", "-c", "echo; sleep 60", stdout=subprocess.PIPE)
    try:
        assert process.stdout
        process.stdout.readline()
        identity = web.json("ps")[0]["id"]
        found = cgroups.of_container(identity)
        assert found
        for path in found:
            eventually(lambda path=path: b"sleep" in programs_in(path))
            assert b"treering-run" not in programs_in(path)
    finally:
        process.terminate()
        process.wait(30)


def test_streams_are_passed_on_exactly(web: Cli) -> None:
    data = random.Random(5).randbytes(5_000_003)
    done = web.process("exec", "-i", "web", "cat", input=data)
    assert done.returncode == 0
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(data).digest()
    assert web.process("exec", "web", "cat", input=data).stdout == b"", "without -i there is no input"
    script = "i=0; while test $i -lt 200; do echo $i; echo $i >&2; i=$((i+1)); done"
    both = web.process("exec", "web", "sh", "-c", script, stdout=subprocess.PIPE, stderr=subprocess.STDOUT).stdout
    assert both.split() == [str(n).encode() for n in range(200) for _ in (1, 2)], "one pipe keeps the order"


def test_input_is_read_no_further_than_wanted(web: Cli, tmp_path: Path) -> None:
    (tmp_path / "lines").write_text("first\nsecond\n")
    with (tmp_path / "lines").open("rb") as lines:
        done = web.process("exec", "-i", "web", "dd", "bs=1", "count=6", stdin=lines)
        assert done.stdout == b"first\n"
        assert lines.read() == b"second\n"


def test_who_reads_no_more_ends_it(web: Cli) -> None:
    with subprocess.Popen(["head", "-c", "10"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as head:
        done = web.process("exec", "web", "yes", stdout=head.stdin, stderr=subprocess.DEVNULL)
        assert head.stdin
        head.stdin.close()
        assert done.returncode == 128 + signal.SIGPIPE
    assert ["yes"] not in [row["command"] for row in web.json("top", "web")]


def test_what_it_leaves_in_the_background_keeps_nobody_waiting(web: Cli) -> None:
    done = web.process("exec", "web", "sh", "-c", "sleep 300 & echo done")
    assert (done.returncode, done.stdout) == (0, b"done\n")
    done = web.process("exec", "web", "sh", "-c", "yes & echo; exit 3", stdout=subprocess.DEVNULL)
    assert done.returncode == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_signals_go_to_the_command(web: Cli, number: signal.Signals) -> None:
    name = number.name.removeprefix("SIG")
    script = f"trap 'echo {name}; exit 42' {name}; echo ready; while true; do sleep 0.05; done"
    process = web.start("exec", "web", "sh", "-c", script, stdout=subprocess.PIPE)
    assert process.stdout
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(number)
    assert (process.stdout.read(), process.wait(30)) == (f"{name}\n".encode(), 42)


def test_the_third_interrupt_kills(web: Cli) -> None:
    script = "trap 'echo no' INT; echo ready; while true; do sleep 0.05; done"
    process = web.start("exec", "web", "sh", "-c", script, stdout=subprocess.PIPE)
    assert process.stdout
    assert process.stdout.readline() == b"ready\n"
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == b"no\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 137


def test_the_container_ends_meanwhile(web: Cli) -> None:
    process = web.start("exec", "web", "sh", "-c", "echo; sleep 300", stdout=subprocess.PIPE)
    assert process.stdout
    process.stdout.readline()
    web("stop", "web")
    assert process.wait(30) == 137
    error = web.error("exec", "web", "true")
    assert (error["kind"], error["advice"]) == ("Conflict", "start it first: treering start web")


def test_detached(web: Cli) -> None:
    """It lives on; what becomes of it is collected, and its process of ours ends with it."""
    done = web.process("exec", "-d", "web", "sh", "-c", "echo $$ > /pid; exec sleep 300")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    eventually(lambda: execute(web, "web", "sh", "-c", "cat /proc/$(cat /pid)/cmdline")[1] == "sleep\x00300\x00")
    assert web.process("exec", "-d", "web", "nosuch").returncode == 127
    assert web.process("exec", "-d", "-u", "nobody-there", "web", "true").returncode == 125
    execute(web, "web", "sh", "-c", "kill $(cat /pid)")
    eventually(lambda: execute(web, "web", "sh", "-c", "test -e /proc/$(cat /pid)")[0] == 1)
    eventually(lambda: not _named(b"treering-exec"))


def test_detached_with_a_terminal(web: Cli) -> None:
    done = web.process("exec", "-dt", "web", "sh", "-c", "tty > /tty; yes | head -n 100000; echo end >> /tty")
    assert done.returncode == 0
    eventually(lambda: execute(web, "web", "cat", "/tty")[1].endswith("end\n"))
    assert execute(web, "web", "cat", "/tty")[1].startswith("/dev/pts/")


def _named(name: bytes) -> list[Path]:
    found = []
    for path in Path("/proc").glob("[0-9]*/comm"):
        try:
            if path.read_bytes().strip() == name:
                found.append(path)
        except OSError:
            continue
    return found


def on_terminal(box: Cli, *arguments: str) -> tuple[subprocess.Popen[bytes], int]:
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [*box.command, "exec", *arguments],
        stdin=slave, stdout=slave, stderr=slave, env=environment(box.store), start_new_session=True,
    )  # fmt: skip
    os.close(slave)
    return process, master


def expect(master: int, wanted: bytes) -> bytes:
    seen = b""
    deadline = time.monotonic() + 30
    while wanted not in seen:
        ready, _, _ = select.select([master], [], [], max(0, deadline - time.monotonic()))
        assert ready, seen
        seen += os.read(master, 4096)
    return seen


def test_a_terminal(web: Cli) -> None:
    process, master = on_terminal(web, "-it", "web", "sh")
    try:
        expect(master, b"# ")
        os.write(master, b"stty size; tty; echo $TERM; echo done$((1+1))\n")
        shown = expect(master, b"done2")
        assert b"/dev/pts/" in shown
        assert b"xterm" in shown
        os.write(master, b"exit 4\n")
        assert process.wait(30) == 4
    finally:
        process.kill()
        process.wait(30)
        os.close(master)


def test_a_terminal_s_keys_are_the_command_s(web: Cli) -> None:
    script = "trap 'exit 5' INT; echo ready; while true; do sleep 0.05; done"
    process, master = on_terminal(web, "-it", "web", "sh", "-c", script)
    try:
        expect(master, b"ready")
        os.write(master, b"\x03")
        assert process.wait(30) == 5
    finally:
        process.kill()
        process.wait(30)
        os.close(master)


def test_the_user_s_terminal_is_not_the_command_s(web: Cli) -> None:
    process, master = on_terminal(web, "-i", "web", "sh", "-c", "tty; ls -l /proc/self/fd/0 /proc/self/fd/1; cat")
    try:
        shown = expect(master, b"pipe:").decode()
        assert "not a tty" in shown
        assert "/dev/pts" not in shown
        os.write(master, b"typed\n\x04")
        expect(master, b"typed\r\ntyped")
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait(30)
        os.close(master)


def test_a_killed_client_leaves_the_command(web: Cli) -> None:
    process = web.start("exec", "web", "sh", "-c", "echo $$ > /pid; echo; exec sleep 300", stdout=subprocess.PIPE)
    assert process.stdout
    process.stdout.readline()
    process.kill()
    process.wait(30)
    eventually(lambda: execute(web, "web", "sh", "-c", "cat /proc/$(cat /pid)/cmdline")[1] == "sleep\x00300\x00")


def test_many_at_once(web: Cli) -> None:
    started = [web.start("exec", "web", "sh", "-c", f"echo {n}; exit {n}", stdout=subprocess.PIPE) for n in range(8)]
    for n, process in enumerate(started):
        output, _ = process.communicate(timeout=60)
        assert (process.returncode, output) == (n, f"{n}\n".encode())


def test_the_machine_sees_no_container_path(web: Cli) -> None:
    """Names of the container are looked up in it: what /etc/passwd leads to there is no file of the machine's."""
    execute(web, "web", "sh", "-c", "rm /etc/passwd; ln -s /proc/1/root/etc/passwd /etc/passwd")
    done = web.process("exec", "-u", "root", "web", "true")
    assert done.returncode == 125
    assert b"not in the root's /etc/passwd" in done.stderr
    assert json.loads(json.dumps(web.json("ps")))[0]["state"] == "running"


_CUTTING = """#!/bin/sh
crun "$@"
code=$?
while [ $# -gt 1 ]; do
    [ "$1" = --pid-file ] && file="$2"
    shift
done
pid=$(cat "$file")
for _ in $(seq 1000); do
    {} && break
    sleep 0.01
done
truncate -s 1 "$file"
exit {}
"""
_HAS_CHILD = "grep -q . /proc/$pid/task/$pid/children"


_ZOMBIE = """#!/bin/sh
sh -c 'kill -9 $$' &
exec sleep 1000
"""
"""Exec'd programs do not wait for children that they had before."""


def test_an_engine_whose_helper_was_killed_is_not_waited_for(tmp_path: Path) -> None:
    stuck = tmp_path / "crun"
    stuck.write_text(_ZOMBIE)
    stuck.chmod(0o755)
    assert waited_for(os.posix_spawn(stuck, [str(stuck)], os.environ)) == 128 + signal.SIGKILL


def engine(path: Path, until: str = "true", code: str = "$code") -> Path:
    """An engine whose pid files are cut short. It ends when something is so, with such an exit code."""
    path.write_text(_CUTTING.replace("{}", until, 1).replace("{}", code))
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("foreground", [False, True])
def test_a_pid_file_that_is_cut_short_leads_to_no_other_process(box: Cli, tmp_path: Path, foreground: bool) -> None:
    """crun writes it with one write, and does not look how much that took."""
    path = engine(tmp_path / "crun-cut", _HAS_CHILD)
    runtime = ("--runtime", str(path))
    if foreground:
        done = box.process("run", "--rm", *runtime, "main", "sh", "-c", "echo out; sleep 1; exit 7")
        assert (done.returncode, done.stdout) == (7, b"out\n"), done.stderr
        return
    box("run", "-d", "--name", "web", *runtime, "main", "sh", "-c", "sleep 300; exit")
    assert box.json("ps")[0]["state"] == "running"
    assert execute(box, "web", "sh", "-c", "echo out; sleep 1; exit 7") == (7, "out\n")
    engine(path)
    assert execute(box, "web", "sh", "-c", "echo out; exit 7") == (7, "out\n")
    assert execute(box, "-t", "web", "sh", "-c", "tty; exit 7") == (7, "/dev/pts/0\r\n")
    assert execute(box, "-d", "web", "sleep", "299") == (0, "")
    eventually(lambda: [one["command"][1] for one in box.json("top", "web")] == ["-c", "300", "299"])
    box("stop", "web")


def test_what_an_engine_has_started_that_then_fails_is_ended(box: Cli, tmp_path: Path) -> None:
    path = engine(tmp_path / "crun-failing")
    box("run", "-d", "--name", "web", "--runtime", str(path), "main", "sleep", "300")
    engine(path, _HAS_CHILD, code="1")
    done = box.process("exec", "web", "sh", "-c", "sleep 1; exit 7")
    assert done.returncode == 125
    assert done.stderr.count(b"treering:") == 1
    assert not [one for one in box.json("top", "web") if one["command"][0] == "sh"]
    engine(path)
    box("stop", "web")
