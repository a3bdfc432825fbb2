"""What run, start and restart do alike: start a container, wait if they are to, and say what became of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runtime.cli.output import message

if TYPE_CHECKING:
    from runtime.cli.invocation import Invocation
    from runtime.containers import Container


def start(invocation: Invocation, container: Container, *, detach: bool, interactive: bool | None = None) -> int:
    """Start a container. Its exit code; 0 if it is detached or the user has left it, to go on by itself."""
    from runtime.attach import Left
    from runtime.removal import remove_ended
    from runtime.running import start as start_container

    author = invocation.author()
    try:
        code = start_container(invocation.containers, container, author, detach=detach, interactive=interactive)
    except Left:
        message(f"\n{container.name} goes on; back: treering attach {container.name}")
        return 0
    if detach:
        invocation.output.line(container.name)
    elif container.record.settings.remove:
        remove_ended(invocation.store, container.id, author)
    return code
