"""Whether a container that has ended is started again, and when."""

from __future__ import annotations

from pathlib import Path

from runtime.settings import Restart
from runtime.state import STOPPED
from vcs.existing import is_there

_SHORTEST, _LONGEST = 0.1, 60.0
"""Seconds between an end and the next start: they double with each start in a row..."""
_STEADY = 10.0
"""...until one has run for so many seconds. Both as in Docker."""


def wanted(policy: Restart, directory: Path, code: int | None, restarts: int, *, booted: bool = False) -> bool:
    """Whether a container is to be started again. `restarts` says how often it was, in a row; `booted`, that it ended
    with the machine."""
    stopped = was_stopped(directory)
    match policy.policy:
        case "always":
            return booted or not stopped
        case "unless-stopped":
            return not stopped
        case "on-failure":
            return not stopped and code != 0 and (not policy.attempts or restarts < policy.attempts)
        case _:
            return False


def delay(restarts: int) -> float:
    """Seconds to wait before a start, after so many in a row."""
    return min(_LONGEST, _SHORTEST * (1 << min(restarts, 20)))


def was_steady(seconds: float) -> bool:
    """Whether a run of so many seconds ends a row of restarts."""
    return seconds >= _STEADY


def note_stop(directory: Path) -> None:
    """Note that a user wants the container stopped: to be called before it is."""
    (directory / STOPPED).touch(mode=0o600)


def forget_stop(directory: Path) -> None:
    """A user starts it again."""
    (directory / STOPPED).unlink(missing_ok=True)


def was_stopped(directory: Path) -> bool:
    """Whether a user stopped it."""
    return is_there(directory / STOPPED)
