"""The process that an engine has started and left to this one, which is the nearest subreaper.

An engine tells its pid in a file. crun writes that with one write(2), and does not look how much of it was taken: a
number that was cut short is another process's, or nobody's. So a number is believed only if that process is ours, and
else the one that is ours is looked for. It is the only one that

    - is in a pid namespace below this one's
    - has this process as its parent, or a helper of the engine's that is about to end: a child of this process, and
      itself in no such namespace
"""

from __future__ import annotations

import os
import re
import signal
from contextlib import suppress
from pathlib import Path

from runtime.engine import Engine, unkept, wait
from runtime.system.watched import Watched, parent_of, status_of
from vcs.errors import EngineError

_PID = re.compile(rb"\s*(\d{1,10})\s*")
_TOLD_MAX = 64
_INSIDE = re.compile(rb"^NSpid:\t\d+\t\d", re.MULTILINE)
"""Pids in several namespaces, ours the first (proc(5))."""


def told_pid(engine: Engine, pid_file: Path) -> int:
    """What an engine's pid file says. EngineError if that is no number at all: crun writes none of these, however short
    a write is, and what another engine has meant is not guessed."""
    try:
        with pid_file.open("rb") as file:
            text = file.read(_TOLD_MAX)
    except FileNotFoundError:
        raise unkept(engine, "there is no pid file") from None
    if found := _PID.fullmatch(text):
        return int(found[1])
    raise unkept(engine, f"its pid file says {text!r}, which is no pid" if text else "its pid file is empty")


def inherited(told: int) -> int:
    """The process that an engine has started; `told` is what its pid file says. One that has ended counts until it is
    waited for. EngineError if there is none, or several."""
    found = [told] if _is_ours(told) else _all_of_ours()
    if len(found) != 1:
        raise EngineError("the engine did not tell which process it has started")
    return found[0]


def waited_for(engine: int) -> int:
    """Wait for an engine, a child; its exit code, 128 + the signal if it was killed. It is watched (system.watched)."""
    with Watched(engine) as process:
        process.wait()
    return wait(engine)


def end_all() -> None:
    """End what an engine has started before it failed, and wait for it."""
    for pid in _all_of_ours():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)


def _all_of_ours() -> list[int]:
    """All processes are looked at: not every kernel tells what children one has, and this is rare."""
    return [int(name) for name in os.listdir("/proc") if name.isdecimal() and _is_ours(int(name))]


def _is_ours(pid: int) -> bool:
    status, own = status_of(pid), os.getpid()
    if not _INSIDE.search(status):
        return False
    if parent_of(status) == own:
        return True
    helper = status_of(parent_of(status))
    return parent_of(helper) == own and not _INSIDE.search(helper)
