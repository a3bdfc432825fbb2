"""exec."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from runtime.cli.invocation import Invocation
from runtime.cli.options import container_argument, verb
from runtime.cli.variables import environment_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from runtime.containers import Container


@verb("exec", namespaces="enter", context_settings={"allow_interspersed_args": False})
@container_argument()
@click.argument("command", nargs=-1, required=True, metavar="COMMAND [ARG]...", type=click.UNPROCESSED)
@click.option("-i", "--interactive", is_flag=True, help="Pass standard input on.")
@click.option("-t", "--tty", is_flag=True, help="Give it a terminal.")
@click.option("-d", "--detach", is_flag=True, help="Return as soon as it runs. What it prints is dropped.")
@click.option("-e", "--env", "environment", multiple=True, metavar="NAME[=VALUE]",
              help="Set an environment variable, or pass on one of yours.")  # fmt: skip
@click.option("--env-file", "env_files", multiple=True, type=click.Path(path_type=Path), metavar="FILE",
              help="A file with a NAME=VALUE on each line.")  # fmt: skip
@click.option("-w", "--workdir", metavar="DIRECTORY", help="Where the command starts.")
@click.option("-u", "--user", metavar="USER[:GROUP]", help="Who runs the command; names are the container's own.")
@click.option("--privileged", is_flag=True, help="Give it all capabilities.")
def exec_(
    invocation: Invocation,
    name: str,
    command: tuple[str, ...],
    interactive: bool,
    tty: bool,
    detach: bool,
    environment: tuple[str, ...],
    env_files: tuple[Path, ...],
    workdir: str | None,
    user: str | None,
    privileged: bool,
) -> int:
    """Run a further command in a running container.

    It has the container's environment, user, working directory, capabilities and system call filter, as far as no
    option says otherwise. Options come before NAME; what follows it is the command. The exit code is the command's: 125
    if treering failed, 126 if the command cannot be run, 127 if there is none such.

    Of what it leaves running in the background, only what is printed within a second is shown.

    \b
    Example:
      treering exec web nginx -t
      treering exec -it -u postgres db psql
      treering exec -i web sh -c 'cat > /etc/motd' < motd
    """
    from runtime.execution import Execution, execute, execute_detached
    from runtime.supervision.hastening import hasten

    hasten()
    container = invocation.containers.find(name)
    wanted = Execution(
        args=command[1:] if command[:1] == ("--",) else command,
        env=environment_of(environment, env_files),
        cwd=workdir,
        user=user,
        tty=tty,
        interactive=interactive,
        privileged=privileged,
    )
    if not wanted.args:
        raise click.UsageError("there is no command")
    ended = _committer(invocation, container, wanted.args, detach)
    if detach:
        execute_detached(container, wanted, ended)
        return 0
    code = execute(container, wanted)
    if ended is not None:
        ended(code)
    return code


def _committer(
    invocation: Invocation, container: Container, command: tuple[str, ...], detach: bool
) -> Callable[[int], None] | None:
    """What commits the container's state once the command has ended, where that is wanted (--autocommit exec)."""
    if container.record.settings.autocommit != "exec":
        return None
    began, path, author = time.monotonic(), invocation.store_path, invocation.author()

    def ended(code: int) -> None:
        from runtime.autocommit import Task, after_exec, do_afresh
        from runtime.cli.storehooks import tell_hooks

        seconds = time.monotonic() - began
        if detach:  # this is another process than the one that began
            who = author.name, author.email, author.time, author.offset
            do_afresh(Task("exec", str(path), container.id, who, command, code, seconds))
        now = invocation.containers.reload(container)
        tell_hooks(after_exec(invocation.containers, now, command, code, seconds, author).hooks)

    return ended


VERBS: dict[str, click.Command] = {"exec": exec_}
