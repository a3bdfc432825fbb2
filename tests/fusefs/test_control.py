"""A service hears its clients and leaves, whatever goes wrong while it unmounts."""

from __future__ import annotations

import errno
import logging
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from fusefs import mounting
from tests.fusefs.desk import Client, Desk, desk
from tests.support.descriptors import no_descriptors
from tests.support.scarcity import no_threads

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mounts for real")


@pytest.fixture
def patient(tmp_path: Path) -> Iterator[Desk]:
    """A service that does not become idle while a test lasts."""
    with desk(tmp_path) as made:
        yield made


@pytest.fixture
def hasty(tmp_path: Path) -> Iterator[Desk]:
    """A service that would leave at its first tick."""
    with desk(tmp_path, idle_seconds=0.0) as made:
        yield made


class Gate:
    """Where an unmounting waits until a test lets it go on; what it fails with then."""

    def __init__(self, patch: pytest.MonkeyPatch, error: Exception | None = None) -> None:
        self._reached, self._open = threading.Event(), threading.Event()
        self._error = error
        self._unmount = mounting.unmount
        patch.setattr(mounting, "unmount", self._wait)

    def _wait(self, point: Path) -> bool:
        self._reached.set()
        assert self._open.wait(20.0)
        if self._error is not None:
            raise self._error
        return self._unmount(point)

    def is_reached(self) -> bool:
        return self._reached.wait(20.0)

    def open(self) -> None:
        self._open.set()


def asks_meanwhile(at: Desk) -> Client:
    """A client that is not heard, since the service unmounts just then."""
    client = at.client()
    client.say(do="status")
    at.turn_until_idle()
    assert client.heard is None
    return client


def is_heard(at: Desk) -> bool:
    client = at.client()
    client.say(do="status")
    return bool(at.answer(client)["ok"])


# -- no thread to unmount


def test_idle_without_a_thread_it_hears_clients_and_tries_again(hasty: Desk, caplog: pytest.LogCaptureFixture) -> None:
    with no_threads():
        for _ in range(3):
            hasty.control.tick()
            assert is_heard(hasty)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "can't start new thread" in caplog.text
    assert hasty.is_mounted
    hasty.control.tick()
    hasty.turn()
    assert not hasty.is_mounted
    assert hasty.is_released


def test_told_to_stop_without_a_thread_it_says_so(patient: Desk) -> None:
    client = patient.client()
    client.say(do="stop")
    with no_threads():
        told = patient.answer(client)
    assert told["kind"] == "StoreError"
    assert "can't start new thread" in told["message"]
    assert is_heard(patient)
    client.say(do="stop")
    assert patient.answer(client)["ok"]
    assert not patient.is_mounted
    assert patient.is_released


def test_told_to_leave_without_a_thread_it_tries_again(patient: Desk) -> None:
    with no_threads():
        patient.control.leave()
        patient.control.tick()
        assert is_heard(patient)
    assert not patient.is_released
    patient.control.tick()
    patient.turn()
    assert not patient.is_mounted
    assert patient.is_released


def test_told_to_leave_while_it_finds_somebody_inside_it_leaves(hasty: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch)
    inside = os.open(hasty.places.mountpoint, os.O_PATH)
    try:
        hasty.control.tick()
        assert gate.is_reached()
        hasty.control.leave()
        gate.open()
        hasty.turn()
        assert hasty.is_mounted
        hasty.control.tick()
        hasty.turn()
    finally:
        os.close(inside)
    assert not hasty.is_mounted
    assert hasty.is_released


def test_told_to_stop_twice_it_stops_once(patient: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch)
    client = patient.client()
    client.connection.sendall(b'{"do": "stop"}\n{"do": "stop"}\n')
    assert "already" in patient.answer(client)["message"]
    gate.open()
    assert patient.answer(client)["ok"]
    assert patient.is_released


# -- errors of the thread


@pytest.mark.parametrize("error", [MemoryError(), ImportError("no ctypes"), OSError(errno.EIO, "disk")])
def test_whatever_unmounting_raises_is_told(patient: Desk, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(monkeypatch, error)
    client = patient.client()
    client.say(do="stop")
    patient.turn_until_idle()
    assert gate.is_reached()
    other = asks_meanwhile(patient)
    gate.open()
    told = patient.answer(client)
    assert told["kind"] == "StoreError"
    assert type(error).__name__ in told["message"]
    assert patient.answer(other)["ok"]


def test_what_a_thread_cannot_tell_is_noticed(hasty: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a message through a socket has no memory."""

    def send(_: socket.socket, __: bytes) -> int:
        raise OSError(errno.ENOBUFS, "no memory")

    monkeypatch.setattr(socket.socket, "send", send)
    hasty.control.tick()
    for thread in threading.enumerate():
        if thread.name == "unmount":
            thread.join(20.0)
    assert not hasty.is_mounted
    hasty.control.tick()
    assert hasty.is_released


# -- errors of what comes after it


def test_who_asked_while_it_unmounted_is_heard_after_an_error(hasty: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """With no descriptor left it cannot even see what is mounted."""
    gate = Gate(monkeypatch)
    inside = os.open(hasty.places.mountpoint, os.O_PATH)
    try:
        hasty.control.tick()
        assert gate.is_reached()
        client = asks_meanwhile(hasty)
        gate.open()
        with no_descriptors(), suppress(OSError):
            hasty.turn()
        assert hasty.answer(client)["ok"]
    finally:
        os.close(inside)
    assert hasty.is_mounted


def test_a_socket_that_cannot_be_removed_keeps_no_successor_away(
    patient: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody listens at it, so clients take it for none."""
    (patient.places.path / "service.sock").unlink()
    (patient.places.path / "service.sock").mkdir()
    with suppress(OSError):
        patient.control.release()
    assert patient.is_released
    assert "service.sock" in caplog.text
