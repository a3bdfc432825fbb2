"""Setting a container up: everything from its first mount to its first instruction.

A detached container's supervisor has this done by a child, which ends with it. The child's memory, and the mount
namespace that the container's own was copied from, are gone then; the supervisor has next to nothing, and waits.
"""

from __future__ import annotations

import errno
import json
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

from runtime import engine, metering, preparation
from runtime.inheriting import told_pid, waited_for
from runtime.supervision.job import Job
from runtime.supervision.joined import Joined
from runtime.supervision.rebuilding import error_fields, rebuild
from runtime.system import mounts
from runtime.system.aside import aside
from runtime.system.console import NO_TERMINAL, receive_terminal
from runtime.system.terminal import set_window_size
from vcs.errors import EngineError, NoSpace, TreeringError

Streams: TypeAlias = tuple[int | None, int | None, int | None]
_MESSAGE_MAX = 1 << 16


@dataclass(frozen=True, slots=True)
class Begun:
    """A container that runs."""

    init: int
    """The pid of its first process, as the engine tells it. It is inherited by the nearest subreaper, which looks
    whether it is so (runtime.inheriting)."""
    master: int | None
    """The other side of its terminal."""


def set_up(job: Job, streams: Streams, network: Joined, terminal: Callable[[int], None] = lambda _: None) -> Begun:
    """Set a container up and start it, in a mount namespace of its own, which this process is in from then on.

    `streams` are its standard streams if it has no terminal; closed when the engine has them. `terminal` is told of the
    terminal's other side as soon as it is there. EngineError and others of the family; NoSpace if the disk is full.
    """
    try:
        return _set_up(job, streams, network, terminal)
    except TreeringError:
        raise
    except OSError as error:
        kind = NoSpace if error.errno in (errno.ENOSPC, errno.EDQUOT) else EngineError
        raise kind(f"the container could not be set up: {error}") from error
    except Exception as error:
        raise EngineError(f"the container could not be set up: {type(error).__name__}: {error}") from error
    finally:
        close(streams)


def close(streams: Streams) -> None:
    """Close our copies of what the container has."""
    for fd in {fd for fd in streams if fd is not None}:
        with suppress(OSError):
            os.close(fd)


def _set_up(job: Job, streams: Streams, network: Joined, terminal: Callable[[int], None]) -> Begun:
    paths, spec = job.paths, job.spec
    if not job.is_first:
        metering.settle(paths.directory)
        job.engine.forget(spec.id, paths.engine_log)
        for leftover in (paths.pid_file, paths.engine_log):
            leftover.unlink(missing_ok=True)
    mounts.private_mount_namespace()
    if job.engine.name == "crun":
        (engine.hide_hybrid_cgroup if job.engine.cgroups else engine.hide_cgroups)()
    connection = network.connect()
    new_filter = preparation.prepare(paths, spec, job.image, job.lower, job.terminal_size, connection)
    network.refresh()
    code, master = _run_with_terminal(job, terminal) if spec.tty else (_run(job, streams), None)
    if code:
        raise engine.failure(job.engine, paths.engine_log, code)
    if spec.tty and master is None:
        raise engine.unkept(job.engine, NO_TERMINAL)
    if new_filter:
        new_filter.keep(job.engine, spec.id)
    bundled = paths.bundle / engine.CONFIG
    if job.detach and job.engine.config(spec.id, paths.bundle) != bundled:
        bundled.unlink()  # there may be a thousand; it has 24 kB, and the engine has a copy
    return Begun(told_pid(job.engine, paths.pid_file), master)


def _run(job: Job, streams: Streams) -> int:
    paths = job.paths
    args = job.engine.run(job.spec.id, paths.bundle, paths.pid_file, paths.engine_log)
    return waited_for(engine.spawn(args, streams))


def _run_with_terminal(job: Job, terminal: Callable[[int], None]) -> tuple[int, int | None]:
    paths = job.paths

    def start(address: str) -> int:
        args = job.engine.run(job.spec.id, paths.bundle, paths.pid_file, paths.engine_log, address)
        return engine.spawn(args, (None, None, None))

    process, master = receive_terminal(paths.directory, start)
    if master is not None:
        if job.terminal_size:
            set_window_size(master, job.terminal_size)
        terminal(master)
    return waited_for(process), master


# -- by a child


def set_up_aside(job: Job, streams: Streams, network: Joined) -> socket.socket:
    """Have a child set a container up; what comes of it is read from the socket that is returned, by `result`."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def child() -> None:
        ours.close()
        try:
            begun = set_up(job, streams, network)
            fds = [] if begun.master is None else [begun.master]
            socket.send_fds(theirs, [json.dumps({"init": begun.init}).encode()], fds)
        except TreeringError as error:
            theirs.send(json.dumps(error_fields(error, engine.FAILED), default=_text).encode())

    aside(child)
    theirs.close()
    close(streams)
    return ours


def result(channel: socket.socket) -> Begun:
    """What a child says, once its channel can be read. Raises what it failed with."""
    with channel:
        data, fds, _, _ = socket.recv_fds(channel, _MESSAGE_MAX, 1)
    for fd in fds:
        os.set_inheritable(fd, False)
    if not data:
        raise EngineError("the process that set the container up was killed")
    fields: dict[str, Any] = json.loads(data)
    if "error" in fields:
        raise rebuild(fields)
    return Begun(fields["init"], fds[0] if fds else None)


def _text(value: object) -> str:
    return os.fsdecode(value) if isinstance(value, bytes) else str(value)
