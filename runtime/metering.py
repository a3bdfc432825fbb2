"""What containers use now, and have used over their whole lives, through any number of starts.

A cgroup knows of one start only, and is gone after it. So two files in a container's directory keep what was:

    usage.json    all starts that have ended, added up, and which was the last of them. Durable: replaced and fsynced
                  by record(), when a start ends
    sample.json   what the present start had used when somebody looked last. Replaced by sample(), without fsync: a
                  power cut may take the last seconds of it, or, on a file system that does not order data before
                  names, all of it

A start is named by its run and by its init process (runtime.state), so neither is counted twice, whoever looks and
whoever is killed in between: record() is done once for a start, and a sample of one that was never recorded (its
supervisor was killed, the machine lost power) is added up with the next. While a cgroup is there it is asked, also
after all of its processes have ended.

What a start has used never becomes less: of two looks, the larger numbers hold.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from runtime import traffic
from runtime.cgroups import Cgroup, Hierarchies, Usage
from runtime.cgroups.parsing import TICKS
from runtime.cgroups.processes import Processes, transfers, with_transfers
from runtime.state import Run, boot_id, load_run
from runtime.traffic import Traffic
from vcs.durable import replace_file
from vcs.existing import is_there

T = TypeVar("T")

USAGE, SAMPLE, LOCK = "usage.json", "sample.json", "usage.lock"
_PATIENCE = 1.0
"""Seconds that somebody who looks may hold the lock: it takes a millisecond, but he may have been stopped."""
_NOTABLE_CPU, _NOTABLE_TIME = 0.01, 60.0
"""Seconds of processor time, or of the clock, after which a sample is worth a write."""


_MEASURED = (
    "cpu_seconds", "user_seconds", "system_seconds", "memory_peak", "read_bytes", "written_bytes", "read_operations",
    "write_operations", "oom_kills",
)  # fmt: skip
"""What Usage and Lifetime have in common."""


class Lifetime(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a container has used from its making until now. What nobody could tell counts as nothing."""

    cpu_seconds: float = 0.0
    user_seconds: float = 0.0
    system_seconds: float = 0.0
    memory_peak: int = 0
    read_bytes: int = 0
    written_bytes: int = 0
    read_operations: int = 0
    write_operations: int = 0
    received_bytes: int = 0
    sent_bytes: int = 0
    oom_kills: int = 0
    seconds_up: float = 0.0
    starts: int = 0

    def __add__(self, other: Lifetime) -> Lifetime:
        """One after the other."""
        sums = {name: getattr(self, name) + getattr(other, name) for name in self.__struct_fields__}
        return Lifetime(**{**sums, "memory_peak": max(self.memory_peak, other.memory_peak)})

    def __or__(self, other: Lifetime) -> Lifetime:
        """Two looks at the same start."""
        return Lifetime(**{name: max(getattr(self, name), getattr(other, name)) for name in self.__struct_fields__})


class _Finished(msgspec.Struct, frozen=True):
    """usage.json."""

    total: Lifetime = Lifetime()
    last: str = ""
    """The start that was recorded last."""


class _Sample(msgspec.Struct, frozen=True):
    """sample.json."""

    start: str
    used: Lifetime


class Reading(NamedTuple):
    """What one container uses, at one moment."""

    moment: float
    """time.monotonic()."""
    usage: Usage
    traffic: Traffic | None


class Meter:
    """One look at the machine, for any number of containers."""

    def __init__(self) -> None:
        self._hierarchies = Hierarchies.here()

    @cached_property
    def _processes(self) -> Processes:
        return Processes()

    def cgroup(self, container_id: str) -> Cgroup:
        """A container's, by its name."""
        return Cgroup.of(container_id, self._hierarchies)

    def read(self, container_id: str, init: int | None) -> Reading:
        """What a container uses; `init` if it runs."""
        group = self.cgroup(container_id)
        usage = group.usage()
        if init is not None and usage.source == "nothing":
            group = Cgroup.find(container_id, init, self._hierarchies)
            usage = group.usage()
        if init is not None and usage.source == "nothing":
            usage = self._processes.usage(init)
        elif init is not None and not usage.read_bytes and not usage.written_bytes:
            with suppress(OSError):  # too few descriptors, say: then there is less to tell
                usage = with_transfers(usage, transfers(group.processes()))
        return Reading(time.monotonic(), usage, None if init is None else traffic.of_process(init))


def lifetime(directory: Path, cgroup: Cgroup) -> Lifetime:
    """What the container of this directory has used until now, its present start included."""
    run = load_run(directory)
    if run and run.init and _alive(run):
        return total(directory, Meter().read(directory.name, run.init.pid))
    return total(directory, Reading(time.monotonic(), cgroup.usage(), None))


def total(directory: Path, reading: Reading) -> Lifetime:
    """The same, of what was read of it just now."""
    return _add_up(load_run(directory), *_load(directory), reading)[0]


def look(directory: Path, reading: Reading) -> Lifetime:
    """The same, and what was read is noted if it is worth that."""
    run = load_run(directory)
    finished, noted = _load(directory)
    found, present = _add_up(run, finished, noted, reading)
    if present and (noted is None or _notable(noted.used, present)):
        sample(directory, reading)
    return found


def _add_up(
    run: Run | None, finished: _Finished, sample: _Sample | None, reading: Reading
) -> tuple[Lifetime, Lifetime | None]:
    """All starts together, and the present one if it is not among the finished."""
    found = finished.total
    if sample and (run is None or sample.start != _name(run)):
        found += sample.used
        sample = None
    if run is None or finished.last == _name(run):
        return found, None
    present = _present(run, reading)
    return found + (present | sample.used if sample else present), present


