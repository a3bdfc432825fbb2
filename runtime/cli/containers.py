"""ps, rename, rm."""

from __future__ import annotations

import shlex
import time
from typing import TYPE_CHECKING, Any

import click

from runtime.cli import render_usage
from runtime.cli.invocation import Invocation
from runtime.cli.options import container_argument, dry_run_option, verb
from runtime.cli.output import message
from runtime.cli.progress import duration_text
from runtime.cli.quoting import safe
from runtime.cli.render_commits import SHORT
from runtime.cli.render_containers import Look, Seen, moment, port_fields, ports_of, ports_text
from runtime.state import Restarting, Running, Starting, is_running
from vcs.errors import TreeringError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from runtime.containers import Container
    from runtime.metering import Lifetime
    from vcs.model import CommitId


_COMMAND_WIDTH = 40


@verb("ps", data=True, past=True)
@click.option("-a", "--all", "every", is_flag=True, help="Those that do not run too.")
@click.option("-q", "--quiet", is_flag=True, help="Names only.")
@click.option("-f", "--filter", "filters", multiple=True, metavar="KEY=VALUE",
              help="Those alone whose name, status, health, label, image, id or exited (code) is so.")  # fmt: skip
@click.option("-n", "--last", type=click.IntRange(min=0), metavar="COUNT",
              help="The newest ones, whether they run or not.")  # fmt: skip
@click.option("-l", "--latest", is_flag=True, help="The newest one, whether it runs or not.")
@click.option("--no-trunc", "whole", is_flag=True, help="Cut nothing short.")
@click.option("--usage", is_flag=True, help="What each has used, in all its starts.")
def ps(
    invocation: Invocation,
    every: bool,
    quiet: bool,
    filters: tuple[str, ...],
    last: int | None,
    latest: bool,
    whole: bool,
    usage: bool,
) -> None:
    """List containers.

    IMAGE is what a container was made from, COMMIT the last commit of its state. With --usage: the processor time that
    it has used since it was made, the most memory it had at once, what it read from disks and wrote to them, and how
    long it ran.

    Filters: name=PART, status=running (or created, starting, paused, restarting, exited), health=healthy (or unhealthy,
    starting, none), label=KEY or label=KEY=VALUE, image=REV, id=START, exited=CODE. Those of different kinds, and those
    of labels, must all hold.

    The containers of a build that goes on are left out, but for --filter label=treering.build.

    With --at-op, all containers that the operation log knows of are listed, as they were then; which of them ran, it
    does not know.

    \b
    Example:
      treering ps
      treering ps -a --format json
      treering ps --filter label=tier=web --filter status=exited
      treering ps -a --usage
      treering rm $(treering ps -aq)
    """
    from runtime.cli.filtering import ANY_STATE, parse_filters, passes
    from runtime.cli.reconciling import reconcile_all

    output = invocation.output
    from runtime.building.builders import LABEL, is_building

    if invocation.at_op is not None:
        if filters or usage:
            raise click.UsageError("--filter and --usage tell of what there is now: they do not go with --at-op")
        _write_past(invocation, 1 if latest else last, quiet, whole)
        return
    wanted = parse_filters(filters)
    look = Look()
    every_row = (look(container, state) for container, state in reconcile_all(invocation))
    with_builds = any(value.startswith(LABEL) for value in wanted.get("label", ()))
    rows = [row for row in every_row if passes(wanted, row) and (with_builds or not is_building(row.container))]
    count = 1 if latest else last
    if count is not None:
        rows = rows[max(0, len(rows) - count) :]
    elif not every and not ANY_STATE & wanted.keys():
        rows = [row for row in rows if isinstance(row.state, (Running, Starting, Restarting))]

    totals: dict[str, Lifetime] = {}
    if usage:
        invocation.enter_namespaces()
        totals = render_usage.measure([(row.container, row.state) for row in rows])

    def fields(row: Seen) -> dict[str, Any]:
        used = {"usage": render_usage.fields(totals[row.container.id])} if usage else {}
        return {**_fields(invocation, row), **used}

    def table(rows: Any) -> None:
        if usage:
            cells = [(row.container.name, row.text, *render_usage.cells(totals[row.container.id])) for row in rows]
            output.columns(("NAME", "STATE", *render_usage.TITLES), cells, numbers=render_usage.TITLES)
        else:
            _write_table(invocation, list(rows), whole)

    if quiet and output.is_table:
        for row in rows:
            output.line(row.container.name)
    else:
        output.rows(rows, fields, table)
    for error in invocation.containers.damaged:
        message(f"warning: left out a container: {error}")


def _write_past(invocation: Invocation, count: int | None, quiet: bool, whole: bool) -> None:
    """Containers without a state."""
    found = invocation.containers.all()
    rows = found if count is None else found[max(0, len(found) - count) :]

    def table(rows: Any) -> None:
        cells = [
            (one.name, one.record.image, invocation.states.head(one)[:SHORT], _command(one, whole)) for one in rows
        ]
        invocation.output.columns(("NAME", "IMAGE", "COMMIT", "COMMAND"), cells)

    if quiet and invocation.output.is_table:
        for container in rows:
            invocation.output.line(container.name)
    else:
        invocation.output.rows(rows, lambda one: _record_fields(invocation, one), table)


