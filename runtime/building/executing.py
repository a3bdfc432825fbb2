"""One RUN: a container on the step before, run to its end, read, and removed whatever happens.

    this process     reads what the command prints, and passes it on; when it is interrupted, it ends the container
      the guard      waits for what comes first: the command's end, or the death of this process, however it dies;
                     then it is the one who ends and removes the container
        the launcher is what `treering run` is to a container

A guard that was killed too leaves a container with a label that names its builder; the next RUN removes those.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from runtime.building.builders import builder_of, own_label
from runtime.capturing.capture import Capture
from runtime.containers import Container, Containers
from runtime.reaching import at_rest
from runtime.running import clean_up, start, stop
from runtime.secrets import Finding, Policy, SecretWatch
from runtime.settings import Health, Log, Mount, Settings
from runtime.state import Exited, state_of
from runtime.supervision.rebuilding import error_fields, rebuild
from runtime.system.afresh import become
from runtime.system.descriptors import close_all_but
from vcs.errors import Conflict, EngineError, NotFound, TreeringError
from vcs.history import Author
from vcs.model import CommitId, RootId
from vcs.store import Store

HOSTNAME = "build"
_END_SECONDS = 60.0
_PIECE = 1 << 16
_FAILED = 125


@dataclass(frozen=True, slots=True)
class Command:
    """What is run, and how."""

    args: tuple[str, ...]
    env: tuple[str, ...]
    network: str
    mounts: tuple[Mount, ...]
    private: Path | None = None
    """A directory of secrets and scripts, which is removed with the container."""


def execute(
    containers: Containers,
    parent: CommitId,
    command: Command,
    author: Author,
    policy: Policy,
    output: Callable[[bytes], None],
) -> tuple[int, RootId | None, tuple[Finding, ...]]:
    """Run a command on a commit. Its exit code, and if that is 0 the root that it left, which is in the store, with the
    files of secrets that it added.

    EngineError, with the fact `exit_code`, if it cannot be run. `output` gets what it prints, as it comes.
    """
    store = containers.store
    settings = Settings(
        args=command.args, env=command.env, network=command.network, mounts=command.mounts, hostname=HOSTNAME,
        entrypoint=(), labels=own_label(), health=Health(("NONE",)), log=Log(keep=False),
        profile=False, volatile=True,
    )  # fmt: skip
    with store.operations.silent():
        container = containers.create("build", parent, settings, author)
        try:
            code = _run(containers, container, command.private, author, output)
            if code:
                return code, None, ()
            return 0, *_captured(containers, container, policy)
        finally:
            _end(container)
            _discard(containers, container)


def _captured(containers: Containers, container: Container, policy: Policy) -> tuple[RootId, tuple[Finding, ...]]:
    store = containers.store
    before = store.commit(container.base).root
    with at_rest(container):
        pass
    with containers.changing(container) as now, store.batch() as batch:
        watch = SecretWatch(store, batch, policy)
        root = Capture(store, now).now(watch).root
        watch.refuse(before, root)
    return root, watch.findings(before, root)


def sweep(containers: Containers) -> None:
    """Remove the containers of builders that were killed."""
    for container in containers.all():
        builder = builder_of(container)
        if builder is None or builder.alive():
            continue
        with suppress(TreeringError), containers.store.operations.silent():
            _end(container)
            _discard(containers, container)


# -- the processes


def _run(
    containers: Containers, container: Container, private: Path | None, author: Author, output: Callable[[bytes], None]
) -> int:
    builder = os.pidfd_open(os.getpid())
    out, theirs = os.pipe2(os.O_CLOEXEC)
    result, told = os.pipe2(os.O_CLOEXEC)
    guard = os.fork()
    if not guard:
        _guard(containers.store.path, container.id, private, author, builder, theirs, told)
    for fd in (theirs, told, builder):
        os.close(fd)
    process = os.pidfd_open(guard)
    try:
        _pump(out, process, output)
    finally:
        _end_guard(guard, process)
        for fd in (process, out):
            os.close(fd)
        said = _rest(result)
        os.close(result)
    if not said:
        raise EngineError("the command was ended from outside", exit_code=_FAILED)
    message: dict[str, Any] = json.loads(said)
    if "error" in message:
        raise rebuild(message)
    return int(message["code"])


def _pump(out: int, process: int, output: Callable[[bytes], None]) -> None:
    """Pass on what is printed, until the guard has ended."""
    poll = select.poll()
    poll.register(out, select.POLLIN)
    poll.register(process, select.POLLIN)
    while True:
        ready = {fd for fd, _ in poll.poll()}
        if out in ready:
            data = os.read(out, _PIECE)
            if data:
                output(data)
                continue
            poll.unregister(out)
        if process in ready:
            return


def _end_guard(guard: int, process: int) -> None:
    """Wait for the guard; one that is not done yet is told to see to the container's end."""
    poll = select.poll()
    poll.register(process, select.POLLIN)
    if not poll.poll(0):
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(process, signal.SIGTERM)
        if not poll.poll(2 * _END_SECONDS * 1000):
            signal.pidfd_send_signal(process, signal.SIGKILL)
    os.waitpid(guard, 0)


