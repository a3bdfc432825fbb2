"""What a container uses that has no cgroup, an ordinary user's: summed over its processes in /proc, at one moment.

Its processes are those of its init's pid namespace, and of namespaces made inside. A process's times hold those of the
children that it waited for, so the sum over the living is what all have used: what has ended was waited for by its
parent, or by init. Three things are not counted: children of a process that ignores SIGCHLD, for whom nobody waits;
commands of `treering exec` that have ended, since their parent is outside; and memory that only a cgroup would know of,
such as caches.
"""

from __future__ import annotations

import os
import resource
from collections import defaultdict
from collections.abc import Iterable

from runtime.cgroups import parsing
from runtime.cgroups.parsing import Usage

_PAGE = os.sysconf("SC_PAGE_SIZE")


class Processes:
    """All processes of this machine that the caller can see, as they were when it looked: once for all containers."""

    def __init__(self) -> None:
        self._stats: dict[int, parsing.Stat] = {}
        self._children: dict[int, list[int]] = defaultdict(list)
        self._by_namespace: dict[str, list[int]] = defaultdict(list)
        for name in os.listdir("/proc"):
            if name.isdecimal() and (stat := parsing.stat(_read(f"/proc/{name}/stat"))):
                pid = int(name)
                self._stats[pid] = stat
                self._children[stat.parent].append(pid)
                if namespace := _namespace(pid):
                    self._by_namespace[namespace].append(pid)

    def usage(self, init: int) -> Usage:
        """What the container with this first process uses; of nothing if that has ended."""
        namespace = _namespace(init)
        if namespace is None or namespace == _namespace(os.getpid()):  # never the whole machine
            return Usage()
        members = self._below(self._by_namespace[namespace])
        stats = [self._stats[pid] for pid in members]
        if not stats:
            return Usage()
        user = sum(stat.user + stat.children_user for stat in stats) / parsing.TICKS
        system = sum(stat.system + stat.children_system for stat in stats) / parsing.TICKS
        transfers = _transfers(members)
        return Usage(
            cpu_seconds=user + system,
            user_seconds=user,
            system_seconds=system,
            memory_bytes=sum(_memory(pid, self._stats[pid]) for pid in members),
            pids=sum(stat.threads for stat in stats),
            read_bytes=transfers and transfers[0],
            written_bytes=transfers and transfers[1],
            source="processes",
        )

    def _below(self, pids: Iterable[int]) -> set[int]:
        found: set[int] = set()
        todo = list(pids)
        while todo:
            pid = todo.pop()
            if pid not in found:
                found.add(pid)
                todo += self._children[pid]
        return found


class Ended:
    """What a container without a cgroup has used when all is over: the difference that waiting for its init makes to
    what the waiting process knows of its children (getrusage(2)). Everything is in it that anybody inside waited for;
    when a pid namespace ends, the kernel waits for the rest on init's behalf."""

    def __init__(self) -> None:
        self._before = resource.getrusage(resource.RUSAGE_CHILDREN)

    def usage(self) -> Usage:
        """To be called after init was waited for, and nobody else since this was made."""
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        user, system = after.ru_utime - self._before.ru_utime, after.ru_stime - self._before.ru_stime
        return Usage(
            cpu_seconds=user + system,
            user_seconds=user,
            system_seconds=system,
            read_bytes=(after.ru_inblock - self._before.ru_inblock) * 512,
            written_bytes=(after.ru_oublock - self._before.ru_oublock) * 512,
            source="processes",
        )


def _namespace(pid: int) -> str | None:
    """Names its pid namespace; None if it is gone, or somebody else's."""
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return None


def _memory(pid: int, stat: parsing.Stat) -> int:
    """Its share of what it has in memory: pages that n processes have in common count 1/n. All of them where the
    kernel does not tell."""
    share = parsing.fields(_read(f"/proc/{pid}/smaps_rollup")).get(b"Pss")
    return stat.resident * _PAGE if share is None else share * 1024


def _transfers(pids: Iterable[int]) -> tuple[int, int] | None:
    found = [parsing.fields(_read(f"/proc/{pid}/io")) for pid in pids]
    sums = [
        (one[b"read_bytes"], one[b"write_bytes"]) for one in found if b"read_bytes" in one and b"write_bytes" in one
    ]
    return (sum(read for read, _ in sums), sum(written for _, written in sums)) if sums else None


def _read(path: str) -> bytes | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.read(fd, 1 << 16)
    except OSError:
        return None
    finally:
        os.close(fd)
