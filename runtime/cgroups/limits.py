"""What is written to a live cgroup so that its container may use more or less.

Memory comes first, since it alone can be refused: then nothing was changed. v1 is asked to reclaim and says EBUSY if
that is not enough; v2 would kill a process instead, so it is not asked for what it cannot do. With swap accounting,
v1's limit of memory and swap together may never be below that of memory: the direction tells which is written first.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from runtime.cgroups import parsing
from vcs.errors import Conflict, EngineError

_PERIOD = 100_000
"""Microseconds: Docker's."""
_LEAST_QUOTA = 1_000
"""Microseconds of processor time in a period: the kernel takes no less."""
_RECLAIMABLE = (b"inactive_file", b"active_file", b"slab_reclaimable")


def memory_v1(directory: Path, limit: int | None) -> None:
    """Limit memory, and leave as much swap as there was beside it. Conflict if more is in use; OSError."""
    together = directory / "memory.memsw.limit_in_bytes"
    alone = directory / "memory.limit_in_bytes"
    old = parsing.number(_read(alone))
    both = parsing.number(_read(together))
    swap = None if both is None or old is None else max(0, both - old)
    wanted = None if limit is None or swap is None else limit + swap
    raising = limit is None or (old is not None and limit > old)
    steps = [(alone, limit)]
    if together.exists():
        steps.insert(0 if raising else 1, (together, wanted))
    for path, value in steps:
        try:
            _write(path, b"-1" if value is None else b"%d" % value)
        except OSError as error:
            if error.errno != errno.EBUSY or limit is None:
                raise
            used = parsing.number(_read(directory / "memory.usage_in_bytes")) or 0
            raise _in_use(limit, used) from None


def memory_v2(directory: Path, limit: int | None) -> None:
    """The same for v2, where swap has a limit of its own. Conflict if more is in use than can be given back."""
    used = parsing.number(_read(directory / "memory.current"))
    if limit is not None and used is not None:
        stat = parsing.keyed(_read(directory / "memory.stat"))
        kept = used - sum(stat.get(name, 0) for name in _RECLAIMABLE)
        if limit < kept:
            raise _in_use(limit, kept)
    _write(directory / "memory.max", b"max" if limit is None else b"%d" % limit)


def cpus_v1(directory: Path, cpus: float | None) -> None:
    """Limit processor time. EngineError if it is less than the kernel takes; OSError."""
    period = parsing.number(_read(directory / "cpu.cfs_period_us")) or _PERIOD
    quota = -1 if cpus is None else _quota(cpus, period)
    _write(directory / "cpu.cfs_quota_us", b"%d" % quota)


def cpus_v2(directory: Path, cpus: float | None) -> None:
    """The same for v2."""
    _, period = parsing.cpu_max(_read(directory / "cpu.max"))
    quota = b"max" if cpus is None else b"%d" % _quota(cpus, period)
    _write(directory / "cpu.max", b"%s %d" % (quota, period))


def pids(directory: Path, limit: int | None) -> None:
    """Limit threads, on both. Those that are there stay."""
    _write(directory / "pids.max", b"max" if limit is None else b"%d" % limit)


def _quota(cpus: float, period: int) -> int:
    quota = round(cpus * period)
    if quota < _LEAST_QUOTA:
        raise EngineError(f"{cpus:g} processors are too few: at least {_LEAST_QUOTA / period:g} are needed", cpus=cpus)
    return quota


def _in_use(limit: int, used: int) -> Conflict:
    return Conflict(
        f"memory cannot be limited to {limit:,} bytes: {used:,} are in use and cannot be taken away",
        limit=limit,
        used=used,
    )


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _write(path: Path, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)
