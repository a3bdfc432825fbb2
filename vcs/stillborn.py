"""A thread that dies of too little memory before it has begun.

CPython waits for it for ever, in Thread.start, and all that it does is to say that an exception is ignored
(sys.unraisablehook). So the process ends there, as if it were killed: that may happen to it at any moment anyway.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

_Work = TypeVar("_Work", bound=Callable[..., object])
_FIRST = "_bootstrap"
"""What a thread begins with: threading.Thread's method of this name."""


_dispensable: list[object] = []


def dispensable(work: _Work) -> _Work:
    """Mark what is done in a thread (_thread.start_new_thread) that nobody waits for or misses."""
    _dispensable.append(work)
    return work


@contextmanager
def ended_by_stillborn_threads(say: Callable[[], int]) -> Iterator[None]:
    """Meanwhile such a thread ends the process, with the exit code that `say` returns; of one that is dispensable
    nothing is said."""
    before = sys.unraisablehook

    def hook(what: Any) -> None:
        if what.exc_type is MemoryError and any(what.object is work for work in _dispensable):
            return
        if what.exc_type is not MemoryError or getattr(what.object, "__name__", "") != _FIRST:
            before(what)
            return
        code = 1
        try:
            code = say()
            sys.stderr.flush()
        finally:
            os._exit(code)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before
