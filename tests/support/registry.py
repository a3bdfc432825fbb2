"""A registry of one's own: Debian's docker-registry on loopback, and what clients send to it, counted."""

from __future__ import annotations

import re
import select
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_DEADLINE = 30.0
_CONFIG = """
version: 0.1
log: {{level: info, formatter: text}}
storage: {{filesystem: {{rootdirectory: {storage}}}}}
http: {{addr: "127.0.0.1:0"}}
"""
_AUTH = "auth: {{htpasswd: {{realm: tests, path: {passwords}}}}}\n"
USER, PASSWORD = "ana", "secret"
_PASSWORDS = "ana:$2y$04$D.vrZwrfDtsrXHm1TPQkMeF10lfBDGKG/7BDPRiNy8Ztv8qcmu/he\n"
"""bcrypt's, of that password."""


class CountingProxy:
    """Passes connections on to a port, and counts the bytes that come from clients."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()
        self.received = 0
        self._held_after: int | None = None
        self._go = threading.Event()
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def hold(self, after: int) -> None:
        """From now on a connection stands still once so many bytes went to its client, until `release`."""
        self._go.clear()
        self._held_after = after

    def release(self) -> None:
        """Have all connections go on."""
        self._held_after = None
        self._go.set()

    def close(self) -> None:
        """End all connections: the threads end with them."""
        self.release()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for one in self._open:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._port), timeout=_DEADLINE)
            except OSError:
                return
            with self._lock:
                self._open += [client, server]
            threading.Thread(target=self._pass, args=(client, server), daemon=True).start()

    def _pass(self, client: socket.socket, server: socket.socket) -> None:
        sent = 0
        poll = select.poll()  # not select(2), which knows no descriptor above 1023
        for one in (client, server):
            poll.register(one, select.POLLIN)
        with suppress(OSError):
            while ready := poll.poll(_DEADLINE * 1000):
                if self._held_after is not None and sent > self._held_after:
                    self._go.wait(_DEADLINE)
                for source in (one for one in (client, server) if one.fileno() in dict(ready)):
                    data = source.recv(1 << 16)
                    if source is client:
                        with self._lock:
                            self.received += len(data)
                    else:
                        sent += len(data)
                    (server if source is client else client).sendall(data)
                    if not data:
                        raise OSError
        with self._lock:
            for one in (client, server):
                self._open.remove(one)
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
                one.close()


@contextmanager
def registry(directory: Path, *, has_users: bool = False) -> Iterator[CountingProxy]:
    """A registry as `plain_registry` has it, behind a proxy that counts."""
    with plain_registry(directory, has_users=has_users) as (port, _):
        proxy = CountingProxy(port)
        try:
            yield proxy
        finally:
            proxy.close()


@contextmanager
def plain_registry(
    directory: Path, *, has_users: bool = False, storage: Path | None = None
) -> Iterator[tuple[int, int]]:
    """A registry whose `storage` is below `directory` if it is not said; it has no TLS. Gives its port on loopback, and
    its pid, by which it is ended.

    If it `has_users`, it serves nobody but USER with PASSWORD.
    """
    directory.mkdir()
    config, log = directory / "config.yml", directory / "log"
    (directory / "passwords").write_text(_PASSWORDS)
    text = _CONFIG + (_AUTH if has_users else "")
    config.write_text(text.format(storage=storage or directory / "storage", passwords=directory / "passwords"))
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["docker-registry", "serve", config], stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        yield _port(process, log), process.pid
    finally:
        process.kill()
        process.wait(_DEADLINE)


def _port(process: subprocess.Popen[bytes], log: Path) -> int:
    """It listens on a free port, and its log tells which."""
    end = time.monotonic() + _DEADLINE
    while time.monotonic() < end and process.poll() is None:
        found = re.search(rb"listening on 127\.0\.0\.1:([0-9]+)", log.read_bytes())
        if found:
            return int(found[1])
        time.sleep(0.02)
    raise AssertionError(f"docker-registry did not start:\n{log.read_text(errors='replace')}")
