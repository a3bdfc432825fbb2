"""The end of a mount, in a thread of the holder.

The kernel may have to wait for an answer of a worker while it unmounts, and a worker that has died must be replaced for
it: so the holder's loop goes on meanwhile. What came of it is told in that loop, once for each attempt, whatever goes
wrong in the thread: who waits for it hears no client until then (control.py).
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from selectors import EVENT_READ, BaseSelector

from fusefs import mounting
from vcs.errors import StoreError, TreeringError
from vcs.stillborn import UNSTARTED

Unmounted = Callable[["bool | TreeringError"], None]
"""Told whether nobody was inside, or what went wrong."""


@dataclass(eq=False, slots=True)
class _Attempt:
    """One attempt. The thread has an object of its own, so that a late one says nothing about another."""

    then: Unmounted
    without_memory: StoreError
    """What it comes to where there is no memory to say what it came to."""
    result: bool | TreeringError | None = None
    """None until it is over."""


class Unmounting:
    """Attempts to unmount one mountpoint, one at a time. Methods are called from the holder's loop alone."""

    def __init__(self, mountpoint: Path, selector: BaseSelector, over: Callable[[], None]) -> None:
        """`over` is called after each attempt, also when what it was begun with fails."""
        self._mountpoint = mountpoint
        self._over = over
        self._attempt: _Attempt | None = None
        self._told, self._tell = socket.socketpair()
        for end in (self._told, self._tell):
            end.setblocking(False)
        selector.register(self._told, EVENT_READ, self._hear)

    @property
    def is_under_way(self) -> bool:
        """Whether one has begun of which nothing was told yet."""
        return self._attempt is not None

    def begin(self, then: Unmounted, detach: bool = False) -> None:
        """Unmount, or take the mount away from who is inside; `then` is called later. StoreError if no thread can be
        started: nothing is under way then, and it may be tried again; nor is there more than one attempt at a time."""
        if self._attempt is not None:
            raise StoreError(f"{self._mountpoint} is being unmounted already")
        too_little = StoreError(f"{self._mountpoint} cannot be unmounted now: there is too little memory")
        attempt = self._attempt = _Attempt(then, too_little)
        try:
            threading.Thread(target=self._work, args=(attempt, detach), name="unmount", daemon=True).start()
        except UNSTARTED as error:
            self._attempt = None
            raise StoreError(f"{self._mountpoint} cannot be unmounted now: {_said(error)}") from error

    def tick(self) -> None:
        """Look whether an attempt is over of which the thread could not say so; called a few times a second."""
        attempt = self._attempt
        if attempt is None or attempt.result is None:
            return
        self._attempt = None
        try:
            attempt.then(attempt.result)
        finally:
            self._over()

    def _hear(self) -> None:
        with suppress(BlockingIOError):
            self._told.recv(64)
        self.tick()

    def _work(self, attempt: _Attempt, detach: bool) -> None:
        result: bool | TreeringError = attempt.without_memory
        try:
            result = _unmounted(self._mountpoint, detach)
        finally:
            attempt.result = result
        with suppress(OSError):  # the next tick sees it
            self._tell.send(b"+")


def _unmounted(mountpoint: Path, detach: bool) -> bool | TreeringError:
    """Whether nobody was inside, or is by now; or what went wrong, whatever it is: somebody waits for it."""
    try:
        if not detach:
            return mounting.unmount(mountpoint)
        mounting.detach(mountpoint)
    except TreeringError as error:
        return error
    except Exception as error:
        return StoreError(f"{mountpoint} cannot be unmounted: {_said(error)}")
    return True


def _said(error: Exception) -> str:
    """An error with its kind, which is all that some have to say."""
    return f"{type(error).__name__}: {error}"
