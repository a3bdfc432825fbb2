"""What a supervisor does for a container beside waiting for its end.

What needs the store is done in processes of their own, which open it anew: a supervisor is forked from whoever started
the container, and may not use what that one has open.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.settings import Health, Log, Restart
from runtime.state import Exited, Run, RunPaths
from vcs.errors import TreeringError

if TYPE_CHECKING:
    from vcs.history import Author


@dataclass(frozen=True, slots=True)
class Orders:
    """What is to be done, from the container's settings and image."""

    store: Path
    container: str
    """Its full id."""
    author: Author
    """Of commits that are made for the user."""
    log: Log | None = None
    restart: Restart = field(default_factory=Restart)
    remove: bool = False
    health: Health | None = None
    autocommit: str | None = None


class Duties:
    """The orders being carried out, over all runs of one supervisor."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders

    @property
    def log(self) -> Log | None:
        return self._orders.log

    @property
    def restart(self) -> Restart:
        return self._orders.restart

    @property
    def remove(self) -> bool:
        return self._orders.remove

    def begin(self, paths: RunPaths, run: Run) -> None:
        """The container runs."""

    def until_due(self) -> float | None:
        """Seconds until something is to be done; None if nothing is."""
        return None

    def do_what_is_due(self) -> None:
        """Begin what is to be done by now."""

    def end(self, paths: RunPaths, end: Exited) -> Exited:
        """The container has ended, and its cgroup is still there."""
        return end

    def after(self, paths: RunPaths, run: Run, end: Exited) -> None:
        """The end has been recorded, and nothing is left of the run."""

    def take_away(self) -> None:
        """Remove the container, as nobody waits who would."""
        orders = self._orders
        with suppress(TreeringError, OSError):
            from runtime.removal import remove_ended
            from vcs.store import Store

            with Store.open(orders.store) as store:
                remove_ended(store, orders.container, self._author())

    def _author(self) -> Author:
        """The user, now."""
        return replace(self._orders.author, time=int(time.time()))


def aside(task: Callable[[], None]) -> int:
    """Do something in a process of its own; returns its pid. What it raises only ends it."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        task()
        code = 0
    finally:
        os._exit(code)
