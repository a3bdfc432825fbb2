"""How far a long piece of work has come, for whoever shows it."""

from __future__ import annotations

from collections.abc import Callable

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
