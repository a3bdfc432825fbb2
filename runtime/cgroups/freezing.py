"""All processes of a cgroup stopped, and going on again: v1's freezer, v2's cgroup.freeze.

Freezing takes a moment, since each process must come to a place where it may stop, and v1 can miss one that is being
forked: it then says FREEZING for ever. It is told again (written again, and now and then thawed in between, as runc
does) until all stand or the time is up; then the cgroup is thawed, so that what failed has changed nothing. From one
thawing to the next takes twice as long each time: processes that wait for a disk stop when they have what they wait
for, and stand all at once only if the first one is not let go before the last one stops.

A frozen cgroup stays so when whoever froze it is gone. Thawing knows nothing of who that was, and always works. A
process that is killed while it stands ends at once on v2, and when it is thawed on v1.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeAlias

from runtime.cgroups import parsing
from vcs.errors import EngineError

Turn: TypeAlias = Callable[[Path, float], None]

_AGAIN = 50
"""Looks (v1), after which processes are let go for a moment and stopped anew."""
_PAUSE = 0.0002
"""Seconds between the first looks: to freeze a cgroup of a few processes takes less. Doubled at each breath."""
_BREATH = 0.01
"""Seconds for which they are let go (v1)."""
_LOOK = 0.1
"""Seconds after which v2 is looked at without having been notified."""


def freeze_v1(directory: Path, seconds: float) -> None:
    """Stop all below a cgroup of the v1 freezer. EngineError after `seconds`; OSError if it is not there."""
    deadline = time.monotonic() + seconds
    with _opened(directory / "freezer.state", os.O_RDWR) as fd, _undone_on_error(fd, b"THAWED"):
        pause = _PAUSE
        while True:
            for _ in range(_AGAIN):
                os.pwrite(fd, b"FROZEN", 0)
                if _state(fd) == b"FROZEN":
                    return
                if time.monotonic() >= deadline:
                    raise _late(directory, seconds)
                time.sleep(pause)
            os.pwrite(fd, b"THAWED", 0)
            time.sleep(_BREATH)
            pause *= 2


def thaw_v1(directory: Path, seconds: float) -> None:
    """Let all of it go on. EngineError if one above it is frozen, which keeps this one still."""
    deadline = time.monotonic() + seconds
    with _opened(directory / "freezer.state", os.O_RDWR) as fd:
        while True:
            os.pwrite(fd, b"THAWED", 0)
            if _state(fd) == b"THAWED":
                return
            if time.monotonic() >= deadline:
                raise EngineError(f"{directory} stays frozen: a cgroup above it is", path=str(directory))
            time.sleep(_PAUSE)


def is_frozen_v1(directory: Path) -> bool:
    """Whether all stand. OSError if it is not there."""
    with _opened(directory / "freezer.state", os.O_RDONLY) as fd:
        return _state(fd) == b"FROZEN"


def freeze_v2(directory: Path, seconds: float) -> None:
    """Stop all below a v2 cgroup. EngineError after `seconds`; OSError if it is not there."""
    with (
        _opened(directory / "cgroup.events", os.O_RDONLY) as events,
        _opened(directory / "cgroup.freeze", os.O_WRONLY) as fd,
        _undone_on_error(fd, b"0"),
    ):
        os.pwrite(fd, b"1", 0)
        if not _becomes(events, True, seconds):
            raise _late(directory, seconds)


def thaw_v2(directory: Path, seconds: float) -> None:
    """Let all of it go on. EngineError if one above it is frozen, which keeps this one still."""
    with (
        _opened(directory / "cgroup.events", os.O_RDONLY) as events,
        _opened(directory / "cgroup.freeze", os.O_WRONLY) as fd,
    ):
        os.pwrite(fd, b"0", 0)
        if not _becomes(events, False, seconds):
            raise EngineError(f"{directory} stays frozen: a cgroup above it is", path=str(directory))


def is_frozen_v2(directory: Path) -> bool:
    """Whether all stand. OSError if it is not there."""
    with _opened(directory / "cgroup.events", os.O_RDONLY) as events:
        return _all_stand(events) is True


def _state(fd: int) -> bytes:
    """THAWED, FREEZING or FROZEN."""
    return os.pread(fd, 64, 0).strip()


def _all_stand(events: int) -> bool | None:
    """`frozen` in cgroup.events; None on a kernel before 5.2, which has no such line."""
    found = parsing.keyed(os.pread(events, 4096, 0)).get(b"frozen")
    return None if found is None else found == 1


def _becomes(events: int, wanted: bool, seconds: float) -> bool:
    """Wait for `frozen` in cgroup.events, a change of which the kernel notifies."""
    deadline = time.monotonic() + seconds
    poll = select.poll()
    poll.register(events, select.POLLPRI)
    while _all_stand(events) not in (wanted, None):
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        poll.poll(min(left, _LOOK) * 1000)
    return True


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    """Before anything is changed: once processes stand, no descriptor must be wanting."""
    fd = os.open(path, flags | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def _undone_on_error(fd: int, thawed: bytes) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with suppress(OSError):  # it is gone
            os.pwrite(fd, thawed, 0)
        raise


def _late(directory: Path, seconds: float) -> EngineError:
    return EngineError(
        f"the container could not be frozen within {seconds:g} s: a process of it does not stop, "
        "perhaps since it waits for a disk or a server. It goes on",
        path=str(directory),
    )