def _rest(fd: int) -> bytes:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return os.read(fd, _PIECE) if poll.poll(0) else b""


def _guard(
    store: Path, identity: str, private: Path | None, author: Author, builder: int, out: int, told: int
) -> NoReturn:
    try:
        os.setsid()  # Ctrl-C is the builder's alone
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        asked, ask = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(ask)
        signal.signal(signal.SIGTERM, lambda *_: None)
        null = os.open(os.devnull, os.O_RDWR)
        launcher = os.fork()
        if not launcher:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
            for fd, place in ((null, 0), (out, 1), (out, 2)):
                os.dup2(fd, place)
            _launch(store, identity, author, told)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        for place in (0, 1, 2):
            os.dup2(null, place)
        process = os.pidfd_open(launcher)
        close_all_but({0, 1, 2, builder, process, asked, ask})
        poll = select.poll()
        for fd in (builder, process, asked):
            poll.register(fd, select.POLLIN)
        ready = {fd for fd, _ in poll.poll()}
        if process not in ready:
            os.kill(launcher, signal.SIGKILL)
        os.waitpid(launcher, 0)
        if builder in ready:
            # Anew: SQLite does not survive it that the descriptors of what it had open are closed.
            become("runtime.building.executing", [str(store), identity, str(private or "")])
    finally:
        os._exit(0)


def _launch(store: Path, identity: str, author: Author, told: int) -> NoReturn:
    """The life of the launcher."""
    try:
        # Not the one that was inherited: neither SQLite nor libgit2 may be used on both sides of a fork.
        with Store.open(store) as own, own.operations.silent():
            containers = Containers(own)
            code = start(containers, containers.get(identity), author, interactive=False)
        message: dict[str, Any] = {"code": code}
    except TreeringError as error:
        message = error_fields(error, int(error.facts.get("exit_code", _FAILED)))
    except Exception as error:
        text = f"the command could not be started: {type(error).__name__}: {error}"
        message = error_fields(EngineError(text), _FAILED)
    try:
        os.write(told, json.dumps(message, default=str).encode()[:_PIECE])
    finally:
        os._exit(0)


def main(arguments: Sequence[str]) -> int:
    """What becomes of a guard whose builder has died: store, container, and a directory that goes too."""
    path, identity, private = arguments
    if private:
        shutil.rmtree(private, ignore_errors=True)
    with suppress(NotFound), Store.open(Path(path)) as store, store.operations.silent():
        containers = Containers(store)
        container = containers.get(identity)
        _end(container)
        _discard(containers, container)
        containers.trash.empty()
    return 0


# -- the container's end


def _end(container: Container) -> None:
    """End a container, whatever state it is in. EngineError if it does not end."""
    deadline = time.monotonic() + _END_SECONDS
    while True:
        with suppress(Conflict):
            stop(container, patience=0, number=signal.SIGKILL)
        try:
            with at_rest(container):
                return
        except FileNotFoundError:
            return
        except Conflict:
            if time.monotonic() > deadline:
                raise EngineError(f"container {container.name!r} does not end", container=container.name) from None


def _discard(containers: Containers, container: Container) -> None:
    """Remove a container that has ended, with all that it wrote."""
    with suppress(NotFound):
        with containers.changing(container) as now:
            state = state_of(now.paths.directory)
            if isinstance(state, Exited):
                clean_up(now, state)
            containers.take_away(now)
        containers.finish_removing([container])
