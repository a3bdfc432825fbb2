"""Variants of the program with a fault each, for the command that is struck alone: a harness that says nothing of them
says nothing at all."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runtime.capturing import standstill
from vcs.errors import TreeringError
from vcs.history import History
from vcs.model import CommitId


def _ref_first() -> None:
    """A branch names a commit before it is written."""
    real = History.write

    def write(self: History, commit: bytes) -> CommitId:
        name = hashlib.sha1(b"commit %d\0" % len(commit) + commit).hexdigest()
        Path(self._repo.path, "refs/heads/main").write_text(f"{name}\n")
        return real(self, commit)

    History.write = write  # type: ignore[method-assign]


def _in_place() -> None:
    """What replaces a small file is written over it."""

    def replace_file(path: Path, data: bytes, **_: Any) -> None:
        path.write_bytes(data)

    _replace(replace_file)


def _written_once() -> None:
    """Nobody looks how much of a small file was written."""

    def replace_file(path: Path, data: bytes, **_: Any) -> None:
        aside = path.with_name(f".{path.name}.new")
        fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.write(fd, data)
        os.close(fd)
        aside.replace(path)

    _replace(replace_file)


def _replace(replace_file: Callable[..., None]) -> None:
    for module in list(sys.modules.values()):
        if getattr(module, "__name__", "").startswith(("vcs.", "runtime.")) and hasattr(module, "replace_file"):
            module.replace_file = replace_file  # type: ignore[attr-defined]


def _errors_dropped() -> None:
    """A branch that could not be moved is said to have moved."""
    real = History.move

    def move(self: History, *arguments: Any, **more: Any) -> None:
        with contextlib.suppress(TreeringError):
            real(self, *arguments, **more)

    History.move = move  # type: ignore[method-assign]


def _stands_still() -> None:
    """Nobody lets a container go on that was frozen for a commit."""
    standstill._thaw = lambda group: True


VARIANTS: dict[str, Callable[[], None]] = {
    "": lambda: None,
    "ref-first": _ref_first,
    "in-place": _in_place,
    "written-once": _written_once,
    "errors-dropped": _errors_dropped,
    "stands-still": _stands_still,
}
