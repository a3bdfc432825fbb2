"""Executables in STORE/hooks, which the store's owner places there to be run around what is done to it.

    pre-commit         before a commit of a container, an import, or a build's result becomes visible; refuses it if it
                       fails
    post-commit        after it
    pre-merge-commit   before the commit of a merge, a revert or a cherry-pick becomes visible; refuses it likewise
    post-merge         after these, and after a fast-forward
    post-rollback      after a rollback of a container

They run on the machine, as whoever runs the command. (Commands that run in a container around its commit are in
runtime.hooks.) A pre- hook is told the id of a commit that exists but that no name leads to: every command can look
into it, and if the hook refuses it, it is garbage. No lock is held that a command which only looks would wait for.

What is run must be a regular file that belongs to root or to who runs the command, and that, like the store and its
directory of hooks, others cannot write. Anything else is not run, with a warning.
"""

from __future__ import annotations

import os
import signal
import stat
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal

from runtime.system.signals import held_back
from vcs.errors import Conflict, HookRefused

if TYPE_CHECKING:
    from subprocess import Popen

    from runtime.containers import Container
    from vcs.diff import Change
    from vcs.model import CommitId

HOOKS = "hooks"
"""In a store."""
HELD = "TREERING_HOOK_HOLDS"
"""The environment variable with the id of the container whose lock is held while the hook runs."""
_MOST = 4096
"""Bytes of what a hook says that are told."""
_GRACE = 2.0
"""Seconds from the signal by which a hook is asked to end to the one that ends it."""
_EXECUTABLE = stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH

Before = Literal["pre-commit", "pre-merge-commit"]
After = Literal["post-commit", "post-merge", "post-rollback"]


@dataclass(frozen=True, slots=True)
class Event:
    """What happens, or has happened."""

    commit: CommitId
    """Where the container or the branch is then."""
    parent: CommitId | None
    """Where it was before; None for a first commit."""
    container: Container | None = None
    branch: str | None = None
    changes: Callable[[], Iterable[Change]] = tuple
    """What the commit changed; asked for only if there is a hook."""


@dataclass(frozen=True, slots=True)
class HookRun:
    """What came of a hook."""

    name: str
    code: int | None
    """Its exit code, negative for a signal; None if it was not run."""
    said: str
    """The last of what it printed, or why it was not run."""


def run_before(store: Path, name: Before, event: Event) -> tuple[HookRun, ...]:
    """Run a hook that may refuse what is to be done. HookRefused, with what it said, if it does or cannot be run."""
    found = _run(store, name, event)
    for run in found:
        if run.code:
            raise HookRefused(
                f"the hook {name} refused it (exit code {run.code}), so nothing was changed"
                + (f": {run.said}" if run.said else ""),
                hook=str(store / HOOKS / name), code=run.code, output=run.said,
            )  # fmt: skip
    return found


def run_after(store: Path, name: After, event: Event) -> tuple[HookRun, ...]:
    """Run a hook that is told of what was done."""
    return _run(store, name, event)


def is_held(name: str) -> Conflict:
    """What a hook is told that would wait for the commit that waits for it."""
    return Conflict(f"{name} is being committed, which waits for this hook: do that in post-commit", hook=name)


def _run(store: Path, name: str, event: Event) -> tuple[HookRun, ...]:
    path = store / HOOKS / name
    try:
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return ()
    distrust = _distrust(path, status)
    if distrust is not None:
        return (HookRun(name, None, distrust),)
    return (_executed(path, name, _environment(store, name, event), event.changes()),)


def _distrust(path: Path, status: os.stat_result) -> str | None:
    """Why a hook is not run; None if it is."""
    if not stat.S_ISREG(status.st_mode):
        return f"{path} is no regular file"
    for place in (path, path.parent, path.parent.parent):
        found = place.lstat() if place != path.parent.parent else place.stat()
        if found.st_uid not in (0, os.geteuid()):
            return f"{place} belongs to user {found.st_uid}, and only root's and your own are run"
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return f"others can write {place}: chmod go-w {place}"
    # Not access(2), which says no where it could not look as well: then the hook would be passed over.
    if not status.st_mode & _EXECUTABLE:
        return f"{path} is not executable: chmod +x {path}"
    return None


def _environment(store: Path, name: str, event: Event) -> dict[str, str]:
    """The same for everybody: an automatic commit has no other surroundings than one by hand."""
    from runtime.engine import SEARCH_PATH

    container, path = event.container, f"{SEARCH_PATH}:{Path(sys.executable).parent}"
    holds = container.id if container is not None and name.startswith("pre-") else None
    fields = {
        "PATH": path,
        "LC_ALL": "C.UTF-8",
        "TREERING_STORE": str(store),
        "TREERING_HOOK": name,
        "TREERING_COMMIT": event.commit,
        "TREERING_PARENT": event.parent,
        "TREERING_BRANCH": event.branch,
        "TREERING_CONTAINER": container.name if container is not None else None,
        HELD: holds,
    }
    return {key: value for key, value in fields.items() if value is not None}


def _executed(path: Path, name: str, environment: dict[str, str], changes: Iterable[Change]) -> HookRun:
    """Files, not pipes: nobody waits for a hook that does not read, or for what it leaves running with its output."""
    import subprocess  # with tempfile 15 ms, and most stores have no hooks
    import tempfile

    with tempfile.TemporaryFile() as told, tempfile.TemporaryFile() as said:
        for change in changes:
            told.write(b"".join(field + b"\0" for field in change.name_status))
        told.seek(0)

        def begin() -> Popen[bytes]:
            return subprocess.Popen(
                [path], stdin=told, stdout=said, stderr=said, env=environment, cwd="/", process_group=0
            )

        try:
            code = _ended(begin)
        except OSError as error:
            return HookRun(name, 126, f"{path} cannot be run: {error.strerror}; does it begin with `#!`?")
        return HookRun(name, code, _last(said))


def _ended(begin: Callable[[], Popen[bytes]]) -> int:
    """Begin a hook and wait for it as long as it takes. Who interrupts us, ends it."""
    process = None
    try:
        with held_back(signal.SIGINT):  # or one that has just begun would be nobody's
            process = begin()
        return process.wait()
    except BaseException:
        if process:
            _end(process)
        raise


def _end(process: Popen[bytes]) -> None:
    from subprocess import TimeoutExpired

    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(TimeoutExpired):
        process.wait(_GRACE)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _last(file: IO[bytes]) -> str:
    size = os.fstat(file.fileno()).st_size
    return os.pread(file.fileno(), _MOST, max(0, size - _MOST)).decode(errors="replace").strip()
