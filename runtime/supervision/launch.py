"""Starting a container, seen from the caller: fork a supervisor, lend it our standard streams, pass signals and the
terminal on, and return the container's exit code."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NoReturn

from runtime.bundle import LaunchSpec
from runtime.engine import FAILED, find_engine
from runtime.profiles import Recording
from runtime.state import Run, RunPaths, is_running, load_run
from runtime.supervision import monitor
from runtime.supervision.attach import Caller, Left
from runtime.supervision.attachments import Peer
from runtime.supervision.duties import Orders
from runtime.supervision.job import Job
from runtime.supervision.supervisor import supervise
from runtime.system.signals import FORWARDED, SignalPipe
from runtime.system.terminal import window_size
from vcs.errors import Conflict

_CLEANED_UP_SECONDS = 30.0
_PAUSE = 0.002
_ATTEMPTS = 20
"""How often the monitor is asked for."""

_departing: set[int] = set()
"""Our children that were supervisors, and may be ending still."""


def launch(
    paths: RunPaths,
    spec: LaunchSpec,
    image: Mapping[str, Any],
    lower: Path,
    *,
    hold: tuple[int, ...] = (),
    detach: bool = False,
    log: int | None = None,
    started: Callable[[], None] | None = None,
    recording: Recording | None = None,
    orders: Orders | None = None,
    instead: Callable[[int], int] | None = None,
) -> int:
    """Run a container on `lower` with the upper of `paths`.

    Waits for its end and returns its exit code (128 + the signal if it was killed), or returns 0 once it has started if
    `detach`. The container's directory must exist; what is needed in it is made.

    `image` is an OCI image config. `hold` are descriptors (a lease of the service) that stay open until the container
    has ended, even if this process has not. `log` takes stdout and stderr instead of the caller's; without it a
    detached container's output is dropped. `started` is called once the overlay is mounted and the container runs.
    `recording` is finished when its time is over, or the container has ended. `orders` say what else is to be done.

    Signals that come meanwhile (`signals.FORWARDED`) go to the container's init; the third SIGINT or SIGTERM kills it.
    `instead` is asked of each which one is to be passed on.

    Conflict if the container runs already. EngineError if it cannot be started; the fact `exit_code` is 125, or 126 or
    127 if its command is what is wrong. NoSpace if the disk is full. Left if the user leaves its terminal.
    """
    engine = find_engine(paths.engine_state, spec.engine)
    with ExitStack() as stack:
        lock = _lock(paths)
        stack.callback(os.close, lock)
        for directory in (paths.bundle, paths.rootfs, paths.etc, paths.engine_state):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        ours, theirs = map(Peer, socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        stack.callback(ours.close)
        size = None
        if spec.tty:
            size = next(filter(None, map(window_size, (1, 0, 2))), None)
        job = Job(
            paths=paths,
            spec=spec,
            image=image,
            lower=lower.absolute(),
            engine=engine,
            run=os.urandom(16).hex(),
            control=theirs,
            keep=(lock, *hold),
            output=log,
            detach=detach,
            terminal_size=size,
            recording=recording,
            orders=orders,
            is_first=load_run(paths.directory) is None,
        )
        signals = stack.enter_context(SignalPipe((*FORWARDED, signal.SIGWINCH)))
        _reap(None)
        child = None if detach and log is None and _by_monitor(job) else _fork(job)
        theirs.close()
        caller = Caller(ours, signals, interactive=spec.interactive, detach=detach, started=started, instead=instead)
        try:
            code = caller.wait()
        except Left:
            raise
        except BaseException:
            if started:
                started()  # what our caller holds until then, a supervisor that removes the container waits for
            _wait_for(child)
            raise
        _reap(child)
        return FAILED if code is None else code


def adopt(
    paths: RunPaths,
    spec: LaunchSpec,
    image: Mapping[str, Any],
    lower: Path,
    run: Run,
    *,
    hold: tuple[int, ...] = (),
    orders: Orders | None = None,
) -> None:
    """Give a container that runs without a supervisor, since that was killed, another one. Does nothing if somebody
    else does it at the same time. EngineError if its OCI runtime is installed no more."""
    engine = find_engine(paths.engine_state, run.engine)
    lock = os.open(paths.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        job = Job(
            paths=paths, spec=spec, image=image, lower=lower.absolute(), engine=engine, run=run.run, control=None,
            keep=(lock, *hold), output=None, detach=True, terminal_size=None, orders=orders, adopted=run,
        )  # fmt: skip
        if not _by_monitor(job):
            os.waitpid(_fork(job), 0)
    except BlockingIOError:
        pass
    finally:
        os.close(lock)


def sweep(paths: RunPaths) -> None:
    """Remove what a run that nobody saw end has left on the machine: the engine's state and cgroups.

    The next start does so by itself; this is for removing a container. Conflict if it runs.
    """
    lock = _lock(paths)
    try:
        run = load_run(paths.directory)
        if run:
            find_engine(paths.engine_state, run.engine).forget(run.container, paths.engine_log)
    finally:
        os.close(lock)


def _by_monitor(job: Job) -> bool:
    """Whether the store's monitor has forked a supervisor; it is started if there is none."""
    directory = job.paths.engine_state.parent
    if job.orders is None:
        return False
    for _ in range(_ATTEMPTS):
        done = monitor.request(directory, job)
        if done is not None:
            return done
        monitor.start(directory, supervise)  # does nothing if one is just starting, or leaving
        time.sleep(_PAUSE)
    return False


def _reap(child: int | None) -> None:
    """Wait for supervisors that have ended. One that has said how its container ended has nothing to do any more, but
    for the kernel to take its memory and namespaces down; that is not waited for, but caught up on the next time."""
    if child is not None:
        _departing.add(child)
    for pid in list(_departing):
        with suppress(ChildProcessError):
            if not os.waitpid(pid, os.WNOHANG)[0]:
                continue
        _departing.remove(pid)


def _wait_for(child: int | None) -> None:
    if child is not None:
        os.waitpid(child, 0)


def _fork(job: Job) -> int:
    """Fork a supervisor; returns the pid of our child, which for a detached one only is its parent for an instant."""
    child = os.fork()
    if not child:
        _be(job)
    return child


def _be(job: Job) -> NoReturn:
    """The whole life of our child: whatever fails, it does not go on as its parent would."""
    try:
        if not job.detach or not os.fork():
            supervise(job)
    except BaseException as error:
        job.fail(error)
    finally:
        os._exit(0)


def _lock(paths: RunPaths) -> int:
    """Make sure that nobody else starts this container, and that it does not run. The end of a run is known a moment
    before its supervisor has cleaned up after it: that is waited for."""
    fd = os.open(paths.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + _CLEANED_UP_SECONDS
    try:
        while not _taken(fd):
            if is_running(paths.directory) or time.monotonic() > deadline:
                raise BlockingIOError
            time.sleep(_PAUSE)
        if is_running(paths.directory):
            raise BlockingIOError
    except BlockingIOError:
        os.close(fd)
        raise Conflict("the container is running", container=paths.directory.name) from None
    return fd


def _taken(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
