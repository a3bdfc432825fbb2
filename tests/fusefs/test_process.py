"""Who lives and who is dead, also where /proc cannot be read: what is taken for dead is replaced."""

from __future__ import annotations

import errno
import os
import resource
import selectors
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from fusefs import orphans
from fusefs.journal import Journal
from fusefs.memory import RequestMemory
from fusefs.process import Launch, Stage, Worker, state_of
from fusefs.workers import Workers
from tests.support.descriptors import no_descriptors


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that lives as long as a test wants it to."""
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill()
    process.wait()


def zombie_of(process: subprocess.Popen[bytes]) -> int:
    """Kill a process; it has ended, and nobody has waited for it."""
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    return process.pid


def gone(process: subprocess.Popen[bytes]) -> int:
    """Kill a process; there is none of its id any more."""
    process.kill()
    process.wait()
    return process.pid


def test_the_dead_are_told_from_the_living(sleeper: subprocess.Popen[bytes]) -> None:
    assert state_of(os.getpid()) == "R"
    assert state_of(zombie_of(sleeper)) == "Z"
    assert state_of(gone(sleeper)) == "X"


def test_without_a_descriptor_nothing_is_known_of_anybody(sleeper: subprocess.Popen[bytes]) -> None:
    with no_descriptors():
        assert state_of(sleeper.pid) == "?"


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOMEM, "no memory"), MemoryError(), FileNotFoundError(errno.ENOENT, "none")]
)
def test_without_memory_nothing_is_known_of_the_living(
    sleeper: subprocess.Popen[bytes], error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel says that there is no such process where it has no memory to show one, too."""

    def read(_: Path) -> bytes:
        raise error

    monkeypatch.setattr(Path, "read_bytes", read)
    assert state_of(sleeper.pid) == "?"


def test_a_spare_does_not_take_the_place_of_the_living(
    sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers that read requests into one slot give readers bytes of other requests."""
    memory = RequestMemory(-1)
    memory.slot(5).owner = sleeper.pid
    looks = []

    def next_look(_: float) -> None:
        looks.append(state_of(sleeper.pid))
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        gone(sleeper)

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    monkeypatch.setattr(orphans, "time", SimpleNamespace(sleep=next_look))
    with no_descriptors():
        slot = orphans.next_vacancy(memory)
    assert looks == ["?"]
    assert slot is not None
    assert slot.owner == sleeper.pid


def test_a_worker_answers_only_for_the_dead(sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """And if one dies later, for it as well."""

    class Enough(Exception):
        pass

    memory = RequestMemory(-1)
    slot = memory.slot(5)
    slot.owner, slot.request = sleeper.pid, b"\x08\0\0\0left"
    answered: list[tuple[int, bytes]] = []
    looks = []

    def next_look(_: float) -> None:
        looks.append(len(answered))
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        gone(sleeper)
        if len(looks) == 3:
            raise Enough

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    monkeypatch.setattr(orphans, "time", SimpleNamespace(sleep=next_look))
    with no_descriptors(), suppress(Enough):
        orphans.answer_for_the_dead(memory, lambda request: answered.append((len(looks), request)))
    assert looks == [0, 1, 1]
    assert answered == [(1, b"\x08\0\0\0left")]


def test_the_holder_keeps_a_worker_of_which_nothing_is_known(sleeper: subprocess.Popen[bytes], tmp_path: Path) -> None:
    """One that was dropped served on, unwatched, and a restart did not replace it."""
    ours, theirs = socket.socketpair()
    worker = Worker(sleeper, ours, time.monotonic(), Stage.SERVING, slot=0, is_up=True, is_confirmed=True)
    launch = Launch(tmp_path, "no.such:opener", -1, 0, 0, 0)
    with selectors.DefaultSelector() as selector, ours, theirs:
        memory = RequestMemory(-1)
        workers = Workers(launch, memory, Journal.create(), 1, 600.0, selector, lambda _: None)
        workers._live.append(worker)
        with no_descriptors():
            workers.tick()
        assert workers.pids() == [sleeper.pid]
        assert workers.replaced == 0
        workers.end()
    assert sleeper.returncode is not None
