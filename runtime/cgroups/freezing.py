"""All processes of a cgroup stopped, and going on again: v1's freezer, v2's cgroup.freeze.

Freezing takes a moment, since each process must come to a place where it may stop, and v1 can miss one that is being
forked: it then says FREEZING for ever. It is told again (written again, and now and then thawed in between, as runc
does) until all stand or the time is up; then the cgroup is thawed, so that what failed has changed nothing.

A frozen cgroup stays so when whoever froze it is gone. Thawing knows nothing of who that was, and always works. A
process that is killed while it stands ends at once on v2, and when it is thawed on v1.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from runtime.cgroups import parsing
from vcs.errors import EngineError

Turn: TypeAlias = Callable[[Path, float], None]

_AGAIN = 50
"""Looks (v1), after which processes are let go for a moment and stopped anew."""
_PAUSE = 0.0002
"""Seconds between two looks: to freeze a cgroup of a few processes takes less."""
_BREATH = 0.01
_LOOK = 0.1
"""Seconds after which v2 is looked at without having been notified."""


def freeze_v1(directory: Path, seconds: float) -> None:
    """Stop all below a cgroup of the v1 freezer. EngineError after `seconds`; OSError if it is not there."""
    deadline = time.monotonic() + seconds
    looks = 0
    while True:
        _write(directory / "freezer.state", b"FROZEN")
        if state_v1(directory) == b"FROZEN":
            return
        looks += 1
        if time.monotonic() >= deadline:
            _write(directory / "freezer.state", b"THAWED")
            raise _late(directory, seconds)
        if looks % _AGAIN == 0:
            _write(directory / "freezer.state", b"THAWED")
            time.sleep(_BREATH)
        else:
            time.sleep(_PAUSE)


def thaw_v1(directory: Path, seconds: float) -> None:
    """Let all of it go on. EngineError if one above it is frozen, which keeps this one still."""
    deadline = time.monotonic() + seconds
    while True:
        _write(directory / "freezer.state", b"THAWED")
        if state_v1(directory) == b"THAWED":
            return
        if time.monotonic() >= deadline:
            raise EngineError(f"{directory} stays frozen: a cgroup above it is", path=str(directory))
        time.sleep(_PAUSE)


def state_v1(directory: Path) -> bytes:
    """THAWED, FREEZING or FROZEN."""
    return (directory / "freezer.state").read_bytes().strip()


def freeze_v2(directory: Path, seconds: float) -> None:
    """Stop all below a v2 cgroup. EngineError after `seconds`; OSError if it is not there."""
    _write(directory / "cgroup.freeze", b"1")
    if not _becomes(directory, 1, seconds):
        _write(directory / "cgroup.freeze", b"0")
        raise _late(directory, seconds)


def thaw_v2(directory: Path, seconds: float) -> None:
    """Let all of it go on."""
    _write(directory / "cgroup.freeze", b"0")
    if not _becomes(directory, 0, seconds):
        raise EngineError(f"{directory} stays frozen: a cgroup above it is", path=str(directory))


def state_v2(directory: Path) -> bool:
    """Whether all stand."""
    return parsing.keyed((directory / "cgroup.events").read_bytes()).get(b"frozen") == 1


def _becomes(directory: Path, wanted: int, seconds: float) -> bool:
    """Wait for `frozen` in cgroup.events, a change of which the kernel notifies."""
    deadline = time.monotonic() + seconds
    fd = os.open(directory / "cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
    try:
        poll = select.poll()
        poll.register(fd, select.POLLPRI)
        while True:
            if parsing.keyed(os.pread(fd, 4096, 0)).get(b"frozen", wanted) == wanted:
                return True
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            poll.poll(min(left, _LOOK) * 1000)
    finally:
        os.close(fd)


def _late(directory: Path, seconds: float) -> EngineError:
    return EngineError(
        f"the container could not be frozen within {seconds:g} s: a process of it does not stop, "
        "perhaps since it waits for a disk or a server. It goes on",
        path=str(directory),
    )


def _write(path: Path, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)
