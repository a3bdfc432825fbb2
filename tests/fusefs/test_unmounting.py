"""An unmounting comes to an end, whichever call of it has no memory."""

from __future__ import annotations

import errno
import os
import platform
import time
from itertools import count
from pathlib import Path
from selectors import DefaultSelector

import pytest

from fusefs.unmounting import Unmounting
from tests.torture.calls import MEMORY
from tests.torture.tracer import Strike, traced
from vcs.errors import StoreError, TreeringError
from vcs.stillborn import stillborn_threads_are_heard

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or platform.machine() != "x86_64", reason="needs root on x86-64: stops at system calls"
)


def test_without_memory_it_ends(tmp_path: Path) -> None:
    """The thread's first frame is one of the things there may be no memory for."""

    def unmount() -> int:
        told: list[bool | TreeringError] = []
        with stillborn_threads_are_heard(), DefaultSelector() as selector:
            one = Unmounting(tmp_path / "none", selector, lambda: None)
            deadline = time.monotonic() + 20
            try:
                one.begin(told.append)
            except StoreError as error:
                told.append(error)
            while not told and time.monotonic() < deadline:
                for key, _ in selector.select(0.05):
                    key.data()
                one.tick()
        os.write(1, f"{told}".encode())
        return 0 if told else 1

    said = set()
    for number in count():
        done = traced(unmount, tmp_path, Strike(number, errno.ENOMEM, MEMORY))
        assert done.code == 0, f"{number}, {done.at}: {done.out} {done.err}"
        said.add(done.out)
        if not done.at:
            break
    assert any("a thread did not begin" in one for one in said), said
