"""The process that looks after a store's quiet containers.

A supervisor that only waits has nothing to do that another could not do with it. So there is one such process for each
store, and it does two things:

    fork     supervisors of detached containers are forked from it, at a command's request, and not from the command
    watch    a supervisor whose container runs, and needs nothing else, hands over what it has and ends. The monitor
             logs what the container prints, and forks a supervisor again as soon as there is more to do: when somebody
             attaches, or the container has ended

It is a subreaper (prctl(2)), so a container whose supervisor has ended is its child, and it learns each exit code; it
tells a supervisor that it has forked later. It opens no store. When it is killed, containers go on, and the next
command that lists them has them taken over by another (`launch.adopt`).

A request is one message on STORE/run/monitor.sock (SOCK_SEQPACKET; `requests`). The answer is `+` once there is a
supervisor, or `-` if there cannot be one, or none like the process that asks, which then forks it itself.

`watching` is what the process does. Here is how it begins, and is asked.
"""

from __future__ import annotations

import fcntl
import gc
import os
import traceback
from pathlib import Path

from fusefs.detached import take_descriptors
from runtime.supervision.attachments import Door, knock
from runtime.supervision.job import Job
from runtime.supervision.requests import packed
from runtime.supervision.watching import Monitor, Supervise
from runtime.system import mounts
from runtime.system.descriptors import close_all_but

SOCKET, LOCK, LOG = "monitor.sock", "monitor.lock", "monitor.log"
_ANSWER_SECONDS = 5.0


def request(run_directory: Path, job: Job) -> bool | None:
    """Have the monitor fork a supervisor for a detached container; False if it cannot, or is slow, None if there is
    none."""
    words, fds = packed(job)
    try:
        peer = knock(run_directory, SOCKET)
    except OSError:
        return None
    try:
        return peer.ask(words, fds, _ANSWER_SECONDS) == b"+"
    finally:
        peer.close()


def start(run_directory: Path, supervise: Supervise) -> None:
    """Start a monitor, unless there is one, or somebody else just starts it. It is forked from this process."""
    lock = os.open(run_directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return
    ready, told = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if not child:
        try:
            if not os.fork():
                _become(run_directory, lock, told, supervise)
        finally:
            os._exit(0)
    os.close(told)
    os.close(lock)
    os.waitpid(child, 0)
    os.read(ready, 1)  # end of file, too, if it could not
    os.close(ready)


def _become(run_directory: Path, lock: int, told: int, supervise: Supervise) -> None:
    os.setsid()
    os.chdir("/")
    os.umask(0o022)
    null = os.open(os.devnull, os.O_RDWR)
    log = os.open(run_directory / LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for number, fd in enumerate((null, log, log)):
        os.dup2(fd, number)
    close_all_but({0, 1, 2, lock, told})
    mounts.become_subreaper()
    mounts.set_process_name(b"treering-watch")
    take_descriptors()
    gc.collect()
    gc.disable()
    gc.freeze()
    door = Door(run_directory, SOCKET)
    os.close(told)
    try:
        Monitor(door, supervise).run()
    except BaseException:
        traceback.print_exc()
