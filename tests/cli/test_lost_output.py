"""Real commands in real containers, whose output goes where nothing can be written."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Cli

CHATTER = "while [ ! -e /go ]; do echo x; sleep 0.05; done"
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_what_exec_prints_and_cannot_be_written(box: Cli, stream: str) -> None:
    assert box.process("run", "-d", "--name", "web", "main", "sleep", "inf").returncode == 0
    command = ["exec", "web", "sh", "-c", "echo out; echo err >&2"]
    with Path("/dev/full").open("wb") as full:
        streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, stream: full}
        done = box.process(*command, **streams)
    assert done.returncode == 125
    if stream == "stdout":
        last = done.stderr.splitlines()[-1]
        assert b"No space left on device" in last
    else:
        assert done.stdout == b"out\n"


def test_who_attaches_and_cannot_be_given_more_is_told(box: Cli) -> None:
    """The container goes on."""
    assert box.process("run", "-d", "--name", "web", "main", "sh", "-c", CHATTER).returncode == 0
    with Path("/dev/full").open("wb") as full:
        done = box.process("attach", "web", stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 125
    assert b"what it printed could not be written: No space left on device" in done.stderr
    assert box.json("ps")[0]["state"] == "running"


def test_who_attaches_and_reads_far_too_slowly_is_told(box: Cli) -> None:
    script = f"{CHATTER}; head -c 4000000 /dev/zero; sleep inf"
    assert box.process("run", "-d", "--name", "web", "main", "sh", "-c", script).returncode == 0
    with box.start("attach", "web", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as attached:
        assert attached.stdout is not None
        assert attached.stderr is not None
        assert attached.stdout.read(2) == b"x\n"
        assert box.process("exec", "web", "touch", "/go").returncode == 0
        assert b"was read too slowly, and the rest was dropped" in attached.stderr.read()
        assert len(attached.stdout.read()) < 1 << 20
    assert attached.returncode == 125
    assert box.json("ps")[0]["state"] == "running"


def test_who_was_attached_and_was_killed_gets_no_more(box: Cli) -> None:
    """Though others hold the pipe that he had."""
    assert box.process("run", "-d", "--name", "web", "main", "sh", "-c", CHATTER).returncode == 0
    with box.start("attach", "web", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as attached:
        assert attached.stdout is not None
        assert attached.stdout.read(2) == b"x\n"
        attached.kill()
        attached.stdout.read()
    assert box.json("ps")[0]["state"] == "running"
