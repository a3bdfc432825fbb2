"""Commands that are run in a container around its commit: the first has it write down what it holds in memory, the
second undoes that.

The second is run as soon as the container goes on, before what was read is compressed and stored; and also if the
commit fails, since the first may have locked something.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress

from runtime.containers import Container
from runtime.engine import FAILED
from runtime.engine import wait as wait_for
from runtime.system.descriptors import close_all_but
from vcs.errors import EngineError

_MOST = 4096
"""Bytes of a command's output that are told."""


class Hooks:
    """The two commands of one commit; None for none."""

    def __init__(self, container: Container, before: str | None, after: str | None) -> None:
        self._container = container
        self._before = before
        self._after = after
        self.failed: str | None = None
        """What the second said, if it failed."""

    def before(self) -> None:
        """Run the first. EngineError with what it said if it fails, or cannot be run."""
        if self._before is not None:
            code, said = self._run(self._before)
            if code:
                self._after = None
                raise EngineError(
                    f"the hook before the commit failed with exit code {code}, so nothing was committed"
                    + (f": {said}" if said else ""),
                    hook=self._before, code=code, output=said,
                )  # fmt: skip

    def after(self) -> None:
        """Run the second, once."""
        command, self._after = self._after, None
        if command is not None:
            code, said = self._run(command)
            if code:
                self.failed = said or f"exit code {code}"

    def _run(self, command: str) -> tuple[int, str]:
        return run_in(self._container, command)


def run_in(container: Container, command: str) -> tuple[int, str]:
    """Run a shell command in a running container; its exit code, and the last of what it said."""
    from runtime.execution import Execution, execute

    return captured(lambda: execute(container, Execution(args=("/bin/sh", "-c", command))))


def captured(run: Callable[[], int]) -> tuple[int, str]:
    """Run something in a process of its own; its exit code, and the last of what it said. Whatever it raises is said.

    If the wait for it is interrupted, it is killed.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if not child:
        _be(run, writer)
    os.close(writer)
    try:
        said = b""
        with os.fdopen(reader, "rb", buffering=0) as output:
            while data := output.read(1 << 16):
                said = (said + data)[-_MOST:]
        return wait_for(child), said.decode(errors="replace").strip()
    except BaseException:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGTERM)
        raise


def _be(run: Callable[[], int], writer: int) -> None:
    """The whole life of that process."""
    code = FAILED
    try:
        null = os.open(os.devnull, os.O_RDONLY)
        for number, fd in enumerate((null, writer, writer)):
            os.dup2(fd, number)
        close_all_but({0, 1, 2})
        try:
            code = run()
        except Exception as error:
            os.write(2, str(error).encode())
            code = int(getattr(error, "facts", {}).get("exit_code", FAILED))
    finally:
        os._exit(code)
