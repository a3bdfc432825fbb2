"""Real commands in real containers, whose output goes where nothing can be written."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Cli

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
