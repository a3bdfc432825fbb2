"""The process that serves a store: one mount for all its commits.

    python -P -m fusefs.service --store PATH

It is started by `fusefs.client` when somebody wants the mount, and leaves when nobody does (control.py). The store is
opened by what `--opener` names, so this package needs to know no store.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from fusefs import detached, mounting
from fusefs.control import Control, Counters
from fusefs.filesystem import FileSystem
from fusefs.readahead import ReadAhead
from fusefs.rundir import RunDirectory
from fusefs.session import Session
from fusefs.wakefulness import Wakefulness, is_of_use
from vcs.errors import Conflict, StoreError, TreeringError
from vcs.snapshot import Source

_log = logging.getLogger(__name__)

DEFAULT_OPENER = "vcs.store:Store.open"
DEFAULT_IDLE_SECONDS = 60.0
_PREDECESSOR_SECONDS = 10.0
"""How long a service that is unmounting may take to give up its lock."""


class Opener(Protocol):
    """Opens a store for somebody who reads all of it, a file after the other (`read_ahead`)."""

    def __call__(self, path: Path, /, *, read_ahead: bool) -> Source: ...


@dataclass(frozen=True, slots=True)
class Options:
    """What a service is started with."""

    store: Path
    opener: str = DEFAULT_OPENER
    """`module:attribute` of an Opener."""
    idle_seconds: float = DEFAULT_IDLE_SECONDS
    """How long without a request before it leaves."""
    ready: int | None = None
    """A descriptor that gets one line of JSON: that it serves, or why not."""
    starting: int | None = None
    """A descriptor of start.lock, inherited locked, that is closed then."""


def serve(options: Options) -> None:
    """Serve a store until nobody uses it. Conflict if another service does; Denied and StoreError as met."""
    places = RunDirectory(options.store)
    lock = _locked(places)
    source = load_opener(options.opener)(places.store, read_ahead=True)
    _remove_stale(places)
    places.mountpoint.mkdir(mode=0o700, exist_ok=True)
    device = mounting.open_device()
    mounted = mounting.mount(device, places.mountpoint, f"treering:{places.store}")
    mounting.set_readahead(mounted)
    filesystem = FileSystem(source, os.geteuid(), os.getegid(), time.time_ns())
    ahead = ReadAhead(device, filesystem)
    awake = Wakefulness(lambda: session.served) if is_of_use() else None
    session = Session(device, filesystem, ahead, awake)
    session.negotiate()
    nodes = filesystem.table.nodes
    counters = lambda: Counters(session.served, len(nodes), ahead.given)  # noqa: E731
    control = Control(places, mounted, lock, options.idle_seconds, counters, filesystem.table.roots)
    # A handler in Python would not run before the next message, if the signal came just before the loop waits for it.
    signal.set_wakeup_fd(control.signals_to())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    control.start()
    _tell(options, {"ok": True})
    _log.info("serving %s at %s as process %d", places.store, places.mountpoint, os.getpid())
    # What is there now stays, and requests make no cycles: the collector would look through all nodes for nothing.
    # It is not turned off, since what a failed request leaves behind may be one.
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 1000)
    session.serve()
    ahead.close()
    if awake is not None:
        awake.close()
    control.finish()
    os.close(device)
    close = getattr(source, "close", None)
    if close is not None:
        close()
    _log.info("unmounted everywhere after %d messages, %d files given ahead", session.served, ahead.given)


def load_opener(name: str) -> Opener:
    """The function that `module:attribute` names. StoreError if there is none."""
    module, _, attribute = name.partition(":")
    try:
        found: object = import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise StoreError(f"{name!r} opens no store: {error}", opener=name) from error
    return cast(Opener, found)


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


def _remove_stale(places: RunDirectory) -> None:
    """Take away what a killed service left: its mount answers ENOTCONN, and what is inside stays broken."""
    while mounting.mount_at(places.mountpoint) is not None:
        _log.warning("removing a stale mount at %s", places.mountpoint)
        mounting.detach(places.mountpoint)
    places.remove_socket()


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
    parser.add_argument("--trace", action="store_true", help="log every message")
    parser.add_argument("--ready", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--starting", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s")
    if given.trace:
        logging.getLogger("fusefs.trace").setLevel(logging.DEBUG)
    options = Options(given.store, given.opener, given.idle, given.ready, given.starting)
    try:
        serve(options)
    except (TreeringError, OSError) as error:
        _log.error("%s", error)
        with contextlib.suppress(OSError):
            _tell(options, detached.failure(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
