"""Many containers started at once, detached, by a few processes forked from this one.

Starting one is waiting by turns: for the engine, for the service, for the disk. A few at a time keep the processors
busy. Each process takes its share of the containers, so nothing is imported or handed out again, and what a supervisor
inherits is what it would inherit from `treering start`.
"""

from __future__ import annotations

import os
import pickle
import select
import socket
from collections.abc import Iterator, Sequence
from typing import NoReturn

from runtime.containers import Container, Containers
from runtime.running import start
from vcs.errors import EngineError, TreeringError
from vcs.history import Author
from vcs.store import Store

_EACH_PROCESSOR = 2
"""Starts at once for each processor."""
_LARGEST = 1 << 16
"""Bytes of a message."""


def start_many(
    containers: Containers, wanted: Sequence[Container], author: Author, at_once: int | None = None
) -> Iterator[tuple[Container, TreeringError | None]]:
    """Start containers, detached; yields each as soon as it runs, or with why it does not. All are tried. `author` is
    that of commits that are made for the user.

    Whoever stops asking, or is interrupted, leaves those alone that were not begun with.
    """
    processes = min(at_once or _EACH_PROCESSOR * (os.cpu_count() or 1), len(wanted))
    if processes < 2:
        for container in wanted:
            yield container, _started(containers, container, author)
        return
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    stopped, stop = os.pipe2(os.O_CLOEXEC)
    workers: dict[int, int] = {}
    try:
        for number in range(processes):
            pid = os.fork()
            if not pid:
                os.close(stop)  # who has it open too would keep the others from seeing that we were killed
                ours.close()
                _work(containers, wanted[number::processes], author, theirs, stopped)
            workers[os.pidfd_open(pid)] = pid
        theirs.close()
        yield from _results(ours, workers, wanted)
    finally:
        os.write(stop, b"stop")  # never read: all of them see it
        for pidfd, pid in workers.items():
            os.waitpid(pid, 0)
            os.close(pidfd)
        os.close(stop)
        os.close(stopped)
        ours.close()
        theirs.close()


def _results(
    ours: socket.socket, workers: dict[int, int], wanted: Sequence[Container]
) -> Iterator[tuple[Container, TreeringError | None]]:
    """What the workers say, until they have ended, and then what they have left unsaid."""
    left = {container.id: container for container in wanted}
    poll = select.poll()
    for fd in (ours.fileno(), *workers):
        poll.register(fd, select.POLLIN)
    alive = set(workers)
    while left:
        ready = {fd for fd, _ in poll.poll()}
        if ours.fileno() in ready and (message := ours.recv(_LARGEST)):
            identity, error = pickle.loads(message)
            yield left.pop(identity), error
            continue  # what was said before somebody ended is heard first
        for fd in ready & alive:
            poll.unregister(fd)
            alive.remove(fd)
        if not alive:
            break
    for container in left.values():
        yield container, EngineError("it was not started: the process that was to start it has ended")


def _work(
    containers: Containers, wanted: Sequence[Container], author: Author, out: socket.socket, stopped: int
) -> NoReturn:
    """The life of a worker."""
    try:
        # Not the one that was inherited: neither SQLite nor libgit2 may be used on both sides of a fork.
        with Store.open(containers.store.path) as store:
            mine = Containers(store)
            for container in wanted:
                if select.select([stopped], [], [], 0)[0]:
                    break  # somebody has said so, or nobody is there who could
                out.send(pickle.dumps((container.id, _started(mine, container, author))))
    finally:
        os._exit(0)


def _started(containers: Containers, container: Container, author: Author) -> TreeringError | None:
    """Start one; why it does not run, or None."""
    try:
        start(containers, container, author, detach=True)
    except TreeringError as error:
        return error
    except Exception as error:
        return EngineError(f"container {container.name!r} could not be started: {type(error).__name__}: {error}")
    return None
