"""start, stop, kill, restart, pause, unpause, wait."""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from runtime import imageconfig
from runtime.cli.invocation import Invocation
from runtime.cli.options import container_argument, verb
from runtime.cli.output import message
from runtime.cli.several import each, each_at_once
from vcs.errors import BadInput, EngineError

if TYPE_CHECKING:
    from runtime.containers import Container


def _signal(_: click.Context, __: click.Parameter, value: str | None) -> int | None:
    return None if value is None else signal_number(value)


_signal_option = click.option(
    "-s", "--signal", "wanted", metavar="SIGNAL", callback=_signal, help="Instead of the container's own."
)
_time_option = click.option(
    "-t",
    "--time",
    "patience",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="How long to wait before it is killed; otherwise the container's own time, or 10.",
)


@verb("start", namespaces="mount")
@container_argument("names", nargs=-1)
@click.option("-a", "--attach", is_flag=True, help="Show what it prints, and wait for its end; so it is without -d.")
@click.option("-i", "--interactive", is_flag=True, help="Pass standard input on.")
@click.option("-d", "--detach", is_flag=True, help="Return as soon as it runs.")
@click.option("--policy", is_flag=True, help="Those that their restart policy wants, after the machine went down.")
def start(
    invocation: Invocation, names: tuple[str, ...], attach: bool, interactive: bool, detach: bool, policy: bool
) -> int:
    """Start stopped containers again.

    Each runs the same command with the same settings, on what it has written so far. The exit code is the command's.
    Several can be started with --detach only.

    With --policy, those are started that ended with the machine, with nobody who saw it, or with nobody left to start
    them again, and that --restart says are to run: to be called when the machine has come up.

    \b
    Example:
      treering start web
      treering start -d db cache
      treering start --policy
    """
    from runtime.cli.starting import start as start_one
    from runtime.supervision.hastening import hasten

    if policy:
        from runtime.cli.reconciling import wanted_by_policy

        if names or attach or interactive:
            raise click.UsageError("--policy chooses the containers itself, and waits for none")
        names, detach = tuple(container.id for container in wanted_by_policy(invocation)), True
    elif not names:
        raise click.UsageError("give a NAME, or --policy")

    if detach and (attach or interactive):
        raise click.UsageError("--detach does not go with --attach or --interactive")
    if len(names) > 1 and not detach:
        raise click.UsageError("only one container can be attached to: give --detach to start several")
    if len(names) > 1:
        from runtime.cli.starting import start_several

        start_several(invocation, names)
        return 0
    hasten()
    code = 0

    def do(container: Container) -> None:
        nonlocal code
        code = start_one(invocation, container, detach=detach, interactive=True if interactive else None)

    each(invocation, names, do)
    return code


@verb("stop")
@container_argument("names", nargs=-1, required=True)
@_signal_option
@_time_option
def stop(invocation: Invocation, names: tuple[str, ...], wanted: int | None, patience: float | None) -> None:
    """Stop containers.

    The first process is sent the container's or its commit's stop signal, SIGTERM if there is none, and SIGKILL if that
    does not help in time. What the container wrote stays.

    \b
    Example:
      treering stop web
      treering stop -t 1 web db
    """
    from runtime.state import is_running

    idle: set[str] = set()

    def prepare(container: Container) -> Callable[[], Any]:
        if not is_running(container.paths.directory):
            idle.add(container.id)
            return lambda: None
        return _stopping(invocation, container, wanted, patience)

    def done(container: Container) -> None:
        if container.id in idle:
            message(f"{container.name} is not running")
        else:
            message(f"Stopped {container.name}; again: treering start {container.name}")

    each_at_once(invocation, names, prepare, done)


@verb("restart", namespaces="mount")
@container_argument("names", nargs=-1, required=True)
@_signal_option
@_time_option
def restart(invocation: Invocation, names: tuple[str, ...], wanted: int | None, patience: float | None) -> None:
    """Stop containers and start them again.

    They are stopped as by `stop`; those that do not run are just started. Returns as soon as they run.

    \b
    Example:
      treering restart web
      treering restart -t 1 web db
    """
    from runtime.cli.starting import start as start_one
    from runtime.reaching import at_rest
    from runtime.state import is_running

    def prepare(container: Container) -> Callable[[], Any]:
        if not is_running(container.paths.directory):
            return lambda: None
        return _stopping(invocation, container, wanted, patience)

    def done(container: Container) -> None:
        with at_rest(container):
            pass
        start_one(invocation, container, detach=True)

    each_at_once(invocation, names, prepare, done)


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

    number = signal_number(wanted)

    def kill_it(container: Container) -> None:
        kill_container(container, number)
        if number == signal.SIGKILL and not wait(container, patience=10):
            raise EngineError(f"container {container.name!r} does not end", container=container.name)

    each_at_once(invocation, names, lambda container: partial(kill_it, container), lambda _: None)


@verb("pause")
@container_argument("names", nargs=-1, required=True)
def pause(invocation: Invocation, names: tuple[str, ...]) -> None:
    """Stop all processes of containers where they are.

    They notice nothing of it, but that time has passed when `unpause` lets them go on.

    \b
    Example:
      treering pause web
    """
    from runtime.pausing import pause as pause_container

    each(invocation, names, pause_container)


@verb("unpause")
@container_argument("names", nargs=-1, required=True)
def unpause(invocation: Invocation, names: tuple[str, ...]) -> None:
    """Let paused containers go on.

    \b
    Example:
      treering unpause web
    """
    from runtime.pausing import unpause as unpause_container

    each(invocation, names, unpause_container)


@verb("wait", data=True)
@container_argument("names", nargs=-1, required=True)
def wait(invocation: Invocation, names: tuple[str, ...]) -> None:
    """Wait until containers end, and print their exit codes.

    For one that does not run, the code that it ended with; 0 for one that was never started, and `unknown` if nobody
    saw its end.

    \b
    Example:
      treering wait web
    """
    from runtime.waiting import wait_for_exit

    output = invocation.output
    codes: list[tuple[Container, int | None]] = []

    def do(container: Container) -> None:
        code = wait_for_exit(container)
        codes.append((container, code))
        if output.is_table:
            output.line("unknown" if code is None else str(code))
            output.flush()

    try:
        each(invocation, names, do)
    finally:
        if not output.is_table:
            output.rows(codes, lambda row: {"name": row[0].name, "exit_code": row[1]}, lambda _: None)


def _stopping(
    invocation: Invocation, container: Container, wanted: int | None, patience: float | None
) -> Callable[[], Any]:
    """What stops a container: with the signal and the patience that were asked for, or else its own."""
    from runtime.running import stop as stop_container

    settings = container.record.settings
    own = imageconfig.stop_timeout(settings)
    number = signal_number(stop_signal(invocation, container)) if wanted is None else wanted
    return partial(stop_container, container, own if patience is None else patience, number)


def stop_signal(invocation: Invocation, container: Container) -> str:
    """The name or number of the signal that asks a container to end."""
    return imageconfig.stop_signal(container.record.settings, invocation.store.history.config(container.base))


def signal_number(text: str) -> int:
    """The number of a signal given by name, with or without SIG, or by number. UsageError if there is none such."""
    try:
        return imageconfig.signal_number(text)
    except BadInput as error:
        raise click.BadParameter(str(error), param_hint="--signal") from None


VERBS: dict[str, click.Command] = {
    "start": start,
    "stop": stop,
    "restart": restart,
    "kill": kill,
    "pause": pause,
    "unpause": unpause,
    "wait": wait,
}
