"""What fails in the monitor costs nobody more than it must: it goes on, keeps what it has, and never spins."""

from __future__ import annotations

import errno
import heapq
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NoReturn

import pytest

from runtime.settings import Restart
from runtime.state import EXIT, Exited, load_run, read_json, save_run, state_of
from runtime.supervision import monitor, watching
from runtime.supervision.attachments import Peer, knock
from runtime.supervision.duties import Orders
from runtime.supervision.rebuilding import unexpected
from runtime.supervision.requests import packed
from runtime.supervision.sleeping import Channel, Sleeper, Status
from runtime.supervision.stdio import StdioState
from runtime.supervision.watching import Monitor
from tests.support.descriptors import descriptors_left, open_descriptors
from tests.support.watched import asleep, running, waiting_job, watching_in
from vcs.history import Author


@pytest.fixture
def watcher(tmp_path: Path) -> Iterator[Monitor]:
    with watching_in(tmp_path) as made:
        yield made


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[Sleeper]:
    with asleep(tmp_path) as (made, writer):
        yield made
        os.close(writer)


def no_fork() -> int:
    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))


def is_served(watcher: Monitor) -> None:
    ((ready, _),) = watcher._poll.poll(60, 1)
    watcher._serve(ready)


def ask(watcher: Monitor, run_directory: Path, fds: list[int]) -> socket.socket:
    """Ask the monitor for a supervisor, and have it listen; where the answer comes."""
    asking = knock(run_directory, monitor.SOCKET)
    control = Peer(socket.socket(fileno=os.dup(fds[0])))
    words, _ = packed(replace(waiting_job(run_directory), control=control, keep=tuple(fds[1:])))
    control.close()
    socket.send_fds(asking._connection, [words], fds)
    is_served(watcher)
    return asking._connection


@pytest.mark.parametrize("left", range(8))
def test_a_request_that_there_are_no_descriptors_for(
    watcher: Monitor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: int
) -> None:
    monkeypatch.setattr(os, "fork", no_fork)
    one, other = socket.socketpair()
    with one, other:
        answer = ask(watcher, tmp_path, [one.fileno(), other.fileno(), 0])
        before = open_descriptors()
        with descriptors_left(left):
            is_served(watcher)
        assert answer.recv(16) == b"-"
        assert len(before - open_descriptors()) == 1  # the connection's
        assert not open_descriptors() - before
        answer.close()


def hand_over(directory: Path) -> tuple[Channel, Channel]:
    """A supervisor hands a container over; the monitor's end, and the supervisor's."""
    ours, theirs = Channel.pair()
    job = waiting_job(directory)
    save_run(job.paths.directory, running(os.getpid()))
    reader, writer = os.pipe2(os.O_CLOEXEC)
    init = os.pidfd_open(os.getpid())
    state = StdioState(("stdout", "stderr"), False, False)
    fields = {"job": job, "keep": 2, "recording": None, "run": running(os.getpid()), "stdio": state}
    assert theirs.send(fields, init, 0, 1, reader, writer)
    for fd in (reader, writer, init):
        os.close(fd)
    return ours, theirs


def is_refused(watcher: Monitor, ours: Channel, theirs: Channel) -> bool:
    """Whether the supervisor keeps its container, and nothing of it has stayed with the monitor."""
    answer = theirs.receive(60)
    assert answer
    return not answer.fields["sleep"] and not watcher._sleepers and not watcher._owners and not theirs.has_news()


@pytest.mark.parametrize("left", range(10))
def test_a_container_that_there_are_no_descriptors_for(watcher: Monitor, tmp_path: Path, left: int) -> None:
    ours, theirs = hand_over(tmp_path)
    before = open_descriptors()
    with descriptors_left(left):
        watcher._hear(ours)
    assert is_refused(watcher, ours, theirs)
    assert open_descriptors() == before
    ours.close()
    theirs.close()


def full(*_: object, **__: object) -> NoReturn:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_container_that_cannot_be_noted_down(
    watcher: Monitor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "save_run", full)
    ours, theirs = hand_over(tmp_path)
    before = open_descriptors()
    watcher._hear(ours)
    assert is_refused(watcher, ours, theirs)
    assert open_descriptors() == before
    ours.close()
    theirs.close()


class Calls:
    """What fails as often as it is called."""

    def __init__(self, error: Exception) -> None:
        self.number = 0
        self._error = error

    def __call__(self, *_: object, **__: object) -> NoReturn:
        self.number += 1
        raise self._error


