"""Errors that one process survives, since others depend on it: what is a bug is logged, once."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path

from runtime.supervision.rebuilding import unexpected


class Failures:
    """What has gone wrong in a process that goes on. `directory` is STORE/run, where the log of that is."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._known: set[tuple[str, int]] = set()
        """The lines where something was raised that is in the log already: what fails may do so each second."""

    def survived(self, task: Callable[[], object]) -> bool:
        """Do something. False if it failed, which is noted."""
        try:
            task()
        except Exception as error:
            self.note(error)
            return False
        return True

    def note(self, error: Exception) -> None:
        """Log an error, unless it is known, or the machine had too little of something."""
        if isinstance(error, BlockingIOError):  # of a fork: there are too many processes
            return
        (*_, (frame, line)) = traceback.walk_tb(error.__traceback__)
        place = frame.f_code.co_filename, line
        if place not in self._known:
            self._known.add(place)
            unexpected(error, self._directory)
