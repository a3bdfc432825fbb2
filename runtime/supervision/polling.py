"""What the monitor waits for: an epoll that can leave a descriptor alone for a while.

The kernel tells of a descriptor for as long as there is something to be done with it. Where that fails, it would be
told of again at once, and the processor be busy with nothing else.
"""

from __future__ import annotations

import errno
import select
import time
from contextlib import suppress

_REST_SECONDS = 1.0
_SHORTAGES = (errno.ENOMEM, errno.ENOSPC)
"""What epoll_ctl(2) fails with where the kernel has no memory, or the user has as many as he may have."""


class Poll:
    """An epoll. Whoever waits with it must do so again within a second or so: descriptors that rest are told of no
    sooner."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._events: dict[int, int] = {}
        """What is waited for, by descriptor."""
        self._resting: dict[int, float] = {}
        """When a descriptor is to be waited for again, by the monotonic clock."""

    def register(self, fd: int, events: int) -> None:
        """Wait for a descriptor, a second later if the kernel cannot now."""
        try:
            self._epoll.register(fd, events)
        except OSError as error:
            if error.errno not in _SHORTAGES:
                raise
            self._resting[fd] = time.monotonic() + _REST_SECONDS
        self._events[fd] = events

    def unregister(self, fd: int) -> None:
        """Wait for it no more; to be called before it is closed."""
        del self._events[fd]
        if self._resting.pop(fd, None) is None:
            self._epoll.unregister(fd)

    def rest(self, fd: int) -> None:
        """Leave a descriptor alone for a second, if it is waited for."""
        if fd in self._events and fd not in self._resting:
            self._resting[fd] = time.monotonic() + _REST_SECONDS
            with suppress(OSError):
                self._epoll.unregister(fd)

    def poll(self, seconds: float, most: int = -1) -> list[tuple[int, int]]:
        """The descriptors, at most so many, with which something can be done, and what."""
        now = time.monotonic()
        for fd in [fd for fd, until in self._resting.items() if until <= now]:
            del self._resting[fd]
            with suppress(OSError):  # it was closed, by mistake: nobody else is to suffer for it
                self.register(fd, self._events[fd])
        return self._epoll.poll(seconds, most)
