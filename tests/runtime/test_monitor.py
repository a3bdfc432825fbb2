"""What would hold the monitor up, or leave it and those who ask it of two minds."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.supervision import monitor
from runtime.supervision.attachments import Peer, knock
from runtime.supervision.sleeping import Channel, Sleeper
from runtime.supervision.watching import Monitor
from tests.support.watched import asleep, watching_in


@pytest.fixture
def watcher(tmp_path: Path) -> Iterator[Monitor]:
    with watching_in(tmp_path) as made:
        yield made


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[tuple[Sleeper, int]]:
    with asleep(tmp_path) as made:
        yield made


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
