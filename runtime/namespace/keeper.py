"""The process that holds the namespaces of a store, so that all commands of its user meet in the same ones.

    creator ──starts── keeper ──unshare(user, mount)── {"pid": N} ──▶ creator: newuidmap N, newgidmap N
                       keeper ◀── a byte: mapped ──
                       keeper: mounts, writes the record ── {"ok": true} ──▶ creator

It does nothing but wait. Once no other process has been in its user namespace for GRACE seconds it takes the lock, so
that nobody can be just entering, looks again, removes the record and ends; with it end the namespaces and every mount
in them. A SIGTERM means: no grace.

With `adopt` it is started inside namespaces whose keeper was killed, and only takes its place.

In STORE/run:

    namespaces.lock   flocked, shared by whoever enters and exclusively by whoever makes or ends them
    namespaces.json   the keeper's process, the machine's boot, and the inode numbers of both namespaces
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from runtime.state import Process, boot_id
from runtime.system import mounts
from vcs.durable import replace_file

LOCK, RECORD = "namespaces.lock", "namespaces.json"
GRACE = 10.0
"""Seconds: the next command of a script comes sooner, and making namespaces takes 140 ms on a busy machine."""
_BUSY = 0.05
"""Seconds until a lock that is held is tried again."""


@dataclass(frozen=True, slots=True)
class Record:
    """Namespaces, and who keeps them."""

    keeper: Process
    boot: str
    user: int
    mount: int
    """The inode numbers of /proc/PID/ns/user and /proc/PID/ns/mnt."""

    @classmethod
    def load(cls, directory: Path) -> Record | None:
        """The record in STORE/run; None if there is none, or if it is of an earlier boot."""
        try:
            data = json.loads((directory / RECORD).read_bytes())
            found = cls(Process(*data["keeper"]), data["boot"], data["user"], data["mount"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None
        return found if found.boot == boot_id() else None

    def save(self, directory: Path) -> None:
        keeper = [self.keeper.pid, self.keeper.start]
        value = {"keeper": keeper, "boot": self.boot, "user": self.user, "mount": self.mount}
        replace_file(directory / RECORD, json.dumps(value).encode(), durable=False)


def members(user: int, mount: int | None = None) -> list[int]:
    """The pids, other than our own, in the user namespace with this inode number; and in the mount namespace."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdecimal() and int(name) != os.getpid():
            with suppress(OSError):
                here = os.stat(f"/proc/{name}/ns/mnt").st_ino  # a zombie has none any more
                if os.stat(f"/proc/{name}/ns/user").st_ino == user and mount in (None, here):
                    found.append(int(name))
    return found


def main(arguments: Sequence[str]) -> int:
    """`RUN_DIRECTORY TOLD GO`, the latter two being descriptors of pipes; GO is -1 to adopt."""
    directory, told, go = Path(arguments[0]), int(arguments[1]), int(arguments[2])
    os.chdir("/")
    mounts.set_process_name(b"treering-keeper")
    try:
        if go >= 0:
            mounts.unshare(mounts.CLONE_NEWUSER | mounts.CLONE_NEWNS)
            _tell(told, {"pid": os.getpid()})
            if not os.read(go, 1):
                return 1  # the ids could not be mapped: whoever started us says so
            os.close(go)
            # What the machine mounts and unmounts happens here too.
            mounts.mount(None, b"/", None, mounts.MS_REC | mounts.MS_SLAVE)
        keeper = Process.of(os.getpid())
        assert keeper is not None
        Record(keeper, boot_id(), *(os.stat(f"/proc/self/ns/{kind}").st_ino for kind in ("user", "mnt"))).save(
            directory
        )
    except OSError as error:
        _tell(told, {"errno": error.errno, "what": os.fsdecode(error.filename or "a user namespace")})
        return 1
    waiter = _Waiter()
    _tell(told, {"ok": True})
    os.close(told)
    waiter.wait(directory)
    return 0


def _tell(pipe: int, message: dict[str, object]) -> None:
    with suppress(BrokenPipeError):
        os.write(pipe, json.dumps(message).encode() + b"\n")


class _Waiter:
    def __init__(self) -> None:
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._signals = reader
        signal.signal(signal.SIGTERM, lambda *_: None)
        signal.set_wakeup_fd(writer)

    def wait(self, directory: Path) -> None:
        """Return once nobody else is in the namespaces, and the record is gone."""
        user = os.stat("/proc/self/ns/user").st_ino
        alone_since = time.monotonic()
        hurry = False
        while True:
            others = members(user)
            if others:
                hurry = self._told_within(None, others[0]) or hurry
                alone_since = time.monotonic()
                continue
            left = 0.0 if hurry else alone_since + GRACE - time.monotonic()
            if left > 0:
                hurry = self._told_within(left) or hurry
            elif _leave(directory, lambda: not members(user)):
                return
            else:
                hurry = self._told_within(_BUSY) or hurry

    def _told_within(self, seconds: float | None, pid: int | None = None) -> bool:
        """Wait until SIGTERM, or the time is up, or the process has ended; whether it was the signal."""
        poll = select.poll()
        poll.register(self._signals, select.POLLIN)
        process = -1
        if pid is not None:
            try:
                process = os.pidfd_open(pid)
            except ProcessLookupError:
                return False
            poll.register(process, select.POLLIN)
        try:
            ready = dict(poll.poll(None if seconds is None else seconds * 1000))
        finally:
            if process >= 0:
                os.close(process)
        if self._signals not in ready:
            return False
        os.read(self._signals, 64)
        return True


def _leave(directory: Path, alone: Callable[[], bool]) -> bool:
    """Remove the record, unless somebody is entering. True also if the store was deleted."""
    try:
        lock = os.open(directory / LOCK, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return True
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not alone():
            return False
        record = Record.load(directory)
        if record is not None and record.keeper.pid == os.getpid():
            (directory / RECORD).unlink()
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(lock)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
