"""The next message, looked for before the loop goes to sleep.

Who walks through a tree asks again some 10 us after each answer. A loop that sleeps meanwhile has to be woken, by who
asks, and takes as long to be running again as its answer takes. So it looks a little while first.

While it looks, nobody else has its processor. So it does that only if there is one to spare, as far as can be seen from
how many want to run (proc(5): loadavg); and not after a READ, since who has read something is busy with that, and a
thread of ours may be with what comes next.
"""

from __future__ import annotations

import logging
import os
import select
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

_log = logging.getLogger(__name__)

SECONDS = 20e-6
"""How long it looks."""
AFTER_READ = 64
"""So many messages after a READ are waited for asleep."""
EACH = 32
"""Messages, after which it is seen again how many want to run. That takes as long as an answer."""
_LOAD = Path("/proc/loadavg")


class Lookout:
    """That of one loop, on the descriptor that messages come from."""

    def __init__(self, device: int, load: Path = _LOAD, clock: Callable[[], float] = time.perf_counter) -> None:
        """OSError if `load` cannot be opened."""
        poll = select.poll()
        poll.register(device, select.POLLIN)
        self._poll = poll.poll
        self._clock = clock
        self._load = load.open("rb", buffering=0)
        self._processors = len(os.sched_getaffinity(0))
        self._is_spare = False
        self._until_seen = 0
        self._asleep = 0
        """So many messages are not looked for."""

    def look(self) -> None:
        """Return when a message is there, or when it is better to sleep. Another loop may take it nevertheless."""
        if self._asleep:
            self._asleep -= 1
            return
        if not self._until_seen:
            self._until_seen = EACH
            self._is_spare = self._sees_spare()
        self._until_seen -= 1
        if not self._is_spare:
            return
        poll, clock = self._poll, self._clock
        end = clock() + SECONDS
        while not poll(0) and clock() < end:
            pass

    def was_read(self) -> None:
        """The last message was a READ. When it looks again, what was seen before is of long ago."""
        self._asleep, self._until_seen = AFTER_READ, 0

    def close(self) -> None:
        """Give what it has open back."""
        self._load.close()

    def _sees_spare(self) -> bool:
        with suppress(OSError, ValueError):
            return self.running() <= self._processors
        return False

    def running(self) -> int:
        """How many threads of the machine run or want to: this one, and whoever was answered last, are among them.
        OSError, or ValueError, if it is not said."""
        first, slash, _ = os.pread(self._load.fileno(), 64, 0).partition(b"/")
        if not slash:
            raise ValueError(f"there is no '/' in {first!r}")
        return int(first.split()[-1])


def lookout(device: int, load: Path = _LOAD) -> Lookout | None:
    """That of a loop; None where it is of no use. Logs which, and why."""
    if len(os.sched_getaffinity(0)) < 2:
        _log.info("messages are not looked for: there is one processor, which who asks needs")
        return None
    try:
        if load.stat().st_dev != load.parent.stat().st_dev:  # lxcfs's, say: a file system that may not answer
            raise ValueError("it is not the kernel's own")
        with ExitStack() as stack:
            made = Lookout(device, load)
            stack.callback(made.close)
            made.running()
            stack.pop_all()
    except (OSError, ValueError) as error:
        _log.info("messages are not looked for: %s does not say how many want to run: %s", load, error)
        return None
    _log.info("messages are looked for before sleeping, where a processor is to spare")
    return made
