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

    @property
    def is_shown(self) -> bool:
        """Whether there is anybody to read the line."""
        return self._wanted

    def update(
        self,
        size: int,
        files: int | None = None,
        total: int | None = None,
        title: str | None = None,
        total_files: int | None = None,
    ) -> None:
        """So many bytes (and files) are done; `total` bytes are expected, or else so many files."""
        if not self._wanted:
            return
        now = time.monotonic()
        if now - self._start < _FIRST or now - self._last < _EVERY:
            return
        self._last = now
        width = shutil.get_terminal_size().columns - 1
        seconds = now - self._start
        text = progress_line(title or self._title, size, files, total or self._total, seconds, width, total_files)
        sys.stderr.write("\r" + text[:width] + "\x1b[K")
        sys.stderr.flush()
        self._shown = True

    def _clear(self) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._shown = False


def progress_line(
    title: str,
    size: int,
    files: int | None,
    total: int | None,
    seconds: float,
    width: int = 80,
    total_files: int | None = None,
) -> str:
    """What the line says: files, bytes, rate, time left; and a bar, in what is left of `width` characters.

    How far it is goes by bytes, or by files if only their number is known.

    >>> progress_line("Importing", 250_000_000, 4000, 500_000_000, 2.0)
    'Importing  [#####-----]  50%  4,000 files  250 MB of 500 MB  125 MB/s  2 s left'
    >>> progress_line("Importing", 250_000_000, 4000, None, 2.0, total_files=16000)
    'Importing  [##--------]  25%  4,000 of 16,000 files  250 MB  125 MB/s  6 s left'
    """
    rate = size / seconds if seconds else 0.0
    done = 0.0
    if total:
        done = size / total
    elif total_files and files is not None:
        done = files / total_files
    done = min(1.0, done)
    parts = [title]
    if done:
        parts.append(f"{done:>4.0%}")
    if files is not None:
        known = f"{files:,} of " if total_files and not total and files <= total_files else ""
        parts.append(known + count_text(total_files or 0 if known else files, "file"))
    parts.append(f"{size_text(size)} of {size_text(total)}" if total else size_text(size))
    parts.append(f"{size_text(rate)}/s")
    if done:
        parts.append(f"{duration_text(seconds * (1 - done) / done)} left")
    room = width - len("  ".join(parts)) - len("  []")
    if done and room >= _BAR_MIN:
        cells = min(room, _BAR_MAX)
        parts[1:2] = [f"[{'#' * int(done * cells):-<{cells}}] {parts[1]}"]
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


def seconds_text(seconds: float) -> str:
    """The same for what has been measured: below a minute, tenths of a second count.

    >>> seconds_text(3.21), seconds_text(75)
    ('3.2 s', '1 min 15 s')
    """
    return f"{seconds:.1f} s" if seconds < 60 else duration_text(seconds)
