"""The wait that is begun early: it changes nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.supervision.hastening import hasten
from tests.support.containers import eventually


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_nothing_is_moved_and_nothing_is_left() -> None:
    before = Path("/proc/self/cgroup").read_text()
    threads = os.listdir("/proc/self/task")
    files = os.listdir("/proc/self/fd")
    hasten()
    eventually(lambda: set(os.listdir("/proc/self/task")) <= set(threads))  # those of others may end meanwhile
    assert Path("/proc/self/cgroup").read_text() == before
    assert len(os.listdir("/proc/self/fd")) <= len(files)


_WITHOUT_MEMORY = """
import os, sys
from runtime.supervision import hastening
from vcs.stillborn import stillborn_threads_are_heard

def write(*_):
    raise MemoryError

class Loud:
    def __del__(self):
        raise ValueError("told")

with stillborn_threads_are_heard():
    hook = sys.unraisablehook
    hastening.os.write = write
    hastening.hasten()
    while len(os.listdir("/proc/self/task")) > 1:
        pass
    Loud()
    assert sys.unraisablehook is hook, "threads that are waited for are looked after"
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_thread_without_memory_says_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", _WITHOUT_MEMORY],
        env={"PYTHONPATH": str(Path(__file__).parents[2])}, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert "MemoryError" not in done.stderr
    assert "told" in done.stderr, "what else is ignored is told as ever"
