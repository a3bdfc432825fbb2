"""Commits that nobody asks for each time: `run --autocommit every=30s|exec|exit`.

    exec     after each `treering exec`: the log is the story of the container, and `rollback @{1}` undoes one command
    exit     when the container has ended
    every    now and then, while it runs

They go to the container's own ref and to no branch. What did not change makes no commit. A supervisor, and whoever else
was forked, has them made by a process that begins afresh (runtime.system.afresh).
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NoReturn

import msgspec

from runtime.commits import CommitResult, one_line
from runtime.containers import Container, Containers
from runtime.state import is_running
from runtime.states import States
from runtime.system.afresh import become
from vcs.errors import Corrupt, NotFound, UnknownFormat
from vcs.history import Author
from vcs.store import Store

_TITLE = 72
"""Characters of a message's first line."""


def after_exec(
    containers: Containers, container: Container, command: Sequence[str], code: int, seconds: float, author: Author
) -> CommitResult:
    """Commit what a command in a running container has changed, with the command, its exit code and its duration."""
    return _after(containers, container, command, code, seconds, author)


def after_exit(
    containers: Containers, container: Container, code: int | None, seconds: float, author: Author
) -> CommitResult:
    """Commit the state of a container that has ended; it continues on the commit. `code` is None if nobody saw it. Its
    overlay is mounted nowhere any more."""
    return _after(containers, container, container.record.settings.args, code, seconds, author)


def tick(containers: Containers, container: Container, author: Author) -> CommitResult | None:
    """Commit the state of a container as it is now. None if it does not run any more."""
    if not is_running(container.paths.directory):
        return None
    return _commit(containers, container, f"State of {container.name}", author, {})


# -- as a process of its own


class Task(msgspec.Struct, frozen=True):
    """What main() is to do; see the functions above."""

    after: Literal["exec", "exit", "time"]
    store: str
    container: str
    """Its full id."""
    author: tuple[str, str, int, int]
    command: tuple[str, ...] = ()
    code: int | None = None
    seconds: float = 0.0


def do_afresh(task: Task) -> NoReturn:
    """For a forked process: end it as one that does this."""
    become(__name__, [msgspec.json.encode(task).decode()])


def main(arguments: Sequence[str]) -> int:
    """Do one task. A container that is not there any more needs no commit."""
    task = msgspec.json.decode(arguments[0], type=Task)
    author = Author(*task.author)
    with Store.open(Path(task.store)) as store:
        containers = Containers(store)
        try:
            found = containers.get(task.container)
        except (NotFound, Corrupt, UnknownFormat):
            return 0
        store.operations.begin(("automatic commit", found.name), lambda: author)
        match task.after:
            case "exec":
                after_exec(containers, found, task.command, task.code or 0, task.seconds, author)
            case "exit":
                after_exit(containers, found, task.code, task.seconds, author)
            case "time":
                tick(containers, found, author)
    return 0


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
