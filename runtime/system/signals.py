"""Signals as bytes in a pipe, to be waited for together with other descriptors; and those that have to wait."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

FORWARDED = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
"""Signals meant for the container when a process that stands for it receives them."""

_Handler = Callable[[int, FrameType | None], Any] | int | None


class SignalPipe:
    """While open, the given signals do nothing but make `fd` readable. Only the main thread can have signals; in any
    other the pipe just stays empty."""

    def __init__(self, numbers: Iterable[int]) -> None:
        self._numbers = tuple(numbers)
        self._old: dict[int, _Handler] = {}
        self._old_wakeup = -1
        self.fd, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    @property
    def fds(self) -> tuple[int, int]:
        """Both ends of the pipe, for who closes everything else."""
        return self.fd, self._writer

    def __enter__(self) -> SignalPipe:
        if threading.current_thread() is threading.main_thread():
            self._old_wakeup = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
            self._old = {number: signal.signal(number, _nothing) for number in self._numbers}
        return self

    def __exit__(self, *_: object) -> None:
        if self._old:
            for number, handler in self._old.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)
            with suppress(OSError, ValueError):  # in a forked process the old one is closed, or another file
                signal.set_wakeup_fd(self._old_wakeup)
        os.close(self.fd)
        os.close(self._writer)

    def read(self) -> list[int]:
        """The signals that came since the last call, in order."""
        with suppress(BlockingIOError):
            return [number for number in os.read(self.fd, 4096) if number in self._numbers]
        return []


def _nothing(_number: int, _frame: FrameType | None) -> None:
    """The wakeup descriptor has the signal already."""


@contextmanager
def held_back(number: int) -> Iterator[None]:
    """Have a signal's handler called at the end of this, and not within: what must not be left half begun. A process
    that is begun meanwhile has the signal as ever, which one that was blocked it would not have."""
    handler = signal.getsignal(number)
    if not callable(handler) or threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    signal.signal(number, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.signal(number, handler)
        if came:
            signal.raise_signal(number)