def test_a_bug_is_logged_once_and_does_not_spin(
    watcher: Monitor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The poll tells of the door for as long as somebody stands there."""
    calls = Calls(RuntimeError("of ours"))
    monkeypatch.setattr(watcher._door, "accept", calls)
    monkeypatch.setattr(watching, "IDLE_SECONDS", 2.5)
    knocking = knock(tmp_path, monitor.SOCKET)
    watcher.run()
    knocking.close()
    assert 2 <= calls.number <= 4
    assert (tmp_path / "supervisors.log").read_text().count("RuntimeError: of ours") == 1


def test_the_log_of_such_does_not_grow_for_ever(tmp_path: Path) -> None:
    log = tmp_path / "supervisors.log"
    log.write_bytes(bytes(2 << 20))
    unexpected(RuntimeError("of ours"), tmp_path)
    assert "RuntimeError: of ours" in log.read_text()
    assert log.stat().st_size < 4096
    assert log.with_suffix(".log.old").stat().st_size == 2 << 20


def test_a_stream_is_read_again_after_a_failure(
    watcher: Monitor, sleeper: Sleeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher._look_again(sleeper)
    (source,) = sleeper.stdio.fds
    monkeypatch.setattr(sleeper.stdio, "ready", Calls(RuntimeError()))
    with pytest.raises(RuntimeError):
        watcher._serve(source)
    assert watcher._owners[source] is sleeper


class Recorded:
    """A recording of a start, of which the time is over."""

    remaining, fds = 0.0, frozenset[int]()

    def finish(self) -> None: ...


def test_what_is_due_is_done_when_there_are_processes_again(
    watcher: Monitor, sleeper: Sleeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[Callable[[], Any]] = []
    recording: Any = Recorded()
    sleeper.job = replace(sleeper.job, recording=recording)
    watcher._sleepers[os.getpid()] = sleeper
    heapq.heappush(watcher._recording, (0.0, os.getpid()))
    watcher._note_at = 0.0
    with monkeypatch.context() as patch:
        patch.setattr(watching, "aside", lambda *_, **__: no_fork())
        watcher._do_what_is_due()
        (again,) = watcher._recording
        assert again[0] > 0.0
        assert watcher._note_at > 0.0
    monkeypatch.setattr(watching, "aside", lambda task, keep: done.append(task))
    watcher._recording = [(0.0, os.getpid())]
    watcher._do_what_is_due()
    assert done == [recording.finish]
    assert sleeper.job.recording is None


ENDED = Status(7 << 8, 0.0, 0.0, 0, 0)


def test_an_end_is_written_when_it_can_be(watcher: Monitor, sleeper: Sleeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a container whose supervisor was killed before it had taken it over."""
    directory = sleeper.job.paths.directory
    save_run(directory, replace(sleeper.run, supervisor=watcher._me))
    calls = Calls(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    with monkeypatch.context() as patch:
        patch.setattr("runtime.state.replace_file", calls)
        watcher._forsaken.leave(sleeper, ENDED)
        for attempt in watcher._forsaken.due():
            attempt()
        assert calls.number == 2
        assert watcher._is_needed()
    for attempt in watcher._forsaken.due():
        attempt()
    found = state_of(directory)
    assert isinstance(found, Exited)
    assert found.code == 7
    assert not watcher._forsaken.due()
    assert not watcher._is_needed()


@pytest.mark.parametrize("policy", ["no", "always"])
def test_a_restart_that_is_due_is_written(watcher: Monitor, sleeper: Sleeper, policy: Literal["no", "always"]) -> None:
    """So that `start --policy` does it, since nobody else will."""
    directory = sleeper.job.paths.directory
    save_run(directory, replace(sleeper.run, supervisor=watcher._me))
    orders = Orders(directory, "one", Author("A", "a@example.org", 0), restart=Restart(policy))
    sleeper.job = replace(sleeper.job, orders=orders)
    watcher._forsaken.leave(sleeper, ENDED)
    found = state_of(directory)
    assert isinstance(found, Exited)
    assert (found.code, found.is_due) == (7, policy == "always")


def test_nothing_is_written_of_a_container_that_is_another_s(watcher: Monitor, sleeper: Sleeper) -> None:
    directory = sleeper.job.paths.directory
    save_run(directory, sleeper.run)
    watcher._me = watcher._forsaken._me = replace(watcher._me, start=0)
    watcher._forsaken.leave(sleeper, ENDED)
    assert read_json(directory / EXIT) is None
    assert load_run(directory) == sleeper.run
    assert not watcher._forsaken.due()


def test_a_container_that_was_removed_is_not_written_of(
    watcher: Monitor, sleeper: Sleeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = sleeper.job.paths.directory
    save_run(directory, replace(sleeper.run, supervisor=watcher._me))
    with monkeypatch.context() as patch:
        patch.setattr("runtime.state.replace_file", full)
        watcher._forsaken.leave(sleeper, None)
    (attempt,) = watcher._forsaken.due()
    (directory / "run.json").unlink()
    attempt()
    assert not watcher._forsaken.due()


def test_an_end_that_comes_before_anything_could_be_written(
    watcher: Monitor, sleeper: Sleeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = sleeper.job.paths.directory
    save_run(directory, replace(sleeper.run, supervisor=watcher._me))
    with monkeypatch.context() as patch:
        patch.setattr("runtime.state.replace_file", full)
        watcher._forsaken.leave(sleeper, None)
        watcher._forsaken.reaped(os.getpid(), ENDED)
    for attempt in watcher._forsaken.due():
        attempt()
    found = state_of(directory)
    assert isinstance(found, Exited)
    assert found.code == 7
