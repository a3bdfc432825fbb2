"""Documents that are run: the commands of their `console` blocks, and what these print."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.cli.conftest import environment, stop_service

DOCS = Path(__file__).parents[2] / "docs"
_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LONGEST = 120
"""Seconds of one command."""


def steps(document: Path) -> Iterator[tuple[str, str]]:
    """Each command, and the output that it is shown with."""
    for block in _BLOCK.findall(document.read_text()):
        for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = step.partition("\n")
            yield command, output


def pattern(output: str) -> re.Pattern[str]:
    """What the output must look like: `...` is anything within a line, or on a line of its own any lines."""
    parts = []
    for line in output.splitlines(keepends=True):
        parts.append(r"(?:.*\n)*" if line == "...\n" else re.escape(line).replace(r"\.\.\.", ".*"))
    return re.compile("".join(parts))


def follow(document: Path, directory: Path) -> None:
    """Do what a document says, in a directory, with a store in it. Nothing is left running, however it ends."""
    launcher = directory / "bin/treering"
    launcher.parent.mkdir()
    launcher.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m runtime.cli "$@"\n')
    launcher.chmod(0o755)
    variables = environment(directory / "store")
    variables["PATH"] = f"{launcher.parent}:{variables['PATH']}"
    try:
        for command, output in steps(document):
            done = subprocess.run(
                ["bash", "-c", command], cwd=directory, env=variables, text=True, check=False, timeout=_LONGEST,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
            assert pattern(output).fullmatch(done.stdout), (
                f"$ {command}\n{done.stdout}\nbut {document.name} says\n{output}"
            )
    finally:
        left = subprocess.run([launcher, "ps", "-aq"], env=variables, capture_output=True, text=True, check=False)
        if left.stdout:
            subprocess.run([launcher, "rm", "-f", "--discard", *left.stdout.split()], env=variables, check=False)
        stop_service(directory / "store")
