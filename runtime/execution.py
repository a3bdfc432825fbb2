"""A further command in a running container.

    this process ──spawn── engine exec --detach
         └── the command (a child, since this process is a subreaper while the engine runs)

The engine joins the container's namespaces and cgroups and installs its seccomp filter; what else the command is given
is in a process.json (OCI runtime specification, config.md, "Process"), made here from the one in the container's own
bundle. Streams go as with `run`: what the command holds is a pipe or a terminal of its own, never ours.
"""

from __future__ import annotations

import errno
import json
import os
import select
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from runtime import engine as engines
from runtime.carriers import Streams
from runtime.command import NOT_FOUND, check_command
from runtime.containers import Container
from runtime.engine import Engine, find_engine
from runtime.identity import Identity, oci_user, resolve_user
from runtime.idranges import SIZE
from runtime.inheriting import end_all, inherited, told_pid, waited_for
from runtime.namespace import in_user_namespace
from runtime.namespace.mapping import last_ids
from runtime.pausing import paused
from runtime.reaching import Reached, not_running, reached
from runtime.state import load_run
from runtime.system import mounts
from runtime.system.console import NO_TERMINAL, receive_terminal
from runtime.system.descriptors import close_all_but
from runtime.system.rootaccess import Root
from runtime.system.signals import FORWARDED, SignalPipe
from runtime.system.terminal import TerminalProxy, raw_mode, set_window_size, window_size
from vcs import errors
from vcs.errors import Conflict, EngineError, TreeringError

_PATIENCE = 3
"""The so-manieth SIGINT or SIGTERM kills, as with `run`."""
_NO_DIRECTORY = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES, errno.ENAMETOOLONG)
_INHERITED_SECONDS = 5.0
_Ended = Callable[[int], None] | None


@dataclass(frozen=True, slots=True)
class Execution:
    """What a user asked for; None where the container's own settings decide."""

    args: tuple[str, ...]
    env: tuple[str, ...] = ()
    cwd: str | None = None
    user: str | None = None
    tty: bool = False
    interactive: bool = False
    privileged: bool = False
    """With all capabilities that this process can give; the system call filter stays the container's."""
    limit: float | None = None
    """Seconds after which it is killed, and TimeoutError raised; only without a terminal."""


def process_json(
    config: Mapping[str, Any],
    wanted: Execution,
    read: Callable[[bytes], bytes | None],
    terminal_size: tuple[int, int] | None = None,
    last_ids: tuple[int, int] | None = None,
    own_ids: bool = False,
) -> dict[str, Any]:
    """The process for the engine, from the container's config.json. `read` reads a file of its root; `last_ids` and
    `own_ids` are those of identity.oci_user. EngineError if the user is unknown."""
    own: Mapping[str, Any] = config["process"]
    process = {**own, "args": list(wanted.args), "terminal": wanted.tty}
    process.pop("consoleSize", None)
    if wanted.tty and terminal_size:
        process["consoleSize"] = {"width": terminal_size[0], "height": terminal_size[1]}
    who = None
    if wanted.user is not None:
        who = resolve_user(wanted.user, read)
        process["user"] = oci_user(who, last_ids, own=own_ids)
    process["env"] = _environment(own, wanted, who, read)
    if wanted.cwd is not None:
        process["cwd"] = "/" + wanted.cwd.strip("/")
    if who is not None or wanted.privileged:
        bounding = _every_capability() if wanted.privileged else own["capabilities"]["bounding"]
        usable = bounding if wanted.privileged or process["user"]["uid"] == 0 else []
        process["capabilities"] = {"bounding": bounding, "effective": usable, "permitted": usable}
    return process


def _environment(
    own: Mapping[str, Any], wanted: Execution, who: Identity | None, read: Callable[[bytes], bytes | None]
) -> list[str]:
    """The container's variables and the command's over them. HOME goes with the user where it is his home."""
    variables = _variables(own["env"])
    if wanted.tty:
        variables.setdefault("TERM", "xterm")
    if who is not None and variables.get("HOME") == resolve_user(str(own["user"]["uid"]), read).home:
        variables["HOME"] = who.home
    variables |= _variables(wanted.env)
    return [f"{name}={value}" for name, value in variables.items()]


def _variables(lines: Iterable[str]) -> dict[str, str]:
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def _every_capability() -> list[str]:
    from runtime.bundle import granted
    from runtime.preparation import bounding_set
    from runtime.settings import Security

    return granted(Security(privileged=True), bounding_set())


