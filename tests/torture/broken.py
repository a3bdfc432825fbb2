"""Variants of the program with a fault each, for the command that is struck alone: a harness that says nothing of them
says nothing at all."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vcs.history import History


def _ref_first() -> None:
    """A ref moves to a commit before it is written."""
    real = History.write_commit

    def write_commit(self: History, *arguments: Any, **more: Any) -> Any:
        (Path(self._repo.path) / "refs/heads/main").write_text("1" * 40 + "\n")
        return real(self, *arguments, **more)

    History.write_commit = write_commit  # type: ignore[method-assign]


def _named_before_written() -> None:
    """A layer has its last name before it has its content."""
    from vcs.layers.writer import LayerWriter

    real = LayerWriter.finish

    def finish(self: Any, *arguments: Any, **more: Any) -> Any:
        path = Path(self._directory if hasattr(self, "_directory") else ".")
        (path / ("0" * 64)).write_bytes(b"")
        return real(self, *arguments, **more)

    LayerWriter.finish = finish  # type: ignore[method-assign]


def _errors_dropped() -> None:
    """A write to a file that fails is taken for one that did not."""
    real = os.fsync

    def fsync(fd: int) -> None:
        try:
            real(fd)
        except OSError:
            os.kill(os.getpid(), signal.SIGSEGV)

    os.fsync = fsync


VARIANTS: dict[str, Callable[[], None]] = {
    "": lambda: None,
    "ref-first": _ref_first,
    "named-before-written": _named_before_written,
    "errors-dropped": _errors_dropped,
}
