"""A store with a service of its own, whose end is certain, for tests that kill what serves it.

Whoever touches the mount is a process of its own, which is killed at a deadline; since a process that waits for an
answer of nobody cannot be killed, the connection is aborted first.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fusefs import mounting
from fusefs.client import Lease, Service
from tests.fusefs.serving import until
from tests.support.deadline import abort

DEADLINE = 60.0
"""Seconds."""


@dataclass
class Served:
    """A store with a service, whose end is certain."""

    store: Path
    lease: Lease
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def top(self) -> Path:
        return self.lease.mountpoint

    def status(self) -> dict[str, Any]:
        found = Service.status(self.store)
        assert found is not None
        return found

    def workers(self) -> list[int]:
        return list(self.status()["workers"])

    def replaced(self, more_than: int, wanted: int = 1) -> bool:
        status = self.status()
        return status["replaced"] > more_than and len(status["workers"]) == wanted

    def begin(self, *command: str | Path) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.started.append(process)
        return process

    def finish(self, process: subprocess.Popen[str]) -> str:
        """What a process prints; it must end well, and in time."""
        try:
            said, _ = process.communicate(timeout=DEADLINE)
        except subprocess.TimeoutExpired:
            self.abort()
            process.kill()
            raise AssertionError(f"nobody answered: {process.args!r}\n{self.log()}") from None
        assert process.returncode == 0, said + self.log()
        return said

    def run(self, *command: str | Path) -> str:
        return self.finish(self.begin(*command))

    def log(self) -> str:
        return (self.store / "run/service.log").read_text()[-4000:]

    def abort(self) -> None:
        abort(self.lease.device)

    def close(self) -> None:
        for process in self.started:
            if process.poll() is None:
                self.abort()
                process.kill()
            process.communicate()
        self.lease.close()
        pids = [self.lease.pid, *processes(self.store)]
        with contextlib.suppress(Exception):
            Service.stop(self.store, force=True)
        try:
            until_or(lambda: not processes(self.store), lambda: [kill(pid) for pid in pids])
        finally:
            while mounting.mount_at(self.top) is not None:
                mounting.detach(self.top)


def until_or(condition: Callable[[], bool], otherwise: Callable[[], object]) -> None:
    try:
        until(condition)
    except AssertionError:
        otherwise()
        raise


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def processes(store: Path, word: bytes = b"fusefs.") -> list[int]:
    """Holder and workers of a store, spare ones too. One that is just being started is its parent's likeness first, and
    then nothing for a moment."""
    found = []
    for entry in os.listdir("/proc"):
        with contextlib.suppress(OSError, ValueError):
            arguments = Path(f"/proc/{int(entry)}/cmdline").read_bytes()
            if os.fsencode(store) in arguments and word in arguments:
                found.append(int(entry))
    return found


def spares(store: Path, workers: list[int]) -> list[int]:
    """The workers that wait for one of these to die."""
    return [pid for pid in processes(store, b"fusefs.worker") if pid not in workers]


@contextlib.contextmanager
def service(store: Path, **options: Any) -> Iterator[Served]:
    served = Served(store, Service.ensure(store, 600.0, **options))
    try:
        yield served
    finally:
        served.close()
