"""A commit for each command: `run --autocommit exec`."""

from __future__ import annotations

import os

import pytest

from tests.cli.conftest import Cli
from tests.support.containers import eventually

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def test_each_command_is_a_commit(box: Cli) -> None:
    box("run", "-d", "--name", "web", "--autocommit", "exec", "main", "sleep", "300")
    first = box.json("inspect", "web")[0]["commit"]
    assert box.process("exec", "web", "sh", "-c", "echo 1 > /one; exit 3").returncode == 3
    assert box.process("exec", "web", "true").returncode == 0
    log = box.json("log", "web")
    assert log[1]["commit"] == first, "what changed nothing makes no commit"
    assert "echo 1 > /one" in log[0]["message"]
    assert "3" in str(log[0]["trailers"])
    assert box.lines("cat", "web:/one") == ["1"]

    assert box.process("exec", "-d", "web", "sh", "-c", "echo 2 > /two").returncode == 0
    eventually(lambda: box.json("log", "web")[0]["commit"] != log[0]["commit"])
    assert box.lines("cat", "web:/two") == ["2"]
    assert len(box.json("log", "web")) == len(log) + 1
