"""run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from runtime.cli.invocation import Invocation
from runtime.cli.options import revision_argument, verb

if TYPE_CHECKING:
    from runtime.containers import Container


@verb("run", namespaces="mount", context_settings={"allow_interspersed_args": False})
@revision_argument()
@click.argument("command", nargs=-1, metavar="[--] [COMMAND [ARG]...]", type=click.UNPROCESSED)
@click.option("--name", metavar="NAME", help="The container's name; otherwise it is named after REV.")
@click.option("-i", "--interactive", is_flag=True, help="Pass standard input on.")
@click.option("-t", "--tty", is_flag=True, help="Give it a terminal.")
@click.option("-d", "--detach", is_flag=True, help="Return as soon as it runs. What it prints is dropped.")
@click.option("-e", "--env", "environment", multiple=True, metavar="NAME[=VALUE]",
              help="Set an environment variable, or pass on one of yours.")  # fmt: skip
@click.option("--env-file", "env_files", multiple=True, type=click.Path(path_type=Path), metavar="FILE",
              help="A file with a NAME=VALUE on each line.")  # fmt: skip
@click.option("-w", "--workdir", metavar="DIRECTORY", help="Where the command starts.")
@click.option("-u", "--user", metavar="USER[:GROUP]", help="Who runs the command; names are the container's own.")
@click.option("--hostname", metavar="NAME", help="Otherwise, the container's name.")
@click.option("--network", type=click.Choice(("host", "none")), default="host", show_default=True,
              help="The machine's network, or none.")  # fmt: skip
@click.option("--rm", "remove", is_flag=True, help="Remove the container, with what it wrote, when it ends.")
@click.option("--read-only", is_flag=True, help="Let it write nothing to its root.")
@click.option("--no-profile", is_flag=True, help="Neither use the commit's start profile nor add to it.")
@click.option("--runtime", "engine", metavar="crun|runc", help="Which OCI runtime; otherwise the best installed.")
def run(
    invocation: Invocation,
    revision: str,
    command: tuple[str, ...],
    name: str | None,
    interactive: bool,
    tty: bool,
    detach: bool,
    environment: tuple[str, ...],
    env_files: tuple[Path, ...],
    workdir: str | None,
    user: str | None,
    hostname: str | None,
    network: str,
    remove: bool,
    read_only: bool,
    no_profile: bool,
    engine: str | None,
) -> int:
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
      treering run -d --name db -e PASSWORD -u postgres db postgres
    """
    from runtime.running import start as start_container
    from runtime.settings import Settings

    if remove and detach:
        raise click.UsageError("--rm needs somebody who waits for the end: it does not go with --detach")
    settings = Settings(
        args=command[1:] if command[:1] == ("--",) else command,
        env=_environment(environment, env_files),
        cwd=workdir,
        user=user,
        hostname=hostname,
        network=network,
        tty=tty,
        interactive=interactive,
        read_only=read_only,
        engine=engine,
        profile=not no_profile,
    )
    commit = invocation.commit(revision)
    container = invocation.containers.create(revision, commit, settings, invocation.author(), name)
    try:
        code = start_container(invocation.containers, container, invocation.author(), detach=detach)
    except Exception:
        # It never ran, so there is nothing in it, and its name is wanted for the next try.
        _remove_unless_running(invocation, container)
        raise
    if remove:
        _remove_unless_running(invocation, container)
    if detach:
        invocation.output.line(container.name)
    return code


def _environment(options: tuple[str, ...], files: tuple[Path, ...]) -> tuple[str, ...]:
    """NAME=value of every variable, later ones over earlier ones; a name alone takes our own value, if it has one."""
    lines = [line for file in files for line in _file_lines(file)]
    found: dict[str, str] = {}
    for text in (*lines, *options):
        name, equals, value = text.partition("=")
        if not name or "\0" in text:
            raise click.BadParameter(f"{text!r} has no name", param_hint="--env")
        if equals:
            found[name] = value
        elif name in os.environ:
            found[name] = os.environ[name]
    return tuple(f"{name}={value}" for name, value in found.items())


def _file_lines(file: Path) -> list[str]:
    """The lines of an --env-file that are not empty or comments; nothing is unquoted, as with Docker."""
    lines = os.fsdecode(file.read_bytes()).splitlines()
    return [line.lstrip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def _remove_unless_running(invocation: Invocation, container: Container) -> None:
    from runtime.state import is_running

    with invocation.containers.changing(container) as now:
        if not is_running(now.paths.directory):
            invocation.states.save(now, invocation.author(), discard=True)
            invocation.containers.remove(now)


VERBS: dict[str, click.Command] = {"run": run}
