"""A container that has ended is removed: what it changed is kept or dropped, what its run left on the machine goes."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

from runtime.containers import Container, Containers
from runtime.keptlogs import KeptLog, keep
from runtime.running import clean_up
from runtime.state import Exited, is_running, state_of
from runtime.states import States
from vcs.errors import Conflict, NotFound
from vcs.history import Author
from vcs.model import CommitId
from vcs.store import Store


def remove(containers: Containers, container: Container, author: Author, *, discard: bool) -> list[CommitId]:
    """Remove a container that does not run, with its log; returns the commits that keep its states.

    Conflict if it runs. `discard`: what has changed since its last commit is dropped.
    """
    with containers.changing(container) as now:
        if is_running(now.paths.directory):
            raise Conflict(f"container {now.name!r} is running", container=now.name)
        states = States(containers)
        kept = states.save(now, author, discard=discard)
        state = state_of(now.paths.directory)
        if isinstance(state, Exited):
            clean_up(containers, now)
            with suppress(OSError):  # a full disk keeps nobody from removing
                about = KeptLog(
                    now.id, now.name, now.record.image, kept[-1] if kept else states.head(now),
                    state.ended or time.time(), state.code, Path(),
                )  # fmt: skip
                keep(containers.store.path, now.paths.directory, about)
        containers.remove(now)
    return kept


def remove_ended(store: Store, identity: str, author: Author) -> None:
    """Remove a container that was made with --rm, unless it is gone already, or runs again."""
    containers = Containers(store)
    with suppress(NotFound, Conflict):
        remove(containers, containers.find(identity), author, discard=True)
