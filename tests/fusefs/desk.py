"""A service's clients and the end of its mount without its workers: the holder's loop, turned by hand.

Sockets and the mount are real; what is mounted is an empty tmpfs, which nobody has to serve.
"""

from __future__ import annotations

import fcntl
import json
import os
import selectors
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fusefs import mounting
from fusefs.control import Control
from fusefs.journal import Journal
from fusefs.memory import RequestMemory
from fusefs.process import Launch
from fusefs.rundir import RunDirectory
from fusefs.workers import Workers

_SECONDS = 20.0


class Client:
    """Who speaks to the service; nobody waits for a reply in here, since nobody would turn the loop meanwhile."""

    def __init__(self, places: RunDirectory) -> None:
        connection = places.connect()
        assert connection is not None
        connection.setblocking(False)
        self.connection = connection

    def say(self, **request: Any) -> None:
        self.connection.sendall(json.dumps(request).encode() + b"\n")

    @property
    def heard(self) -> dict[str, Any] | None:
        """The reply, None if there is none yet. An empty one if the service has hung up."""
        try:
            line = self.connection.recv(65536)
        except BlockingIOError:
            return None
        return json.loads(line) if line else {}


class Desk:
    """A control, and the loop that calls it."""

    def __init__(self, store: Path, idle_seconds: float) -> None:
        self.places = RunDirectory(store)
        self.places.mountpoint.mkdir()
        assert not mounting._libc().mount(b"none", os.fsencode(self.places.mountpoint), b"tmpfs", 0, None)
        mounted = mounting.mount_at(self.places.mountpoint)
        assert mounted is not None
        self.selector = selectors.DefaultSelector()
        launch = Launch(store, "no.such:opener", -1, 0, 0, 0)
        self.workers = Workers(launch, RequestMemory(-1), Journal.create(), 1, 600.0, self.selector, lambda _: None)
        lock = self.places.open_lock("service.lock")
        fcntl.flock(lock, fcntl.LOCK_EX)
        roots: tuple[bytes, ...] = ()
        self.control = Control(self.places, mounted, lock, idle_seconds, self.workers, lambda: roots, self.selector)
        self.clients: list[Client] = []

    def client(self) -> Client:
        self.clients.append(Client(self.places))
        return self.clients[-1]

    def turn(self, seconds: float = _SECONDS) -> int:
        """One turn of the loop; how much there was to do in it."""
        ready = self.selector.select(seconds)
        for key, _ in ready:
            key.data()
        return len(ready)

    def turn_until_idle(self) -> None:
        """All that there is to do now."""
        for _ in range(100):
            if not self.turn(0):
                return
        raise AssertionError("there is always something to do")

    def answer(self, client: Client) -> dict[str, Any]:
        """What a client hears; there is something to do until then."""
        while (found := client.heard) is None:
            assert self.turn(), "nobody is answered"
        return found

    @property
    def is_mounted(self) -> bool:
        return mounting.mount_at(self.places.mountpoint) is not None

    @property
    def is_released(self) -> bool:
        """Whether another service may start: nobody holds the lock or listens."""
        lock = self.places.open_lock("service.lock")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(lock)
        return self.places.connect() is None

    def close(self) -> None:
        while self.is_mounted:
            mounting.detach(self.places.mountpoint)
        for client in self.clients:
            client.connection.close()
        try:
            self.control.release()
        finally:
            for key in list(self.selector.get_map().values()):
                assert isinstance(key.fileobj, socket.socket)
                key.fileobj.close()
            self.selector.close()


@contextmanager
def desk(store: Path, idle_seconds: float = 600.0) -> Iterator[Desk]:
    """One whose mount and descriptors are gone in the end."""
    made = Desk(store, idle_seconds)
    try:
        yield made
    finally:
        made.close()
