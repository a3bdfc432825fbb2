"""The process of one worker, as the holder has it (workers.py): how it is started, and what is known of it."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from fusefs.crashes import KILL_COUNTS
from fusefs.datadir import DataDirectory

_PROGRAM = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from fusefs.worker import main
sys.exit(main(sys.argv[1:]))
"""

UNKNOWN = "?"
_ZOMBIE, _GONE = "Z", "X"


@dataclass(frozen=True, slots=True)
class Launch:
    """What a worker is started with."""

    store: Path
    opener: str
    device: int
    """The descriptor of /dev/fuse."""
    uid: int
    gid: int
    time: int
    """Owner and mtime (nanoseconds) of what lies above the roots."""
    trace: bool = False
    data: DataDirectory | None = None
    """Where overlays over the mount find programs as they are."""


class Stage(Enum):
    """How far a worker is."""

    OPENING = "opening"
    SPARE = "spare"
    SERVING = "serving"


@dataclass(eq=False, slots=True)
class Worker:
    """One of them."""

    process: subprocess.Popen[bytes]
    channel: socket.socket
    started: float
    stage: Stage = Stage.OPENING
    slot: int = -1
    is_up: bool = False
    """Whether it has all that it needs to serve."""
    is_confirmed: bool = False
    """Whether it has said that it serves."""
    is_outdated: bool = False
    """Whether it is to be replaced, gracefully."""
    is_leaving: bool = False
    killed: float | None = None
    """When we have sent SIGKILL."""
    weight: float = KILL_COUNTS
    """How much of a crash its death counts for, if it dies of SIGKILL."""
    seen: int = 0
    """The `unique` of the request that it had in hand at the last looks, 0 for none."""
    since: float = 0.0
    """Since when; until it is up, when it was told to serve."""
    received: bytes = b""


def spawn(launch: Launch, journal: int, memory: int, is_spare: bool) -> Worker:
    """Start one, that opens the store and waits to be told to serve. `journal` and `memory` are descriptors, which it
    inherits, with the one of /dev/fuse; a spare one also loads what it may need later."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    told = {
        "store": str(launch.store),
        "opener": launch.opener,
        "device": launch.device,
        "journal": journal,
        "memory": memory,
        "channel": theirs.fileno(),
        "uid": launch.uid,
        "gid": launch.gid,
        "time": launch.time,
        "trace": launch.trace,
        "data": None if launch.data is None else str(launch.data.path),
        "spare": is_spare,
    }
    held = () if launch.data is None else (launch.data.descriptor,)
    package = str(Path(__file__).resolve().parent.parent)
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", _PROGRAM, package, json.dumps(told)],
        stdin=subprocess.DEVNULL,
        cwd="/",
        pass_fds=(launch.device, journal, memory, theirs.fileno(), *held),
    )
    theirs.close()
    return Worker(process, ours, time.monotonic())


def state_of(pid: int) -> str:
    """The state of a process's first thread (proc_pid_stat(5)): X if there is none, UNKNOWN if that cannot be told
    just now, as where there is no descriptor or no memory left to look. Who takes the living for dead has two workers
    do the work of one."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2][:1].decode() or UNKNOWN
    except (FileNotFoundError, ProcessLookupError):
        # The kernel says so as well where it has no memory to show a process that is there.
        return UNKNOWN if _is_there(pid) else _GONE
    except (OSError, MemoryError):
        return UNKNOWN


def is_dead(state: str) -> bool:
    """Whether a process in this state does nothing any more; one of which nothing is known may."""
    return state in (_ZOMBIE, _GONE)


def _is_there(pid: int) -> bool:
    """Whether a process has this id, which takes neither memory nor a descriptor to tell."""
    try:
        os.kill(pid, 0)
    except OSError as error:
        return error.errno != errno.ESRCH
    return True
