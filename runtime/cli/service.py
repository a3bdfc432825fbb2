"""service status, restart, stop, log."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from runtime.cli import forkserver
from runtime.cli.invocation import Invocation
from runtime.cli.options import verb
from runtime.cli.output import Output, count_text, message
from runtime.cli.progress import duration_text

_NOT_RUNNING: dict[str, Any] = {
    "holder": None,
    "workers": [],
    "replaced": 0,
    "messages": 0,
    "nodes": 0,
    "given": 0,
    "profiled": 0,
    "plain": 0,
    "leases": 0,
    "idle": None,
    "mountpoint": None,
    "device": None,
}
_PIECE = 1 << 16
_FOLLOW_SECONDS = 0.2


@click.group("service", invoke_without_command=True)
@click.pass_context
def service(context: click.Context) -> None:
    """See, restart or stop the processes that serve the store's files.

    One mount serves all containers of a store. A small process holds it, and a worker answers the kernel; if the worker
    dies, the holder starts another, and who reads notices a pause. All of it starts when it is needed and ends when it
    is not; nobody has to do either. Alone, `treering service` is `treering service status`.

    \b
    Example:
      treering service
      treering service restart
      treering service log -f
    """
    if context.invoked_subcommand is None:
        context.invoke(status)


@verb("status", data=True)
def status(invocation: Invocation) -> None:
    """Show the processes, and what they have done.

    With --format json, `holder` is null if none runs. Your fork servers, which begin commands for you, are told of too;
    they are for all stores.

    \b
    Example:
      treering service status --format json
    """
    from fusefs.client import Service

    output = invocation.output
    found = Service.status(_store(invocation))
    servers = list(forkserver.running())
    if not output.is_table:
        output.value({**(found or _NOT_RUNNING), "fork_servers": servers})
        return
    _print(output, found)
    if servers:
        output.line(f"commands are begun by {'processes' if servers[1:] else 'process'} {', '.join(map(str, servers))}")


def _print(output: Output, found: dict[str, Any] | None) -> None:
    if found is None:
        output.line("not running")
        return
    workers = ", ".join(map(str, found["workers"])) or "none at this moment"
    replaced = f"{found['replaced']:,} replaced so far"
    output.line(f"process {found['holder']} holds {found['mountpoint']}; workers: {workers}; {replaced}")
    plain = count_text(found.get("plain", 0), "program")  # a holder from before an upgrade does not say
    output.line(
        f"{count_text(found['leases'], 'user')}, {count_text(found['nodes'], 'file')} known to the workers, {plain} as "
        f"plain files, {count_text(found['messages'], 'request')}, idle for {duration_text(found['idle'])}"
    )


@verb("restart", data=True)
def restart(invocation: Invocation) -> None:
    """Replace the workers by new ones, after an upgrade for example.

    Each answers what it has in hand first, and a new one is there before it goes: nobody who reads notices. The holder
    stays; it changes with the next start of the service.

    \b
    Example:
      treering service restart
    """
    from fusefs.client import Service

    workers = Service.restart(_store(invocation))
    if not invocation.output.is_table:
        invocation.output.value({"workers": workers})
        return
    message(f"New workers: {', '.join(map(str, workers))}" if workers else "No service runs")


@verb("stop", data=True)
@click.option("-f", "--force", is_flag=True, help="Even if it is in use. Whoever is inside is served on.")
def stop(invocation: Invocation, force: bool) -> None:
    """End the service, unless it is in use.

    Your fork servers end too, and what they have begun goes on. With --format json, `gone` tells whether all the
    service's processes have ended, or go on for those who are inside.

    \b
    Example:
      treering service stop
    """
    from fusefs.client import Service
    from runtime.namespace.door import leave_soon

    store = _store(invocation)
    forkserver.stop()
    is_gone = Service.stop(store, force)
    leave_soon(store)
    if not invocation.output.is_table:
        invocation.output.value({"gone": is_gone})
    elif not is_gone:
        message("The service has left its place; it serves those who are inside until they are gone")


@verb("log")
@click.option("-f", "--follow", is_flag=True, help="Go on as lines are added, until Ctrl-C.")
def log(invocation: Invocation, follow: bool) -> None:
    """Print what the service has logged.

    A service that a command starts with TREERING_TRACE=fuse in its environment logs a line for each message.

    \b
    Example:
      treering service log | grep ERROR
    """
    from fusefs.rundir import RunDirectory

    output = invocation.output
    for data in _read(RunDirectory(_store(invocation)).log, follow):
        output.raw(data)
        output.flush()


def _read(path: Path, follow: bool) -> Iterator[bytes]:
    """A log's bytes; with `follow` for ever, from one file to the next that has its name."""
    while True:
        try:
            file = path.open("rb")
        except FileNotFoundError:
            if not follow:
                return
            time.sleep(_FOLLOW_SECONDS)
            continue
        with file:
            inode = os.fstat(file.fileno()).st_ino
            while True:
                while data := file.read(_PIECE):
                    yield data
                if not follow:
                    return
                time.sleep(_FOLLOW_SECONDS)
                if _inode(path) not in (inode, None):
                    break


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


def _store(invocation: Invocation) -> Path:
    """The store's path, once it is known that there is a store."""
    invocation.store.close()
    return invocation.store_path


for _command in (status, restart, stop, log):
    service.add_command(_command)
service.params += status.params

VERBS: dict[str, click.Command] = {"service": service}
