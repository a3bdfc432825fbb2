"""Containers and what they do, made true again where something was killed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runtime.cli.output import message
from runtime.state import Exited, Running, State, state_of
from vcs.errors import TreeringError

if TYPE_CHECKING:
    from runtime.cli.invocation import Invocation
    from runtime.containers import Container


def reconcile_all(invocation: Invocation) -> list[tuple[Container, State]]:
    """Every container with its state, oldest first. One that has lost its supervisor gets another, and one that was to
    be removed at its end, and was not, is."""
    found = []
    for container in invocation.containers.all():
        state = state_of(container.paths.directory)
        if _is_off(container, state):
            from runtime.running import reconcile

            try:
                reconcile(invocation.containers, container, invocation.author())
                state = state_of(invocation.containers.reload(container).paths.directory)
            except TreeringError as error:
                if not container.paths.directory.exists():
                    continue
                message(f"warning: {container.name}: {error}")
        found.append((container, state))
    return found


def _is_off(container: Container, state: State) -> bool:
    if isinstance(state, Running):
        return not state.supervised
    return isinstance(state, Exited) and container.record.settings.remove
