"""Waiting for a container's end, to learn its exit code: also where the container is removed with it."""

from __future__ import annotations

import os

from runtime import pidfds
from runtime.containers import Container
from runtime.running import wait
from runtime.state import Created, Exited, Running, state_of


def wait_for_exit(container: Container) -> int | None:
    """Wait as long as a container runs. Its exit code: the last one, if it does not run; 0 if it was never started;
    None if nobody saw its end."""
    directory = container.paths.directory
    before = state_of(directory)
    if isinstance(before, Created):
        return 0
    init = pidfds.opened(before.pid) if isinstance(before, Running) else None
    try:
        if init is not None and state_of(directory) != before:  # the pid may be another process's by now
            os.close(init)
            init = None
        wait(container, patience=float("inf"))
        after = state_of(directory)
        code = after.code if isinstance(after, Exited) else None
        if code is None and init is not None:  # what it left is gone already; then the kernel may still know
            code = pidfds.exit_status(init)
        return code
    finally:
        if init is not None:
            os.close(init)
