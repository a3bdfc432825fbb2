"""A process that is short of descriptors."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager

_STANDARD = 3
"""Descriptors that every process has: input, output and errors."""


def open_descriptors() -> set[str]:
    """The numbers that this process has open, but for that of the look."""
    found = set(os.listdir("/proc/self/fd"))
    return {number for number in found if os.path.lexists(f"/proc/self/fd/{number}")}


@contextmanager
def descriptors_left(count: int) -> Iterator[None]:
    """Only so many more descriptors can this process have, for a while."""
    highest = max(map(int, open_descriptors()))
    filling = [os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)]
    while filling[-1] < highest:
        filling.append(os.dup(filling[0]))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (filling[-1] + 1 + count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in filling:
            os.close(fd)


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
