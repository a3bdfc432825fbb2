"""What a container prints and cannot be written, as on a full disk, is an error: or its caller thinks he has it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.runtime.overlay_cases import needs_root

pytestmark = needs_root


@pytest.mark.parametrize("options", [(), ("--rm",), ("-t",), ("-t", "--rm")], ids=" ".join)
def test_output_of_run_that_cannot_be_written(box: Cli, options: tuple[str, ...]) -> None:
    words = ["run", *options, "--network", "none", "--name", "web", "main", "echo", "hi"]
    with Path("/dev/full").open("wb") as full:
        done = box.process(*words, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 125
    assert b"No space left" in done.stderr
    assert ("web" in box("ps", "-a", "--format", "json").stdout) == ("--rm" not in options)


def test_output_of_exec_in_a_terminal_that_cannot_be_written(box: Cli) -> None:
    box("run", "-d", "--network", "none", "--name", "web", "main", "sleep", "1000")
    with Path("/dev/full").open("wb") as full:
        done = box.process("exec", "-t", "web", "echo", "hi", stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 125
