"""The holder: the process that a store's mount depends on, and that does next to nothing.

    python -P -m fusefs.service --store PATH

It opens /dev/fuse, mounts, keeps the descriptor, and has workers serve it (workers.py, worker.py): they may die, it
starts others. So it imports no store and no library that could fail. Clients ask it for leases (control.py), and when
nobody needs the mount any more it unmounts and ends. It is started by `fusefs.client` when somebody wants the mount.

All of it is one thread and one selector, whose keys carry what is to be called.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import logging
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusefs import detached, mounting
from fusefs.control import Control
from fusefs.datadir import DataDirectory
from fusefs.journal import Journal
from fusefs.known import Known
from fusefs.memory import RequestMemory
from fusefs.process import Launch
from fusefs.rundir import RunDirectory
from fusefs.workers import TICK, Workers
from vcs.errors import Conflict, StoreError, TreeringError
from vcs.stillborn import stillborn_threads_are_heard

_log = logging.getLogger(__name__)

DEFAULT_OPENER = "vcs.store:Store.open"
DEFAULT_IDLE_SECONDS = 60.0
DEFAULT_HUNG_SECONDS = 30.0
_PREDECESSOR_SECONDS = 10.0
"""How long a service that is unmounting may take to give up its lock."""
_AFTER_ERROR_SECONDS = 0.05
_PRUNE_SECONDS = 600.0
_OOM_SCORES = (-1000, -900, -500, 0)
_NICE = -10


@dataclass(frozen=True, slots=True)
class Options:
    """What a service is started with."""

    store: Path
    opener: str = DEFAULT_OPENER
    """`module:attribute` of a worker.Opener."""
    idle_seconds: float = DEFAULT_IDLE_SECONDS
    """How long without a request before it leaves."""
    workers: int = 1
    hung_seconds: float = DEFAULT_HUNG_SECONDS
    """How long a worker may take for one request before it is replaced."""
    trace: bool = False
    """Whether workers log every message."""
    ready: int | None = None
    """A descriptor that gets one line of JSON: that it serves, or why not."""
    starting: int | None = None
    """A descriptor of start.lock, inherited locked, that is closed then."""


class Holder:
    """One mount and its workers."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._places = RunDirectory(options.store)
        self._selector = selectors.DefaultSelector()
        self._failure: TreeringError | None = None
        self._control: Control | None = None
        self._ticked = time.monotonic()
        self._prune_at = self._ticked + _PRUNE_SECONDS
        self._signals, self._signalled = socket.socketpair()
        for end in (self._signals, self._signalled):
            end.setblocking(False)

    def serve(self) -> None:
        """Serve until nobody uses it. Conflict if another service does; Denied and StoreError as met."""
        options, places = self._options, self._places
        lock = _locked(places)
        _remove_stale(places)
        places.mountpoint.mkdir(mode=0o700, exist_ok=True)
        device = mounting.open_device()
        memory, journal = RequestMemory.create(), Journal.create()
        data = _data_directory(places)
        launch = Launch(
            places.store, options.opener, device, os.geteuid(), os.getegid(), time.time_ns(), options.trace, data
        )
        self._workers = workers = Workers(
            launch, memory, journal, options.workers, options.hung_seconds, self._selector, self._failed
        )
        self._take_signals()
        try:
            workers.start()
            self._run_until(lambda: workers.are_open)
            mounted = mounting.mount(device, places.mountpoint, f"treering:{places.store}")
            mounting.set_readahead(mounted)
            workers.begin()
            self._run_until(lambda: workers.are_serving)
        except BaseException:
            workers.end()
            raise
        self._known, self._data = Known(device, journal), data
        plain = (lambda: 0) if data is None else data.count
        self._control = Control(
            places, mounted, lock, options.idle_seconds, workers, self._roots, self._selector, plain
        )
        _tell(options, {"ok": True})
        _log.info("serving %s at %s as process %d", places.store, places.mountpoint, os.getpid())
        self._run_until(lambda: workers.are_gone)
        self._control.release()  # the workers may be gone before we hear that the unmounting was done
        if data is not None:
            data.remove()
        counts = workers.counts()
        _log.info("unmounted everywhere after %d messages, %d files given ahead", counts.messages, counts.given)

    def _failed(self, failure: dict[str, Any]) -> None:
        """A worker could not open the store. If that is the first, there is no service."""
        self._failure = detached.error_of(failure)
        if self._control is not None:
            _log.error("a worker cannot open the store: %s", failure["message"])

    def _run_until(self, condition: Callable[[], bool]) -> None:
        """Turn until something has happened. What the first workers failed with is raised."""
        while not condition():
            try:
                self._turn()
            except Exception:
                if self._control is None:
                    raise
                # Whatever is wrong with one client or worker: the mount goes on.
                _log.exception("the holder goes on after an error")
                time.sleep(_AFTER_ERROR_SECONDS)
            if self._control is None:
                if self._failure is not None:
                    raise self._failure
                if self._workers.is_over:
                    raise StoreError("the workers ended before they began")

    def _turn(self) -> None:
        for key, _ in self._selector.select(max(0.0, self._ticked + TICK - time.monotonic())):
            key.data()
        if time.monotonic() - self._ticked >= TICK:
            self._ticked = time.monotonic()
            self._workers.tick()
            if self._control is not None:
                self._control.tick()
                if self._ticked >= self._prune_at:
                    self._prune()

    def _roots(self) -> list[bytes]:
        """For gc, which can free more if nothing is held that nobody needs."""
        self._prune()
        return self._known.roots()

    def _prune(self) -> None:
        """Let plain copies go that no overlay needs."""
        self._prune_at = time.monotonic() + _PRUNE_SECONDS
        if self._data is not None:
            with contextlib.suppress(OSError):
                self._data.prune(self._known.knows)

    def _take_signals(self) -> None:
        """On SIGTERM and SIGINT the service leaves soon, whoever is inside; they are served to the end."""
        signal.set_wakeup_fd(self._signalled.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        self._selector.register(self._signals, selectors.EVENT_READ, self._on_signals)

    def _on_signals(self) -> None:
        numbers = self._signals.recv(4096)
        if signal.SIGCHLD in numbers:
            self._workers.reap()
        if signal.SIGTERM in numbers or signal.SIGINT in numbers:
            if self._control is None:
                raise StoreError("told to stop before it began")
            self._control.leave()


def _locked(places: RunDirectory) -> int:
    """Be the store's only service; waits for a predecessor that is just leaving."""
    lock = places.open_lock("service.lock")
    try:
        with _deadline(_PREDECESSOR_SECONDS):
            fcntl.flock(lock, fcntl.LOCK_EX)
    except TimeoutError:
        raise Conflict(f"another service of {places.store} holds {places.path}/service.lock") from None
    os.ftruncate(lock, 0)
    os.write(lock, f"{os.getpid()}\n".encode())
    return lock


@contextlib.contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    """TimeoutError out of a system call that takes longer."""

    def expired(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, expired)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _data_directory(places: RunDirectory) -> DataDirectory | None:
    """None if there cannot be one: then all is served."""
    try:
        return DataDirectory.make(places.path)
    except OSError as error:
        _log.warning("programs are not had as plain files: %s", error)
        return None


def _remove_stale(places: RunDirectory) -> None:
    """Take away what a killed service left. If workers of it live, whoever is inside is served on; else the mount
    answers ENOTCONN, and what is inside stays broken."""
    while mounting.mount_at(places.mountpoint) is not None:
        _log.warning("removing a stale mount at %s", places.mountpoint)
        mounting.detach(places.mountpoint)
    places.remove_socket()


def _come_first() -> None:
    """When memory runs short, others are to go first: the mount cannot be had back. And when processors are busy,
    others are to wait: whoever reads waits for us, and on a busy machine a new worker would take seconds to begin.
    Workers inherit this rank. Where it is not allowed, all goes on without."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, _NICE)
        Path("/proc/self/autogroup").write_text(str(_NICE))
    for score in _OOM_SCORES:
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(str(score))
            return


def _tell(options: Options, message: dict[str, object]) -> None:
    detached.tell(options.ready, message)
    if options.starting is not None:
        os.close(options.starting)


def main(arguments: Sequence[str]) -> int:
    """Run as a program: 0 when it left, 1 if it could not begin."""
    parser = argparse.ArgumentParser(prog="fusefs.service", description="Serve a store's commits as a file system.")
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--opener", default=DEFAULT_OPENER, help="module:function that opens the store")
    parser.add_argument("--idle", type=float, default=DEFAULT_IDLE_SECONDS, help="seconds without use before it leaves")
    parser.add_argument("--workers", type=int, default=1, help="processes that answer the kernel")
    parser.add_argument("--hung", type=float, default=DEFAULT_HUNG_SECONDS, help="seconds that a request may take")
    parser.add_argument("--trace", action="store_true", help="log every message")
    parser.add_argument("--ready", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--starting", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s")
    options = Options(
        given.store, given.opener, given.idle, given.workers, given.hung, given.trace, given.ready, given.starting
    )
    try:
        _come_first()
        detached.take_descriptors()
        with stillborn_threads_are_heard():
            Holder(options).serve()
    except (TreeringError, OSError) as error:
        _log.error("%s", error)
        with contextlib.suppress(OSError):
            _tell(options, detached.failure(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
