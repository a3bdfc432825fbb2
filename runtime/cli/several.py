"""A verb on several containers: each is tried, and what went wrong is told in the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from runtime.cli.invocation import Invocation
from vcs.errors import TreeringError

if TYPE_CHECKING:
    from runtime.containers import Container

_AT_ONCE = 32


def each(invocation: Invocation, names: Sequence[str], do: Callable[[Container], Any]) -> None:
    """Do something with each named container, in this order. The last error is raised, others are printed."""
    errors = []
    for found in invocation.containers.lookup(names):
        try:
            if isinstance(found, TreeringError):
                raise found
            do(found)
        except TreeringError as error:
            errors.append(error)
    raise_all(invocation, errors)


def each_at_once(
    invocation: Invocation,
    names: Sequence[str],
    prepare: Callable[[Container], Callable[[], Any]],
    done: Callable[[Container], Any],
) -> None:
    """The same for what takes time: what `prepare` returns is called in a thread, and may not use the store. Once all
    have ended, `done` is called for each that went well, in order."""
    from concurrent.futures import ThreadPoolExecutor

    errors: list[TreeringError] = []
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        begun = []
        for found in invocation.containers.lookup(names):
            if isinstance(found, TreeringError):
                errors.append(found)
            else:
                begun.append((found, pool.submit(prepare(found))))
    for container, future in begun:
        try:
            future.result()
            done(container)
        except TreeringError as error:
            errors.append(error)
    raise_all(invocation, errors)


def raise_all(invocation: Invocation, errors: Sequence[TreeringError]) -> None:
    """Print all errors but the last, which is raised."""
    if not errors:
        return
    from runtime.cli.errors import failure_of, report

    invocation.output.flush()
    for error in errors[:-1]:
        report(failure_of(error), invocation.output.format)
    raise errors[-1]
