"""Something done in a process of its own, which is a copy of ours: it has what ours has, and ours goes on meanwhile."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any


def aside(task: Callable[[], Any]) -> int:
    """Do something in a process of its own; returns its pid. What it raises only ends it, with exit code 1."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        task()
        code = 0
    finally:
        os._exit(code)
