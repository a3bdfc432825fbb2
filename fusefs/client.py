"""Using a store's service: finding it, starting it, holding it.

    with Service.ensure(store) as lease:
        os.listdir(lease.mountpoint / "branches")

Imports nothing of the service itself, so that a command that only needs the mount starts fast.
"""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusefs import detached, mounting
from fusefs.rundir import RunDirectory, open_log
from vcs.errors import StoreError

if TYPE_CHECKING:
    from vcs.model import RootId

_ATTEMPTS = 5
_ANSWER_SECONDS = 60.0
_READS_SECONDS = 5.0
_STOP_SECONDS = 10.0
_DEFAULT_OPENER = "vcs.store:Store.open"
_DEFAULT_IDLE_SECONDS = 60.0
_DEFAULT_HUNG_SECONDS = 30.0


class Lease:
    """A store's mount, in use until close(). A context manager."""

    def __init__(
        self, connection: socket.socket, mountpoint: Path, device: str, pid: int, *, is_awaited: bool = False
    ) -> None:
        self._connection = connection
        self._is_awaited = is_awaited
        """Whether the answer to `starting` is still to be read."""
        self.mountpoint = mountpoint
        self.device = device
        """The superblock's major and minor number, as in mountinfo."""
        self.pid = pid
        """The holder's: the process that the mount depends on."""

    def fileno(self) -> int:
        """The connection's descriptor: a process that inherits it holds the lease too."""
        return self._connection.fileno()

    def starting(self, root: RootId, profile: Path | None) -> None:
        """Say that a container is about to start on a root, for which there may be a profile. Nobody waits for the
        answer: `started` raises what was wrong. StoreError if the service is gone."""
        request = {"do": "starting", "root": root.hex(), "profile": str(profile) if profile else None}
        try:
            _send(self._connection, request)
        except ConnectionError as error:
            raise StoreError(f"the service is gone: {error.strerror}") from error
        self._is_awaited = True

    def started(self) -> tuple[list[bytes], int, int]:
        """What was read since `starting`: the objects' digests, their bytes, and how many of these the profile did not
        have. StoreError."""
        awaited, self._is_awaited = self._is_awaited, False
        reply = _ask(self._connection, {"do": "started"}, _READS_SECONDS, awaited)
        if reply is None:
            return [], 0, 0
        return [bytes.fromhex(digest) for digest in reply["objects"]], reply["size"], reply["new"]

    def close(self) -> None:
        """Give the lease back; doing so twice is no error."""
        self._connection.close()

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Service:
    """The one service of a store, from outside."""

    trace = False
    """Whether services that this process starts log every message."""

    @classmethod
    def ensure(
        cls,
        store: Path,
        idle_seconds: float = _DEFAULT_IDLE_SECONDS,
        opener: str = _DEFAULT_OPENER,
        workers: int = 1,
        hung_seconds: float = _DEFAULT_HUNG_SECONDS,
    ) -> Lease:
        """A lease on the store's mount; the service is started if there is none.

        What else is given is used by a service that is started now (fusefs.service.Options). Whoever else calls this at
        the same time gets a lease on the same service. NotAStore, Denied, StoreError, Conflict.
        """
        options = ["--idle", str(idle_seconds), "--opener", opener]
        options += ["--workers", str(workers), "--hung", str(hung_seconds), *(["--trace"] if cls.trace else [])]
        places = RunDirectory(store)
        for _ in range(_ATTEMPTS):
            lease = _lease(places)
            if lease is not None:
                return lease
            with places.starting() as lock:
                lease = _lease(places)
                if lease is not None:
                    return lease
                _start(places, lock, options)
        raise StoreError(f"the service of {store} does not stay: see {places.log}", log=str(places.log))

    @staticmethod
    def status(store: Path) -> dict[str, Any] | None:
        """What the service says of itself (fusefs.control.Status), or None if none runs. NotAStore, StoreError."""
        connection = RunDirectory(store).connect()
        if connection is None:
            return None
        with connection:
            reply = _ask(connection, {"do": "status"})
        if reply is not None:
            del reply["ok"]
        return reply

    @staticmethod
    def roots(store: Path) -> set[RootId]:
        """The roots that are being read through the mount, or may be: the kernel knows files of them. Empty if no
        service runs; what killed ones have left is removed then. StoreError if the service does not say; NotAStore."""
        places = RunDirectory(store)
        for _ in range(_ATTEMPTS):
            connection = places.connect()
            if connection is None:
                from fusefs.datadir import remove_stale

                remove_stale(places.path)
                return set()
            with connection:
                reply = _ask(connection, {"do": "roots"})
            if reply is not None:  # else it was just leaving
                from vcs.model import RootId  # 9 ms, and only gc asks

                return {RootId(bytes.fromhex(root)) for root in reply["roots"]}
        raise StoreError(f"the service of {store} does not say what is read through it", log=str(places.log))

    @staticmethod
    def restart(store: Path) -> list[int]:
        """Replace the service's workers by new ones, with the code that is installed now; nobody who reads notices.
        Returns their process ids; none if no service runs. The holder stays. NotAStore, StoreError."""
        connection = RunDirectory(store).connect()
        if connection is None:
            return []
        with connection:
            reply = _ask(connection, {"do": "restart"})
        return [] if reply is None else list(reply["workers"])

    @staticmethod
    def stop(store: Path, force: bool = False) -> bool:
        """End the service. True once its process is gone or there was none, False if it serves what remains.

        Conflict if it is in use; with `force` its mount is taken away nevertheless, and who is inside is served on, as
        are overlays in other mount namespaces. A new service may be started at once. NotAStore, StoreError.
        """
        connection = RunDirectory(store).connect()
        if connection is None:
            return True
        with connection:
            if _ask(connection, {"do": "stop", "force": force}) is None:
                return True
            connection.settimeout(_STOP_SECONDS if not force else 0.2)
            try:
                return connection.recv(1) == b""
            except ConnectionError:
                return True
            except TimeoutError:
                return False


