"""The processes of a running container, seen from the machine: from /proc (proc(5)), as ps(1) tells of them.

They are those of the container's cgroup. An ordinary user's container has none of its own; its processes are those in
the pid namespace of its first one, and in namespaces below that.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from runtime.cgroups import Cgroup
from runtime.containers import Container
from runtime.copying.target import seen_inside
from runtime.reaching import reached
from runtime.system.rootaccess import Root

_TICKS = os.sysconf("SC_CLK_TCK")
_PTY_MAJOR, _TTY_MAJOR, _PTYS_EACH = 136, 4, 256


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """One process."""

    user: str
    """By name, of the container's own; a number if it has none."""
    uid: int
    """As the container sees it."""
    pid: int
    """As the machine counts, and the same of the parent."""
    parent: int
    cpu_percent: float
    """Of one processor, since it began."""
    started: float
    """In seconds since 1970."""
    terminal: str | None
    cpu_seconds: float
    command: tuple[str, ...]
    """Its arguments; its name, between brackets, if it has none."""


def processes_of(container: Container) -> list[ProcessInfo]:
    """A running container's processes, by pid. Conflict if it does not run."""
    with reached(container) as found:
        names = _Names(found.root, container.record.ids or 0)
        pids = set(Cgroup.of(container.id).processes()) or set(_in_namespace_of(found.pid))
        return [process for pid in sorted(pids) if (process := _process(pid, names))]


class _Names:
    """Who users are, in a container."""

    def __init__(self, root: Root, shift: int) -> None:
        self._shift = shift
        self._names: dict[int, str] = {}
        for line in (root.read(b"/etc/passwd") or b"").decode("utf-8", "surrogateescape").splitlines():
            fields = line.split(":")
            if len(fields) > 2 and fields[2].isdecimal():
                self._names.setdefault(int(fields[2]), fields[0])

    def of(self, number: int) -> tuple[int, str]:
        """The id and the name that an id of the machine has there."""
        inside = seen_inside(number, self._shift)
        return inside, self._names.get(inside, str(inside))


def _in_namespace_of(init: int) -> Iterator[int]:
    """All that are in a process's pid namespace or below it: there, each has a further number, behind the machine's."""
    namespace = _namespace(init)
    parents: dict[int, int] = {}
    inside: set[int] = set()
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal() and (stat := _stat(int(entry.name))):
            pid = int(entry.name)
            parents[pid] = int(stat[1])
            if namespace is not None and _namespace(pid) == namespace:
                inside.add(pid)
    for pid in parents:
        above = pid
        while above in parents and above not in inside:
            above = parents[above]
        if above in inside:
            yield pid


def _namespace(pid: int) -> str | None:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return None


def _process(pid: int, names: _Names) -> ProcessInfo | None:
    """None if it has ended."""
    stat = _stat(pid)
    if stat is None:
        return None
    try:
        uid, user = names.of(os.stat(f"/proc/{pid}").st_uid)
        words = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
        name = Path(f"/proc/{pid}/comm").read_bytes().strip()
    except OSError:
        return None
    command = words if words != [b""] else [b"[" + name + b"]"]
    spent = (int(stat[11]) + int(stat[12])) / _TICKS
    lived = time.clock_gettime(time.CLOCK_BOOTTIME) - int(stat[19]) / _TICKS
    return ProcessInfo(
        user=user,
        uid=uid,
        pid=pid,
        parent=int(stat[1]),
        cpu_percent=100 * spent / lived if lived > 0 else 0.0,
        started=time.time() - lived,
        terminal=_terminal(int(stat[4])),
        cpu_seconds=spent,
        command=tuple(word.decode("utf-8", "surrogateescape") for word in command),
    )


def _stat(pid: int) -> list[bytes] | None:
    """/proc/PID/stat from its third field on."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    return text[text.rindex(b")") + 2 :].split()


@lru_cache(maxsize=64)
def _terminal(device: int) -> str | None:
    """The name of a controlling terminal by its number (proc(5), tty_nr): of the container's own /dev/pts."""
    major, minor = os.major(device), os.minor(device)
    if _PTY_MAJOR <= major < _PTY_MAJOR + 8:
        return f"pts/{(major - _PTY_MAJOR) * _PTYS_EACH + minor}"
    return f"tty{minor}" if major == _TTY_MAJOR else None
