"""A container's process, from its record: the service's files below, the engine above, and the end of it.

What is here only joins the parts: fusefs.client lends the mount that serves every commit, supervision.launch makes an
overlay on one of them and runs the engine, runtime.state says what became of it.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress

import msgspec

from fusefs.client import Service
from runtime.bundle import LaunchSpec
from runtime.bundle.spec import HOST, NONE
from runtime.cgroups import Cgroup
from runtime.containers import Container, Containers
from runtime.engine import NoEngine, forget_rest
from runtime.imageconfig import health
from runtime.lowers import lower_of
from runtime.namespace import in_user_namespace
from runtime.pausing import let_signals_through
from runtime.profiles import Recording
from runtime.reaching import not_running
from runtime.settings import Settings
from runtime.source import OPENER
from runtime.state import Exited, Restarting, Running, RunPaths, is_running, load_run, send_signal, state_of
from runtime.states import States
from runtime.supervision import restarts
from runtime.supervision.duties import Orders
from runtime.supervision.launch import launch, sweep
from vcs.errors import Conflict, EngineError, TreeringError
from vcs.existing import is_there
from vcs.history import Author

_SHORTEST, _LONGEST = 0.002, 0.05
"""Seconds between two looks at a container that is about to end."""


def start(
    containers: Containers,
    container: Container,
    author: Author,
    *,
    detach: bool = False,
    interactive: bool | None = None,
    instead: Callable[[int], int] | None = None,
) -> int:
    """Run a container with its settings, on the base and the upper of its current generation. `interactive` says for
    this once whether standard input is passed on, `instead` which signals are passed on (runtime.supervision.launch).

    Returns its exit code, or 0 as soon as it runs if `detach`. `author` is that of commits that are made for the user.
    Conflict if it runs already; EngineError, with the fact `exit_code`, if it cannot be started. Left if the user
    leaves its terminal.
    """
    store = containers.store
    with Service.ensure(store.path, opener=OPENER) as lease, ExitStack() as changing:
        # Nobody may replace the upper between our look at the record and the overlay's mount.
        now = changing.enter_context(containers.changing(container))
        if is_running(now.paths.directory):
            raise Conflict(f"container {now.name!r} is running already", container=now.name)
        now = States(containers).settle(now, author)
        restarts.forget_stop(now.paths.directory)
        settings = now.record.settings
        if interactive is not None:
            settings = msgspec.structs.replace(settings, interactive=interactive)
        root = store.commit(now.base).root
        return launch(
            run_paths(now),
            spec(now, settings),
            store.history.config(now.base),
            lower_of(lease.mountpoint, root),
            hold=(lease.fileno(),),
            detach=detach,
            started=changing.close,
            recording=Recording(store, now.base, lease) if now.record.settings.profile else None,
            orders=orders(containers, now, author, detach),
            instead=instead,
        )


def orders(containers: Containers, container: Container, author: Author, detach: bool) -> Orders:
    """What whoever looks after a run of a container is told to do."""
    settings = container.record.settings
    watched = settings.remove and not detach  # who ran it saw what it printed, and nobody will ask for it again
    return Orders(
        containers.store.path,
        container.id,
        author,
        log=settings.log if settings.log.keep and not watched else None,
        restart=settings.restart,
        remove=settings.remove,
        health=health(settings, containers.store.history.config(container.base)),
        autocommit=settings.autocommit,
    )


def clean_up(container: Container, state: Exited) -> None:
    """Remove what a run whose supervisor was killed has left on the machine, before the container is removed. `state`
    is what the container is in. EngineError if something stays."""
    if container.record.settings.network not in (HOST, NONE):
        from runtime.network import disconnect

        with suppress(TreeringError, OSError):  # the next command that looks at networks tries again
            disconnect(container.paths.directory)
    # The monitor may have seen the end, and written it down; what the engine keeps is a supervisor's to remove.
    is_left = is_there(container.paths.engine_state / container.id) or Cgroup.of(container.id).exists
    if state.code is None or is_left:
        try:
            sweep(run_paths(container))
        except NoEngine:  # it is installed no more
            forget_rest(container.paths.engine_state, container.id, not in_user_namespace())


def has_never_run(container: Container) -> bool:
    """Whether no command ever ran in it. OSError if that cannot be told."""
    run = load_run(container.paths.directory)
    return run is None or run.init is None


def run_paths(container: Container) -> RunPaths:
    """Where a run of a container has its files."""
    return RunPaths(
        directory=container.paths.directory,
        generation=container.paths.generation(container.record.current),
        engine_state=container.paths.engine_state,
    )


def spec(container: Container, settings: Settings) -> LaunchSpec:
    """How a container is to be run with these settings."""
    return LaunchSpec(
        id=container.id,
        hostname=settings.hostname or container.name,
        args=settings.args,
        env=settings.env,
        cwd=settings.cwd,
        user=settings.user,
        tty=settings.tty,
        interactive=settings.interactive,
        network=settings.network,
        name=container.name,
        ports=settings.ports,
        read_only=settings.read_only,
        engine=settings.engine,
        entrypoint=settings.entrypoint,
        mounts=settings.mounts,
        limits=settings.limits,
        security=settings.security,
        hosts=settings.hosts,
        # What is removed at its end need not be flushed then, for which unmounting would wait: for all of the disk.
        volatile=settings.volatile or settings.remove,
        ids=container.record.ids,
    )


def stop(container: Container, patience: float, number: int = signal.SIGTERM) -> int | None:
    """End a container: `number`, and after `patience` seconds SIGKILL. Returns its exit code, None if nobody saw it.

    Conflict if it does not run.
    """
    directory = container.paths.directory
    if not is_running(directory):
        raise not_running(container)
    restarts.note_stop(directory)
    _signal(container, number)
    let_signals_through(container)
    if not wait(container, patience):
        _signal(container, signal.SIGKILL)
        if not wait(container, patience=60):
            raise EngineError(f"container {container.name!r} does not end", container=container.name)
    state = state_of(directory)
    return state.code if isinstance(state, Exited) else None


def kill(container: Container, number: int) -> None:
    """Send a signal to a container's first process. SIGKILL ends its restarts too. Conflict if it does not run."""
    if number == signal.SIGKILL and is_running(container.paths.directory):
        restarts.note_stop(container.paths.directory)
        if _end_restarts(container):
            return
    try:
        send_signal(container.paths.directory, number)
    except Conflict:
        raise not_running(container) from None
    if number == signal.SIGKILL:
        let_signals_through(container)


def wait(container: Container, patience: float) -> bool:
    """Wait until a container has ended and its exit is written down; False if it has not after `patience` seconds."""
    directory = container.paths.directory
    deadline = time.monotonic() + patience
    pause = _SHORTEST
    while is_running(directory):
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        state = state_of(directory)
        if not isinstance(state, Running) or not _wait_for_process(state.pid, min(left, 1.0)):
            time.sleep(min(pause, left))
            pause = min(pause * 2, _LONGEST)
    return True


def _wait_for_process(pid: int, seconds: float) -> bool:
    """Whether we could wait for a process; it may have ended meanwhile or not. False if it was gone before."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return not poll.poll(seconds * 1000)
    finally:
        os.close(fd)


def _end_restarts(container: Container) -> bool:
    """Whether a container waited to be started again; its supervisor looks then whether it is still to do so."""
    directory = container.paths.directory
    run = load_run(directory)
    if run is None or not isinstance(state_of(directory), Restarting):
        return False
    with suppress(OSError):
        os.kill(run.supervisor.pid, signal.SIGTERM)
    return True


def _signal(container: Container, number: int) -> None:
    if _end_restarts(container):
        return
    with suppress(Conflict):  # it has ended by itself
        send_signal(container.paths.directory, number)
