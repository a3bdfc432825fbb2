"""Calls that fail at will, also in processes that are forked from the test's."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from typing import Any

import pytest


class Fault:
    """A function that fails: the next so many calls of it, in whatever process, after `arm`."""

    def __init__(
        self,
        patched: pytest.MonkeyPatch,
        owner: object,
        name: str,
        error: BaseException | int,
        *,
        wanted: Callable[..., bool] = lambda *_, **__: True,
    ) -> None:
        """`error`, or its number. `wanted`: which calls count, by their arguments."""
        self._left = mmap.mmap(-1, 2)
        function = getattr(owner, name)
        failure = OSError(error, os.strerror(error)) if isinstance(error, int) else error

        def fail(*args: Any, **named: Any) -> Any:
            if self._left[0] and wanted(*args, **named):
                self._left[0] -= 1
                self._left[1] = 1
                raise failure
            return function(*args, **named)

        patched.setattr(owner, name, fail)

    def arm(self, times: int = 1) -> None:
        """Let the next calls fail, up to 255."""
        self._left[0], self._left[1] = times, 0

    def disarm(self) -> None:
        self._left[0] = 0

    @property
    def is_over(self) -> bool:
        """Whether as many calls have failed as were to."""
        return self.struck and not self._left[0]

    @property
    def struck(self) -> bool:
        """Whether any call has failed."""
        return bool(self._left[1])
