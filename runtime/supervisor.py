"""The process that stands between a container and the world, from before its first mount until after its last byte.

    caller ──fork── supervisor ──spawn── engine run --detach
                        └── init of the container (a child: the supervisor is a subreaper)

The supervisor has a session of its own, so a terminal's signals and hang-up never reach it; the caller passes signals
on over the control socket. If the caller is killed, the container goes on and its exit is recorded all the same. The
supervisor's mount namespace holds the overlay: if everything is killed, nothing stays mounted.

On the control socket (SOCK_SEQPACKET): the caller sends signal numbers, one byte each; the supervisor sends JSON:
`terminal` (with the master's descriptor), `started`, and last `exit` or `error`.
"""

from __future__ import annotations

import errno
import gc
import json
import os
import select
import signal
import socket
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

from runtime import bundle, engine, metering, mounts, preparation
from runtime.cgroups import Cgroup, Usage
from runtime.cgroups.processes import Ended
from runtime.console import receive_terminal
from runtime.descriptors import close_all_but, duplicate, same_file
from runtime.engine import Engine
from runtime.profiles import Recording
from runtime.pump import Pump
from runtime.signals import FORWARDED, SignalPipe
from runtime.state import Process, Run, RunPaths, boot_id, save_exit, save_run
from runtime.terminal import set_window_size
from vcs.errors import EngineError, NoSpace, TreeringError

_PATIENCE = 3
"""The so-manieth SIGINT or SIGTERM kills: a first process without a handler ignores them (pid_namespaces(7))."""


@dataclass(frozen=True, slots=True)
class Job:
    """All that a supervisor needs; fixed before the fork."""

    paths: RunPaths
    spec: bundle.LaunchSpec
    image: Mapping[str, Any]
    lower: Path
    engine: Engine
    run: str
    control: socket.socket
    keep: tuple[int, ...]
    """Descriptors to keep open until the container has ended: locks and leases."""
    output: int | None
    """Where stdout and stderr go if not to the caller's: a log's descriptor."""
    detach: bool
    terminal_size: tuple[int, int] | None
    recording: Recording | None = None
    """What the service notes of this start."""


def supervise(job: Job) -> NoReturn:
    """The whole life of a supervisor, in a freshly forked process. Never returns, never raises."""
    code = engine.FAILED
    try:
        gc.disable()
        code = _Supervisor(job).run()
    except BaseException as error:
        _report(job.control, EngineError(f"the supervisor failed: {type(error).__name__}: {error}"))
    finally:
        os._exit(code)


def _report(control: socket.socket, error: TreeringError) -> None:
    message = {"error": str(error), "kind": error.kind, "facts": {"exit_code": engine.FAILED, **error.facts}}
    with suppress(OSError):
        control.send(json.dumps(message, default=_text).encode())


@dataclass(slots=True)
class _Streams:
    """The caller's standard streams, moved out of the way; None where it has none."""

    stdin: int | None
    stdout: int | None
    stderr: int | None
    pumps: list[tuple[int, int]] = field(default_factory=list)


