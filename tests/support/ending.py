"""Long runs that are told to end: SIGTERM and SIGINT become SystemExit, so that what was begun is taken away."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def end_in_order() -> None:
    """From now on these signals end this process, and its forks, through their `finally`. The first one counts: what is
    done at the end is not interrupted by another."""
    for number in _SIGNALS:
        signal.signal(number, _end)


@contextmanager
def not_now() -> Iterator[None]:
    """They are heeded only after this."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


def fork() -> int:
    """os.fork(): of what Python calls itself just before and after one, exceptions are ignored."""
    with not_now():
        return os.fork()


def is_ending() -> bool:
    """Whether one has come."""
    return signal.getsignal(signal.SIGTERM) is _passed_over


def _end(number: int, _: object) -> None:
    for one in _SIGNALS:
        signal.signal(one, _passed_over)  # not SIG_IGN, which programs that are started now would inherit
    sys.exit(128 + number)


def _passed_over(_: int, __: object) -> None:
    pass
