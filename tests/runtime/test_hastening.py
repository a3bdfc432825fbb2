"""The wait that is begun early: it changes nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runtime.hastening import hastened


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_nothing_is_moved_and_nobody_is_left() -> None:
    before = Path("/proc/self/cgroup").read_text()
    with hastened():
        pass
    assert Path("/proc/self/cgroup").read_text() == before
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    assert not [pid for pid in children if Path(f"/proc/{pid}/comm").read_text() == "sh\n"]
