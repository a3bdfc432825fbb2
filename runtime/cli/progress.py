"""A line that tells how far a long task is: on a terminal only, on stderr, and not for a task that takes no time."""

from __future__ import annotations

import shutil
import sys
import time

from runtime.cli.output import count_text, size_text

_FIRST = 0.3
"""Seconds before the line appears."""
_EVERY = 0.1
_BAR_MIN, _BAR_MAX = 8, 24


class Progress:
    """One task. Use as a context manager: the line is gone when it ends, so that messages never mix with it."""

    def __init__(self, title: str, total: int | None = None) -> None:
        self._title = title
        self._total = total
        self._start = self._last = time.monotonic()
        self._wanted = sys.stderr.isatty()
        self._shown = False

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._clear()

    @property
    def seconds(self) -> float:
        """How long the task has taken."""
        return time.monotonic() - self._start

    def update(self, size: int, files: int | None = None, total: int | None = None, title: str | None = None) -> None:
        """So many bytes (and files) are done; `total` bytes are expected."""
        if not self._wanted:
            return
        now = time.monotonic()
        if now - self._start < _FIRST or now - self._last < _EVERY:
            return
        self._last = now
        width = shutil.get_terminal_size().columns - 1
        text = progress_line(title or self._title, size, files, total or self._total, now - self._start, width)
        sys.stderr.write("\r" + text[:width] + "\x1b[K")
        sys.stderr.flush()
        self._shown = True

    def _clear(self) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._shown = False


def progress_line(title: str, size: int, files: int | None, total: int | None, seconds: float, width: int = 80) -> str:
    """What the line says: files, bytes, rate, time left; and a bar, in what is left of `width` characters.

    >>> progress_line("Importing", 250_000_000, 4000, 500_000_000, 2.0)
    'Importing  [#####-----]  50%  4,000 files  250 MB of 500 MB  125 MB/s  2 s left'
    """
    rate = size / seconds if seconds else 0.0
    parts = [title]
    if total:
        parts.append(f"{min(1.0, size / total):>4.0%}")
    if files is not None:
        parts.append(count_text(files, "file"))
    parts.append(f"{size_text(size)} of {size_text(total)}" if total else size_text(size))
    parts.append(f"{size_text(rate)}/s")
    if total and rate:
        parts.append(f"{duration_text(max(0.0, (total - size) / rate))} left")
    room = width - len("  ".join(parts)) - len("  []")
    if total and room >= _BAR_MIN:
        cells = min(room, _BAR_MAX)
        parts[1:2] = [f"[{'#' * int(min(1.0, size / total) * cells):-<{cells}}] {parts[1]}"]
    return "  ".join(parts)


def duration_text(seconds: float) -> str:
    """A span of time for people.

    >>> duration_text(3.2), duration_text(75), duration_text(7300)
    ('3 s', '1 min 15 s', '2 h 1 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} days"
