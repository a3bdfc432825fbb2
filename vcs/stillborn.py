"""A thread that dies of too little memory before it has begun.

CPython waits for it for ever, in Thread.start, and all that it does is to say that an exception is ignored
(sys.unraisablehook). So the process ends there, as if it were killed: that may happen to it at any moment anyway.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_FIRST = "_bootstrap"
"""What a thread begins with: threading.Thread's method of this name."""


@contextmanager
def ended_by_stillborn_threads(say: Callable[[], int]) -> Iterator[None]:
    """Meanwhile such a thread ends the process, with the exit code that `say` returns."""
    before = sys.unraisablehook

    def hook(what: Any) -> None:
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