def execute(container: Container, wanted: Execution) -> int:
    """Run a command in a running container and wait for its end; its exit code, 128 + the signal if it was killed.

    Signals that come meanwhile (`signals.FORWARDED`) go to the command; the third SIGINT or SIGTERM kills it. Conflict
    if the container does not run, or is paused. EngineError if the command cannot be started; the fact `exit_code` is
    125, or 126 or 127 if the command is what is wrong.
    """
    size = next(filter(None, map(window_size, (1, 0, 2))), None) if wanted.tty else None
    with ExitStack() as stack:
        signals = stack.enter_context(SignalPipe((*FORWARDED, signal.SIGWINCH)))
        if wanted.tty:
            command, master = _start_with_terminal(container, wanted, size)
            if wanted.interactive:
                stack.enter_context(raw_mode(0))
            proxy = TerminalProxy(master, 0 if wanted.interactive else None, 1, keys=b"")
            _resize(proxy)
            stack.callback(proxy.close)
            return _wait(command, signals, proxy)
        streams = stack.enter_context(Streams(interactive=wanted.interactive))
        command = _start(container, wanted, streams)
        streams.flow()
        code = _wait(command, signals, None, wanted.limit)
        streams.finish(signals.fd)
        return code


def execute_detached(container: Container, wanted: Execution, ended: _Ended = None) -> None:
    """Start a command in a running container and return. What it prints is dropped; its input is empty.

    A process of ours stays until the command's end, to collect it; `ended` is called there with its exit code. It must
    open anew what it needs of the store. Errors as of `execute`.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        child = os.fork()
        if not child:
            _part(theirs, container, replace(wanted, interactive=False), ended)
        theirs.close()
        os.waitpid(child, 0)
        answer = ours.recv(1 << 16)
    if not answer:
        raise EngineError("the process that was to start the command was killed; it may have been started")
    message = json.loads(answer)
    if "error" in message:
        raise getattr(errors, message["kind"], EngineError)(message["error"], **message["facts"])


def _part(control: socket.socket, container: Container, wanted: Execution, ended: _Ended) -> NoReturn:
    """The whole life of the process behind a detached command, and of the one that makes it: whatever fails, neither
    goes on as its parent would."""
    code = engines.FAILED
    try:
        code = 0 if os.fork() else _stay(control, container, wanted, ended)
    except BaseException as error:
        _tell(control, {"error": f"the command could not be started: {error}", "kind": "EngineError", "facts": {}})
    finally:
        os._exit(code)


def _stay(control: socket.socket, container: Container, wanted: Execution, ended: _Ended) -> int:
    os.setsid()
    os.chdir("/")
    for number in (0, 1, 2):
        os.dup2(os.open(os.devnull, os.O_RDWR), number)
    close_all_but({0, 1, 2, control.fileno()})
    mounts.set_process_name(b"treering-exec")
    try:
        if wanted.tty:
            command, master = _start_with_terminal(container, wanted, None)
        else:
            command, master = _start(container, wanted, None), None
    except TreeringError as error:
        _tell(control, {"error": str(error), "kind": error.kind, "facts": error.facts})
        return engines.FAILED
    _tell(control, {"started": command.pid})
    control.close()
    if master is not None:
        _drop_output(master)
    code = command.collect()
    if ended is not None:
        ended(code)
    return code


def _tell(control: socket.socket, message: dict[str, Any]) -> None:
    with suppress(OSError):
        control.send(json.dumps(message, default=str).encode())


def _drop_output(master: int) -> None:
    """Read what a terminal nobody looks at is sent, until its last holder has gone."""
    with suppress(OSError):
        while os.read(master, 65536):
            pass
    os.close(master)


# -- starting


@dataclass(frozen=True, slots=True)
class _Command:
    """A command that runs; our child."""

    pid: int
    process: int
    """A pidfd."""

    def collect(self) -> int:
        """Wait for its end; its exit code."""
        poll = select.poll()
        poll.register(self.process, select.POLLIN)
        poll.poll()
        deadline = time.monotonic() + _INHERITED_SECONDS
        while True:
            try:
                return engines.wait(self.pid)
            except ChildProcessError:  # a helper of the engine's between us has not ended yet
                if time.monotonic() > deadline:
                    raise EngineError("the command's exit code was lost") from None
                time.sleep(0.002)


def _start(container: Container, wanted: Execution, streams: Streams | None) -> _Command:
    with _Preparation(container, wanted, None) as prepared:
        stdio = streams.given if streams else (None, None, None)
        return prepared.run(lambda: engines.spawn(prepared.arguments(None), stdio))


def _start_with_terminal(container: Container, wanted: Execution, size: tuple[int, int] | None) -> tuple[_Command, int]:
    with _Preparation(container, wanted, size) as prepared:
        masters: list[int] = []

        def spawn() -> int:
            process, master = receive_terminal(
                prepared.directory, lambda address: engines.spawn(prepared.arguments(address), (None, None, None))
            )
            if master is not None:
                masters.append(master)
            return process

        try:
            command = prepared.run(spawn, lambda: bool(masters))
        except BaseException:
            for master in masters:
                os.close(master)
            raise
    if size:
        set_window_size(masters[0], size)
    return command, masters[0]


class _Preparation:
    """The files that the engine reads and writes for one command, in a directory that is gone once it runs."""

    def __init__(self, container: Container, wanted: Execution, size: tuple[int, int] | None) -> None:
        self._container = container
        directory = container.paths.directory
        run = load_run(directory)
        if run is None:
            raise not_running(container)
        with reached(container) as found:
            if paused(container.id):
                raise Conflict(f"container {container.name!r} is paused", container=container.name, wanted="unpaused")
            self._engine: Engine = find_engine(container.paths.engine_state, run.engine)
            config = json.loads(self._engine.config(container.id, directory / "bundle").read_bytes())
            own = container.record.ids is not None
            last = (SIZE - 1, SIZE - 1) if own else last_ids() if in_user_namespace() else None
            process = process_json(config, wanted, found.root.read, size, last, own)
            _check(found, process)
        self.directory = Path(tempfile.mkdtemp(prefix="exec-", dir=directory))
        self._log = self.directory / "engine.log"
        self._pid_file = self.directory / "pid"
        self._write(process)

    def _write(self, process: dict[str, Any]) -> None:
        try:
            data = json.dumps(process, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            self.__exit__()
            raise EngineError(f"the OCI runtime only takes UTF-8, not {error.object[error.start :][:20]!r}") from error
        (self.directory / "process.json").write_bytes(data)

    def __enter__(self) -> _Preparation:
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)

    def arguments(self, console: str | None) -> list[str]:
        process = self.directory / "process.json"
        return self._engine.execute(self._container.id, process, self._pid_file, self._log, console)

    def run(self, spawn: Callable[[], int], has_terminal: Callable[[], bool] = lambda: True) -> _Command:
        """Have the engine start the command, and inherit it. EngineError with the engine's words, or if afterwards the
        command has not the terminal that it is to have."""
        mounts.become_subreaper()
        try:
            code = waited_for(spawn())
            if code:
                raise engines.failure(self._engine, self._log, code, "run the command in the container")
            if not has_terminal():
                raise engines.unkept(self._engine, NO_TERMINAL)
            pid = inherited(told_pid(self._engine, self._pid_file))
            return _Command(pid, os.pidfd_open(pid))
        except BaseException:
            end_all()  # nobody would wait for it
            raise
        finally:
            mounts.become_subreaper(False)


def _check(found: Reached, process: Mapping[str, Any]) -> None:
    cwd: str = process["cwd"]
    if not _is_directory(found.root, cwd):
        raise EngineError(f"there is no directory {cwd} in the container", exit_code=NOT_FOUND, path=cwd)
    check_command(found.root, process["args"][0], process["env"], cwd)


def _is_directory(root: Root, path: str) -> bool:
    """OSError if that cannot be told."""
    try:
        os.close(root.open(os.fsencode(path), os.O_PATH | os.O_DIRECTORY))
    except OSError as error:
        if error.errno not in _NO_DIRECTORY:
            raise
        return False
    return True


# -- while it runs


def _resize(proxy: TerminalProxy) -> None:
    """Give the command's terminal the size of the user's."""
    if proxy.terminal is not None and (size := proxy.size()):
        set_window_size(proxy.terminal, size)


def _wait(command: _Command, signals: SignalPipe, proxy: TerminalProxy | None, limit: float | None = None) -> int:
    """Pass signals and the terminal on until the command has ended; its exit code."""
    impatience = 0
    deadline = None if limit is None else time.monotonic() + limit
    while True:
        poll = select.poll()
        poll.register(command.process, select.POLLIN)
        poll.register(signals.fd, select.POLLIN)
        for fd, events in (proxy.interests() if proxy else {}).items():
            poll.register(fd, events)
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        ready = dict(poll.poll(None if left is None else left * 1000))
        if left == 0 and not ready:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(command.process, signal.SIGKILL)
            command.collect()
            raise TimeoutError
        for number in signals.read() if signals.fd in ready else ():
            if number == signal.SIGWINCH:
                if proxy:
                    _resize(proxy)
                continue
            impatience += number in (signal.SIGINT, signal.SIGTERM)
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(command.process, signal.SIGKILL if impatience >= _PATIENCE else number)
        if proxy:
            for fd in ready.keys() - {command.process, signals.fd}:
                proxy.ready(fd, ready[fd])
        if command.process in ready:
            break
    code = command.collect()
    os.close(command.process)
    if proxy:
        proxy.drain()
    return code
