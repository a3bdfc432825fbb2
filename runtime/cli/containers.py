"""ps, rename, rm."""

from __future__ import annotations

import shlex
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from runtime.cli import render_usage
from runtime.cli.invocation import Invocation
from runtime.cli.options import container_argument, dry_run_option, verb
from runtime.cli.output import message
from runtime.cli.progress import duration_text
from runtime.cli.quoting import safe
from runtime.cli.render_commits import SHORT
from runtime.state import Created, Exited, Restarting, Running, Starting, State, is_running
from vcs.errors import TreeringError

if TYPE_CHECKING:
    from runtime.containers import Container
    from runtime.metering import Lifetime

_COMMAND_WIDTH = 40


@verb("ps", data=True)
@click.option("-a", "--all", "every", is_flag=True, help="Those that do not run too.")
@click.option("-q", "--quiet", is_flag=True, help="Names only.")
@click.option("--usage", is_flag=True, help="What each has used, in all its starts.")
def ps(invocation: Invocation, every: bool, quiet: bool, usage: bool) -> None:
    """List containers.

    IMAGE is what a container was made from, COMMIT the last commit of its state. With --usage: the processor time that
    it has used since it was made, the most memory it had at once, what it read from disks and wrote to them, and how
    long it ran.

    \b
    Example:
      treering ps
      treering ps -a --format json
      treering ps -a --usage
      treering rm $(treering ps -aq)
    """
    output = invocation.output
    from runtime.cli.reconciling import reconcile_all

    rows = reconcile_all(invocation)
    if not every:
        rows = [(container, state) for container, state in rows if isinstance(state, (Running, Starting, Restarting))]

    totals: dict[str, Lifetime] = {}
    if usage:
        invocation.enter_namespaces()
        totals = render_usage.measure(rows)

    def fields(row: tuple[Container, State]) -> dict[str, Any]:
        container, state = row
        created = datetime.fromtimestamp(container.record.created, UTC)
        return {
            "name": container.name,
            "id": container.id,
            "image": container.record.image,
            "commit": invocation.states.head(container),
            "command": list(container.record.settings.args),
            "created": created.isoformat(timespec="milliseconds"),
            **_state_fields(state),
            **({"usage": render_usage.fields(totals[container.id])} if usage else {}),
        }

    def table(rows: Any) -> None:
        if usage:
            cells = [(one.name, _state_text(state), *render_usage.cells(totals[one.id])) for one, state in rows]
            output.columns(("NAME", "STATE", *render_usage.TITLES), cells, numbers=render_usage.TITLES)
            return
        titles = ("NAME", "IMAGE", "COMMIT", "STATE", "CREATED", "COMMAND")
        output.columns(titles, [_cells(invocation, container, state) for container, state in rows])

    if quiet and output.is_table:
        for container, _ in rows:
            output.line(container.name)
    else:
        output.rows(rows, fields, table)
    for error in invocation.containers.damaged:
        message(f"warning: left out a container: {error}")


def _cells(invocation: Invocation, container: Container, state: State) -> tuple[str, ...]:
    command = safe(shlex.join(container.record.settings.args)).replace("\n", "\\n")
    return (
        container.name,
        container.record.image,
        invocation.states.head(container)[:SHORT],
        _state_text(state),
        f"{duration_text(max(0.0, time.time() - container.record.created))} ago",
        command if len(command) <= _COMMAND_WIDTH else command[: _COMMAND_WIDTH - 3] + "...",
    )


def _state_text(state: State) -> str:
    match state:
        case Created():
            return "created"
        case Starting():
            return "starting"
        case Running():
            return "running"
        case Restarting(code):
            return f"restarting ({code})"
        case Exited(None):
            return "exited (unknown)"
        case Exited(code):
            return f"exited ({code})"


def _state_fields(state: State) -> dict[str, Any]:
    return {
        "state": type(state).__name__.lower(),
        "pid": state.pid if isinstance(state, Running) else None,
        "exit_code": state.code if isinstance(state, Exited) else None,
        "error": state.error if isinstance(state, Exited) else None,
    }


@verb("rename")
@container_argument()
@click.argument("new_name", metavar="NEW_NAME")
def rename(invocation: Invocation, name: str, new_name: str) -> None:
    """Give a container another name.

    It may be running.

    \b
    Example:
      treering rename web old-web
    """
    container = invocation.containers.find(name)
    invocation.containers.rename(container, new_name)
    message(f"{container.name} is called {new_name} now")


@verb("rm", data=True, namespaces="enter")
@container_argument("names", nargs=-1, required=True)
@click.option("-f", "--force", is_flag=True, help="Kill a container that runs.")
@click.option("--discard", is_flag=True, help="Drop what was changed since the last commit.")
@dry_run_option
def rm(invocation: Invocation, names: tuple[str, ...], force: bool, discard: bool, dry_run: bool) -> None:
    """Remove containers.

    What a container has changed becomes a commit first, and what is on no branch is kept; you are told its name. With
    --discard, changes since the last commit are gone for good.

    \b
    Example:
      treering rm web
      treering rm -f --discard web
    """
    containers = [invocation.containers.find(name) for name in names]
    removed: list[dict[str, Any]] = []
    errors: list[TreeringError] = []
    for container in containers:
        try:
            if dry_run:
                _tell_plan(invocation, container, discard)
            else:
                removed.append(_remove(invocation, container, force, discard))
        except TreeringError as error:
            errors.append(error)
    if not invocation.output.is_table:
        invocation.output.rows(removed, lambda row: row, lambda _: None)
    if errors:
        raise errors[0]


def _remove(invocation: Invocation, container: Container, force: bool, discard: bool) -> dict[str, Any]:
    if force and is_running(container.paths.directory):
        from runtime.running import stop

        stop(container, patience=0)
    from runtime.removal import remove

    kept = remove(invocation.containers, container, invocation.author(), discard=discard)
    now = container
    if invocation.output.is_table:
        message(f"Removed {now.name}")
        for commit in kept:
            message(f"Its state is kept as {commit[:SHORT]}; back: treering run --name {now.name} {commit[:SHORT]}")
    return {"name": now.name, "id": now.id, "kept": list(kept)}


def _tell_plan(invocation: Invocation, container: Container, discard: bool) -> None:
    changes = invocation.states.changes(container)
    fate = "dropped" if discard else "kept as a commit"
    message(f"{container.name} would be removed" + (f"; {len(changes):,} changes would be {fate}" if changes else ""))


VERBS: dict[str, click.Command] = {"ps": ps, "rename": rename, "rm": rm}