class _Supervisor:
    def __init__(self, job: Job) -> None:
        self._job = job
        self._paths = job.paths
        self._control: socket.socket | None = job.control
        self._impatience = 0
        self._waiting_signals: list[int] = []
        self._init_fd: int | None = None
        self._usage: Usage | None = None
        self._master: int | None = None
        self._streams = _Streams(None, None, None)
        self._pumps: list[Pump] = []
        me = Process.of(os.getpid())
        assert me is not None
        self._run = Run(job.run, job.spec.id, boot_id(), str(job.engine.path), me)

    def run(self) -> int:
        """Set up, wait, clean up; returns the exit code that was recorded."""
        with SignalPipe((*FORWARDED, signal.SIGCHLD)) as self._signals:
            error: TreeringError | None = None
            try:
                self._isolate()
                with suppress(OSError):
                    metering.settle(self._paths.directory)
                save_run(self._paths.directory, self._run)
                code = self._contain()
            except TreeringError as caught:
                error = caught
            except OSError as caught:
                kind = NoSpace if caught.errno in (errno.ENOSPC, errno.EDQUOT) else EngineError
                error = kind(f"the container could not be set up: {caught}")
            except Exception as caught:
                error = EngineError(f"the container could not be set up: {type(caught).__name__}: {caught}")
            if error:
                code = int(error.facts.get("exit_code", engine.FAILED))
            self._finish(code, error)
        return code

    def _isolate(self) -> None:
        os.setsid()
        os.chdir("/")
        os.umask(0o022)
        kept = {0, 1, 2, self._job.control.fileno(), *self._signals.fds, *self._job.keep}
        close_all_but(kept if self._job.output is None else {*kept, self._job.output})
        self._streams = self._take_streams()
        mounts.become_subreaper()
        mounts.set_process_name(b"treering-run")

    def _take_streams(self) -> _Streams:
        job = self._job
        stdin = duplicate(0) if job.spec.interactive and not job.spec.tty and not job.detach else None
        if job.detach or job.output is not None:
            output = None if job.output is None else duplicate(job.output)
            streams = _Streams(stdin, output, output)
        else:
            streams = _Streams(stdin, duplicate(1), duplicate(2))
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for number in (0, 1, 2):
            os.dup2(null, number)
        if null > 2:
            os.close(null)
        return streams

    def _contain(self) -> int:
        paths, spec = self._paths, self._job.spec
        self._job.engine.forget(spec.id, paths.engine_log)
        for leftover in (paths.pid_file, paths.engine_log):
            leftover.unlink(missing_ok=True)
        mounts.private_mount_namespace()
        if self._job.engine.name == "crun":
            (engine.hide_hybrid_cgroup if self._job.engine.cgroups else engine.hide_cgroups)()
        preparation.prepare(paths, spec, self._job.image, self._job.lower, self._job.terminal_size)
        init = self._start()
        self._init_fd = os.pidfd_open(init)
        self._run = replace(self._run, init=Process.of(init))
        save_run(paths.directory, self._run)
        if self._master is not None:
            self._hand_over(self._master)
        self._tell({"started": init})
        self._reap()
        self._deliver(self._waiting_signals)
        self._waiting_signals = []
        self._pump()
        if self._job.detach:
            self._hang_up()
        self._wait_for(self._init_fd)
        ended = Ended()
        code = _collect(init)
        if not self._job.engine.cgroups:
            self._usage = ended.usage()
        return code

    def _start(self) -> int:
        """Run the engine; returns the pid of the container's init. EngineError if the engine fails."""
        job = self._job
        code = self._run_engine_with_terminal() if job.spec.tty else self._run_engine()
        if code:
            raise engine.failure(job.engine, self._paths.engine_log, code)
        return int(self._paths.pid_file.read_text())

    def _run_engine(self) -> int:
        self._feed()
        streams, paths = self._streams, self._paths
        stdout = self._pipe(streams.stdout)
        # One pipe for both keeps the order of what goes to one place.
        stderr = stdout if same_file(streams.stdout, streams.stderr) else self._pipe(streams.stderr)
        args = self._job.engine.run(self._job.spec.id, paths.bundle, paths.pid_file, paths.engine_log)
        try:
            return engine.wait(engine.spawn(args, (streams.stdin, stdout, stderr)))
        finally:
            for fd in {streams.stdin, stdout, stderr}:
                if fd is not None:
                    os.close(fd)
            streams.stdin = None

    def _pipe(self, sink: int | None) -> int | None:
        if sink is None:
            return None
        reader, writer = os.pipe2(os.O_CLOEXEC)
        self._streams.pumps.append((reader, sink))
        return writer

    def _feed(self) -> None:
        """Put a pipe between the caller's terminal and the container: whoever holds a terminal can read all that is
        typed, and write to it. A file or pipe is passed on itself: not a byte more than wanted is read from it."""
        source = self._streams.stdin
        if source is not None and os.isatty(source):
            self._streams.stdin, writer = os.pipe2(os.O_CLOEXEC)
            Pump(source, writer).start()

    def _pump(self) -> None:
        """From here on the container's output flows. Not earlier: the engine's own complaints are in the same pipe."""
        self._pumps = [Pump(source, sink) for source, sink in self._streams.pumps]
        for pump in self._pumps:
            pump.start()

    def _run_engine_with_terminal(self) -> int:
        job, paths = self._job, self._paths

        def start(address: str) -> int:
            args = job.engine.run(job.spec.id, paths.bundle, paths.pid_file, paths.engine_log, address)
            return engine.spawn(args, (None, None, None))

        process, self._master = receive_terminal(paths.directory, start)
        if self._master is not None and job.terminal_size:
            set_window_size(self._master, job.terminal_size)
        return engine.wait(process)

    def _hand_over(self, master: int) -> None:
        """The caller serves the terminal. A detached one has no caller: what it prints goes to the log."""
        if self._job.detach:
            sink = self._streams.stdout
            self._streams.pumps.append((master, os.open(os.devnull, os.O_WRONLY) if sink is None else sink))
            return
        if self._control:
            with suppress(OSError):
                socket.send_fds(self._control, [json.dumps({"terminal": True}).encode()], [master])
        os.close(master)

    def _wait_for(self, process: int) -> None:
        """Pass signals on until a process (a pidfd) has ended."""
        while True:
            poll = select.poll()
            for fd in (process, self._signals.fd, *((self._control.fileno(),) if self._control else ())):
                poll.register(fd, select.POLLIN)
            ready = dict(poll.poll(self._until_recorded()))
            if self._signals.fd in ready:
                self._deliver(self._signals.read())
            if self._control and self._control.fileno() in ready:
                self._listen(self._control)
            if process in ready:
                return

    def _until_recorded(self) -> float | None:
        """Milliseconds until the recording of the start is to be finished, which is done if it is due."""
        recording = self._job.recording
        if recording is None:
            return None
        if recording.remaining == 0:
            recording.finish()
        return None if recording.remaining is None else recording.remaining * 1000

    def _listen(self, control: socket.socket) -> None:
        try:
            numbers = control.recv(64)
        except OSError:
            numbers = b""
        if numbers:
            self._deliver(numbers)
        else:
            self._hang_up()

    def _hang_up(self) -> None:
        if self._control:
            self._control.close()
            self._control = None

    def _deliver(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            if number == signal.SIGCHLD:
                self._reap()
                continue
            if self._init_fd is None:
                self._waiting_signals.append(number)
                continue
            self._impatience += number in (signal.SIGINT, signal.SIGTERM)
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._init_fd, signal.SIGKILL if self._impatience >= _PATIENCE else number)

    def _reap(self) -> None:
        """Wait for what the engine left behind; as a subreaper we inherit it."""
        init = self._run.init
        with suppress(ChildProcessError):
            while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                if init is None or ended.si_pid == init.pid:
                    return
                os.waitpid(ended.si_pid, 0)

    def _finish(self, code: int, error: TreeringError | None) -> None:
        """Write the exit down, remove every trace, deliver the last output, and say so: in this order."""
        paths, container = self._paths, self._job.spec.id
        deleting = None
        with suppress(OSError):
            metering.record(paths.directory, self._usage or Cgroup.of(container).usage())
        if self._job.engine.knows(container):
            deleting = engine.spawn(self._job.engine.delete(container, paths.engine_log), (None, None, None))
        with suppress(OSError):  # a full disk must not keep the container's end from its caller
            save_exit(paths.directory, self._run, code, str(error) if error else None)
        if deleting:
            engine.wait(deleting)
        if self._job.engine.cgroups:
            engine.remove_cgroups(container)
        paths.pid_file.unlink(missing_ok=True)
        # Not left to the end of the namespace, which the kernel would clean up after our caller has gone on.
        with suppress(OSError):
            mounts.umount(os.fsencode(paths.rootfs), mounts.UMOUNT_NOFOLLOW)
        for pump in self._pumps:
            pump.join()
        if not error:
            self._tell({"exit": code})
        elif self._control:
            _report(self._control, error)
        if self._job.recording:
            self._job.recording.finish()

    def _tell(self, message: dict[str, Any]) -> None:
        if self._control:
            with suppress(OSError):
                self._control.send(json.dumps(message).encode())


def _collect(init: int) -> int:
    """The exit code of an init that has ended.

    crun starts it through a helper process, whose child it stays until the helper has ended; on a busy machine that
    may be after the container has. Then we wait for helpers first.
    """
    while True:
        try:
            return engine.wait(init)
        except ChildProcessError:
            ended, status = os.waitpid(-1, 0)
            if ended == init:
                return engine.exit_code(status)


def _text(value: object) -> str:
    return os.fsdecode(value) if isinstance(value, bytes) else str(value)