def _record_fields(invocation: Invocation, container: Container) -> dict[str, Any]:
    return {
        "name": container.name,
        "id": container.id,
        "image": container.record.image,
        "commit": invocation.states.head(container),
        "command": list(container.record.settings.args),
        "created": moment(container.record.created),
    }


def _command(container: Container, whole: bool) -> str:
    command = safe(shlex.join(container.record.settings.args)).replace("\n", "\\n")
    return command if whole or len(command) <= _COMMAND_WIDTH else command[: _COMMAND_WIDTH - 3] + "..."


def _fields(invocation: Invocation, row: Seen) -> dict[str, Any]:
    container = row.container
    return {
        **_record_fields(invocation, container),
        **row.fields(),
        "health": row.health,
        "merging": container.record.merging.branch if container.record.merging else None,
        "labels": container.record.settings.labels,
        "ports": port_fields(ports_of(container)),
    }


def _write_table(invocation: Invocation, rows: list[Seen], whole: bool) -> None:
    """A column for ports only where there are any."""
    ports = [ports_text(ports_of(row.container)) for row in rows]
    lines = []
    for row, published in zip(rows, ports, strict=True):
        container = row.container
        command = _command(container, whole)
        commit = invocation.states.head(container)
        lines.append((
            *((container.id,) if whole else ()),
            container.name,
            container.record.image,
            commit if whole else commit[:SHORT],
            row.text,
            f"{duration_text(max(0.0, time.time() - container.record.created))} ago",
            *((published,) if any(ports) else ()),
            command,
        ))  # fmt: skip
    titles = ("NAME", "IMAGE", "COMMIT", "STATE", "CREATED", *(("PORTS",) if any(ports) else ()), "COMMAND")
    invocation.output.columns((*(("ID",) if whole else ()), *titles), lines)


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
    from runtime.network import rename as rename_in_network

    container = invocation.containers.find(name)
    invocation.containers.rename(container, new_name)
    rename_in_network(container.paths.directory, new_name)
    message(f"{container.name} is called {new_name} now")


@verb("rm", data=True, namespaces="enter")
@container_argument("names", nargs=-1)
@click.option("-a", "--all", "every", is_flag=True, help="All containers; with --force, those that run too.")
@click.option("-f", "--force", is_flag=True, help="Kill a container that runs.")
@click.option("--discard", is_flag=True, help="Drop what was changed since the last commit.")
@dry_run_option
def rm(invocation: Invocation, names: tuple[str, ...], every: bool, force: bool, discard: bool, dry_run: bool) -> None:
    """Remove containers.

    What a container has changed becomes a commit first, and what is on no branch is kept; you are told its name. With
    --discard, changes since the last commit are gone for good. --all leaves those alone that run, unless --force ends
    them.

    \b
    Example:
      treering rm web
      treering rm -f --discard web
      treering rm --all
    """
    if every == bool(names):
        raise click.UsageError("give either NAMEs or --all")
    from runtime.cli.several import raise_all
    from runtime.removal import remove_many

    found = _all(invocation) if every else invocation.containers.lookup(names)
    errors: list[TreeringError] = [one for one in found if isinstance(one, TreeringError)]
    containers = list({one.id: one for one in found if not isinstance(one, TreeringError)}.values())
    if every and not force:
        containers = [container for container in containers if not is_running(container.paths.directory)]
    if dry_run:
        for container in containers:
            _tell_plan(invocation, container, discard)
        return raise_all(invocation, errors)
    removed: list[dict[str, Any]] = []
    for done in remove_many(invocation.containers, containers, invocation.author(), force=force, discard=discard):
        if done.error is not None:
            errors.append(done.error)
            continue
        removed.append({"name": done.container.name, "id": done.container.id, "kept": list(done.kept)})
        if invocation.output.is_table:
            _tell_removed(done.container.name, done.kept)
    if not invocation.output.is_table:
        invocation.output.rows(removed, lambda row: row, lambda _: None)
    return raise_all(invocation, errors)


def _all(invocation: Invocation) -> list[Container]:
    from runtime.building.builders import is_building

    return [container for container in invocation.containers.all() if not is_building(container)]


def _tell_removed(name: str, kept: Iterable[CommitId]) -> None:
    message(f"Removed {name}")
    for commit in kept:
        message(f"Its state is kept as {commit[:SHORT]}; back: treering run --name {name} {commit[:SHORT]}")


def _tell_plan(invocation: Invocation, container: Container, discard: bool) -> None:
    changes = invocation.states.changes(container)
    fate = "dropped" if discard else "kept as a commit"
    message(f"{container.name} would be removed" + (f"; {len(changes):,} changes would be {fate}" if changes else ""))


VERBS: dict[str, click.Command] = {"ps": ps, "rename": rename, "rm": rm}
