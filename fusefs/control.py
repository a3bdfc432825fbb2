"""A service's other half: who uses it, and when it may go. A thread beside the loop that serves the kernel.

Clients write a JSON object a line and are answered by one:

    {"do": "lease"}                  {"ok": true, "mountpoint": ..., "device": ..., "pid": ...}
                                     in use for as long as this connection is open
    {"do": "status"}                 {"ok": true, ...}: see Status
    {"do": "roots"}                  {"ok": true, "roots": [...]}: those of which the kernel knows any file, hexadecimal
    {"do": "starting", "root": ..., "profile": ...}
                                     {"ok": true}: a container is about to start on a root (hexadecimal), for which
                                     there may be a profile (a path, or null): see starts.py
    {"do": "started"}                {"ok": true, "objects": [...], "size": ..., "new": ...}: what was read since,
                                     digests in hexadecimal and bytes; `new` of them were not in the profile
    {"do": "stop", "force": false}   {"ok": true, "pid": ...} once unmounted; the connection closes with the process
                                     {"ok": false, "kind": "Conflict", "message": ...} if it is in use

The service leaves when nobody has a lease, the mount is bound nowhere else, nothing was asked for a while, and
umount2(2) agrees. Overlays in containers' mount namespaces do not count: each holds a mount of its own of the same file
system, so unmounting ours takes nothing from them. The socket and the lock are given up then, so that a new service may
start, and the loop serves on until the kernel says that the last user is gone.
"""

from __future__ import annotations

import json
import logging
import os
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fusefs import mounting
from fusefs.mounting import Mount
from fusefs.rundir import RunDirectory
from fusefs.starts import Reads, Start, Starts
from vcs.errors import TreeringError
from vcs.model import RootId

_log = logging.getLogger(__name__)

_LINE_LIMIT = 4096
_SEND_SECONDS = 5.0
_FINISH = b"\xff"
"""No signal has this number."""


@dataclass(frozen=True, slots=True)
class Counters:
    """What the loop has done."""

    messages: int
    """How many the kernel has sent."""
    nodes: int
    """How many files the kernel knows."""
    given: int
    """How many files were given ahead (readahead.py)."""
    profiled: int
    """How many objects came from a start profile (starts.py)."""


@dataclass(frozen=True, slots=True)
class Status:
    """What a service says of itself."""

    pid: int
    mountpoint: str
    device: str
    """The superblock's major and minor number, as in mountinfo."""
    leases: int
    messages: int
    nodes: int
    given: int
    profiled: int
    """See Counters."""
    idle: float
    """Seconds since the kernel was last seen to have asked for something; looked at when a client asks, and when it
    might be time to go."""


