"""What would hold the monitor up, or leave it and those who ask it of two minds."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from runtime.bundle import LaunchSpec
from runtime.engine import Engine
from runtime.state import Process, Run, RunPaths
from runtime.supervision import monitor
from runtime.supervision.attachments import Door, Peer, knock
from runtime.supervision.job import Job
from runtime.supervision.monitor import Monitor
from runtime.supervision.sleeping import Channel, Sleeper
from runtime.supervision.stdio import Stdio, StdioState


def never(job: Job, channel: Channel | None, sleeper: Sleeper | None) -> NoReturn:
    raise AssertionError("nothing is to be forked here")


@pytest.fixture
def watcher(tmp_path: Path) -> Iterator[Monitor]:
    before = signal.getsignal(signal.SIGCHLD)
    door = Door(tmp_path, monitor.SOCKET)
    try:
        yield Monitor(door, never)
    finally:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, before)
        door.close()


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[tuple[Sleeper, int]]:
    """A container that waits, and the end of the pipe that it prints to."""
    me = Process.of(os.getpid())
    assert me
    reader, writer = os.pipe2(os.O_CLOEXEC)
    directory = tmp_path / "container"
    directory.mkdir()
    paths = RunPaths(directory, directory, tmp_path / "run/engine")
    engine = Engine("crun", Path("/usr/bin/crun"), paths.engine_state)
    job = Job(paths, LaunchSpec("one", "one"), {}, tmp_path, engine, "run", None, (), None, True, None)
    stdio = Stdio.restored(StdioState(("stdout",), False, False), [reader], None)
    made = Sleeper(job, Run("run", "one", "boot", "/usr/bin/crun", me, me), os.pidfd_open(os.getpid()), stdio)
    yield made, writer
    made.let_go()


def test_a_stream_that_ends_while_a_child_has_it_open(watcher: Monitor, sleeper: tuple[Sleeper, int]) -> None:
    """The kernel goes on telling of it, by a number that soon is another's."""
    asleep, writer = sleeper
    (source,) = asleep.stdio.fds
    watcher._look_again(asleep)
    of_a_child = os.dup(source)
    try:
        os.close(writer)
        assert [fd for fd, _ in watcher._poll.poll(60, 1)] == [source]
        watcher._serve(source)
        assert not asleep.stdio.fds
        assert watcher._poll.poll(0) == []
    finally:
        os.close(of_a_child)


def test_a_channel_without_a_message_is_not_waited_for(watcher: Monitor) -> None:
    ours, theirs = Channel.pair()
    done = threading.Thread(target=lambda: watcher._hear(ours), daemon=True)
    done.start()
    done.join(60)
    stuck = done.is_alive()
    theirs.close()
    done.join(60)
    ours.close()
    assert not stuck


def test_who_connects_and_says_nothing_holds_nobody_up(watcher: Monitor, tmp_path: Path) -> None:
    silent, other = knock(tmp_path, monitor.SOCKET), knock(tmp_path, monitor.SOCKET)
    for _ in range(2):
        watcher._serve(watcher._door.fileno())
    other.send_bytes(b"neither a pickle nor a job")
    ((ready, _),) = watcher._poll.poll(60)
    watcher._serve(ready)
    assert other.take(16, 0) == (b"-", [])
    silent.close()
    other.close()


def test_an_answer_after_the_time_is_refused() -> None:
    """Whoever gave up forks a supervisor itself: a second one must not begin."""
    asking, answering = map(Peer, socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
    assert asking.ask(b"please", (), 0.01) == b""
    assert answering.take(16, 0) == (b"please", [])
    assert not answering.send_bytes(b"+")
    asking.close()
    answering.close()


class LateAnswer(socket.socket):
    """The answer comes in the very moment in which the one who asked stops waiting."""

    other: socket.socket

    def shutdown(self, how: int) -> None:
        self.other.send(b"+")
        super().shutdown(how)


def test_an_answer_in_the_last_moment_is_heard() -> None:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    late = LateAnswer(fileno=one.detach())
    late.other = other
    asking = Peer(late)
    assert asking.ask(b"please", (), 0.01) == b"+"
    asking.close()
    other.close()
