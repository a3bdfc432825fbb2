"""Something done in a process of its own, which is a copy of ours: it has what ours has, and ours goes on meanwhile."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable
from typing import Any

from runtime.system.descriptors import close_all_but


def aside(task: Callable[[], Any], keep: Iterable[int] | None = None) -> int:
    """Do something in a process of its own; returns its pid. What it raises only ends it, with exit code 1.

    With `keep`, it has no other descriptors than those and the standard streams: a lock that we hold would be held
    until its end, though we are killed, and who wants to go on in our place would think that we live.
    """
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        if keep is not None:
            close_all_but({0, 1, 2, *keep})
        task()
        code = 0
    finally:
        os._exit(code)
