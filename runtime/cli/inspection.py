"""inspect, top."""

from __future__ import annotations

import re
import shlex
import time
from typing import TYPE_CHECKING, Any

import click

from runtime.cli.invocation import Invocation
from runtime.cli.options import container_argument, revision_argument, verb
from runtime.cli.output import as_json
from runtime.cli.quoting import safe
from runtime.cli.several import each, raise_all
from vcs.errors import NotFound, TreeringError

if TYPE_CHECKING:
    from runtime.containers import Container
    from runtime.processes import ProcessInfo


@verb("inspect", data=True)
@revision_argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("-f", "--field", metavar=".FIELD", help="Only this: .state.pid, .settings.args[0], .labels.tier")
def inspect(invocation: Invocation, names: tuple[str, ...], field: str | None) -> None:
    """Show all that is known of containers or commits.

    It is JSON: an array, or with --format jsonl a line for each. NAME is a container, or else a revision. With --field,
    it is a line for each: text as it is, anything else as JSON.

    \b
    Example:
      treering inspect web
      treering inspect -f .state.pid web
      treering inspect main
    """
    output = invocation.output
    found: list[dict[str, Any]] = []
    errors: list[TreeringError] = []
    for name in names:
        try:
            value = _inspected(invocation, name)
            if field is not None:
                output.line(_text(_field(value, field, name)))
            found.append(value)
        except TreeringError as error:
            errors.append(error)
    if field is None:
        output.rows(found, lambda value: value, lambda rows: output.raw(as_json(list(rows), indent=2)))
    raise_all(invocation, errors)


def _inspected(invocation: Invocation, name: str) -> dict[str, Any]:
    try:
        container = invocation.containers.find(name)
    except NotFound as no_container:
        try:
            return _commit(invocation, name)
        except NotFound:
            if "candidates" in no_container.facts:
                raise no_container from None
            raise NotFound(f"there is no container and no commit {name!r}", container=name) from None
    return _container(invocation, container)


def _container(invocation: Invocation, container: Container) -> dict[str, Any]:
    from msgspec import to_builtins

    from runtime.cli.render_containers import moment, port_fields, ports_of
    from runtime.log import files

    record, settings = container.record, container.record.settings
    directory = container.paths.directory
    return {
        "id": container.id,
        "name": container.name,
        "created": moment(record.created),
        "image": record.image,
        "base": container.base,
        "commit": invocation.states.head(container),
        "state": _state(container),
        "labels": settings.labels,
        "settings": to_builtins(settings),
        "config": invocation.store.history.config(container.base),
        "mounts": _mounts(container),
        "network": {
            "mode": settings.network,
            "address": _address(container),
            "ports": port_fields(ports_of(container)),
        },
        "generations": to_builtins(record.generations),
        "merging": to_builtins(record.merging),
        "paths": {
            "directory": str(directory),
            "bundle": str(directory / "bundle"),
            "upper": str(container.upper),
            "log": [str(path) for path in files(directory)],
        },
    }


def _state(container: Container) -> dict[str, Any]:
    from runtime.cli.render_containers import Look, moment
    from runtime.state import Exited, Restarting, load_run, state_of
    from runtime.supervision.healthchecks import health_of

    directory = container.paths.directory
    state, run = state_of(directory), load_run(directory)
    fields = Look()(container, state).fields()
    return {
        "status": fields.pop("state"),
        **fields,
        "oom_killed": isinstance(state, Exited) and state.oom,
        "started": moment(run.started) if run else None,
        "finished": moment(state.ended) if isinstance(state, Exited) else None,
        "restarts": run.restarts if run else 0,
        "restarting_at": moment(state.at) if isinstance(state, Restarting) else None,
        "health": health_of(directory),
        "engine": run.engine if run else None,
    }


