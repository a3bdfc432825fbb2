"""What a fork server imports before it forks, and whether that is still what is on the disk."""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
from contextlib import suppress
from types import ModuleType

import fusefs.client
import fusefs.mounting
import runtime
import vcs
from runtime.cli import client

_PACKAGES = (vcs, runtime)
_LEFT_OUT = ("runtime.cli.reference",)
_OUTSIDE = ("pygit2", "msgspec", "zstandard", "sqlite3", "click", "blake3", "pathspec", "subprocess", "ctypes")
"""Modules that verbs import late, so that a command which does not need them starts faster."""


class Program:
    """The files that this process has its code from, as they were when it was loaded."""

    def __init__(self) -> None:
        ours = os.path.dirname(os.path.dirname(os.path.dirname(client.__file__)))
        files = {getattr(module, "__file__", None) or "" for module in list(sys.modules.values())}
        own = {file for file in files if file.startswith(f"{ours}{os.sep}") and "site-packages" not in file[len(ours) :]}
        # Of what others have installed, the directories: an installer puts a new one beside the old.
        places = {os.path.dirname(os.path.dirname(file)) for file in files - own if "-packages" in file}
        self._stamps = {path: _stamp(path) for path in sorted(own | places)}

    def is_current(self) -> bool:
        """Whether none of them has changed."""
        return all(_stamp(path) == stamp for path, stamp in self._stamps.items())


def load() -> Program:
    """Import what verbs import."""
    program_files = Program  # stamped after loading: what changes meanwhile is seen with the next command
    for package in _PACKAGES:
        _load_all(package)
    for name in _OUTSIDE:
        with suppress(ImportError):
            importlib.import_module(name)
    return program_files()


def _load_all(package: ModuleType) -> None:
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not found.name.endswith("__main__") and found.name not in _LEFT_OUT:
            with suppress(ImportError):
                importlib.import_module(found.name)


def _stamp(path: str) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
