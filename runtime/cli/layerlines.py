"""How far a pull is, on a terminal: a line for each layer, drawn again in its place, and one for all of them."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from runtime.cli.output import size_text
from runtime.cli.progress import progress_line

if TYPE_CHECKING:
    from runtime.images.model import Descriptor
    from runtime.images.pulling import Arrived

_FIRST, _EVERY = 0.3, 0.1
"""Seconds before the lines appear, and between two times that they are drawn."""
_BAR = 20
_SHORT = 12


class LayerLines:
    """Lines on stderr, if that is a terminal. A context manager: they are gone when it ends, so that messages never mix
    with them."""

    def __init__(self) -> None:
        self.is_shown = sys.stderr.isatty()
        """Whether there is anybody to read them."""
        self._start = self._last = time.monotonic()
        self._height = 0

    def __enter__(self) -> LayerLines:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def clear(self) -> None:
        """Take them away."""
        if self._height:
            sys.stderr.write(self._back() + "\x1b[J")
            sys.stderr.flush()
            self._height = 0

    def is_due(self) -> bool:
        """Whether they should be drawn now."""
        now = time.monotonic()
        return self.is_shown and now - self._start >= _FIRST and now - self._last >= _EVERY

    def draw(
        self, layers: Sequence[Descriptor], wanted: Sequence[Descriptor], arrived: Arrived, begun: Sequence[str],
        read: int,
    ) -> None:  # fmt: skip
        """Draw what layer_lines says."""
        self._last = time.monotonic()
        width, height = _terminal()
        lines = layer_lines(layers, wanted, arrived, begun, read)
        there = sum(layer.size for layer in wanted if layer.digest in arrived.there)
        total = sum(layer.size for layer in wanted)
        size = min(there + sum(arrived.parts), total)
        count = sum(layer.digest in arrived.there for layer in wanted)
        title = f"Pulling  {count} of {len(wanted)} layers"
        last = progress_line(title, size, None, total, self._last - self._start, width - 1)
        shown = [*_fitting(lines, height - 2), last]
        text = "".join(f"{line[: width - 1]}\x1b[K\n" for line in shown)
        sys.stderr.write(f"{self._back()}{text}\x1b[J")
        sys.stderr.flush()
        self._height = len(shown)

    def _back(self) -> str:
        return f"\x1b[{self._height}A\r" if self._height else ""


def layer_lines(
    layers: Sequence[Descriptor], wanted: Sequence[Descriptor], arrived: Arrived, begun: Sequence[str], read: int
) -> list[str]:
    """A line for each layer: its digest, its size, and what happens to it.

    `wanted` are those that are not known, `begun` the digests of those that the import has asked for, which has
    read so many bytes of them. Layers are fetched from the lowest on, as many at once as there are parts.
    """
    sizes = {layer.digest: layer.size for layer in wanted}
    taken = [digest for digest in begun if digest in sizes]
    missing = [layer.digest for layer in wanted if layer.digest not in arrived.there]
    fetched = missing[: len(arrived.parts)]
    lines = []
    for digest, size in {layer.digest: layer.size for layer in layers}.items():
        if digest not in sizes:
            state = "known already"
        elif digest in fetched:
            state = "fetching"
            if len(fetched) == 1:
                state += _bar(arrived.parts[0], size)
        elif digest in missing:
            state = "waiting"
        elif digest not in taken:
            state = "fetched"
        elif digest == taken[-1]:
            before = sum(sizes[one] for one in taken[:-1])
            state = "done" if read - before >= size else "importing" + _bar(read - before, size)
        else:
            state = "done"
        lines.append(f"{digest.partition(':')[2][:_SHORT]}  {size_text(size):>8}  {state}")
    return lines


def _terminal() -> tuple[int, int]:
    """Its columns and lines."""
    try:
        size = os.get_terminal_size(sys.stderr.fileno())
    except OSError:
        return 80, 24
    return size.columns or 80, size.lines or 24


def _bar(done: int, size: int) -> str:
    part = min(1.0, max(0, done) / size) if size else 1.0
    return f"  [{'#' * int(part * _BAR):-<{_BAR}}] {part:>4.0%}"


def _fitting(lines: list[str], height: int) -> list[str]:
    """What a terminal has room for: of too many lines, those where something happens, or will first."""
    if len(lines) <= height:
        return lines
    quiet = ("done", "known already")
    moving = [line for line in lines if not line.endswith(quiet)]
    return moving[: max(0, height)]
