"""What a supervisor does for a container beside waiting for its end.

What needs the store is done in processes of their own, which open it anew: a supervisor is forked from whoever started
the container, and may not use what that one has open. What they import is loaded only when it is needed: a thousand
supervisors are a thousand times their memory.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from runtime.settings import Health, Log, Restart
from runtime.state import Exited, Run
from runtime.system.aside import aside

if TYPE_CHECKING:
    from runtime.cgroups.processes import Ended
    from runtime.supervision.healthchecks import Healthchecks
    from vcs.history import Author

NOTE_SECONDS = 60.0
"""How often what the container has used is noted, in case that machine or supervisor come to a sudden end."""
_KILLED = 128 + signal.SIGKILL


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
    """`exit`, or `every=SECONDS`."""


class Duties:
    """The orders being carried out, over all runs of one supervisor."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._directory = orders.store / "containers" / orders.container
        self._due: dict[str, float] = {}
        """What is to be done, and when by the monotonic clock."""
        self._committing: int | None = None
        self._health: Healthchecks | None = None

    @property
    def log(self) -> Log | None:
        return self._orders.log

    @property
    def remove(self) -> bool:
        return self._orders.remove

    @property
    def are_few(self) -> bool:
        """Whether there is nothing to do while the container runs but to log, and to note what it uses."""
        return self._orders.health is None and self._interval() is None

    # -- while it runs

    def begin(self, run: Run) -> None:
        """The container runs."""
        now = time.monotonic()
        if not self._orders.remove:
            self._due["note"] = now + NOTE_SECONDS
        if (interval := self._interval()) is not None:
            self._due["commit"] = now + interval
        if self._orders.health:
            from runtime.supervision.healthchecks import Healthchecks

            self._health = Healthchecks(self._directory, self._orders.health, run.run)

    def until_due(self) -> float | None:
        """Seconds until something is to be done; None if nothing is."""
        times = [*self._due.values()]
        if self._health:
            times.append(self._health.due)
        return max(0.0, min(times) - time.monotonic()) if times else None

    def do_what_is_due(self) -> None:
        """Begin what is to be done by now. For what cannot be begun, for want of a process or a descriptor, there is a
        next time."""
        now = time.monotonic()
        if self._due.get("note", now + 1) <= now:
            self._due["note"] = now + NOTE_SECONDS
            note([self._directory])
        if self._due.get("commit", now + 1) <= now:
            self._due["commit"] = now + (self._interval() or 0)
            with suppress(OSError):
                if self._committing is None:
                    self._committing = aside(lambda: self._commit("time"))
        if self._health:
            with suppress(OSError):
                self._health.do_what_is_due()

    def reaped(self, pid: int, status: int) -> None:
        """A child that we do not know has ended: perhaps one of ours."""
        if pid == self._committing:
            self._committing = None
        elif self._health:
            self._health.reaped(pid, status)

    # -- the end

    def end(self, end: Exited, ended: Ended | None, network: str | None = None) -> Exited:
        """The container has ended, and its cgroup and the namespace of its network (a path) are still there. Returns
        what is known of its end."""
        self._due.clear()
        if self._health:
            self._health.stop()
            self._health = None
        if self._orders.remove and end.code != _KILLED:
            return end  # nobody will ask
        from runtime import metering, traffic
        from runtime.cgroups import Cgroup

        usage = Cgroup.of(self._orders.container).usage()
        if not self._orders.remove:
            with suppress(OSError):
                usage = ended.complete(usage) if ended else usage
                metering.record(self._directory, usage, traffic.of_namespace(network) if network else None)
        return replace(end, oom=bool(usage.oom_kills))

    def after(self, run: Run, end: Exited) -> None:
        """The end has been recorded, and nothing is left of the run."""
        if self._orders.autocommit == "exit" and run.started:
            seconds = max(0.0, (end.ended or 0.0) - (run.started or 0.0))
            self._in_child(lambda: self._commit("exit", end.code, seconds))

    def take_away(self) -> None:
        """Remove the container, as nobody waits who would."""
        from runtime.system import afresh

        author = self._author()
        words = [author.name, author.email, str(author.time), str(author.offset)]
        with suppress(OSError):
            afresh.become("runtime.removal", [str(self._orders.store), self._orders.container, *words])

    # -- details

    def _interval(self) -> float | None:
        every = self._orders.autocommit
        return float(every.removeprefix("every=")) if every and every.startswith("every=") else None

    def _commit(self, after: Literal["exit", "time"], code: int | None = None, seconds: float = 0.0) -> None:
        from runtime.autocommit import Task, do_afresh

        author = self._author()
        who = author.name, author.email, author.time, author.offset
        task = Task(after, str(self._orders.store), self._orders.container, who, code=code, seconds=seconds)
        do_afresh(task)

    def _author(self) -> Author:
        """The user, now."""
        return replace(self._orders.author, time=int(time.time()))

    @staticmethod
    def _in_child(task: Callable[[], Any]) -> None:
        with suppress(ChildProcessError):
            os.waitpid(aside(task), 0)


def note(directories: Sequence[Path]) -> None:
    """Note what the containers with these directories have used so far."""
    from runtime import metering

    for directory in directories:
        with suppress(OSError):
            metering.note(directory)
