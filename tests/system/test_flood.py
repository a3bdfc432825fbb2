"""Floods, for seconds: what `python -m tests.flood` does for ten minutes, and with numbers a hundred times as large.
The harness is seen to notice variants of the program that have a fault."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.flood import verdict
from tests.flood.place import Place
from tests.fusefs.serving import needs_fuse
from tests.support.told_to_end import leaves_nothing
from tests.torture.leftovers import cgroups, identities

PROJECT = Path(__file__).parents[2]
pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="needs root: containers"), needs_fuse]


def flood(directory: Path, *arguments: str) -> tuple[int, str]:
    """In a process of its own, which has a mount namespace of its own."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "tests.flood", "--memory", "--directory", str(directory), *arguments],
        cwd=PROJECT, env={**os.environ, "PYTHONPATH": str(PROJECT)}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert list(directory.iterdir()) == []
    return done.returncode, done.stdout


@pytest.mark.parametrize("expire", ["1h", "now"])
def test_nothing_acknowledged_is_lost_whoever_is_killed(tmp_path: Path, expire: str) -> None:
    code, told = flood(
        tmp_path, "--only", "storm", "--seconds", "6", "--processes", "6", "--least", "15", "--expire", expire
    )
    assert code == 0, told
    assert "all: 0 findings" in told
    acknowledged = re.search(r"acknowledged: (\d+)", told)
    assert acknowledged
    assert int(acknowledged[1]) > 0, told


def test_a_command_that_was_just_being_started_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its worker was killed between fork and exec: what is left has the worker's command line for now."""
    program = "print(flush=True); input()"
    starting = subprocess.Popen(
        [sys.executable, "-c", program, "tests.flood.worker", str(tmp_path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert starting.stdout
    starting.stdout.readline()
    monkeypatch.setattr(verdict, "run", lambda *_, **__: starting.communicate(b"\n"))  # while it is waited for
    try:
        assert list(verdict.all_end(Place(tmp_path, "1h"), 60)) == []
        assert starting.returncode == 0
    finally:
        starting.kill()
        starting.communicate()


@pytest.mark.parametrize(("scale", "part"), [("containers", "0.006"), ("branches", "0.01"), ("commits", "0.01")])
def test_numbers(tmp_path: Path, scale: str, part: str) -> None:
    code, told = flood(tmp_path, "--only", scale, "--part", part)
    assert code == 0, told


@pytest.mark.parametrize(("scale", "part"), [("names", "0.005"), ("deep", "0.3")])
def test_trees(tmp_path: Path, scale: str, part: str) -> None:
    code, told = flood(tmp_path, "--only", scale, "--part", part)
    assert code == 0, told


@pytest.mark.parametrize(
    ("broken", "expire", "actions", "finding"),
    [
        ("refs-unlocked", "now", "import", "no ref leads there|but was at"),
        ("operations-forgotten", "1h", "import,drop,gc", "lost"),
    ],
)
def test_a_fault_of_the_program_is_found(tmp_path: Path, broken: str, expire: str, actions: str, finding: str) -> None:
    storm = ("--only", "storm", "--seconds", "8", "--least", "10", "--processes", "6", "--expire", expire)
    code, told = flood(tmp_path, *storm, "--actions", actions, "--broken", broken)
    assert code == 1, told
    assert re.search(f"FOUND: .*({finding})", told), told


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_nothing_is_left_of_one_that_is_told_to_end(tmp_path: Path, number: signal.Signals) -> None:
    def made() -> list[Path]:
        return [path for store in tmp_path.glob("flood-storm-*/store") for path in cgroups(identities(store))]

    arguments = ("--only", "storm", "--actions", "live", "--processes", "3")
    leaves_nothing("tests.flood", arguments, tmp_path, number, made)
