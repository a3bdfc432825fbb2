"""Containers removed, many at once as cheaply as one.

Those that run are ended together, so that a hundred take little longer than the slowest. Then each one's state is kept,
and it is taken away; what makes that durable is done once for all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from runtime.containers import Container, Containers
from runtime.running import clean_up, stop
from runtime.state import Exited, is_running, state_of
from runtime.states import States
from vcs.errors import Conflict, TreeringError
from vcs.history import Author
from vcs.model import CommitId

_ENDED_AT_ONCE = 32
_STEP = 100
"""So many are taken away before that is made durable: what a crash can leave half done, and a reader waits for."""


@dataclass(frozen=True, slots=True)
class Removed:
    """What became of a container: its states that were kept, or why it was not removed."""

    container: Container
    kept: tuple[CommitId, ...] = ()
    error: TreeringError | None = None


def remove_many(
    containers: Containers, wanted: Sequence[Container], author: Author, *, force: bool, discard: bool
) -> Iterator[Removed]:
    """Remove containers; yields what became of each, once that is durable.

    What one has changed becomes a commit, unless `discard`; see States.save. One that runs is ended with `force`, and
    otherwise left (Conflict).
    """
    failed = _end(wanted) if force else {}
    states = States(containers)
    tips = states.tips()
    for start in range(0, len(wanted), _STEP):
        done = [
            Removed(container, error=failed[container.id])
            if container.id in failed
            else _take_away(containers, states, container, author, tips, discard)
            for container in wanted[start : start + _STEP]
        ]
        containers.finish_removing([removed.container for removed in done if removed.error is None])
        yield from done


def _end(containers: Sequence[Container]) -> dict[str, TreeringError]:
    """End those that run, all at the same time; which could not be ended, and why, by their ids."""
    running = [container for container in containers if is_running(container.paths.directory)]
    if not running:
        return {}
    with ThreadPoolExecutor(min(_ENDED_AT_ONCE, len(running))) as pool:
        errors = list(pool.map(_ended, running))
    return {container.id: error for container, error in zip(running, errors, strict=True) if error}


def _ended(container: Container) -> TreeringError | None:
    try:
        stop(container, patience=0)
    except TreeringError as error:
        return error if is_running(container.paths.directory) else None
    return None


def _take_away(
    containers: Containers,
    states: States,
    container: Container,
    author: Author,
    tips: frozenset[CommitId],
    discard: bool,
) -> Removed:
    try:
        with containers.changing(container) as now:
            if is_running(now.paths.directory):
                raise Conflict(f"container {now.name!r} is running", container=now.name)
            kept = states.save(now, author, discard=discard, tips=tips)
            if isinstance(state_of(now.paths.directory), Exited):
                clean_up(containers, now)
            containers.take_away(now)
    except TreeringError as error:
        return Removed(container, error=error)
    return Removed(now, tuple(kept))
