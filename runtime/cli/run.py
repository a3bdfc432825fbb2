"""run, create."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from runtime.cli.invocation import Invocation
from runtime.cli.options import revision_argument, verb
from runtime.cli.run_options import GroupedCommand, container_options

if TYPE_CHECKING:
    from runtime.containers import Container

_BEFORE_REV = {"allow_interspersed_args": False}
"""Options come before REV; all that follows it is the command."""


@verb("run", namespaces="mount", context_settings=_BEFORE_REV, cls=GroupedCommand)
@revision_argument()
@click.argument("command", nargs=-1, metavar="[--] [COMMAND [ARG]...]", type=click.UNPROCESSED)
@click.option("-d", "--detach", is_flag=True, help="Return as soon as it runs, and print its name.")
@container_options
def run(invocation: Invocation, revision: str, command: tuple[str, ...], detach: bool, **asked: Any) -> int:
    """Run a command in a new container.

    The container's root is the commit that REV names, with an overlay on top that takes what is written. Options come
    before REV; what follows it is the command. Without one, it is the commit's own (`treering show REV`). The exit code
    is the command's: 125 if treering failed, 126 if the command cannot be run, 127 if there is none such.

    When it ends, the container stays, with what it wrote: commit it, start it again, or remove it.

    What it reads in its first ten seconds is kept with the commit (the start profile), so that the next start after a
    reboot, or on a machine short of memory, takes less time.

    \b
    Example:
      treering run --name web main -- sh -c 'apt-get update && apt-get install -y nginx-light'
      treering run -it --rm nginx bash
      treering run -d --name db -e PASSWORD -u postgres -v ./data:/var/lib/postgresql --memory 1g db postgres
    """
    from runtime.cli.starting import start
    from runtime.removal import remove_ended
    from runtime.running import has_never_run
    from runtime.supervision.hastening import hasten

    hasten()
    container = _create(invocation, revision, command, asked)
    try:
        return start(invocation, container, detach=detach)
    except Exception:
        if has_never_run(container):  # there is nothing in it, and its name is wanted for the next try
            remove_ended(invocation.store, container.id, invocation.author())
        raise


@verb("create", context_settings=_BEFORE_REV, namespaces="enter", cls=GroupedCommand)
@revision_argument()
@click.argument("command", nargs=-1, metavar="[--] [COMMAND [ARG]...]", type=click.UNPROCESSED)
@container_options
def create(invocation: Invocation, revision: str, command: tuple[str, ...], **asked: Any) -> None:
    """Make a container without starting it.

    The options and the rest are those of `treering run`. Its name is printed; `treering start` starts it.

    \b
    Example:
      treering create --name web -p 8080:80 nginx
      treering start -d web
    """
    invocation.output.line(_create(invocation, revision, command, asked).name)


def _create(invocation: Invocation, revision: str, command: tuple[str, ...], asked: dict[str, Any]) -> Container:
    from runtime.cli.run_settings import check_here, make_sources, settings_of

    commit = invocation.commit(revision)
    settings = settings_of(asked, command, invocation.store.history.config(commit))
    check_here(settings)
    make_sources(asked)
    return invocation.containers.create(revision, commit, settings, invocation.author(), asked["name"])


VERBS: dict[str, click.Command] = {"run": run, "create": create}
