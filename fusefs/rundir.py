"""STORE/run: where a store's service and its clients meet.

    service.lock   flocked by the one service that owns the two next ones
    service.sock   where it takes leases; JSON, a line each way
    mnt/           where it mounts
    start.lock     flocked by whoever starts a service, and then by that service until it is ready
    service.log    what services say

The socket's path may be longer than the 107 bytes that bind(2) takes, so it is reached through the directory's
descriptor.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from vcs.errors import Denied, NotAStore, StoreError

_LOG_LIMIT = 1 << 20
_NOBODY_THERE = frozenset({errno.ENOENT, errno.ECONNREFUSED, errno.EPIPE, errno.ECONNRESET})


def open_log(log: Path) -> int:
    """A log's descriptor, for appending. A long one is put aside first, under a name with `.old` behind it. OSError."""
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > _LOG_LIMIT:
            log.rename(log.with_suffix(".log.old"))
    return os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


class RunDirectory:
    """The paths, made where they are missing. NotAStore, Denied."""

    def __init__(self, store: Path) -> None:
        try:
            self.store = store.resolve(strict=True)
        except OSError as error:
            raise NotAStore(f"{store} is not a store: {error.strerror}", path=str(store)) from error
        self.path = self.store / "run"
        self.mountpoint = self.path / "mnt"
        self.log = self.path / "service.log"
        try:
            self.path.mkdir(mode=0o700, exist_ok=True)
        except NotADirectoryError as error:
            raise NotAStore(f"{store} is not a store", path=str(store)) from error
        except OSError as error:
            raise Denied(f"{self.path} cannot be made: {error.strerror}", path=str(self.path)) from error

    def open_lock(self, name: str) -> int:
        """A lock file's descriptor, to be flocked. Denied."""
        try:
            return os.open(self.path / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise Denied(f"{self.path / name}: {error.strerror}", path=str(self.path / name)) from error

    @contextlib.contextmanager
    def starting(self) -> Iterator[int]:
        """Be the one who starts a service; waits for whoever does so now. Yields the lock's descriptor: a service
        that inherits it holds the lock on until it is ready or dead, even if we die."""
        lock = self.open_lock("start.lock")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield lock
        finally:
            os.close(lock)

    def connect(self) -> socket.socket | None:
        """A connection to the service, or None if there is none. StoreError."""
        connection = socket.socket(socket.AF_UNIX)
        try:
            with self._socket_path() as path:
                connection.connect(path)
        except OSError as error:
            connection.close()
            if error.errno in _NOBODY_THERE:
                return None
            raise StoreError(f"the service of {self.store} cannot be reached: {error.strerror}") from error
        return connection

    def listen(self) -> socket.socket:
        """Take the socket's place; whoever holds service.lock may."""
        self.remove_socket()
        listener = socket.socket(socket.AF_UNIX)
        with self._socket_path() as path:
            listener.bind(path)
            os.chmod(path, 0o600)
        listener.listen(64)
        listener.setblocking(False)
        return listener

    def remove_socket(self) -> None:
        """From now on nobody connects."""
        (self.path / "service.sock").unlink(missing_ok=True)

    @contextlib.contextmanager
    def _socket_path(self) -> Iterator[str]:
        directory = os.open(self.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield f"/proc/self/fd/{directory}/service.sock"
        finally:
            os.close(directory)
