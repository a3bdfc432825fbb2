"""start, stop, kill."""

from __future__ import annotations

import signal

import click

from runtime.cli.invocation import Invocation
from runtime.cli.options import container_argument, verb
from runtime.cli.output import message

_SIGNALS = {one.name.removeprefix("SIG"): one.value for one in signal.Signals}


@verb("start", namespaces="mount")
@container_argument()
@click.option("-d", "--detach", is_flag=True, help="Return as soon as it runs. What it prints is dropped.")
def start(invocation: Invocation, name: str, detach: bool) -> int:
    """Start a stopped container again.

    It runs the same command with the same settings, on what it has written so far. The exit code is the command's.

    \b
    Example:
      treering start web
      treering start -d db
    """
    from runtime.running import start as start_container

    container = invocation.containers.find(name)
    code = start_container(invocation.containers, container, invocation.author(), detach=detach)
    if detach:
        invocation.output.line(container.name)
    return code


@verb("stop")
@container_argument("names", nargs=-1, required=True)
@click.option("-t", "--time", "patience", type=click.FloatRange(min=0), default=10, show_default=True,
              metavar="SECONDS", help="How long to wait before it is killed.")  # fmt: skip
def stop(invocation: Invocation, names: tuple[str, ...], patience: float) -> None:
    """Stop containers.

    The first process is sent the commit's StopSignal, SIGTERM if it has none, and SIGKILL if that does not help in
    time. What the container wrote stays.

    \b
    Example:
      treering stop web
      treering stop -t 1 web db
    """
    from runtime.running import stop as stop_container
    from runtime.state import is_running

    for container in [invocation.containers.find(name) for name in names]:
        if not is_running(container.paths.directory):
            message(f"{container.name} is not running")
            continue
        section = invocation.store.history.config(container.base).get("config") or {}
        stop_container(container, patience, _signal_number(str(section.get("StopSignal") or "TERM")))
        message(f"Stopped {container.name}; again: treering start {container.name}")


@verb("kill")
@container_argument("names", nargs=-1, required=True)
@click.option("-s", "--signal", "wanted", default="KILL", show_default=True, metavar="SIGNAL", help="A name or number.")
def kill(invocation: Invocation, names: tuple[str, ...], wanted: str) -> None:
    """Send a signal to containers.

    It goes to the first process. What the container wrote stays.

    \b
    Example:
      treering kill web
      treering kill -s HUP web
    """
    from runtime.running import kill as kill_container
    from runtime.running import wait

    number = _signal_number(wanted)
    for container in [invocation.containers.find(name) for name in names]:
        kill_container(container, number)
        if number == signal.SIGKILL:
            wait(container, patience=10)


def _signal_number(text: str) -> int:
    number = int(text) if text.isdecimal() else _SIGNALS.get(text.upper().removeprefix("SIG"), 0)
    if number not in signal.valid_signals():
        raise click.BadParameter(f"{text!r} is no signal", param_hint="--signal")
    return number


VERBS: dict[str, click.Command] = {"start": start, "stop": stop, "kill": kill}
