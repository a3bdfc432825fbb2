"""The wait that is begun early: it changes nothing."""

from __future__ import annotations

import os
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
