"""Power cuts while commands run: a sample of what `python -m tests.power` does for long. The harness is seen to notice
variants of the program that do not sync what they should."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from runtime.state import load_run
from tests.flood import processes
from tests.power.disks import missing
from tests.power.recorder import PROGRAM
from tests.support.told_to_end import leaves_nothing
from tests.torture.leftovers import cgroups, identities

PROJECT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mounts"),
    pytest.mark.skipif(bool(missing(PROGRAM)), reason=f"needs {missing(PROGRAM)}"),
]


def cut(directory: Path, *arguments: str) -> tuple[int, str]:
    """A process of its own, whose mounts nobody else sees."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "tests.power", "--directory", str(directory), *arguments],
        cwd=PROJECT, env={**os.environ, "PYTHONPATH": str(PROJECT)}, stdin=subprocess.DEVNULL, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=240, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout


def _needs(file_system: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(bool(missing(file_system)), reason=f"needs {missing(file_system)}")


@pytest.mark.parametrize(
    ("file_system", "operations", "states"),
    [
        pytest.param("ext4", "init,import,commit,gc", 12, marks=_needs("ext4")),
        pytest.param("btrfs", "create,branch-delete", 12, marks=_needs("btrfs")),  # which keeps the least order
    ],
)
def test_what_was_acknowledged_survives_and_nothing_poisons_what_comes(
    tmp_path: Path, file_system: str, operations: str, states: int
) -> None:
    code, told = cut(tmp_path, "--filesystems", file_system, "--operations", operations, "--states", str(states))
    assert code == 0, told
    assert told.splitlines()[-1].endswith(", 0 wrong")


@_needs("ext4")
@pytest.mark.parametrize(
    ("broken", "operation", "states"),
    [("layers-unsynced", "import-again", 8), ("history-unsynced", "import-again", 8), ("copies-unsynced", "cp", 750)],
)
def test_what_is_not_synced_is_missed(tmp_path: Path, broken: str, operation: str, states: int) -> None:
    """Of `cp` three recordings: in one of eight, the copies come to the disk with something else."""
    arguments = ("--filesystems", "ext4", "--operations", operation, "--states", str(states))
    code, told = cut(tmp_path, *arguments, "--broken", broken)
    assert code == 1, told
    assert f"ext4 {operation}: flush" in told


@_needs("ext4")
def test_a_copy_that_is_cut_short_is_whole_or_not_there(tmp_path: Path) -> None:
    code, told = cut(tmp_path, "--filesystems", "ext4", "--operations", "cp,cp-over", "--states", "150")
    assert code == 0, told


@_needs("ext4")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_nothing_is_left_of_one_that_is_told_to_end(tmp_path: Path, number: signal.Signals) -> None:
    arguments = ("--filesystems", "ext4", "--operations", "commit-live", "--jobs", "1")
    leaves_nothing("tests.power", arguments, tmp_path, number, lambda: _cgroups(tmp_path))


def _cgroups(directory: Path) -> list[Path]:
    """Those of a container that runs from a disk, which is mounted for some processes only."""
    for one in processes.of(directory):
        with suppress(OSError):  # the process and its mounts go while they are looked at
            for store in Path(f"/proc/{one.pid}/root{directory}").glob("power-*/*/mounted/store"):
                if any((run := load_run(path.parent)) and run.init for path in store.glob("containers/*/run.json")):
                    return cgroups(identities(store))
    return []
