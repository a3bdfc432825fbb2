"""What a process meets when something has run out, for as long as a test wants it."""

from __future__ import annotations

import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

_STANDARD = 3
"""Descriptors that every process has: input, output and errors."""


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Whatever would open one meets EMFILE. What is open already stays of use."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    # With a limit of 0 poll(2) would fail, too. And the lowest that are allowed must be those that nobody closes
    # meanwhile, not even by collecting garbage.
    resource.setrlimit(resource.RLIMIT_NOFILE, (_STANDARD, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@contextmanager
def no_threads() -> Iterator[None]:
    """No thread can be started, as where the kernel says EAGAIN; no limit makes it say so to root."""

    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        yield
