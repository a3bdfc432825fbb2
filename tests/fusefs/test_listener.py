"""More clients than a service has descriptors for wait, and cost it nothing meanwhile."""

from __future__ import annotations

import errno
import logging
import os
import resource
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fusefs.desk import Client, Desk, desk
from tests.fusefs.served import service
from tests.fusefs.serving import commit, needs_fuse
from tests.support.descriptors import no_descriptors
from vcs.store import Store

pytestmark = needs_fuse


@pytest.fixture
def at(tmp_path: Path) -> Iterator[Desk]:
    with desk(tmp_path) as made:
        yield made


def asking(at: Desk) -> Client:
    client = at.client()
    client.say(do="roots")
    return client


def rests(at: Desk) -> bool:
    """Whether the loop has nothing to do, though a client waits."""
    assert at.turn()
    return not at.turn(0)


def test_without_descriptors_clients_wait_and_the_loop_rests(at: Desk, caplog: pytest.LogCaptureFixture) -> None:
    first = asking(at)
    assert at.answer(first)["ok"]
    waiting = asking(at)
    with no_descriptors():
        for _ in range(3):
            assert rests(at)
            first.say(do="roots")
            assert at.answer(first)["ok"]
            at.control.tick()
        assert rests(at)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "Too many open files" in caplog.text
    at.control.tick()
    assert at.answer(waiting)["ok"]


def test_a_client_that_leaves_makes_room_for_the_next(at: Desk) -> None:
    first = asking(at)
    assert at.answer(first)["ok"]
    waiting = asking(at)
    with no_descriptors():
        assert rests(at)
    first.connection.close()
    assert at.answer(waiting)["ok"]


def test_it_is_said_again_when_clients_were_let_in_meanwhile(at: Desk, caplog: pytest.LogCaptureFixture) -> None:
    for number in (1, 2):
        waiting = asking(at)
        with no_descriptors():
            assert rests(at)
        assert len(caplog.records) == number
        at.control.tick()
        assert at.answer(waiting)["ok"]


def test_a_client_that_hung_up_while_it_waited_costs_nobody_anything(
    at: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    waiting = asking(at)

    def accept(_: socket.socket) -> None:
        raise ConnectionAbortedError(errno.ECONNABORTED, "hung up")

    with monkeypatch.context() as patch:
        patch.setattr(socket.socket, "accept", accept)
        assert at.turn()
    assert at.answer(waiting)["ok"], "it listens on"
    assert not caplog.records


def test_without_descriptors_it_may_leave(at: Desk) -> None:
    asking(at)
    with no_descriptors():
        assert rests(at)
        at.control.release()
    assert at.is_released


def test_a_service_takes_all_descriptors_that_it_may_have(tmp_path: Path) -> None:
    """Each running container is a connection, and what a shell gives is often 1,024."""
    with Store.create(tmp_path / "store") as made:
        commit(made, {"f": b"f"})
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1] - 1, before[1]))
    try:
        with service(tmp_path / "store") as served:
            assert resource.prlimit(served.lease.pid, resource.RLIMIT_NOFILE) == (before[1], before[1])
            assert os.listdir(served.top / "branches") == ["main"]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
