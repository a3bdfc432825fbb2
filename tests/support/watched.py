"""A monitor in the test's own process, and a container that waits, for whom nothing is started."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from runtime.bundle import LaunchSpec
from runtime.engine import Engine
from runtime.state import Process, Run, RunPaths
from runtime.supervision import monitor
from runtime.supervision.attachments import Door
from runtime.supervision.job import Job
from runtime.supervision.sleeping import Channel, Sleeper
from runtime.supervision.stdio import Stdio, StdioState
from runtime.supervision.watching import Monitor


def never(job: Job, channel: Channel | None, sleeper: Sleeper | None) -> NoReturn:
    raise AssertionError("nothing is to be forked here")


@contextmanager
def watching_in(run_directory: Path) -> Iterator[Monitor]:
    """A monitor that serves what the test has it serve."""
    before = signal.getsignal(signal.SIGCHLD)
    door = Door(run_directory, monitor.SOCKET)
    try:
        yield Monitor(door, never)
    finally:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, before)
        door.close()


def waiting_job(directory: Path) -> Job:
    """What is to be done for a container whose directory is made here."""
    place = directory / "container"
    place.mkdir()
    paths = RunPaths(place, place, directory / "run/engine")
    engine = Engine("crun", Path("/usr/bin/crun"), paths.engine_state)
    return Job(paths, LaunchSpec("one", "one"), {}, directory, engine, "run", None, (), None, True, None)


def running(init: int) -> Run:
    """The run of a container whose first process, and supervisor, is this process."""
    me, first = Process.of(os.getpid()), Process.of(init)
    assert me
    return Run("run", "one", "boot", "/usr/bin/crun", me, first)


@contextmanager
def asleep(directory: Path) -> Iterator[tuple[Sleeper, int]]:
    """A container that waits, and the end of the pipe that it prints to, which the test closes."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    job = waiting_job(directory)
    stdio = Stdio.restored(StdioState(("stdout",), False, False), [reader], None)
    made = Sleeper(job, running(os.getpid()), os.pidfd_open(os.getpid()), stdio)
    yield made, writer
    made.let_go()