def sample(directory: Path, reading: Reading, *, durable: bool = False) -> None:
    """Note what the present start has used so far. Nothing is noted if somebody else does it just now, or cannot be
    written: a look is no reason to fail."""
    run = load_run(directory)
    if run is None or run.init is None or reading.usage.source == "nothing":
        return
    present = _present(run, reading)
    with suppress(OSError), _locked(directory, 0) as held:
        finished, last = _load(directory)
        if not held or finished.last == _name(run):
            return
        if last and last.start == _name(run):
            present |= last.used
        elif last:
            _finish(directory, finished, last)
        replace_file(directory / SAMPLE, msgspec.json.encode(_Sample(_name(run), present)), durable=durable)


def note(directory: Path) -> None:
    """Look at a container, and note what it has used if it runs. A supervisor does so now and then, in case that it,
    or the machine, comes to a sudden end."""
    run = load_run(directory)
    if run is not None and run.init is not None and _alive(run):
        look(directory, Meter().read(directory.name, run.init.pid))


def record(directory: Path, usage: Usage, traffic: Traffic | None = None, *, durable: bool = True) -> None:
    """Add the start that has just ended to what the container has used before. Once for each start: again changes
    nothing. `usage` and `traffic` are what its cgroup and its network said in the end. OSError if it cannot be written.
    """
    run = load_run(directory)
    if run is not None:
        _record(directory, run, _measured(usage, traffic) | _times(run), durable)


def settle(directory: Path) -> None:
    """Record a start whose end nobody saw, before what is left of it on the machine is removed. Of one that has no
    cgroup any more the last sample remains. Fine if there is nothing to record, or it runs. OSError as record()."""
    run = load_run(directory)
    if run is not None and not _alive(run):
        left = _measured(Cgroup.of(directory.name).usage()) | Lifetime(starts=int(bool(run.init)))
        if left != Lifetime() or is_there(directory / SAMPLE):
            _record(directory, run, left)


# -- details


def _record(directory: Path, run: Run, used: Lifetime, durable: bool = True) -> None:
    with _locked(directory, _PATIENCE):
        finished, sample = _load(directory)
        if finished.last == _name(run):
            return
        if sample and sample.start == _name(run):
            used |= sample.used
        elif sample:
            finished = _Finished(finished.total + sample.used)
        _finish(directory, finished, _Sample(_name(run), used), durable)


def _finish(directory: Path, finished: _Finished, sample: _Sample, durable: bool = True) -> None:
    """Add a start up. If this is cut short, the sample that stays is known by its name to be in it already."""
    added = _Finished(finished.total + sample.used, sample.start)
    replace_file(directory / USAGE, msgspec.json.encode(added), durable=durable)
    (directory / SAMPLE).unlink(missing_ok=True)


def _load(directory: Path) -> tuple[_Finished, _Sample | None]:
    """Both files; a sample only if it is of a start that was not recorded. One that a power cut has damaged is none."""
    sample = _read(directory / SAMPLE, _Sample)  # first: meanwhile it may go into the other one
    finished = _read(directory / USAGE, _Finished) or _Finished()
    return finished, sample if sample and sample.start != finished.last else None


def _read(path: Path, kind: type[T]) -> T | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def _name(run: Run) -> str:
    """A start for ever: a supervisor may start its container again within one run."""
    return f"{run.run} {run.init.pid} {run.init.start}" if run.init else run.run


def _alive(run: Run) -> bool:
    return run.init is not None and run.boot == boot_id() and run.init.alive()


def _present(run: Run, reading: Reading) -> Lifetime:
    """What the latest start has used, as of now."""
    used = _measured(reading.usage, reading.traffic)
    return used | (_times(run) if _alive(run) else Lifetime(starts=int(bool(run.init))))


def _measured(usage: Usage, traffic: Traffic | None = None) -> Lifetime:
    found = {name: value for name in _MEASURED if (value := getattr(usage, name)) is not None}
    if usage.memory_peak is None and usage.memory_bytes is not None:
        found["memory_peak"] = usage.memory_bytes  # of all looks, the highest will be kept
    return Lifetime(**found, **(traffic._asdict() if traffic else {}))


def _times(run: Run) -> Lifetime:
    """How long a start has lasted until now."""
    if run.init is None or run.boot != boot_id():
        return Lifetime(starts=int(bool(run.init)))
    return Lifetime(seconds_up=max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - run.init.start / TICKS), starts=1)


def _notable(old: Lifetime, new: Lifetime) -> bool:
    """Whether it is worth a write that so much more is known."""
    if new.cpu_seconds - old.cpu_seconds >= _NOTABLE_CPU or new.seconds_up - old.seconds_up >= _NOTABLE_TIME:
        return True
    names = set(Lifetime.__struct_fields__) - {"cpu_seconds", "user_seconds", "system_seconds", "seconds_up"}
    return any(getattr(old, name) != getattr(new, name) for name in names)


@contextmanager
def _locked(directory: Path, patience: float) -> Iterator[bool]:
    """Be the only one who changes the files; tells whether that is so. After `patience` seconds one goes on without:
    the worst that can come of it is that a sample is lost, and a supervisor must not wait for somebody who was stopped
    with the lock in his hand."""
    fd = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                held = True
                break
            except BlockingIOError:
                held = False
            if time.monotonic() >= deadline:
                break
            time.sleep(0.002)
        yield held
    finally:
        os.close(fd)
