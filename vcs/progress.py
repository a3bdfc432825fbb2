"""How far a long piece of work has come, for whoever shows it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from vcs.stillborn import UNSTARTED

Progress = Callable[[int, int], None]
"""Called now and then with the files and bytes done so far, and at the end with all of them."""

_FILES = 64
_BYTES = 8 << 20
"""Either takes a few milliseconds."""


class Meter:
    """Counts files and bytes, and calls a Progress every few milliseconds of work."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._files = self._bytes = 0
        self._next_files, self._next_bytes = _FILES, _BYTES

    def add(self, files: int, size: int) -> None:
        """So many more files and bytes are done."""
        self._files += files
        self._bytes += size
        if self._files >= self._next_files or self._bytes >= self._next_bytes:
            self.close()
            self._next_files, self._next_bytes = self._files + _FILES, self._bytes + _BYTES

    def close(self) -> None:
        """Tell the figures as they are now."""
        if self._progress:
            self._progress(self._files, self._bytes)


class Forecast:
    """Counts the files below a directory, in a thread, for a walk that is under way there; a context manager.

    Only names, and the types that listing them tells: that is done 15 times as fast as an import, at 1 % of its cost.
    With their sizes it would be 17 % of importing small files. Other file systems are not entered.
    """

    def __init__(self, top: Path | None) -> None:
        """Nothing is counted if `top` is None."""
        self._top = top
        self._wanted = top is not None
        self.files: int | None = None
        """How many there are, once that is known. Those that are to be left out are counted too."""

    def __enter__(self) -> Forecast:
        if self._top is not None:
            import threading  # for terminals only

            thread = threading.Thread(target=self._count, args=(self._top,), name="forecast", daemon=True)
            with contextlib.suppress(*UNSTARTED):  # then it is not known
                thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._wanted = False

    def _count(self, top: Path) -> None:
        files = 0
        stack = [os.fsencode(top)]
        try:
            device = os.stat(top).st_dev
        except OSError:
            return  # the import will say why
        while stack and self._wanted:
            with contextlib.suppress(OSError), os.scandir(stack.pop()) as items:
                for item in items:
                    if not item.is_dir(follow_symlinks=False):
                        files += 1
                    elif item.stat(follow_symlinks=False).st_dev == device:
                        stack.append(item.path)
        if self._wanted:
            self.files = files
