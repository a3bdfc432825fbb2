"""Containers and what they do, made true again where something was killed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runtime.capturing.standstill import is_noted
from runtime.cli.output import message
from runtime.state import Exited, Running, State, boot_id, load_run, state_of
from vcs.errors import TreeringError
from vcs.existing import is_there

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
            from runtime.reconciling import reconcile

            try:
                reconcile(invocation.containers, container, invocation.author())
                state = state_of(invocation.containers.reload(container).paths.directory)
            except TreeringError as error:
                if not is_there(container.paths.directory):
                    continue
                message(f"warning: {container.name}: {error}")
        found.append((container, state))
    if is_there(invocation.store.path / "run" / "network"):
        from runtime.network import sweep

        sweep(invocation.store.path)
    return found


def wanted_by_policy(invocation: Invocation) -> list[Container]:
    """The containers that are to be started, as their restart policy says, after the machine went down, or all that
    looked after them was killed."""
    from runtime.supervision.restarts import wanted

    found = []
    for container, state in reconcile_all(invocation):
        directory = container.paths.directory
        run = load_run(directory)
        if isinstance(state, Exited) and run and (state.code is None or state.is_due or run.boot != boot_id()):
            policy = container.record.settings.restart
            if wanted(policy, directory, state.code, 0, booted=run.boot != boot_id()):
                found.append(container)
    return found


def _is_off(container: Container, state: State) -> bool:
    if isinstance(state, Running):
        return not state.supervised or is_noted(container.paths.directory)
    return isinstance(state, Exited) and container.record.settings.remove