def _mounts(container: Container) -> list[dict[str, Any]]:
    """What was asked for, but for what every container has."""
    return [
        {
            "type": mount.kind,
            "source": mount.source or None,
            "target": mount.target,
            "read_only": mount.read_only,
            "options": list(mount.options),
        }
        for mount in container.record.settings.mounts
    ]


def _address(container: Container) -> str | None:
    if container.record.settings.network in ("host", "none"):
        return None
    from runtime.network import address

    return address(container.paths.directory)


def _commit(invocation: Invocation, name: str) -> dict[str, Any]:
    from runtime.cli.render_commits import commit_fields, decorations

    store = invocation.store
    info = store.commit(invocation.commit(name))
    return {**commit_fields(info, decorations(store)), "config": store.history.config(info.id)}


_STEP = re.compile(r"\.?([^.\[\]]+)|\[(\d+)\]|\[\"([^\"]+)\"\]")


def _field(value: Any, path: str, name: str) -> Any:
    """What is at a path such as `.state.pid`, `.settings.args[0]`, `.labels["a.b"]`. NotFound if there is nothing."""
    position = 0
    while position < len(path):
        if path[position:] == ".":
            break
        step = _STEP.match(path, position)
        if step is None:
            raise click.BadParameter(f"{path!r} is no path; one is .settings.args[0]", param_hint="--field")
        position = step.end()
        key = int(step[2]) if step[2] else step[1] or step[3]
        try:
            value = value[key]
        except (KeyError, IndexError, TypeError):
            there = f"; there are {', '.join(value)}" if isinstance(value, dict) and value else ""
            raise NotFound(f"{name} has no field {path}{there}", field=path) from None
    return value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else as_json(value).decode().rstrip("\n")


@verb("top", data=True, namespaces="enter")
@container_argument("names", nargs=-1, required=True)
def top(invocation: Invocation, names: tuple[str, ...]) -> None:
    """Show the processes of containers.

    Users are named as the container names them; PID and PPID are the machine's. %CPU is of one processor, since the
    process began.

    \b
    Example:
      treering top web
      treering top --format json web
    """
    from runtime.processes import processes_of

    found: list[tuple[Container, ProcessInfo]] = []
    errors: list[TreeringError] = []

    def do(container: Container) -> None:
        found.extend((container, process) for process in processes_of(container))

    try:
        each(invocation, names, do)
    except TreeringError as error:
        errors.append(error)
    titles = ("USER", "PID", "PPID", "%CPU", "STIME", "TTY", "TIME", "CMD")
    several = len(names) > 1

    def table(rows: Any) -> None:
        lines = [(*((one.name,) if several else ()), *_cells(process)) for one, process in rows]
        heads = ("NAME", *titles) if several else titles
        invocation.output.columns(heads, lines, numbers=("PID", "PPID", "%CPU", "TIME"))

    invocation.output.rows(found, lambda row: {"container": row[0].name, **_fields(row[1])}, table)
    if errors:
        raise errors[0]


def _cells(process: ProcessInfo) -> tuple[str, ...]:
    began = time.localtime(process.started)
    today = time.time() - process.started < 86400
    minutes, seconds = divmod(int(process.cpu_seconds), 60)
    return (
        process.user,
        str(process.pid),
        str(process.parent),
        f"{process.cpu_percent:.1f}",
        time.strftime("%H:%M" if today else "%b%d", began),
        process.terminal or "?",
        f"{minutes // 60:02}:{minutes % 60:02}:{seconds:02}",
        safe(shlex.join(process.command)).replace("\n", "\\n"),
    )


def _fields(process: ProcessInfo) -> dict[str, Any]:
    from runtime.cli.render_containers import moment

    return {
        "user": process.user,
        "uid": process.uid,
        "pid": process.pid,
        "ppid": process.parent,
        "cpu_percent": round(process.cpu_percent, 2),
        "started": moment(process.started),
        "tty": process.terminal,
        "cpu_seconds": process.cpu_seconds,
        "command": list(process.command),
    }


VERBS: dict[str, click.Command] = {"inspect": inspect, "top": top}
