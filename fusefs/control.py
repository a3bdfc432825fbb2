"""A service's clients: who uses it, and when it may go. Called from the holder's loop.

Clients write a JSON object a line and are answered by one:

    {"do": "lease"}                  {"ok": true, "mountpoint": ..., "device": ..., "pid": ...}
                                     in use for as long as this connection is open
    {"do": "status"}                 {"ok": true, ...}: see Status
    {"do": "roots"}                  {"ok": true, "roots": [...]}: those that may be read from, hexadecimal (known.py)
    {"do": "starting", "root": ..., "profile": ...}
                                     {"ok": true}: a container is about to start on a root (hexadecimal), for which
                                     there may be a profile (a path, or null): see starts.py
    {"do": "started"}                {"ok": true, "objects": [...], "size": ..., "new": ...}: what was read since,
                                     digests in hexadecimal and bytes; `new` of them were not in the profile
    {"do": "restart"}                {"ok": true, "workers": [...]} once all workers are new ones
    {"do": "stop", "force": false}   {"ok": true, "pid": ...} once unmounted; the connection closes with the process
                                     {"ok": false, "kind": "Conflict", "message": ...} if it is in use

The service leaves when nobody has a lease, the mount is bound nowhere else, nothing was asked for a while, and
umount2(2) agrees. Overlays in containers' mount namespaces do not count: each holds a mount of its own of the same file
system, so unmounting ours takes nothing from them. The socket and the lock are given up then, so that a new service may
start, and the workers serve on until the kernel says that the last user is gone.

Unmounting may take a while, so a thread unmounts (unmounting.py), and meanwhile no client is heard.
"""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from selectors import EVENT_READ, BaseSelector
from typing import Any

from fusefs import mounting
from fusefs.listener import Listener
from fusefs.mounting import Mount
from fusefs.rundir import RunDirectory
from fusefs.startings import Startings
from fusefs.unmounting import Unmounted, Unmounting
from fusefs.workers import Workers
from vcs.errors import StoreError, TreeringError

_log = logging.getLogger(__name__)

_LINE_LIMIT = 8192
_ROOT = re.compile("[0-9a-f]{64}")
_SEND_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Status:
    """What a service says of itself."""

    holder: int
    """The process that holds the mount."""
    workers: list[int]
    """The processes that serve it."""
    replaced: int
    """How many workers have died or were replaced."""
    messages: int
    """How many the kernel has sent."""
    nodes: int
    """How many files workers have in memory."""
    given: int
    """How many files were given ahead (readahead.py)."""
    profiled: int
    """How many objects came from a start profile (starts.py)."""
    plain: int
    """How many files overlays have as plain files (datalayer.py)."""
    leases: int
    idle: float
    """Seconds since the kernel was last seen to have asked for something; looked at when a client asks, and when it
    might be time to go."""
    mountpoint: str
    device: str
    """The superblock's major and minor number, as in mountinfo."""