class Control:
    """Leases, questions and the end of one mount."""

    def __init__(
        self,
        places: RunDirectory,
        mounted: Mount,
        lock: int,
        idle_seconds: float,
        counters: Callable[[], Counters],
        roots: Callable[[], Sequence[RootId]],
        starts: Starts,
    ) -> None:
        """`lock` is the descriptor of service.lock, flocked; it is closed when the mount is gone. `counters` and
        `roots` are called from the control's thread."""
        self._places = places
        self._mounted = mounted
        self._lock = lock
        self._idle_seconds = idle_seconds
        self._counters = counters
        self._roots = roots
        self._starts = starts
        self._starting: dict[socket.socket, Start] = {}
        self._seen = 0
        self._active = time.monotonic()
        self._leases: set[socket.socket] = set()
        self._pending: dict[socket.socket, bytes] = {}
        self._released = False
        self._selector = selectors.DefaultSelector()
        self._listener = places.listen()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._wakeup, self._waker = socket.socketpair()
        self._selector.register(self._wakeup, selectors.EVENT_READ)
        self._waker.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)

    def start(self) -> None:
        """From now on clients are answered."""
        self._thread.start()

    def signals_to(self) -> int:
        """A descriptor that takes the numbers of signals (signal.set_wakeup_fd): on any of them the service leaves
        soon, whoever is inside; they are served to the end."""
        return self._waker.fileno()

    def finish(self) -> None:
        """The kernel is done with us: give everything up, and wait for the thread."""
        self._waker.send(_FINISH)
        self._thread.join()

    # -- the thread

    def _run(self) -> None:
        try:
            while self._turn():
                pass
        except Exception:
            _log.exception("the control thread failed; the file system is served on")
        finally:
            self._release()

    def _turn(self) -> bool:
        for key, _ in self._selector.select(None if self._released else self._until_idle()):
            if key.fileobj is self._wakeup:
                if _FINISH in self._wakeup.recv(64):
                    return False
                self._detach()
            elif key.fileobj is self._listener:
                self._accept()
            else:
                assert isinstance(key.fileobj, socket.socket)
                self._receive(key.fileobj)
        if not self._released and self._until_idle() <= 0:
            self._maybe_leave()
        return True

    def _until_idle(self) -> float:
        return max(0.0, self._active + self._idle_seconds - time.monotonic())

    def _look(self) -> Counters:
        """Note whether anything was asked since the last look."""
        counters = self._counters()
        if counters.messages != self._seen or self._leases:
            self._seen = counters.messages
            self._active = time.monotonic()
        return counters

    def _maybe_leave(self) -> None:
        self._look()
        if self._until_idle() > 0:
            return
        if self._bound_elsewhere() or not mounting.unmount(self._places.mountpoint):
            self._active = time.monotonic()
            return
        _log.info("idle for %g seconds, unmounted", self._idle_seconds)
        self._release()

    def _bound_elsewhere(self) -> bool:
        point = os.fsencode(self._places.mountpoint)
        return any(mount.device == self._mounted.device and mount.point != point for mount in mounting.mounts())

    def _in_place(self) -> bool:
        """Whether our mount is still the one at its path: anybody with the right may unmount it."""
        mount = mounting.mount_at(self._places.mountpoint)
        return mount is not None and mount.device == self._mounted.device

    def _detach(self) -> None:
        if not self._released and self._in_place():
            mounting.detach(self._places.mountpoint)
            _log.info("told to leave: detached")
        self._release()

    def _release(self) -> None:
        """Let another service start. Its clients are the new one's business; ours keep their connection."""
        if self._released:
            return
        self._released = True
        self._places.remove_socket()
        self._selector.unregister(self._listener)
        self._listener.close()
        os.close(self._lock)

    # -- clients

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if uid not in (0, os.geteuid()):
            _log.warning("refused a client of user %d", uid)
            connection.close()
            return
        connection.setblocking(False)
        self._pending[connection] = b""
        self._selector.register(connection, selectors.EVENT_READ)

    def _receive(self, connection: socket.socket) -> None:
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
            reply = self._reply(connection, line)
            if reply is None or not _sent(connection, reply):
                self._drop(connection)
                return

    def _drop(self, connection: socket.socket) -> None:
        self._look()
        self._leases.discard(connection)
        self._started(connection)
        del self._pending[connection]
        self._selector.unregister(connection)
        connection.close()

    def _reply(self, connection: socket.socket, line: bytes) -> dict[str, Any] | None:
        try:
            request = json.loads(line)
            what = request["do"]
        except (ValueError, TypeError, KeyError):
            return _refusal("BadInput", "not a request")
        if what == "lease":
            return self._lease(connection)
        if what == "status":
            return {"ok": True, **asdict(self._status())}
        if what == "roots":
            return {"ok": True, "roots": [root.hex() for root in self._roots()]}
        if what == "starting":
            return self._begin(connection, request)
        if what == "started":
            reads = self._started(connection)
            objects = [digest.hex() for digest in reads.objects]
            return {"ok": True, "objects": objects, "size": reads.size, "new": reads.new}
        if what == "stop":
            return self._stop(bool(request.get("force")))
        return _refusal("BadInput", f"unknown request {what!r}")

    def _lease(self, connection: socket.socket) -> dict[str, Any] | None:
        if self._released or not self._in_place():
            # The client asks again, and then starts a service: without a mount at its place this one is of no use.
            self._release()
            return None
        self._leases.add(connection)
        return {
            "ok": True,
            "mountpoint": str(self._places.mountpoint),
            "device": self._mounted.device,
            "pid": os.getpid(),
        }

    def _begin(self, connection: socket.socket, request: dict[str, Any]) -> dict[str, Any]:
        try:
            root = RootId(bytes.fromhex(request["root"]))
            profile = Path(request["profile"]) if request["profile"] else None
        except (ValueError, TypeError, KeyError):
            return _refusal("BadInput", "not a root and a profile")
        self._started(connection)
        start = self._starts.starting(root, profile)
        if start is not None:
            self._starting[connection] = start
        return {"ok": True}

    def _started(self, connection: socket.socket) -> Reads:
        """End the start that a connection has begun."""
        start = self._starting.pop(connection, None)
        return self._starts.finish(start) if start else Reads()

    def _status(self) -> Status:
        counters = self._look()
        return Status(
            pid=os.getpid(),
            mountpoint=str(self._places.mountpoint),
            device=self._mounted.device,
            leases=len(self._leases),
            messages=counters.messages,
            nodes=counters.nodes,
            given=counters.given,
            profiled=counters.profiled,
            idle=round(time.monotonic() - self._active, 3),
        )

    def _stop(self, force: bool) -> dict[str, Any]:
        try:
            if force:
                self._detach()
            elif self._leases:
                return _refusal("Conflict", f"the service has {len(self._leases)} users")
            elif not self._released and self._in_place() and not mounting.unmount(self._places.mountpoint):
                return _refusal("Conflict", "somebody is inside the mount")
        except TreeringError as error:
            return _refusal(error.kind, str(error))
        _log.info("told to stop")
        self._release()
        return {"ok": True, "pid": os.getpid()}


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
