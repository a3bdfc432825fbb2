"""What a container uses of which no cgroup tells: an ordinary user's has none. Summed over its processes in /proc, at
one moment.

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
from dataclasses import replace

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
        moved = transfers(members)
        return Usage(
            cpu_seconds=user + system,
            user_seconds=user,
            system_seconds=system,
            memory_bytes=sum(_memory(pid, self._stats[pid]) for pid in members),
            pids=sum(stat.threads for stat in stats),
            read_bytes=moved and moved[0],
            written_bytes=moved and moved[1],
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
    """What a container has used when all is over, as far as its cgroup does not say: the difference that waiting for
    its init makes to what the waiting process knows of its children (getrusage(2)). Everything is in it that anybody
    inside waited for; when a pid namespace ends, the kernel waits for the rest on init's behalf.

        with Ended() as ended:
            os.waitpid(init, 0)
        usage = ended.complete(cgroup.usage())
    """

    def __enter__(self) -> Ended:
        self._before = self._after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return self

    @classmethod
    def of(cls, user: float, system: float, blocks_in: int, blocks_out: int) -> Ended:
        """The same, of what another process was told when it waited for init."""
        made = cls()
        made._before = resource.struct_rusage((0,) * 16)
        after = [0.0] * 16
        after[0], after[1], after[9], after[10] = user, system, blocks_in, blocks_out
        made._after = resource.struct_rusage(after)
        return made

    def __exit__(self, *_: object) -> None:
        self._after = resource.getrusage(resource.RUSAGE_CHILDREN)

    def complete(self, usage: Usage) -> Usage:
        """What the cgroup says, and the rest from here."""
        before, after = self._before, self._after
        transfers = (after.ru_inblock - before.ru_inblock) * 512, (after.ru_oublock - before.ru_oublock) * 512
        if usage.source == "cgroup":
            return with_transfers(usage, transfers)
        user, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
        return Usage(
            cpu_seconds=user + system,
            user_seconds=user,
            system_seconds=system,
            read_bytes=transfers[0],
            written_bytes=transfers[1],
            source="processes",
        )


def with_transfers(usage: Usage, found: tuple[int, int] | None) -> Usage:
    """A cgroup's usage, with what its processes say of disks if it has nothing to tell: v1 counts nothing since Linux
    6.10 unless somebody limits a disk, and v2 only with the io controller on."""
    if usage.read_bytes or usage.written_bytes or found is None:
        return usage
    return replace(usage, read_bytes=found[0], written_bytes=found[1], read_operations=None, write_operations=None)


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


def transfers(pids: Iterable[int]) -> tuple[int, int] | None:
    """Bytes that processes, and those that they waited for, have read from disks and written; None if nobody tells."""
    sums = None
    for pid in pids:
        found = parsing.fields(_read(f"/proc/{pid}/io"))
        if b"read_bytes" in found and b"write_bytes" in found:
            read, written = sums or (0, 0)
            sums = read + found[b"read_bytes"], written + found[b"write_bytes"]
    return sums


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
