"""What is done aside holds nothing that it does not need."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

import pytest

from runtime.system.aside import aside


def test_it_has_what_it_keeps_and_nothing_else(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    other = os.open(tmp_path, os.O_RDONLY)

    def tell() -> None:
        os.write(writer, " ".join(os.listdir("/proc/self/fd")).encode())

    child = aside(tell, keep=(writer,))
    os.close(writer)
    with os.fdopen(reader) as told:
        held = set(map(int, told.read().split()))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    os.close(other)
    assert {0, 1, 2, writer} <= held
    assert len(held) == 5, "and the directory that was listed"


@pytest.mark.parametrize("is_closed", [True, False])
def test_a_lock_goes_with_who_holds_it(tmp_path: Path, is_closed: bool) -> None:
    """Without being told what it needs, it keeps the lock for as long as it lives."""
    lock = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    reader, writer = os.pipe()
    begun, told = os.pipe()

    def wait() -> None:
        with suppress(OSError):  # it is closed already if it is not kept
            os.close(writer)
        os.write(told, b"x")
        os.read(reader, 1)

    child = aside(wait, (reader, told) if is_closed else None)
    os.read(begun, 1)
    os.close(lock)
    with open(tmp_path / "lock", "rb") as again:
        if is_closed:
            fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            with pytest.raises(BlockingIOError):
                fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
    for fd in (writer, reader, begun, told):
        os.close(fd)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
