"""A fork server's child where the machine has no open file left."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.cli import serving

SHORT = 0.05


class Short(socket.socket):
    """A listener that cannot let anybody in three times."""

    left = 3

    def accept(self) -> Any:
        self.times = [*getattr(self, "times", []), time.monotonic()]
        if len(self.times) <= self.left:
            raise OSError(errno.ENFILE, os.strerror(errno.ENFILE))
        return super().accept()


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Short]:
    with Short(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "sock"))
        made.listen()
        yield made


def test_a_client_is_waited_for_and_not_in_a_loop(
    listener: Short, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """He still stands there, so the poll would tell of him at once."""
    monkeypatch.setattr(serving, "_SHORT_SECONDS", SHORT, raising=False)
    server: Any = serving._Server.__new__(serving._Server)
    server._listener = listener
    server._alive, life = os.pipe2(os.O_CLOEXEC)
    taken, server._tell = os.pipe2(os.O_CLOEXEC)
    with socket.socket(socket.AF_UNIX) as knocking:
        knocking.connect(str(tmp_path / "sock"))
        connection, pid = server._accept()
        connection.close()
    assert pid == os.getpid()
    pauses = [later - sooner for sooner, later in zip(listener.times, listener.times[1:], strict=False)]
    assert len(pauses) == 3
    assert min(pauses) >= SHORT
    for fd in (server._alive, life, taken, server._tell):
        os.close(fd)
