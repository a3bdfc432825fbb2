"""The tutorial, run for real: each command of its `console` blocks, and what it prints."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import environment, stop_service
from tests.support.service_root import make_service_root

TUTORIAL = Path(__file__).parents[2] / "docs/tutorial.md"
_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def steps() -> Iterator[tuple[str, str]]:
    """Each command, and the output that it is shown with."""
    for block in _BLOCK.findall(TUTORIAL.read_text()):
        for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = step.partition("\n")
            yield command, output


def pattern(output: str) -> re.Pattern[str]:
    """What the output must look like: `...` is anything within a line, or on a line of its own any lines."""
    parts = []
    for line in output.splitlines(keepends=True):
        parts.append(r"(?:.*\n)*" if line == "...\n" else re.escape(line).replace(r"\.\.\.", ".*"))
    return re.compile("".join(parts))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_the_tutorial_tells_the_truth(tmp_path: Path) -> None:
    redis = [Path("/usr/bin", name) for name in ("redis-server", "redis-cli")]
    make_service_root(tmp_path / "debian", [*redis, *(program.resolve() for program in redis)])
    launcher = tmp_path / "bin/treering"
    launcher.parent.mkdir()
    launcher.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m runtime.cli "$@"\n')
    launcher.chmod(0o755)
    variables = environment(tmp_path / "store")
    variables["PATH"] = f"{launcher.parent}:{variables['PATH']}"
    try:
        for command, output in steps():
            done = subprocess.run(
                ["bash", "-c", command], cwd=tmp_path, env=variables, text=True, check=False, timeout=120,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
            assert pattern(output).fullmatch(done.stdout), (
                f"$ {command}\n{done.stdout}\nbut the tutorial says\n{output}"
            )
    finally:
        left = subprocess.run([launcher, "ps", "-aq"], env=variables, capture_output=True, text=True, check=False)
        if left.stdout:
            subprocess.run([launcher, "rm", "-f", "--discard", *left.stdout.split()], env=variables, check=False)
        stop_service(tmp_path / "store")


def test_there_is_something_to_run() -> None:
    assert len(list(steps())) > 20
    assert pattern("a ... c\n...\nend\n").fullmatch("a b c\n1\n2\nend\n")
    assert shutil.which("bash")
