"""Commits of running containers, as a shell sees them."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from tests.cli.conftest import Cli
from tests.support.containers import eventually

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def web(box: Cli) -> Cli:
    """With a container `web` that runs."""
    done = box.process("run", "-d", "--name", "web", "--network", "none", "main", "sleep", "1000")
    assert done.returncode == 0, done.stderr
    return box


def do(cli: Cli, line: str) -> None:
    done = cli.process("exec", "web", "sh", "-c", line)
    assert done.returncode == 0, done.stderr


def commit(cli: Cli, *options: str) -> Any:
    done = cli.process("commit", "--format", "json", "web", "-m", "now", *options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_pause_is_told(web: Cli) -> None:
    do(web, "echo 1 > /one")
    done = web.process("commit", "web", "-m", "one")
    assert b"paused for " in done.stderr
    do(web, "echo 2 > /one")
    found = commit(web)
    assert (found["made"], found["changes"], found["failed_hook"]) == (True, 1, None)
    assert 0 < found["pause_ms"] < 30_000
    do(web, "echo 3 > /one")
    found = commit(web, "--no-pause")
    assert (found["made"], found["pause_ms"]) == (True, None)
    assert commit(web, "-p")["made"] is False


def test_hooks(web: Cli) -> None:
    found = commit(web, "--pre-hook", "echo saved > /dump", "--post-hook", "rm /dump; echo sorry >&2; exit 3")
    assert (found["made"], found["failed_hook"]) == (True, "sorry")
    assert web.lines("cat", "web:/dump") == ["saved"]
    assert web.process("exec", "web", "ls", "/dump").returncode == 1
    done = web.process("commit", "web", "-m", "no", "--pre-hook", "echo the disk is full; exit 4")
    assert done.returncode == 125
    assert b"the hook before the commit failed with exit code 4" in done.stderr
    assert b"the disk is full" in done.stderr
    done = web.process("commit", "web", "-m", "again", "--post-hook", "exit 9")
    assert b"warning: the hook after the pause failed: exit code 9" in done.stderr


def test_a_hook_needs_a_running_container(web: Cli) -> None:
    web.process("kill", "web")
    done = web.process("commit", "web", "-m", "no", "--pre-hook", "true")
    assert done.returncode == 125
    assert b"is not running" in done.stderr


def test_changes_of_the_image_config(web: Cli) -> None:
    found = commit(web, "-c", 'CMD ["echo", "hello"]', "--change", "ENV GREETING=hi", "-b", "hello", "--squash")
    assert found["made"]
    assert web.process("run", "--rm", "--network", "none", "hello").stdout == b"hello\n"
    done = web.process("commit", "web", "-m", "no", "-c", "RUN make")
    assert done.returncode != 0
    assert b"begins with one of CMD, ENTRYPOINT" in done.stderr


def test_one_step_back(web: Cli) -> None:
    for number in (1, 2, 3):
        do(web, f"echo {number} > /state")
        commit(web)
    assert web.lines("cat", "web@{1}:/state") == ["2"]
    assert web.lines("cat", "web~1:/state") == ["2"]
    web.process("kill", "web")
    assert web.process("rollback", "web", "@{1}").returncode == 0
    assert web.lines("cat", "web:/state") == ["2"]
    assert web.process("rollback", "web", "@{1}").returncode == 0
    assert web.lines("cat", "web:/state") == ["3"]
    assert web.lines("cat", "web@{3}:/state") == ["2"]
    assert web.process("rollback", "web", "@{99}").returncode == 125
    assert web.process("fsck").returncode == 0


def test_each_command_is_a_commit(box: Cli) -> None:
    done = box.process(
        "run", "-d", "--name", "web", "--network", "none", "--autocommit", "exec", "main", "sleep", "1000"
    )
    assert done.returncode == 0, done.stderr
    do(box, "echo 1 > /state")
    do(box, "true")
    assert box.process("exec", "web", "sh", "-c", "echo 2 > /state; exit 7").returncode == 7
    newest, before, *_ = box.json("log", "web")
    assert newest["message"].startswith("sh -c 'echo 2 > /state; exit 7'")
    assert "Exit-Code: 7\nDuration: " in newest["message"]
    assert before["message"].startswith("sh -c 'echo 1 > /state'")
    box.process("kill", "web")
    assert box.process("rollback", "web", "@{1}").returncode == 0
    assert box.lines("cat", "web:/state") == ["1"]


def test_a_command_in_the_background_is_a_commit_too(box: Cli) -> None:
    run = ("run", "-d", "--name", "web", "--network", "none", "--autocommit", "exec", "main", "sleep", "1000")
    assert box.process(*run).returncode == 0
    assert box.process("exec", "-d", "web", "sh", "-c", "echo 1 > /state; exit 5").returncode == 0
    eventually(lambda: "Exit-Code: 5" in box.json("log", "web")[0]["message"])


def test_now_and_then(box: Cli) -> None:
    script = "n=0; while :; do n=$((n+1)); echo $n > /state; sleep 0.2; done"
    run = ("run", "-d", "--name", "web", "--network", "none", "--autocommit", "every=1s", "main", "sh", "-c", script)
    assert box.process(*run).returncode == 0
    eventually(lambda: len(box.json("log", "web")) >= 5)  # two were there
    assert box.json("log", "web")[0]["message"].startswith("State of web")


def test_at_the_end(box: Cli) -> None:
    run = ("run", "--name", "web", "--network", "none", "--autocommit", "exit", "main", "sh", "-c", "echo > /x; exit 4")
    assert box.process(*run).returncode == 4
    eventually(lambda: "Exit-Code: 4" in box.json("log", "web")[0]["message"])
    assert box.process("status", "--exit-code", "web").returncode == 0
