"""A thread that dies of too little memory before it has begun.

CPython waits for it for ever, in threading.Thread.start, and all that it does is to say that an exception is ignored
(sys.unraisablehook). Here whoever starts a thread listens to that while he waits, and gets a MemoryError.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

_Work = TypeVar("_Work", bound=Callable[..., object])
_FIRST = "_bootstrap"
"""What a thread begins with: threading.Thread's method of this name."""
_LOOK_SECONDS = 0.02
_BEGIN_SECONDS = 10.0
"""A thread of which nothing was heard by then is taken to be dead: there may be no memory for saying it either."""
UNSTARTED = (RuntimeError, MemoryError)
"""What Thread.start raises where no thread can be had: for what is done in threads only to be sooner there."""


_dispensable: list[tuple[object, str]] = []
"""Functions, and what is said of a thread that began with one."""
_one_at_a_time = threading.Lock()


def dispensable(work: _Work) -> _Work:
    """Mark what is done in a thread (_thread.start_new_thread) that nobody waits for or misses."""
    _dispensable.append((work, f"thread started by {work!r}"))
    return work


@contextmanager
def stillborn_threads_are_heard() -> Iterator[None]:
    """Meanwhile the start of a thread that does not begin is a MemoryError, and of one that is dispensable nothing is
    said."""
    hook, start = sys.unraisablehook, threading.Thread.start

    def unless_dispensable(what: Any) -> None:
        if what.exc_type is not MemoryError or not any(_is_said_of(what, *one) for one in _dispensable):
            hook(what)

    def start_or_fail(self: threading.Thread) -> None:
        with _one_at_a_time, _heard() as said:
            vars(self)["_started"] = _Begun(said)  # in the place of CPython's, which is of the same kind
            start(self)

    sys.unraisablehook = unless_dispensable
    threading.Thread.start = start_or_fail  # type: ignore[method-assign]
    try:
        yield
    finally:
        sys.unraisablehook = hook
        threading.Thread.start = start  # type: ignore[method-assign]


class _Begun(threading.Event):
    """What a thread sets when it has begun, and who has started it waits for. MemoryError if it does not begin."""

    def __init__(self, said: deque[Any]) -> None:
        super().__init__()
        self._said = said

    def wait(self, timeout: float | None = None) -> bool:
        if timeout is not None:
            return super().wait(timeout)
        deadline = time.monotonic() + _BEGIN_SECONDS
        while not super().wait(_LOOK_SECONDS):
            if any(map(_is_stillborn, list(self._said))) or time.monotonic() > deadline:
                raise MemoryError("a thread did not begin")
        return True


@contextmanager
def _heard() -> Iterator[deque[Any]]:
    """What is said of exceptions that are ignored; that of others is passed on in the end. A thread for whose first
    frame there is no memory has none for a function of Python's: so a method of C's listens."""
    hook, said = sys.unraisablehook, deque[Any]()
    sys.unraisablehook = said.append
    try:
        yield said
    finally:
        sys.unraisablehook = hook
        for what in said:
            if not _is_stillborn(what):
                hook(what)


def _is_stillborn(what: Any) -> bool:
    """Whether a thread has not begun, whatever happened to it: what goes wrong later is told elsewhere."""
    return getattr(what.object, "__name__", "") == _FIRST or _is_said_of(what, None, f".{_FIRST} of ")


def _is_said_of(what: Any, work: object, words: str) -> bool:
    """Whether an ignored exception was the end of a thread that began with `work`. Since 3.13 Python tells that in
    words, and has no object then; without memory for the words, it tells nothing but that memory is short."""
    if what.object is not None:
        return what.object is work
    return words in what.err_msg if what.err_msg else what.exc_type is MemoryError
