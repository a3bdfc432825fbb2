"""Commits that nobody asks for each time: `run --autocommit every=30s|exec|exit`.

    exec     after each `treering exec`: the log is the story of the container, and `rollback @{1}` undoes one command
    exit     when the container has ended
    every    now and then, while it runs

They go to the container's own ref and to no branch. What did not change makes no commit. Whoever calls these functions
is a process of its own, or one that may fail: the store is opened here, where a path is given.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from runtime.commits import CommitResult, one_line
from runtime.containers import Container, Containers
from runtime.state import is_running
from runtime.states import States
from vcs.history import Author
from vcs.store import Store

_TITLE = 72
"""Characters of a message's first line."""


def after_exec(
    containers: Containers, container: Container, command: Sequence[str], code: int, seconds: float, author: Author
) -> CommitResult:
    """Commit what a command in a running container has changed, with the command, its exit code and its duration."""
    return _after(containers, container, command, code, seconds, author)


def after_exit(store: Path, container: str, code: int | None, seconds: float, author: Author) -> CommitResult | None:
    """Commit the state of a container that has ended; it continues on the commit. None if it is not there any more.

    `container` is its id, `code` None if nobody saw it. Its overlay is mounted nowhere any more.
    """
    with Store.open(store) as opened:
        containers = Containers(opened)
        found = _found(containers, container)
        if found is None:
            return None
        return _after(containers, found, found.record.settings.args, code, seconds, author)


def tick(store: Path, container: str, author: Author) -> CommitResult | None:
    """Commit the state of a container as it is now; `container` is its id. None if it does not run any more."""
    with Store.open(store) as opened:
        containers = Containers(opened)
        found = _found(containers, container)
        if found is None or not is_running(found.paths.directory):
            return None
        return _commit(containers, found, f"State of {found.name}", author, {})


def _after(
    containers: Containers,
    container: Container,
    command: Sequence[str],
    code: int | None,
    seconds: float,
    author: Author,
) -> CommitResult:
    text = shlex.join(command)
    trailers = {"Exit-Code": "unknown" if code is None else str(code), "Duration": f"{seconds:.2f}s"}
    if text:
        trailers["Command"] = text
    return _commit(containers, container, text or f"End of {container.name}", author, trailers)


def _commit(
    containers: Containers, container: Container, message: str, author: Author, trailers: Mapping[str, str]
) -> CommitResult:
    return States(containers).commit(container, one_line(message, _TITLE), author, trailers=trailers)


def _found(containers: Containers, identity: str) -> Container | None:
    return next((found for found in containers.all() if found.id == identity), None)
