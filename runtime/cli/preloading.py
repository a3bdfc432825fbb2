"""What a fork server imports before it forks, and whether that is still what is on the disk."""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
from collections.abc import Iterable
from types import ModuleType

import click

import runtime
import vcs
from runtime.cli import client
from runtime.cli.program import program
from runtime.cli.watching import Watch

_PACKAGES = (vcs, runtime)
_LEFT_OUT = ("__main__", "reference", "exposition")
_SELDOM = (
    "runtime.branches.bisecting", "runtime.branches.forgetting", "runtime.branches.merging",
    "runtime.branches.resolving", "runtime.branches.rewriting", "runtime.branches.stashes", "runtime.building",
    "runtime.check", "runtime.comparing", "runtime.images", "runtime.packages", "runtime.sbom", "runtime.signing",
    "vcs.bisection", "vcs.check", "vcs.collect", "vcs.decompress", "vcs.layer_", "vcs.madelayers", "vcs.merging",
    "vcs.repair", "vcs.rewriting", "vcs.sharing", "vcs.tar", "vcs.usage",
)  # fmt: skip
"""How the names of modules begin that only verbs import which take their time anyway: what is imported is copied by
every fork, and looked at for changes."""
_OTHERS = ("fusefs.client", "pygit2", "sqlite3", "subprocess", "tempfile")
"""Further modules that verbs import late, so that a command which does not need them starts faster."""


class Program:
    """The files that this process has its code from, as they are when this is made."""

    def __init__(self) -> None:
        here = os.path.dirname(os.path.dirname(os.path.dirname(client.__file__))) + os.sep
        files = {getattr(module, "__file__", None) or "" for module in list(sys.modules.values())}
        own = {file for file in files if file.removeprefix(here).split(os.sep)[0] in ("vcs", "fusefs", "runtime")}
        # Of what others have installed, the directories: an installer puts what is new beside what is old.
        places = {os.path.dirname(os.path.dirname(file)) for file in files - own if "-packages" in file}
        self._directories = {path: _number(path) for path in sorted(set(map(os.path.dirname, own)))}
        try:
            self._watch: Watch | None = Watch(self._directories)
        except OSError:
            self._watch = None
        self._own = {path: _stamp(path) for path in sorted(own)}
        self._places = {path: _stamp(path) for path in sorted(places)}

    def is_current(self) -> bool:
        """Whether none of them has changed since."""
        if any(_stamp(path) != stamp for path, stamp in self._places.items()):
            return False
        if self._watch is not None and self._watch.is_quiet():
            # Nothing was done in these directories; that others took their places is not told of.
            return all(_number(path) == number for path, number in self._directories.items())
        return all(_stamp(path) == stamp for path, stamp in self._own.items())


def load() -> Program:
    """Import what verbs import."""
    for package in _PACKAGES:
        _load_all(package.__name__, package.__path__)
    for name in _OTHERS:
        _load(name)
    _make_ready(program)
    return Program()


def _make_ready(command: click.Command, parent: click.Context | None = None) -> None:
    """Have click make what it makes once for a command, the option --help: 0.3 ms, of which most goes into looking for
    translations of its text."""
    context = click.Context(command, parent, command.name, **command.context_settings)
    command.get_params(context)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            if below := command.get_command(context, name):
                _make_ready(below, context)


def _load_all(package: str, path: Iterable[str]) -> None:
    for found in pkgutil.iter_modules(path, f"{package}."):
        if found.name.rpartition(".")[2] in _LEFT_OUT or found.name.startswith(_SELDOM):
            continue
        module = _load(found.name)
        if found.ispkg and module is not None:
            _load_all(found.name, module.__path__)


def _load(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except ImportError:  # some are only wanted where something else is installed
        return None


def _stamp(path: str) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _number(path: str) -> int | None:
    try:
        return os.stat(path).st_ino
    except OSError:
        return None
