"""Starting a container, seen from the caller: fork a supervisor, lend it our standard streams, pass signals and the
terminal on, and return the container's exit code."""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import socket
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from runtime.bundle import LaunchSpec
from runtime.engine import find_engine
from runtime.profiles import Recording
from runtime.signals import FORWARDED, SignalPipe
from runtime.state import RunPaths, is_running, load_run
from runtime.supervisor import Job, supervise
from runtime.terminal import TerminalProxy, raw_mode, window_size
from vcs import errors
from vcs.errors import Conflict, EngineError, TreeringError


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
) -> int:
    """Run a container on `lower` with the upper of `paths`.

    Waits for its end and returns its exit code (128 + the signal if it was killed), or returns 0 once it has started if
    `detach`. The container's directory must exist; what is needed in it is made.

    `image` is an OCI image config. `hold` are descriptors (a lease of the service) that stay open until the container
    has ended, even if this process has not. `log` takes stdout and stderr instead of the caller's; without it a
    detached container's output is dropped. `started` is called once the overlay is mounted and the container runs.
    `recording` is finished when its time is over, or the container has ended.

    Signals that come meanwhile (`signals.FORWARDED`) go to the container's init; the third SIGINT or SIGTERM kills it.

    Conflict if the container runs already. EngineError if it cannot be started; the fact `exit_code` is 125, or 126 or
    127 if its command is what is wrong. NoSpace if the disk is full.
    """
    engine = find_engine(paths.engine_state, spec.engine)
    with ExitStack() as stack:
        lock = _lock(paths)
        stack.callback(os.close, lock)
        for directory in (paths.bundle, paths.rootfs, paths.etc, paths.engine_state):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        stack.enter_context(ours)
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
        )
        signals = stack.enter_context(SignalPipe((*FORWARDED, signal.SIGWINCH)))
        child = _fork(job)
        theirs.close()
        try:
            return _Caller(ours, signals, spec, detach, started).wait()
        finally:
            os.waitpid(child, 0)


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


def _fork(job: Job) -> int:
    """Fork a supervisor; returns the pid of our child, which for a detached one only is its parent for an instant."""
    child = os.fork()
    if child:
        return child
    if job.detach and os.fork():
        os._exit(0)
    return supervise(job)


def _lock(paths: RunPaths) -> int:
    """Make sure that nobody else starts this container, and that it does not run."""
    fd = os.open(paths.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if is_running(paths.directory):
            raise BlockingIOError
    except BlockingIOError:
        os.close(fd)
        raise Conflict("the container is running", container=paths.directory.name) from None
    return fd


class _Caller:
    """The calling process while it waits."""

    def __init__(
        self,
        control: socket.socket,
        signals: SignalPipe,
        spec: LaunchSpec,
        detach: bool,
        started: Callable[[], None] | None,
    ) -> None:
        self._control = control
        self._signals = signals
        self._spec = spec
        self._detach = detach
        self._started = started
        self._proxy: TerminalProxy | None = None
        self._stack = ExitStack()

    def wait(self) -> int:
        """The exit code. Raises what the supervisor reported."""
        with self._stack:
            while True:
                code = self._step()
                if code is not None:
                    if self._proxy:
                        self._proxy.drain()
                    return code

    def _step(self) -> int | None:
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._signals.fd, select.POLLIN)
        for fd, events in (self._proxy.interests() if self._proxy else {}).items():
            poll.register(fd, events)
        code = None
        for fd, events in poll.poll():
            if fd == self._signals.fd:
                self._forward(self._signals.read())
            elif fd == self._control.fileno():
                code = self._receive()
            elif self._proxy:
                self._proxy.ready(fd, events)
        return code

    def _forward(self, numbers: list[int]) -> None:
        for number in numbers:
            if number != signal.SIGWINCH:
                with suppress(OSError):
                    self._control.send(bytes([number]))
            elif self._proxy:
                self._proxy.resize()

    def _receive(self) -> int | None:
        data, fds, _, _ = socket.recv_fds(self._control, 1 << 16, 1)
        if not data:
            raise EngineError("the container's supervisor was killed; the container may still be running")
        message = json.loads(data)
        if "error" in message:
            raise _rebuild(message)
        if "terminal" in message and fds:
            os.set_inheritable(fds[0], False)
            if self._spec.interactive:
                self._stack.enter_context(raw_mode(0))
            self._proxy = TerminalProxy(fds[0], 0 if self._spec.interactive else None, 1)
            self._stack.callback(self._proxy.close)
        if "started" in message:
            if self._started:
                self._started()
            if self._detach:
                return 0
        code: int | None = message.get("exit")
        return code


def _rebuild(message: dict[str, Any]) -> TreeringError:
    """The error that the supervisor raised, of the same class."""
    kind = getattr(errors, message["kind"], EngineError)
    made: TreeringError = kind(message["error"], **message["facts"])
    return made
