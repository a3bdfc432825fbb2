"""Processes of commands: run in one of their own, found, and ended.

Whoever runs commands that leave processes behind becomes a subreaper (prctl(2)): then these are its descendants,
whoever has started them, and it can end them all by their pids.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from tests.support.ending import fork

_AS_AT_FIRST: dict[int, Callable[[int, FrameType | None], Any] | signal.Handlers] = {
    signal.SIGALRM: signal.SIG_DFL,
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGINT: signal.default_int_handler,
}
SECONDS = 60
"""A command that takes longer does not end."""


@dataclass(slots=True)
class Traced:
    """What became of a command. `code` is negative if a signal ended it; `at` tells the call that was struck."""

    code: int = -1
    calls: int = 0
    at: str = ""
    is_late: bool = False
    out: str = ""
    err: str = ""
    seen: list[str] = field(default_factory=list)
    containers: set[str] = field(default_factory=set)
    """The ids of those whose files it has opened, as far as it was watched."""
    tracer: int = 0
    """The process that goes on tracing what the command has left behind."""


def untraced(work: Callable[[], int], directory: Path) -> Traced:
    """Run something in a process of its own."""
    child = forked(work, directory, lambda: None)
    deadline = time.monotonic() + SECONDS + 5
    result = Traced()
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            result.code = os.waitstatus_to_exitcode(status)
            break
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            result.is_late = True
        time.sleep(0.001)
    return told(result, directory)


def forked(work: Callable[[], int], directory: Path, first: Callable[[], None]) -> int:
    child = fork()
    if child:
        return child
    code = 99
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        for number, name in ((1, "out"), (2, "err")):
            file = os.open(directory / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(file, number)
        os.closerange(3, 256)
        for number, action in _AS_AT_FIRST.items():
            signal.signal(number, action)
        signal.alarm(SECONDS)
        first()
        code = work()
    except BaseException:
        import traceback

        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(code)


def told(result: Traced, directory: Path) -> Traced:
    result.out, result.err = ((directory / name).read_text(errors="replace") for name in ("out", "err"))
    return result


@dataclass(frozen=True, slots=True)
class Process:
    """One that is below us, by its name and its command line."""

    pid: int
    parent: int
    name: str
    command: str

    def __str__(self) -> str:
        return f"{self.pid} {self.name} ({self.command})"


def descendants() -> list[Process]:
    """All processes below this one that have not ended."""
    below, found = {os.getpid()}, []
    everybody = sorted(_everybody(), key=lambda one: one.pid)
    while more := [one for one in everybody if one.parent in below and one.pid not in below]:
        below.update(one.pid for one in more)
        found += more
    return found


def _everybody() -> Iterator[Process]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                head, _, rest = (entry / "stat").read_text(errors="replace").rpartition(")")
                state, parent = rest.split()[:2]
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                if state not in ("Z", "X"):
                    yield Process(int(entry.name), int(parent), head.partition("(")[2], command)


def end_descendants(but: frozenset[int] = frozenset()) -> None:
    """End them all, with SIGKILL, but these."""
    deadline = time.monotonic() + SECONDS
    while left := [one for one in descendants() if one.pid not in but]:
        assert time.monotonic() < deadline, f"they do not end: {', '.join(map(str, left))}"
        for one in left:
            with suppress(ProcessLookupError):
                os.kill(one.pid, signal.SIGKILL)
        reap(but)
        time.sleep(0.001)
    reap(but)


def reap(but: frozenset[int]) -> None:
    """Wait for children that have ended; there may be some that are somebody else's to wait for."""
    for task in Path("/proc/self/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            if child not in but:
                with suppress(ChildProcessError):
                    os.waitpid(child, os.WNOHANG)