class Control:
    """Leases, questions and the end of one mount."""

    def __init__(
        self,
        places: RunDirectory,
        mounted: Mount,
        lock: int,
        idle_seconds: float,
        workers: Workers,
        roots: Callable[[], Sequence[bytes]],
        selector: BaseSelector,
        plain: Callable[[], int] = lambda: 0,
    ) -> None:
        """`lock` is the descriptor of service.lock, flocked; it is closed when the mount is gone. From now on clients
        are answered."""
        self._places = places
        self._mounted = mounted
        self._lock = lock
        self._idle_seconds = idle_seconds
        self._workers = workers
        self._roots = roots
        self._plain = plain
        self._startings = Startings(workers)
        self._seen = 0
        self._active = time.monotonic()
        self._leases: set[socket.socket] = set()
        self._pending: dict[socket.socket, bytes] = {}
        self._released = False
        self._is_told_to_leave = False
        self._is_refusal_said = False
        """Whether the log has it that the unmounting cannot begin."""
        self._unheard: list[socket.socket] = []
        """Who has asked for something while it unmounts."""
        self._selector = selector
        self._unmounting = Unmounting(places.mountpoint, selector, self._hear_again)
        self._listener = Listener(places.listen(), selector, self._welcome)

    def tick(self) -> None:
        """Look whether it is time to go; called a few times a second."""
        self._startings.tick()
        self._unmounting.tick()
        if self._unmounting.is_under_way:
            return
        self._hear_again()
        if self._released:
            return
        self._listener.resume()
        if self._is_told_to_leave:
            self.leave()
        elif self._until_idle() <= 0:
            self._maybe_leave()

    def leave(self) -> None:
        """Leave as soon as may be, whoever is inside; they are served to the end."""
        self._is_told_to_leave = True  # what cannot be done now is tried again at the next tick
        if self._released or self._unmounting.is_under_way:
            return
        if not self._in_place():
            self.release()
        else:
            self._unmount(self._made_way, detach=True)

    # -- leaving

    def _until_idle(self) -> float:
        return max(0.0, self._active + self._idle_seconds - time.monotonic())

    def _look(self) -> None:
        """Note whether anything was asked since the last look."""
        messages = self._workers.counts().messages
        if messages != self._seen or self._leases:
            self._seen = messages
            self._active = time.monotonic()

    def _maybe_leave(self) -> None:
        self._look()
        if self._until_idle() > 0:
            return
        if self._bound_elsewhere():
            self._active = time.monotonic()
        else:
            self._unmount(self._left)

    def _left(self, result: bool | TreeringError) -> None:
        if result is True:
            _log.info("idle for %g seconds, unmounted", self._idle_seconds)
            self.release()
        elif not self._in_place():
            self.release()
        else:
            self._active = time.monotonic()

    def _made_way(self, result: bool | TreeringError) -> None:
        if result is not True:
            _log.warning("the mount stays until a successor takes it away: %s", result)
        self.release()

    def _bound_elsewhere(self) -> bool:
        point = os.fsencode(self._places.mountpoint)
        return any(mount.device == self._mounted.device and mount.point != point for mount in mounting.mounts())

    def _in_place(self) -> bool:
        """Whether our mount is still the one at its path: anybody with the right may unmount it."""
        mount = mounting.mount_at(self._places.mountpoint)
        return mount is not None and mount.device == self._mounted.device

    def _unmount(self, then: Unmounted, detach: bool = False) -> None:
        """Unmount because it is time to; the next tick tries again if that cannot begin."""
        try:
            self._unmounting.begin(then, detach)
        except StoreError as error:
            if not self._is_refusal_said:
                _log.warning("%s", error)
            self._is_refusal_said = True
        else:
            self._is_refusal_said = False

    def _hear_again(self) -> None:
        """Listen to those who have asked for something meanwhile."""
        while self._unheard:
            self._listen_to(self._unheard[-1])
            self._unheard.pop()

    def release(self) -> None:
        """Let another service start. Its clients are the new one's business; ours keep their connection."""
        if self._released:
            return
        self._released = True
        try:
            self._places.remove_socket()
        except OSError as error:
            # Nobody listens at it, so clients take it for none, and the next service takes its place.
            _log.warning("the socket stays: %s", error)
        finally:
            self._listener.close()
            os.close(self._lock)

    # -- clients

    def _welcome(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._listen_to(connection)
        self._pending[connection] = b""

    def _listen_to(self, connection: socket.socket) -> None:
        self._selector.register(connection, EVENT_READ, lambda: self._receive(connection))

    def _receive(self, connection: socket.socket) -> None:
        if connection not in self._pending:
            return  # it was hung up on in the same turn
        if self._unmounting.is_under_way:
            self._selector.unregister(connection)
            self._unheard.append(connection)
            return
        try:
            data = connection.recv(_LINE_LIMIT)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        lines = (self._pending[connection] + data).split(b"\n")
        self._pending[connection] = lines.pop()
        if not data or len(self._pending[connection]) > _LINE_LIMIT:
            self._drop(connection)
            return
        for line in lines:
            if connection in self._pending:
                try:
                    self._answer(connection, line)
                except Exception as error:
                    _log.exception("a client cannot be answered")
                    self._send(connection, _refusal("StoreError", f"the service cannot do what it is asked: {error}"))

    def _send(self, connection: socket.socket, reply: dict[str, Any] | None) -> None:
        """Answer, or hang up on who gets no answer or does not take it."""
        if connection in self._pending and (reply is None or not _sent(connection, reply)):
            self._drop(connection)

    def _drop(self, connection: socket.socket) -> None:
        self._look()
        self._leases.discard(connection)
        self._startings.end(connection)
        del self._pending[connection]
        if connection in self._unheard:
            self._unheard.remove(connection)
        else:
            self._selector.unregister(connection)
        connection.close()
        self._listener.resume()

    def _answer(self, connection: socket.socket, line: bytes) -> None:
        request = request_of(line)
        if request is None:
            self._send(connection, _refusal("BadInput", "not a request"))
            return
        what = request["do"]
        if what == "lease":
            self._send(connection, self._lease(connection))
        elif what == "status":
            self._send(connection, {"ok": True, **asdict(self._status())})
        elif what == "roots":
            self._send(connection, {"ok": True, "roots": [root.hex() for root in self._roots()]})
        elif what == "starting":
            self._send(connection, self._starting(connection, request.get("root"), request.get("profile")))
        elif what == "started":
            self._startings.finish(connection, lambda reply: self._send(connection, reply))
        elif what == "restart":
            self._workers.restart(lambda: self._send(connection, {"ok": True, "workers": self._workers.pids()}))
        elif what == "stop":
            self._stop(connection, bool(request.get("force")))
        else:
            self._send(connection, _refusal("BadInput", f"unknown request {what!r}"))

    def _lease(self, connection: socket.socket) -> dict[str, Any] | None:
        if self._released or not self._in_place():
            # The client asks again, and then starts a service: without a mount at its place this one is of no use.
            self.release()
            return None
        self._leases.add(connection)
        return {
            "ok": True,
            "mountpoint": str(self._places.mountpoint),
            "device": self._mounted.device,
            "pid": os.getpid(),
        }

    def _starting(self, connection: socket.socket, root: object, profile: object) -> dict[str, Any]:
        if not isinstance(root, str) or not _ROOT.fullmatch(root) or not isinstance(profile, str | None):
            return _refusal("BadInput", "not a root and a profile")
        self._startings.begin(connection, root, profile)
        return {"ok": True}

    def _status(self) -> Status:
        self._look()
        counts = self._workers.counts()
        return Status(
            holder=os.getpid(),
            workers=self._workers.pids(),
            replaced=self._workers.replaced,
            messages=counts.messages,
            nodes=counts.nodes,
            given=counts.given,
            profiled=counts.profiled,
            plain=self._plain(),
            leases=len(self._leases),
            idle=round(time.monotonic() - self._active, 3),
            mountpoint=str(self._places.mountpoint),
            device=self._mounted.device,
        )

    def _stop(self, connection: socket.socket, force: bool) -> None:
        def stopped(result: bool | TreeringError) -> None:
            if isinstance(result, TreeringError):
                self._send(connection, _refusal(result.kind, str(result)))
            elif not result:
                self._send(connection, _refusal("Conflict", "somebody is inside the mount"))
            else:
                _log.info("told to stop")
                self.release()
                self._send(connection, {"ok": True, "pid": os.getpid()})

        if self._leases and not force:
            self._send(connection, _refusal("Conflict", f"the service has {len(self._leases)} users"))
        elif self._released or not self._in_place():
            stopped(True)
        else:
            self._unmounting.begin(stopped, detach=force)


def request_of(line: bytes) -> dict[str, Any] | None:
    """What a client's line asks for, under `do`; None if it asks for nothing."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and "do" in found else None


def _refusal(kind: str, message: str) -> dict[str, Any]:
    return {"ok": False, "kind": kind, "message": message}


def _sent(connection: socket.socket, reply: dict[str, Any]) -> bool:
    """Whether the client took it. One that does not read is not waited for, longer than a long reply takes."""
    connection.settimeout(_SEND_SECONDS)
    try:
        connection.sendall(json.dumps(reply).encode() + b"\n")
    except OSError:
        return False
    connection.setblocking(False)
    return True
