"""A process that calls functions for a test, so that each call has a deadline, whatever it waits for.

    agent = Agent(directory)
    agent.call(os.listdir, mountpoint)

What is called is a function that can be imported; arguments and results are pickled. At the deadline the FUSE
connections of the stores below `directory` are aborted (tests/support/deadline.py: else nothing ends a process that
waits for one), the process is killed, and the test fails.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from tests.support.deadline import abort_below
from tests.support.ordinary_user import PROJECT, as_nobody

Result = TypeVar("Result")

SECONDS = 90.0
_LENGTH = 8


class Agent:
    """One such process: root's, or an ordinary user's."""

    def __init__(self, directory: Path, *, nobody: bool = False, reached: tuple[Path, ...] = ()) -> None:
        self._directory = directory
        command = [sys.executable, "-P", "-m", "tests.support.agent"]
        if nobody:
            command = as_nobody(command, directory, *reached)
        self._log = directory / "agent.log"
        with open(self._log, "ab") as log:
            self._process = subprocess.Popen(
                command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                env={"PATH": os.environ["PATH"], "PYTHONPATH": str(PROJECT), "PYTHONDONTWRITEBYTECODE": "1"},
            )  # fmt: skip

    def call(self, function: Callable[..., Result], *arguments: Any, seconds: float = SECONDS) -> Result:
        """What the function returns, or raises. Fails, and ends the process, if it takes longer."""
        request = pickle.dumps((function, arguments))
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(len(request).to_bytes(_LENGTH, "big") + request)
            self._process.stdin.flush()
            deadline = time.monotonic() + seconds
            length = int.from_bytes(self._receive(_LENGTH, deadline), "big")
            raised, value = pickle.loads(self._receive(length, deadline))
        except (TimeoutError, BrokenPipeError) as error:
            aborted = self.kill()
            raise AssertionError(f"{function.__name__}: {error}; aborted: {aborted}\n{self._log.read_text()}") from None
        if raised:
            raise value
        return value

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> list[str]:
        """End it, whatever it waits for; returns the connections that were aborted."""
        aborted = abort_below(self._directory)
        self._process.kill()
        self._process.wait(30)
        return aborted

    def _receive(self, size: int, deadline: float) -> bytes:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        received = bytearray()
        while len(received) < size:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([descriptor], [], [], left)[0]:
                raise TimeoutError("it does not end")
            more = os.read(descriptor, size - len(received))
            if not more:
                raise BrokenPipeError("its process ended")
            received += more
        return bytes(received)


def _serve(requests: BinaryIO, replies: int) -> None:
    while length := requests.read(_LENGTH):
        try:
            function, arguments = pickle.loads(requests.read(int.from_bytes(length, "big")))
            reply = pickle.dumps((False, function(*arguments)))
        except Exception as error:
            reply = pickle.dumps((True, error))
        with open(replies, "wb", closefd=False) as file:
            file.write(len(reply).to_bytes(_LENGTH, "big") + reply)


if __name__ == "__main__":
    _replies = os.dup(1)  # not inherited by what is started from here
    os.dup2(2, 1)
    _serve(sys.stdin.buffer, _replies)
