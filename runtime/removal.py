"""The end of containers: what they changed is kept or dropped, what their runs left on the machine goes.

Of many, those that run are ended together, so that a hundred take little longer than the slowest; then each one's state
is kept, and it is taken away; what makes that durable is done once for a hundred.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from runtime.containers import REMOVED, Container, Containers
from runtime.keptlogs import KeptLog, keep
from runtime.reaching import at_rest
from runtime.running import clean_up, stop
from runtime.state import Created, Exited, is_running, state_of
from runtime.states import States
from vcs.errors import Conflict, NotFound, TreeringError
from vcs.history import Author
from vcs.model import CommitId
from vcs.store import Store

_ENDED_AT_ONCE = 32
_STEP = 100
"""So many are taken away before that is made durable: what a crash leaves half done, and a user waits for."""


@dataclass(frozen=True, slots=True)
class Removed:
    """What became of a container: the commits that keep its states, or why it was not removed."""

    container: Container
    kept: tuple[CommitId, ...] = ()
    error: TreeringError | None = None


def remove(containers: Containers, container: Container, author: Author, *, discard: bool) -> list[CommitId]:
    """Remove a container that does not run, with its log; returns the commits that keep its states. Its files are in
    the trash then.

    Conflict if it runs. `discard`: what has changed since its last commit is dropped.
    """
    kept = _take_away(containers, container, author, None, discard)
    containers.finish_removing([container])
    return kept


def remove_ended(store: Store, identity: str, author: Author) -> None:
    """Remove a container that was made with --rm, unless it is gone already, or runs again."""
    containers = Containers(store)
    with suppress(NotFound, Conflict), store.operations.silent():
        remove(containers, containers.get(identity), author, discard=True)


def remove_many(
    containers: Containers, wanted: Sequence[Container], author: Author, *, force: bool, discard: bool
) -> Iterator[Removed]:
    """Remove containers; yields what became of each, once that is durable.

    What one has changed becomes a commit, unless `discard`; see States.save. One that runs is ended with `force`, and
    otherwise left (Conflict).
    """
    if force:
        _end(wanted)
    tips = States(containers).tips()
    for start in range(0, len(wanted), _STEP):
        done = [_removed(containers, one, author, tips, discard) for one in wanted[start : start + _STEP]]
        containers.finish_removing([one.container for one in done if one.error is None])
        containers.trash.empty()
        yield from done


def _removed(
    containers: Containers, container: Container, author: Author, tips: Collection[CommitId], discard: bool
) -> Removed:
    try:
        return Removed(container, tuple(_take_away(containers, container, author, tips, discard)))
    except NotFound as error:
        # One that was made with --rm goes when it ends.
        return Removed(container, error=None if container.record.settings.remove else error)
    except TreeringError as error:
        return Removed(container, error=error)


def _take_away(
    containers: Containers, container: Container, author: Author, tips: Collection[CommitId] | None, discard: bool
) -> list[CommitId]:
    """All but the last step of removing one. Conflict if it runs."""
    # Its end is known before its supervisor has cleaned up and written the last of its log: that is waited for, and
    # before the lock is taken, which a commit at the end wants too.
    with suppress(FileNotFoundError), at_rest(container):
        pass
    with containers.changing(container) as now:
        state = state_of(now.paths.directory)
        if not isinstance(state, Created | Exited):
            raise Conflict(f"container {now.name!r} is running", container=now.name)
        states = States(containers)
        kept = states.save(now, author, discard=discard, tips=tips)
        if isinstance(state, Exited):
            clean_up(now, state)
            with suppress(OSError):  # a full disk keeps nobody from removing
                about = KeptLog(
                    now.id, now.name, now.record.image, kept[-1] if kept else states.head(now),
                    state.ended or time.time(), state.code, Path(),
                )  # fmt: skip
                keep(containers.store.path, now.paths.directory, about)
        containers.take_away(now)
    return kept


def _end(containers: Sequence[Container]) -> None:
    """End those that run, all at the same time. Who cannot be ended is found to run later."""
    running = [container for container in containers if is_running(container.paths.directory)]
    if running:
        with ThreadPoolExecutor(min(_ENDED_AT_ONCE, len(running))) as pool:
            list(pool.map(_stop, running))


def _stop(container: Container) -> None:
    with suppress(TreeringError):
        stop(container, patience=0)


def expired_states(store: Store, since: float) -> list[str]:
    """The refs that keep last states of containers which were removed before `since` (seconds since 1970)."""
    history = store.history
    refs = [REMOVED + name for name in history.refs(REMOVED)]
    return [ref for ref in refs if all(change.time < since for change in history.reflog(ref)[:1])]


def forget_states(store: Store, refs: Iterable[str]) -> None:
    """Keep these last states no longer."""
    for ref in refs:
        with suppress(NotFound), store.operations.silent():
            store.history.delete(ref)


def main(arguments: Sequence[str]) -> int:
    """The process that removes a container at its end: store, container, and the author of what is kept."""
    path, container, name, email, when, offset = arguments
    with suppress(TreeringError, OSError), Store.open(Path(path)) as store:
        remove_ended(store, container, Author(name, email, int(when), int(offset)))
        Containers(store).trash.leave()
    return 0
