"""What run, start and restart do alike: start a container, wait if they are to, and say what became of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runtime.cli.output import message
from vcs.errors import TreeringError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runtime.cli.invocation import Invocation
    from runtime.containers import Container


def start(invocation: Invocation, container: Container, *, detach: bool, interactive: bool | None = None) -> int:
    """Start a container. Its exit code; 0 if it is detached or the user has left it, to go on by itself."""
    from runtime.removal import remove_ended
    from runtime.running import start as start_container
    from runtime.supervision.attach import Left
    from runtime.system.terminal import OutputLost

    author = invocation.author()
    try:
        code = start_container(invocation.containers, container, author, detach=detach, interactive=interactive)
    except Left:
        message(f"\n{container.name} goes on; back: treering attach {container.name}")
        return 0
    except OutputLost:
        if container.record.settings.remove:
            remove_ended(invocation.store, container.id, author)
        raise
    if detach:
        invocation.output.line(container.name)
    elif container.record.settings.remove:
        remove_ended(invocation.store, container.id, author)
    return code


def start_several(invocation: Invocation, names: Sequence[str]) -> None:
    """Start the named containers, detached, several at the same time. The last error is raised, others are printed."""
    from runtime.cli.several import raise_all
    from runtime.starting import start_many

    found = invocation.containers.lookup(names)
    wanted = list({one.id: one for one in found if not isinstance(one, TreeringError)}.values())
    told = {one.id: error for one, error in start_many(invocation.containers, wanted, invocation.author())}
    for container in wanted:
        if told[container.id] is None:
            invocation.output.line(container.name)
    failed = [error for container in wanted if (error := told[container.id])]
    raise_all(invocation, [*(one for one in found if isinstance(one, TreeringError)), *failed])