def _lease(places: RunDirectory) -> Lease | None:
    """A lease on the running service, None if there is none or it is just leaving."""
    connection = places.connect()
    if connection is None:
        return None
    try:
        reply = _ask(connection, {"do": "lease"})
        if reply is None:
            connection.close()
            return None
        lease = Lease(connection, Path(reply["mountpoint"]), reply["device"], reply["pid"])
        mount = mounting.mount_at(lease.mountpoint)
        if mount is None or mount.device != lease.device:
            raise StoreError(
                f"process {lease.pid} serves {places.store} in another mount namespace, not in this one", pid=lease.pid
            )
    except BaseException:
        connection.close()
        raise
    return lease


def _ask(
    connection: socket.socket, request: dict[str, Any], seconds: float = _ANSWER_SECONDS, awaited: int = 0
) -> dict[str, Any] | None:
    """The reply to a request, None if the service hangs up; before it come replies that are still `awaited`. Refusals
    are raised."""
    connection.settimeout(seconds)
    try:
        _send(connection, request)
        with connection.makefile("rb") as lines:
            *before, line = [lines.readline() for _ in range(awaited + 1)]
    except ConnectionError:
        return None
    except TimeoutError:
        raise StoreError("the service does not answer") from None
    finally:
        connection.settimeout(None)
    for earlier in filter(None, before):
        detached.checked(earlier)
    return detached.checked(line) if line else None


def _send(connection: socket.socket, request: dict[str, Any]) -> None:
    connection.sendall(json.dumps(request).encode() + b"\n")


def _start(places: RunDirectory, lock: int, options: list[str]) -> None:
    """Start a service and wait until it serves. What it failed with is raised."""
    log = open_log(places.log)
    try:
        arguments = ["--store", str(places.store), *options, "--starting", str(lock)]
        detached.start("fusefs.service", arguments, log, (lock,))
    finally:
        os.close(log)
