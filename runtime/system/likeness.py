"""Making one process like another: what a child of the fork server, or of the monitor, has to take over from the
process that asked, or to have in common with it. All of it is in /proc/PID (proc(5)), which does not lie, so nobody
need tell."""

from __future__ import annotations

import os
import resource
import signal
from typing import NamedTuple

_SAME = ("Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp",
         "Seccomp_filters", "Mems_allowed_list")  # fmt: skip
"""Lines of /proc/PID/status that must agree."""
_SAME_FILES = frozenset({"cgroup", "attr/current", "personality", "loginuid"})
_SAME_LINKS = ("ns/cgroup", "ns/ipc", "ns/mnt", "ns/net", "ns/pid_for_children", "ns/time_for_children", "ns/user",
               "ns/uts", "root")  # fmt: skip
_LIMITS = [getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")]


class Likeness(NamedTuple):
    """What a process is like."""

    status: dict[str, str]
    files: dict[str, bytes]
    links: dict[str, str]
    limits: bytes
    score: bytes
    """How likely it is to be killed for memory (oom_score_adj)."""


def likeness(pid: int | str = "self") -> Likeness:
    """What a process is like now. OSError if it has gone."""
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    return Likeness(
        status,
        {name: _read(pid, name) for name in _SAME_FILES},
        {name: os.readlink(f"/proc/{pid}/{name}") for name in _SAME_LINKS},
        _read(pid, "limits"),
        _read(pid, "oom_score_adj"),
    )


def become_like(pid: int, ours: Likeness | None = None, *, cgroup: bool = True) -> bool:
    """Take over what can be: umask, signals that are ignored or blocked, limits, priority, processors, the chance to be
    killed for memory. False if something else differs, or cannot be taken over; then this process is of no use.

    `ours` is what this process is like, if it has looked before. `cgroup` False: being in another cgroup does not
    matter.
    """
    try:
        ours = ours or likeness()
        theirs = likeness(pid)
        if any(theirs.status.get(name) != ours.status.get(name) for name in _SAME) or theirs.links != ours.links:
            return False
        if any(theirs.files[name] != ours.files[name] for name in _SAME_FILES - ({"cgroup"} if not cgroup else set())):
            return False
        os.umask(int(theirs.status["Umask"], 8))
        _take_signals(int(theirs.status["SigIgn"], 16), int(theirs.status["SigBlk"], 16))
        _take_scheduling(pid)
        if theirs.score != ours.score:
            with open("/proc/self/oom_score_adj", "wb", 0) as file:
                file.write(theirs.score)
        if theirs.limits != ours.limits:
            _take_limits(pid)
        return True
    except (OSError, ValueError, KeyError):
        return False


def _read(pid: int | str, name: str) -> bytes:
    try:
        with open(f"/proc/{pid}/{name}", "rb", 0) as file:
            return file.read()
    except OSError:  # not every kernel has all of them
        return b""


def _take_signals(ignored: int, blocked: int) -> None:
    for number in signal.valid_signals():
        if ignored >> (number - 1) & 1 and signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, [n for n in signal.valid_signals() if blocked >> (n - 1) & 1])


def _take_scheduling(pid: int) -> None:
    if os.sched_getscheduler(pid) != os.sched_getscheduler(0):
        os.sched_setscheduler(0, os.sched_getscheduler(pid), os.sched_getparam(pid))
    nice = os.getpriority(os.PRIO_PROCESS, pid)
    if nice != os.getpriority(os.PRIO_PROCESS, 0):
        os.setpriority(os.PRIO_PROCESS, 0, nice)
    processors = os.sched_getaffinity(pid)
    if processors != os.sched_getaffinity(0):
        os.sched_setaffinity(0, processors)


def _take_limits(pid: int) -> None:
    for limit in _LIMITS:
        wanted = resource.prlimit(pid, limit)
        if wanted != resource.getrlimit(limit):
            resource.setrlimit(limit, wanted)
