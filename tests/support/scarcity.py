"""What a process meets when something has run out, for as long as a test wants it."""

from __future__ import annotations

import _thread
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest


@contextmanager
def no_threads() -> Iterator[None]:
    """No thread can be started, as where the kernel says EAGAIN; no limit makes it say so to root."""

    def start(*_: Any) -> int:
        raise RuntimeError("can't start new thread")

    with _instead(start), pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        yield


@contextmanager
def stillborn_threads() -> Iterator[None]:
    """Threads are started, and die before their first line, as where there is no memory for its frame."""
    start = _thread.start_new_thread

    def die(*_: Any) -> None:
        raise MemoryError

    with _instead(lambda work, given: start(die, given)):
        yield


@contextmanager
def late_threads() -> Iterator[list[Callable[[], None]]]:
    """Threads begin when the test calls what this gives."""
    waiting: list[Callable[[], None]] = []

    def start(work: Callable[..., None], given: tuple[Any, ...]) -> int:
        waiting.append(partial(work, *given))
        return 0

    with _instead(start):
        yield waiting


@contextmanager
def _instead(start: Callable[..., int]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_thread, "start_new_thread", start)
        yield
