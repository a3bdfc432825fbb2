"""Real containers from the command line."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runtime.containers import REMOVED
from tests.cli.conftest import Cli, environment
from vcs.store import Store

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def sh(box: Cli, name: str, script: str, revision: str = "main") -> subprocess.CompletedProcess[bytes]:
    """Run a script in a new container that stays."""
    done: subprocess.CompletedProcess[bytes] = box.process("run", "--name", name, revision, "--", "sh", "-c", script)
    return done


def test_the_story(box: Cli) -> None:
    """Change, look, commit, roll back, fork, remove."""
    done = sh(box, "web", "echo new > /etc/new; rm /etc/motd; chmod 700 /tmp; echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, b"out\n", b"err\n")
    assert [row["name"] for row in box.json("ps", "-a")] == ["web"]
    assert box.json("ps", "-a")[0]["exit_code"] == 7
    assert box.lines("ps", "-q") == []

    expected = ["D  /etc/motd", "A  /etc/new", "M  /tmp/  (mode 1777 -> 700)"]
    assert box.lines("status", "web") == expected
    assert box.lines("diff", "web") == expected
    assert " /etc/new  | 1 +" in box.lines("diff", "--stat", "web")
    box("status", "--exit-code", "web", code=1)

    result = box("commit", "web", "-m", "changed", "--branch", "nginx")
    commit = result.stdout.strip()
    assert box.json("log", "nginx")[0]["commit"] == commit
    assert box.json("show", "nginx")["trailers"]["Container"] == "web"
    assert box.lines("diff", "main", "nginx") == expected
    assert box("status", "web").stdout == ""
    assert "clean" in box("status", "web").stderr
    again = box("commit", "web", "-m", "nothing")
    assert again.stdout.strip() == commit
    assert "Nothing has changed" in again.stderr
    assert box.json("show", "web")["commit"] == commit, "a container's name is a revision"
    assert box.json("show", "web~1")["commit"] == box.json("show", "main")["commit"]

    assert "treering rollback web --undo" in box("rollback", "web", "main").stderr
    assert box.process("start", "web").returncode == 7
    assert box.lines("status", "web") == expected
    box("rollback", "web", "--undo")
    assert box.lines("status", "web") == []

    assert box.lines("fork", "web", "--count", "3", "--name", "shard") == ["shard-1", "shard-2", "shard-3"]
    assert {row["commit"] for row in box.json("ps", "-a")} == {commit}

    box("rename", "shard-1", "kept")
    removed = box("rm", "kept", "shard-2", "shard-3")
    assert "back" not in removed.stderr
    saved = box("rm", "web").stderr
    assert "Its state is kept as" in saved, "what ran after the rollback was never committed"
    back = saved.split("back: treering ")[1].split()
    assert box.process(*back, "true").returncode == 0
    box("fsck")


def test_removing_keeps_what_is_on_no_branch(box: Cli) -> None:
    sh(box, "web", "echo 1 > /one")
    commit = box("commit", "web", "-m", "on no branch").stdout.strip()
    sh(box, "other", "echo 2 > /two")
    assert "2 changes" not in box("rm", "--dry-run", "web", "other").stderr
    assert len(box.json("ps", "-a")) == 2
    kept = {row["name"]: row["kept"] for row in box.json("rm", "--discard", "web", "other")}
    assert kept == {"web": [commit], "other": []}
    assert box.lines("cat", f"{commit}:/one") == ["1"]


def test_commit_while_it_runs(box: Cli, until: Callable[..., Any]) -> None:
    started = box("run", "-d", "--name", "db", "main", "sh", "-c", "echo 1 > /data; while true; do sleep 1; done")
    assert started.stdout == "db\n"
    until(lambda: box.lines("status", "db"))
    first = box("commit", "db", "-m", "running").stdout.strip()
    assert box.lines("cat", f"{first}:/data") == ["1"]
    assert box.lines("status", "db") == []
    assert box.error("rollback", "db", "main")["kind"] == "Conflict"
    assert box.error("rm", "db")["advice"] == "stop it first: treering stop db"
    assert box.error("start", "db")["kind"] == "Conflict"
    assert box.json("ps")[0]["state"] == "running"
    box("stop", "-t", "0", "db")
    assert box.json("ps", "-a")[0]["exit_code"] == 137
    assert box.error("kill", "db")["kind"] == "Conflict"


def test_stop_asks_first(box: Cli, until: Callable[..., Any]) -> None:
    script = "trap 'echo bye > /bye; exit 5' TERM; echo > /ready; while true; do sleep 0.05; done"
    box("run", "-d", "--name", "web", "main", "sh", "-c", script)
    until(lambda: box.lines("status", "web"))
    box("stop", "web")
    assert box.json("ps", "-a")[0]["exit_code"] == 5
    assert "A  /bye" in box.lines("status", "web")


def test_two_commits_to_one_branch(box: Cli) -> None:
    sh(box, "one", "echo 1 > /f")
    sh(box, "two", "echo 2 > /f")
    box("commit", "one", "-m", "one", "-b", "shared")
    error = box.error("commit", "two", "-m", "two", "-b", "shared")
    assert error["kind"] == "Conflict"
    assert "--branch" in error["advice"]
    assert box.lines("cat", "shared:/f") == ["1"]
    assert box.lines("status", "two") == ["A  /f"], "nothing of it is lost"


@pytest.mark.parametrize(
    ("arguments", "code", "output"),
    [
        (["--rm", "main", "echo", "--", "-x"], 0, b"-- -x\n"),
        (["--rm", "main", "--", "echo", "--rm"], 0, b"--rm\n"),
        (["--rm", "-e", "A=1", "-e", "TEST_B", "-e", "NONE", "main", "sh", "-c", "echo $A $TEST_B ${NONE-unset}"], 0,
         b"1 two unset\n"),
        (["--rm", "-w", "/home/ana", "-u", "ana", "main", "sh", "-c", "pwd; id -u; id -g"], 0,
         b"/home/ana\n1000\n1000\n"),
        (["--rm", "--hostname", "far", "main", "hostname"], 0, b"far\n"),
        (["--rm", "--name", "near", "main", "hostname"], 0, b"near\n"),
        (["--rm", "--network", "none", "main", "ls", "/proc/sys/net/ipv4/conf"], 0, b"all\ndefault\nlo\n"),
        (["--rm", "--read-only", "main", "sh", "-c", "echo > /x || echo refused"], 0, b"refused\n"),
        (["--rm", "--runtime", "runc", "main", "echo", "runc"], 0, b"runc\n"),
        (["--rm", "--runtime", "crun", "main", "echo", "crun"], 0, b"crun\n"),
        (["--rm", "main", "sh", "-c", "exit 3"], 3, b""),
        (["--rm", "main", "sh", "-c", "sh -c 'kill -9 $$'; exit $?"], 137, b""),
        (["main", "nosuch"], 127, b""),
        (["main", "/etc/passwd"], 126, b""),
        (["--runtime", "nosuch", "main", "true"], 125, b""),
        (["-u", "nobody-there", "main", "true"], 125, b""),
        (["nope", "true"], 125, b""),
        (["--bogus", "main", "true"], 2, b""),
        (["--name", "bad name", "main", "true"], 125, b""),
    ],
)  # fmt: skip
def test_run(box: Cli, arguments: list[str], code: int, output: bytes) -> None:
    done = box.process("run", *arguments, env={"TEST_B": "two"})
    assert (done.returncode, done.stdout) == (code, output), done.stderr
    assert box.lines("ps", "-aq") == [], "neither --rm nor a failed start leaves a container"


def test_env_files(box: Cli, tmp_path: Path) -> None:
    (tmp_path / "env").write_text("# comment\nA=1 2\n\nB='x'\nTEST_C\n")
    done = box.process("run", "--rm", "--env-file", str(tmp_path / "env"), "-e", "B=3", "main", "env",
                       env={"TEST_C": "c"})  # fmt: skip
    lines = done.stdout.decode().splitlines()
    assert {"A=1 2", "B=3", "TEST_C=c"} <= set(lines)


def test_standard_input(box: Cli) -> None:
    assert box.process("run", "--rm", "-i", "main", "cat", input=b"through\n").stdout == b"through\n"
    assert box.process("run", "--rm", "main", "cat", input=b"not\n").stdout == b""


def test_ctrl_c_goes_to_the_container(box: Cli) -> None:
    process = box.start("run", "--name", "web", "main", "sh", "-c",
                        "trap 'exit 42' INT; echo ready; while true; do sleep 0.05; done",
                        stdout=subprocess.PIPE)  # fmt: skip
    assert process.stdout
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 42


def test_a_terminal(box: Cli) -> None:
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [*box.command, "run", "-it", "--rm", "main", "sh"],
        stdin=slave, stdout=slave, stderr=slave, env=environment(box.store), start_new_session=True,
    )  # fmt: skip
    os.close(slave)
    _expect(master, b"# ")
    os.write(master, b"tty; echo done$((1+1))\n")
    assert b"/dev/" in _expect(master, b"done2").split(b"\n", 1)[1]
    os.write(master, b"exit 4\n")
    assert process.wait(30) == 4
    os.close(master)


def _expect(master: int, wanted: bytes) -> bytes:
    seen = b""
    deadline = time.monotonic() + 30
    while wanted not in seen:
        ready, _, _ = select.select([master], [], [], max(0, deadline - time.monotonic()))
        assert ready, seen
        seen += os.read(master, 4096)
    return seen


def test_mount(box: Cli, tmp_path: Path) -> None:
    where = tmp_path / "all"
    box("mount", str(where))
    try:
        names = [".treering", "at", "branches", "commits", "containers", "tags", "trees"]
        assert sorted(entry.name for entry in where.iterdir()) == names
        assert (where / "branches/main/etc/motd").read_text() == "one\n2\nthree\nfour\n"
        assert (where / "tags/v1/etc/motd").read_text() == "one\n2\nthree\nfour\n"
        with pytest.raises(OSError, match="Read-only"):
            (where / "branches/x").touch()
        assert box.json("service")["holder"]
        assert box.error("mount", str(where))["kind"] == "AlreadyExists"
        with (where / "branches/main/etc/motd").open():
            assert box.error("umount", str(where))["kind"] == "Conflict"
    finally:
        box("umount", str(where))
    assert box.error("umount", str(where))["kind"] == "NotFound"
    assert list(where.iterdir()) == []
    box("service", "stop")
    assert box.lines("service") == ["not running"]


def test_names(box: Cli) -> None:
    sh(box, "web", "true")
    assert box.error("run", "--name", "web", "main")["kind"] == "AlreadyExists"
    assert box.error("rename", "web", "-x", code=2)["kind"] == "UsageError"
    assert box.error("rename", "web", "a/b")["kind"] == "InvalidName"
    assert box.error("rollback", "web", "nope")["kind"] == "NotFound"
    assert box.error("rollback", "web", "--undo")["kind"] == "NotFound"
    assert box.error("stop", "nope")["advice"] == "`treering ps -a` lists the containers"
    start = box.json("ps", "-a")[0]["id"][:12]
    assert box("status", start).stdout == "", "the beginning of an id is enough"


def test_a_large_file_that_was_committed_is_deleted_aside(cli: Cli, until: Callable[..., Any]) -> None:
    """By a process that nobody waits for, unless it was killed: then the next command does it."""
    container = cli.store / "containers"
    before = {entry.name for entry in container.iterdir()}
    trash = container / ".trash-test"
    (trash / "upper").mkdir(parents=True)
    with (trash / "upper/large").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 257 << 20)
    cli("ps")
    until(lambda: {entry.name for entry in container.iterdir()} == before)


def test_a_container_deeper_than_calls_may_be_nested_is_removed(box: Cli) -> None:
    deep = "i=0; while [ $i -lt 1200 ]; do mkdir d && cd d && echo $i > f; i=$((i+1)); done"
    assert sh(box, "web", deep).returncode == 0
    assert box.process("commit", "web", "-m", "deep").returncode == 0
    assert box.process("rm", "web").returncode == 0
    assert sh(box, "web", deep).returncode == 0
    done = box.process("rm", "--discard", "web")
    assert (done.returncode, done.stderr) == (0, b"Removed web\n")
    assert [path.name for path in (box.store / "containers").glob(".trash-*")] == []
    assert box.json("ps", "-a") == []


def test_a_container_that_goes_at_its_end_leaves_no_ref_to_what_it_was_made_from(box: Cli) -> None:
    """Not even where only another container has that commit."""
    box.process("run", "--name", "web", "main", "sh", "-c", "echo 1 > /one")
    head = str(box.json("commit", "web", "-m", "one")["commit"])
    assert box.process("run", "--rm", head, "true").returncode == 0
    with Store.open(box.store) as store:
        assert not store.history.refs(REMOVED)
    box("rm", "web")
    with Store.open(box.store) as store:
        assert set(store.history.refs(REMOVED).values()) == {head}
