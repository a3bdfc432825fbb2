"""Who knocks where there is no descriptor for him is turned away: a poll tells of him as long as he stands there."""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from runtime.supervision.attachments import Door, knock
from runtime.supervision.reception import Reception
from tests.support.descriptors import descriptors_left, open_descriptors


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    made = Door(tmp_path)
    yield made
    made.close()


def is_knocked_at(door: Door) -> bool:
    poll = select.poll()
    poll.register(door, select.POLLIN)
    return bool(poll.poll(0))


def test_without_a_descriptor_who_knocks_is_told(door: Door, tmp_path: Path) -> None:
    knocking = [knock(tmp_path) for _ in range(3)]
    before = open_descriptors()
    with descriptors_left(0):
        for _ in knocking:
            assert door.accept() is None
        assert not is_knocked_at(door)
    assert open_descriptors() == before
    for peer in knocking:
        message = peer.receive()
        assert message
        assert "descriptor" in message.fields["error"]
        assert peer.receive() is None
        peer.close()


def test_at_a_supervisor_s_too(tmp_path: Path) -> None:
    reception = Reception(None, lambda _: None)
    reception.open(tmp_path)
    knocking = knock(tmp_path)
    with descriptors_left(0):
        reception.serve(reception.fds)
        poll = select.poll()
        for fd in reception.fds:
            poll.register(fd, select.POLLIN)
        assert poll.poll(0) == []
    reception.serve(reception.fds)
    assert reception.is_empty
    other = knock(tmp_path)
    reception.serve(reception.fds)
    assert not reception.is_empty
    for peer in (knocking, other):
        peer.close()
    reception.close()


class Exhausted(socket.socket):
    """On a machine that has no open file left, for nobody."""

    def accept(self) -> NoReturn:
        raise OSError(errno.ENFILE, os.strerror(errno.ENFILE))


def test_on_a_machine_that_has_nothing_left_nobody_spins(
    door: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The descriptor kept in reserve is another process's as soon as it is let go."""
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    monkeypatch.setattr(door, "_socket", Exhausted(fileno=door._socket.detach()))
    for _ in range(3):
        assert door.accept() is None
    assert len(slept) == 3
    assert min(slept) > 0


def test_who_has_gone_again_holds_nobody_up(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("nothing is short"))
    assert door.accept() is None


def test_a_door_lets_its_reserve_go(tmp_path: Path) -> None:
    before = open_descriptors()
    made = Door(tmp_path)
    made.close()
    made.close()
    assert open_descriptors() == before
